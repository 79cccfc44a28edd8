"""A process of the fleet: it follows jobs together with others, and writes an effect an event."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from arkor_sync import CursorStoreError, ErrorPolicy, Follower, SQLCursorStore
from arkor_sync.errors import StoreUnavailableError
from arkor_sync.stores.backend import SUBMITTED
from arkor_sync.stream.error_policy import Action

T = TypeVar("T")

EFFECT = text(
    "INSERT INTO effect (job, event, epoch) "
    "SELECT :job, :event, epoch FROM arkor_positions WHERE job_id = :job"
)
NAMES = ("started", "log", "checkpoint", "completed", "failed", "cancelled")


def failing(function: Callable[..., T], probability: float, rng: random.Random) -> Callable[..., T]:
    """Have a function of the backend raise now and then, instead of what it does."""

    def call(*arguments: Any) -> T:
        if rng.random() < probability:
            raise StoreUnavailableError("drawn")
        return function(*arguments)

    return call


def main() -> None:
    settings: Dict[str, Any] = json.loads(sys.argv[1])
    store = SQLCursorStore(
        settings["url"], ttl=settings["ttl"], max_connections=settings["connections"]
    )
    rng = random.Random(settings["seed"])
    for name in ("save", "release"):
        function = getattr(store.backend, name)
        setattr(store.backend, name, failing(function, settings["failing"], rng))

    write = write_with(store)
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
    store.close()


def write_with(store: SQLCursorStore) -> Callable[[Any], None]:
    """Return a callback that writes the effect of its event into the event's transaction."""

    def write(ctx: Any) -> None:
        store.connection().execute(EFFECT, {"job": ctx.job.id, "event": ctx.event.id})

    return write


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
