"""Remembers which errors a notifier has told of, so that none is told twice. Any thread."""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any, Deque, List, Tuple

from arkor_sync.errors import HANDED_OVER, RunAborted, TrainingError, text_of

# In an exception's `__dict__`: the keys of those that have told of it. It is kept there because a
# built-in exception cannot have a weak reference, and because it then survives pickling.
_TOLD_BY = "_arkor_sync_told_by"
_AT_EXIT = "the interpreter exits"  # the reason of a run that is aborted then
_MAX_JOBS = 1000  # whose end is remembered
_MAX_BLOCKS = 100


class Told:
    """What one notifier has told of.

    An interruption ends a run and a block of `watching()` at the same time, in two threads. So each
    method looks and marks in one step: the caller holds the notifier's lock.
    """

    def __init__(self) -> None:
        key = uuid.uuid4().hex
        self._by_run, self._by_block = f"run {key}", f"block {key}"
        self._ended: Deque[str] = deque(maxlen=_MAX_JOBS)  # jobs that failed or were cancelled
        self._aborted: Deque[str] = deque(maxlen=_MAX_JOBS)  # jobs whose runs were aborted
        # The errors that blocks have told: whether it was an aborted run, and the texts.
        self._blocks: Deque[Tuple[bool, str]] = deque(maxlen=_MAX_BLOCKS)

    def add_ended(self, job_id: str) -> None:
        """Remember that it was told that a job has failed or was cancelled."""
        self._ended.append(job_id)

    def begin_run(self, job_id: str, error: BaseException) -> bool:
        """Return whether the run of a job is to tell of the error that it ends with; mark that.

        Several runs may end with the same error, and each tells of its own job.
        """
        found = with_reasons(error)
        if _is_marked(found, self._by_block):
            return False
        if isinstance(error, RunAborted):
            reason = error.reason if isinstance(error.reason, str) else None
            if reason == HANDED_OVER:
                return False  # another process tells how it ends
            at_exit = reason == _AT_EXIT
            for block in self._blocks:
                if (block[0] or at_exit) and job_id in block[1]:
                    self._blocks.remove(block)  # a later run of this job tells again
                    return False
            self._aborted.append(job_id)
        _mark(found, self._by_run)
        return True

    def begin_block(self, error: BaseException) -> bool:
        """Return whether a block of `watching()` is to tell of the error that ends it; mark that.

        It is not, if the error, the abort or the end of the job that it is about was told.
        """
        found = with_reasons(error)
        if _is_marked(found, self._by_run) or _is_marked(found, self._by_block):
            return False
        if any(isinstance(each, TrainingError) and each.job.id in self._ended for each in found):
            return False
        # After `abort_grace`, `wait()` raises another exception than the run ends with.
        aborted = [text_of(each) for each in found if isinstance(each, RunAborted)]
        if any(job_id in text for text in aborted for job_id in self._aborted):
            return False
        self._blocks.append((bool(aborted), "\n".join(map(text_of, found))))
        _mark(found, self._by_block)
        return True


def with_reasons(error: BaseException) -> List[BaseException]:
    """List an exception and those that it stands for.

    These are what it was raised `from`; for a `sys.exit` in an `except` block the exception that
    was caught there; and for an aborted run the exception that it was aborted for, as Ctrl-C.
    """
    found: List[BaseException] = []
    left: List[Any] = [error]
    while left:
        each = left.pop()
        if not isinstance(each, BaseException) or any(each is known for known in found):
            continue
        found.append(each)
        left.append(each.__cause__)
        if isinstance(each, SystemExit):
            left.append(each.__context__)
        if isinstance(each, RunAborted):
            left.append(each.reason)
    return found


def _mark(errors: List[BaseException], key: str) -> None:
    for each in errors:
        vars(each).setdefault(_TOLD_BY, set()).add(key)


def _is_marked(errors: List[BaseException], key: str) -> bool:
    return any(key in vars(each).get(_TOLD_BY, ()) for each in errors)
