"""Saves of many runs in one transaction, without a thread of its own. Any thread."""

from __future__ import annotations

import threading
from typing import Callable, List, Optional, Sequence, Set

from arkor_sync._common.locks import SLICE, Flag
from arkor_sync.errors import StoreUnavailableError
from arkor_sync.stores.backend import Save

MOST = 500  # saves in one transaction


class _Waiting:
    """A save that a thread waits for."""

    def __init__(self, save: Save) -> None:
        self.save = save
        self.done = False
        self.wake = Flag()
        self.refused = False
        self.error: Optional[BaseException] = None


class Batching:
    """Commits the saves of all threads that wait for one, together.

    One thread commits what has come until then, also for the others, and then wakes one that has
    come meanwhile, to do the same. So at most one connection saves, and the more there is to do,
    the more goes into one transaction. Those who wait do not queue for a lock: each would wake up
    only to pass it on, and a batch would be of the few that have got through by then.

    Args:
        commit: Commits saves, and returns the jobs for which they were refused.
    """

    def __init__(self, commit: Callable[[Sequence[Save]], Set[str]]) -> None:
        self._commit = commit
        self._committing = threading.Lock()
        self._waiting: List[_Waiting] = []

    def save(self, save: Save) -> bool:
        """Commit a save; return False if it was refused.

        Raises:
            Exception: What the commit raised. Nothing of the batch was saved then, as far as is
                known.
        """
        mine = _Waiting(save)
        self._waiting.append(mine)  # atomic
        while not mine.done:
            if not self._committing.acquire(blocking=False):
                mine.wake.wait(SLICE)
                mine.wake.clear()
                continue
            try:
                if not mine.done:
                    self._commit_waiting()
            finally:
                self._committing.release()
                for following in self._waiting[:1]:  # it may have come when the lock was held
                    following.wake.set()
        if mine.error is not None:
            raise mine.error
        return not mine.refused

    def after_fork(self) -> None:
        """Forget, in a forked child, what the parent's threads wait for."""
        self._waiting = []
        self._committing = threading.Lock()

    def _commit_waiting(self) -> None:
        batch, self._waiting[:MOST] = self._waiting[:MOST], []
        try:
            refused = self._commit([each.save for each in batch])
        except BaseException as error:
            is_own = not isinstance(error, Exception)  # such as a Ctrl-C: it is for this thread
            for each in batch:
                each.error = (
                    StoreUnavailableError("its commit was interrupted") if is_own else error
                )
            if is_own:
                raise
        else:
            for each in batch:
                each.refused = each.save.job_id in refused
        finally:
            for each in batch:
                each.done = True
                each.wake.set()
