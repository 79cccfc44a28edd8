"""A process that follows one job, and stands still at its second event until it is told to go on.

It says `held` where it stands still, and then how it ended.
"""

from __future__ import annotations

import itertools
import sys
from contextlib import contextmanager
from typing import Any, Iterator

from fleet_member import write_with

from arkor_sync import CloudApiClient, SQLCursorStore, follow

IN_CALLBACK, BEFORE_COMMIT, NOWHERE = "in the callback", "before the commit", "nowhere"


def hold() -> None:
    print("held", flush=True)
    sys.stdin.readline()


def main() -> None:
    url, ttl, job_id, where = sys.argv[1:]
    store = SQLCursorStore(url, ttl=float(ttl))
    write = write_with(store)
    numbers = itertools.count(1)

    def write_and_hold(ctx: Any) -> None:
        write(ctx)
        if ctx.event.id == "2" and where == IN_CALLBACK:
            hold()

    @contextmanager
    def around() -> Iterator[None]:
        with store.transaction():
            yield
            if next(numbers) == 2 and where == BEFORE_COMMIT:
                hold()

    names = ("started", "log", "checkpoint", "completed", "failed")
    run = follow(
        job_id,
        callbacks={f"on_{name}": write_and_hold for name in names},
        cursor_store=store,
        around=around,
        client=CloudApiClient(),
    )
    try:
        print(run.wait().status, flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
    store.close()


if __name__ == "__main__":
    main()
