"""Saves of many runs in one transaction, without a thread of its own. Any thread."""

from __future__ import annotations

from typing import Callable, List, Optional, Sequence, Set

from arkor_sync._common.locks import Flag, ProcessLock
from arkor_sync.stores.backend import Save

MOST = 500  # saves in one transaction


class _Waiting:
    """A save that a thread waits for.

    Attributes:
        done: Whether it was committed, or that has failed.
        turn: Set when it is done, or when its thread has to commit what waits.
    """

    def __init__(self, save: Save) -> None:
        self.save = save
        self.done = False
        self.turn = Flag()
        self.refused = False
        self.error: Optional[BaseException] = None


class Batching:
    """Commits the saves of all threads that wait for one, together.

    One thread at a time commits all that waits, also for the others. What comes meanwhile waits
    until it has finished; then one of those threads commits all of that. So at most one connection
    saves, and the more there is to do, the more goes into one transaction. No thread waits for a
    lock that many others want, too: they would commit one by one as they get it.

    Args:
        commit: Commits saves, and returns the jobs for which they were refused.
    """

    def __init__(self, commit: Callable[[Sequence[Save]], Set[str]]) -> None:
        self._commit = commit
        self._lock = ProcessLock()
        self._waiting: List[_Waiting] = []
        self._committing = False

    def save(self, save: Save) -> bool:
        """Commit a save; return False if it was refused.

        Raises:
            Exception: What the commit raised. Nothing of the batch was saved then, as far as is
                known.
        """
        mine = _Waiting(save)
        with self._lock():
            self._waiting.append(mine)
            is_turn = not self._committing
            self._committing = True
        if not is_turn:
            mine.turn.wait()
        if not mine.done:
            self._commit_waiting()
        if mine.error is not None:
            raise mine.error
        return not mine.refused

    def after_fork(self) -> None:
        """Forget, in a forked child, what the parent's threads wait for."""
        self._waiting = []
        self._committing = False

    def _commit_waiting(self) -> None:
        with self._lock():
            batch, self._waiting[:MOST] = self._waiting[:MOST], []
        try:
            refused = self._commit([each.save for each in batch])
        except BaseException as error:
            for each in batch:
                each.error = error
            if not isinstance(error, Exception):
                raise
        else:
            for each in batch:
                each.refused = each.save.job_id in refused
        finally:
            with self._lock():
                following = self._waiting[:1]
                self._committing = bool(following)
            for each in batch:
                each.done = True
            for each in (*following, *batch):
                each.turn.set()
