"""A run's lease on its job, and what a cursor store keeps of the run. Runs on the caller's thread.

The position is saved on the worker thread.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Any, Callable, Mapping, Optional, Protocol

from arkor_sync._common.log import get_logger
from arkor_sync.errors import ArkorError, CursorStoreError, text_of
from arkor_sync.stores import CursorStore, SavedCursor
from arkor_sync.stream.cursor import Cursor

logger = get_logger("arkor_sync.run")


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

    Attributes:
        saved: What an earlier run left.

    Raises:
        LeaseHeldError: Another run has the lease.
        CursorStoreError: The store cannot be read, or a callback cannot use its state.
    """

    def __init__(
        self, store: Optional[CursorStore], job_id: str, states: Mapping[str, Stateful]
    ) -> None:
        self.saved = SavedCursor()
        self._release: Callable[[], None] = lambda: None
        self._store = store
        self._job_id = job_id
        self._states = states
        if store is None:
            return
        self._release = store.lease(job_id)
        try:
            self.saved = store.load(job_id)
            for key, callback in states.items():
                if key in self.saved.state:
                    _restore(callback, self.saved.state[key], job_id)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the job back."""
        try:
            self._release()
        except BaseException as error:  # a store may raise anything; the run ends all the same
            what = "the lease of job %s could not be given back, so it may not be followed soon: %s"
            logger.error(what, self._job_id, text_of(error))

    @property
    def position(self) -> SavedCursor:
        """Where to go on. After the job's last event: at the start, as there is nothing to call."""
        return SavedCursor() if self.saved.finished else self.saved

    def saver(self, cursor: Cursor) -> Optional[Callable[[bool], None]]:
        """Return what keeps the acknowledged position and the callbacks' state, as one.

        Returns:
            A function of whether the job's last event is acknowledged; None without a store, and
            if it was acknowledged by an earlier run.
        """
        store = self._store
        if store is None or self.saved.finished:
            return None

        owner, epoch = f"process {os.getpid()} on {socket.gethostname()}", self.saved.epoch + 1

        def save(finished: bool) -> None:
            saved = dataclasses.replace(
                cursor.position(),
                finished=finished,
                state={key: each.state_dict() for key, each in self._states.items()},
                owner=owner,
                epoch=epoch,
            )
            store.save(self._job_id, saved)

        return save


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
