"""Burst of callbacks: what each further callback costs, and each rule when nothing fails."""

from __future__ import annotations

import statistics
import time
import urllib.request
from functools import partial

from bench_clients import Touch, cloud, ours, warm_up
from bench_report import Figure, Row, Size, in_turns, pairs, say, spread
from bench_server import Server

from arkor_sync import Action, ErrorPolicy, follow

ONE, FIVE, RULES = "one callback", "five callbacks", "five callbacks and ten rules"
CALLBACKS = {ONE: 1, FIVE: 5, RULES: 5}
MOST = 500  # nanoseconds


def measure(size: Size) -> Figure:
    with Server() as server:
        warm_up(server.url, [ours])
        job = f"replay-close-{size.replay}-0"
        urllib.request.urlopen(f"{server.url}/v1/jobs/{job}").close()  # it encodes the body
        spent = in_turns(
            size.rounds,
            {name: partial(nanoseconds, server.url, job, size.replay, name) for name in CALLBACKS},
        )
    for name, values in spent.items():
        say(f"burst, {name}: {spread(values, 'ns an event', 0)}")
    callback = [(five - one) / 4 for one, five in pairs(spent[ONE], spent[FIVE])]
    rule = [(rules - five) / 10 for five, rules in pairs(spent[FIVE], spent[RULES])]
    rows = [
        Row(
            f"burst, each further {name}",
            spread(costs, "ns an event", 0),
            f"at most {MOST} ns",
            statistics.median(costs) <= MOST,
        )
        for name, costs in (("callback", callback), ("rule", rule))
    ]
    return Figure(rows, {"ns an event": spent, "ns a callback": callback, "ns a rule": rule})


def nanoseconds(base: str, job: str, events: int, name: str) -> float:
    """Return what an event takes."""
    policy = ErrorPolicy()
    for number in range(10 if name == RULES else 0):
        kind = (KeyError, ValueError, OSError)[number % 3]
        policy = policy.on(kind, do=Action.RETRY, callbacks="on_log", attempts=2 + number)
    touches = [Touch() for _ in range(CALLBACKS[name])]
    begin = time.perf_counter_ns()
    with follow(
        job,
        client=cloud(base),
        callbacks=[{"on_log": touch.context} for touch in touches],
        error_policy=policy,
    ) as run:
        run.wait()
    spent = time.perf_counter_ns() - begin
    if {touch.calls for touch in touches} != {events}:
        raise RuntimeError(f"not every callback saw {events} events")
    return spent / events
