"""A run's lease on its job, and what a cursor store keeps of the run. Runs on the caller's thread.

The position is saved on the worker thread.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from functools import partial
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Union

from arkor_sync._common.clock import Clock
from arkor_sync._common.json import json_copy
from arkor_sync._common.locks import SLICE, Flag
from arkor_sync._common.log import get_logger
from arkor_sync.errors import ArkorError, CursorStoreError, LeaseHeldError, text_of
from arkor_sync.stores import CursorStore, LeasedStore, SavedCursor

logger = get_logger("arkor_sync.run")

_ASK_AGAIN = 5 * SLICE  # seconds between two attempts to get a lease that another run has


class Stateful(Protocol):
    """A callback that keeps state across processes."""

    def state_dict(self) -> Any:
        """Return the state, as JSON."""

    def load_state_dict(self, state: Any) -> None:
        """Take over what `state_dict` returned in an earlier process."""


class Lease:
    """One run's lease on a job. Without a store it does nothing.

    Args:
        store: Where positions are kept, or None.
        job_id: The job.
        states: The callbacks that keep state, by their keys.
        on_lost: Called with the error once a `LeasedStore` has lost the lease.
        wait: Seconds to wait while another run has the lease.

    Attributes:
        job_id: The job.
        saved: What an earlier run left.
        ttl: Seconds that the lease lasts without a renewal; 0 where it does not end.

    Raises:
        LeaseHeldError: Another run has the lease.
        CursorStoreError: The store cannot be read, or a callback cannot use its state.
    """

    def __init__(
        self,
        store: Union[CursorStore, LeasedStore, None],
        job_id: str,
        states: Mapping[str, Stateful],
        on_lost: Callable[[BaseException], None],
        wait: float = 0.0,
    ) -> None:
        self.saved = SavedCursor()
        self.ttl = store.ttl if isinstance(store, LeasedStore) else 0.0
        self._release: Callable[[], None] = lambda: None
        self._keep: Optional[Callable[[SavedCursor], None]] = None
        self._load: Optional[Callable[[], SavedCursor]] = None
        self.job_id = job_id
        self._states = states
        if store is None:
            return
        deadline = Clock.now() + wait
        while True:
            try:
                self._take(store, on_lost)
                break
            except LeaseHeldError:
                left = deadline - Clock.now()
                if left <= 0:
                    raise
            Flag().wait_in_slices(min(_ASK_AGAIN, left))
        self._kept_state = self.saved.state
        try:
            self.restore_state()
        except BaseException:
            self.release()
            raise

    def _take(self, store: Union[CursorStore, LeasedStore], on_lost: Any) -> None:
        if isinstance(store, LeasedStore):
            reservation = store.reserve(self.job_id, on_lost)
            self.saved = reservation.saved
            self._epoch = reservation.epoch
            self._keep, self._release = reservation.save, reservation.release
            self._load = reservation.load
            return
        self._release = store.lease(self.job_id)
        try:
            self.saved = store.load(self.job_id)
        except BaseException:
            self.release()
            raise
        self._epoch = self.saved.epoch + 1
        self._keep = partial(store.save, self.job_id)
        self._load = partial(store.load, self.job_id)

    def release(self) -> None:
        """Give the job back. It is outside of `around`, so that no error in there keeps it."""
        try:
            self._release()
        except BaseException as error:  # a store may raise anything; the run ends all the same
            what = "the lease of job %s could not be given back, so it may not be followed soon: %s"
            logger.error(what, self.job_id, text_of(error))

    def finish(self, position: SavedCursor) -> None:
        """Keep that the program has stopped the job, so that nobody follows it again."""
        save = self.saver
        try:
            if save is not None:
                save(dataclasses.replace(position, finished=True))
        except Exception as error:  # the run has its result all the same
            what = "job %s was stopped, which could not be kept, so it may be followed again: %s"
            logger.warning(what, self.job_id, text_of(error))

    @property
    def position(self) -> SavedCursor:
        """Where to go on. After the job's last event: at the start, as there is nothing to call."""
        return SavedCursor() if self.saved.finished else self.saved

    @property
    def saver(self) -> Optional[Callable[[SavedCursor], None]]:
        """What keeps a position and the callbacks' state, as one.

        None without a store, and if an earlier run has finished the job.
        """
        return None if self._keep is None or self.saved.finished else self._save

    def _save(self, position: SavedCursor) -> None:
        assert self._keep is not None
        state = {key: each.state_dict() for key, each in self._states.items()}
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        saved = dataclasses.replace(position, state=state, owner=owner, epoch=self._epoch)
        self._last = saved
        self._keep(saved)

    def has_saved(self) -> bool:
        """Whether the store has the position that was last given to it."""
        assert self._load is not None
        kept = self._load()
        same = ("acknowledged_id", "delivered", "finished", "epoch")
        return all(getattr(kept, name) == getattr(self._last, name) for name in same)

    def keep_state(self) -> None:
        """Remember the callbacks' state, for `restore_state`."""
        state: Dict[str, Any] = {key: each.state_dict() for key, each in self._states.items()}
        self._kept_state = json_copy(state, "a callback's state_dict()") if state else {}

    def restore_state(self) -> None:
        """Give the callbacks the state that was saved, or remembered last."""
        for key, callback in self._states.items():
            if key in self._kept_state:
                _restore(callback, self._kept_state[key], self.job_id)


def _restore(callback: Stateful, state: Any, job_id: str) -> None:
    try:
        callback.load_state_dict(state)
    except ArkorError:
        raise
    except Exception as error:
        raise CursorStoreError(
            f"{type(callback).__name__} cannot use the state that was saved of job {job_id} "
            f"({type(error).__name__}); if it is of another program, follow with another store"
        ) from error
