"""Programs that run on green threads, as under gunicorn's gevent workers."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any, List  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from arkor_sync import ForkedRunError, ReconnectPolicy, RunAborted, follow  # noqa: E402
from arkor_sync.stream import current_call  # noqa: E402
from support.hang_phases import Cloud  # noqa: E402
from support.waiting import PATIENCE, until  # noqa: E402


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")  # in one piece: a child may speak, too
    sys.stdout.flush()


def burst(cloud: Cloud) -> None:
    """Follow a job that sends all of its events at once."""
    steps: List[int] = []
    began = time.monotonic()
    callbacks = {"on_log": lambda ctx: steps.append(ctx.step)}
    result = follow(cloud.job_id, client=cloud.client(), callbacks=callbacks).wait(PATIENCE)
    say("took", time.monotonic() - began)
    say(result.status, len(steps))


def stuck(cloud: Cloud) -> None:
    """Have a callback that does not come back."""

    let_go = Event()

    def stuck_in_the_program(ctx: Any) -> None:
        let_go.wait(PATIENCE)

    callbacks = {"on_log": stuck_in_the_program}
    run = follow(cloud.job_id, client=cloud.client(), callbacks=callbacks, abort_grace=0.1)
    until(lambda: run.health().callback == "on_log")
    run.abort()
    try:
        run.wait(PATIENCE)
    except RunAborted as aborted:
        say(aborted)
    let_go.set()
    run.close()


def fork(cloud: Cloud) -> None:
    """Fork in the midst of a stream, and let the child live on beside its parent."""
    steps: List[int] = []

    def on_log(ctx: Any) -> None:
        gevent.sleep(0.001)  # the fork may find it here
        steps.append(ctx.step)

    run = follow(
        cloud.job_id,
        client=cloud.client(),
        callbacks={"on_log": on_log},
        reconnect=ReconnectPolicy(base=0.01, cap=0.05),
    )
    until(lambda: len(steps) >= 10)
    child = os.fork()
    if child == 0:
        before = len(steps)
        gevent.sleep(1.0)
        try:
            run.wait(PATIENCE)
        except ForkedRunError:
            say("child", len(steps) - before, sorted(each.name for each in threads()))
        os._exit(0)
    os.waitpid(child, 0)
    say("parent", run.wait(PATIENCE).status, steps == list(range(1, len(steps) + 1)), len(steps))
    say("reconnects", run.health().reconnects)


def fork_in_a_callback(cloud: Cloud) -> None:
    """Fork in a callback, and return from it in the child too."""
    children: List[int] = []

    def on_log(ctx: Any) -> None:
        if ctx.step == 3:
            children.append(os.fork())
        if children[:1] == [0]:
            say("child at", ctx.step)

    run = follow(cloud.job_id, client=cloud.client(), callbacks={"on_log": on_log})
    try:
        say("parent", run.wait(PATIENCE).status)
    except ForkedRunError:
        say("forked")
        return
    say("child ended with", os.waitpid(children[0], 0)[1])


def threads() -> Any:
    import threading

    return [each for each in threading.enumerate() if each.name.startswith("arkor-")]


if __name__ == "__main__":
    current_call.STUCK_AFTER = 0.2
    globals()[sys.argv[1]](Cloud(**json.loads(sys.argv[2])))
