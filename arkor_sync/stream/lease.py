"""What one run keeps in a cursor store: the acknowledged position and its callbacks' state.

It is loaded on the thread that begins to follow, and saved on the worker thread.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from arkor_sync.callbacks import CallbacksInput, flatten
from arkor_sync.stores import CursorStore, SavedCursor
from arkor_sync.stream.cursor import Cursor
from arkor_sync.stream.events import TrainingEvent


class Persistence:
    """One run's lease on a job in a cursor store. Without a store it does nothing.

    Attributes:
        saved: What an earlier run left.

    Raises:
        LeaseHeldError: Another run has the lease.
        CursorStoreError: The store cannot be read.
    """

    def __init__(
        self, store: Optional[CursorStore], job_id: str, callbacks: CallbacksInput
    ) -> None:
        self.saved = SavedCursor()
        self.release: Callable[[], None] = lambda: None
        self._store = store
        self._job_id = job_id
        self._stateful = stateful(callbacks)
        if store is None:
            return
        self.release = store.lease(job_id)
        try:
            self.saved = store.load(job_id)
            for key, callback in self._stateful.items():
                if key in self.saved.state:
                    callback.load_state_dict(self.saved.state[key])
        except BaseException:
            self.release()
            raise

    def saver(self, cursor: Cursor) -> Optional[Callable[[TrainingEvent], None]]:
        """Return what keeps the position after an event; None where there is no store."""
        if self._store is None:
            return None
        return lambda event: self._save(cursor, event.is_terminal)

    def _save(self, cursor: Cursor, finished: bool) -> None:
        """Keep the acknowledged position and the state that belongs to it, as one."""
        state = {key: callback.state_dict() for key, callback in self._stateful.items()}
        saved = SavedCursor(cursor.acknowledged, cursor.delivered, cursor.opening, finished, state)
        assert self._store is not None
        self._store.save(self._job_id, saved)


def stateful(callbacks: CallbacksInput) -> Dict[str, Any]:
    """Find the callbacks that keep state across processes: `state_dict` and `load_state_dict`.

    Args:
        callbacks: As for `handler_table`.

    Returns:
        Them by their `state_key`, or by their class's name, numbered where it comes again.
    """
    found: Dict[str, Any] = {}
    for callback in flatten(callbacks):
        if hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict"):
            base = key = str(getattr(callback, "state_key", type(callback).__qualname__))
            while key in found:
                key = f"{base}#{len(found) + 1}"
            found[key] = callback
    return found
