"""Tells the troubles of jobs: the first of a kind at once, and all others of it together. Pure."""

from __future__ import annotations

from logging import INFO, WARNING
from typing import Any, Callable, Collection, Dict, Iterator, List, Set

from arkor_sync._common.doubling import doubling

_FIRST, _LONGEST = 5.0, 300.0  # seconds for which the others of a kind are gathered
_NAMED = 10  # jobs of a line


class _Kind:
    def __init__(self, text: str, now: float) -> None:
        self.text = text
        self.jobs: Set[str] = set()
        self.untold: List[str] = []
        self.over = 0  # jobs that had it, and are followed again
        self._delays: Iterator[float] = doubling(_FIRST, _LONGEST)
        self.tell_at = 0.0
        self.wait(now)

    def wait(self, now: float) -> None:
        self.tell_at = now + next(self._delays)


class Troubles:
    """Remembers which jobs are in which trouble, so that one which all share is a few lines.

    Args:
        log: Called as `logging.Logger.log`.
    """

    def __init__(self, log: Callable[..., Any]) -> None:
        self._log = log
        self._kinds: Dict[str, _Kind] = {}
        self._kind_of: Dict[str, str] = {}

    def add(self, job_id: str, kind: str, text: str, now: float) -> bool:
        """Take note that a job cannot be followed.

        Args:
            job_id: The job.
            kind: Jobs with the same kind share a trouble.
            text: What it is.
            now: The time.

        Returns:
            Whether it is the first of its kind, which is to be logged now.
        """
        if self._kind_of.get(job_id) == kind:
            return False
        self._leave(job_id)
        self._kind_of[job_id] = kind
        is_first = kind not in self._kinds
        if is_first:
            self._kinds[kind] = _Kind(text, now)
        else:
            self._kinds[kind].untold.append(job_id)
        self._kinds[kind].jobs.add(job_id)
        return is_first

    def followed(self, job_id: str) -> None:
        """Take note that a job is followed. It is logged when no job has the trouble any more."""
        kind = self._kinds.get(self._kind_of.get(job_id, ""))
        if kind is not None:
            kind.over += 1
            self._leave(job_id, job_id)

    def tell(self, now: float, known: Collection[str]) -> None:
        """Log what was gathered, where it is time.

        Args:
            now: The time.
            known: The jobs that are not finished and that no other process follows.
        """
        for job_id in [each for each in self._kind_of if each not in known]:
            self._leave(job_id)
        for kind in self._kinds.values():
            if now < kind.tell_at or not kind.untold:
                continue
            some, more = kind.untold[:_NAMED], len(kind.untold) - _NAMED
            names = ", ".join(some) + (f" and {more} more" if more > 0 else "")
            text = "%d more jobs cannot be followed yet (%s), and are tried again: %s"
            self._log(WARNING, text, len(kind.untold), names, kind.text)
            kind.untold = []
            kind.wait(now)

    def _leave(self, job_id: str, last: str = "") -> None:
        name = self._kind_of.pop(job_id, "")
        kind = self._kinds.get(name)
        if kind is None:
            return
        kind.jobs.discard(job_id)
        kind.untold = [each for each in kind.untold if each != job_id]
        if kind.jobs:
            return
        del self._kinds[name]
        if kind.over == 1 and last:
            self._log(INFO, "job %s is followed after all", last)
        elif kind.over:
            self._log(INFO, "%d jobs are followed after all; it was: %s", kind.over, kind.text)
