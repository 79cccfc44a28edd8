"""Rounds whose time is over when all is done but one piece, whatever the clock says."""

from __future__ import annotations

from typing import Any, List, Type

from arkor_sync.handlers.evaluation.worker_pool import WorkerPool
from support.waiting import until


def expiring(limits: List[float]) -> Type[WorkerPool[Any]]:
    """Make a class of them, which notes the seconds that each would wait."""

    class Expiring(WorkerPool[Any]):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._over.wait = self._expire  # type: ignore[method-assign,assignment]

        def _expire(self, seconds: float) -> bool:
            limits.append(seconds)
            until(lambda: self._remaining == 1 or self._over.is_set())
            return self._over.is_set()

    return Expiring
