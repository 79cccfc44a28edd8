"""A process of the fleet: it follows jobs together with others, and writes an effect an event."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Set

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from arkor_sync import CursorStoreError, ErrorPolicy, Follower, SQLCursorStore
from arkor_sync.errors import StoreUnavailableError
from arkor_sync.stores.backend import SUBMITTED, Save
from arkor_sync.stream.error_policy import Action

EFFECT = text(
    "INSERT INTO effect (job, event, epoch) "
    "SELECT :job, :event, epoch FROM arkor_positions WHERE job_id = :job"
)
NAMES = ("started", "log", "checkpoint", "completed", "failed", "cancelled")


class Failing:
    """A backend whose saves and releases raise now and then.

    Args:
        backend: Does what is asked.
        probability: How likely a call raises.
        seed: Draws which.
    """

    def __init__(self, backend: Any, probability: float, seed: str) -> None:
        self._backend = backend
        self._probability = probability
        self._rng = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def save(self, saves: Sequence[Save]) -> Set[str]:
        self._fail()
        refused: Set[str] = self._backend.save(saves)
        return refused

    def release(self, job_id: str, owner: str, epoch: int) -> None:
        self._fail()
        self._backend.release(job_id, owner, epoch)

    def _fail(self) -> None:
        if self._rng.random() < self._probability:
            raise StoreUnavailableError("drawn")


def main() -> None:
    settings: Dict[str, Any] = json.loads(sys.argv[1])
    store = SQLCursorStore(
        settings["url"], ttl=settings["ttl"], max_connections=settings["connections"]
    )
    if settings["failing"]:
        store.backend = Failing(store.backend, settings["failing"], settings["seed"])  # type: ignore[assignment]

    def write(ctx: Any) -> None:
        values = {"job": ctx.job.id, "event": ctx.event.id}
        store.connection().execute(EFFECT, values)

    retry = ErrorPolicy.abort().on(
        SQLAlchemyError, CursorStoreError, do=Action.RETRY, attempts=100, base=0.05, cap=0.5
    )
    Follower(
        source_of(settings["jobs"], store),
        {f"on_{name}": write for name in NAMES},
        store=store,
        around=store.transaction,
        poll=0.2,
        error_policy=retry,
    ).run()


def source_of(path: str, store: SQLCursorStore) -> Callable[[], List[str]]:
    """Return what names the jobs: a file, or what the store has of submissions."""

    def submitted() -> List[str]:
        return [str(each.job_id) for each in store.backend.submissions([SUBMITTED])]

    def of_file() -> List[str]:
        ids: List[str] = json.loads(Path(path).read_text())
        return ids

    return of_file if path else submitted


if __name__ == "__main__":
    main()
