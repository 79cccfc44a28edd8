"""A LoRA engine: how fast it trains, beside a bare loop and trl, and what goes on meanwhile."""

from __future__ import annotations

import os
import statistics
import tempfile
from functools import partial
from typing import Any, Callable, Dict, List

import bench_trainings as trainings
from bench_chats import CHECKPOINTS, chats, schema
from bench_compare import LEAST, interval
from bench_report import Figure, Row, Size, fresh, in_turns, pairs, say, spread
from bench_trainings import Task, Trained

OURS, BARE, TRL = "LoraEngine", "a bare loop", "SFTTrainer"
SOON = 8.0  # seconds
CLOSE = 1e-3  # how far the losses of a step may be apart
PAUSE = 0.01  # seconds between two requests
LATEST = 50.0  # milliseconds of a request
HALF = 0.5  # of the speed alone
MOST_MEMORY = 25.0  # MB of a checkpoint
LONGEST = 1.0  # milliseconds that a schema adds to a token


def measure(size: Size) -> Figure:
    figure = Figure()
    threads = max(1, len(os.sched_getaffinity(0)) - 1)  # as the engine does
    with tempfile.TemporaryDirectory() as directory:
        task = fresh(trainings.prepare, directory, size.tiny, threads, size.steps)
        add_starts_and_losses(figure, task, size.curve)
        add_speeds(figure, task, size.trainings)
        add_requests(figure, fresh(trainings.requests_beside, task, size.paced, PAUSE))
        add_chats(figure, fresh(chats, task, size.phases))
        add_schema(figure, fresh(schema, task, size.paced))
    return figure


def add(figure: Figure, name: str, found: str, target: str, met: bool, **beside: str) -> None:
    say(f"lora, {name}: {found} {' '.join(beside.values())}")
    figure.rows.append(Row(name, found, target, met, **beside))


def add_starts_and_losses(figure: Figure, task: Task, steps: int) -> None:
    ours = fresh(trainings.starts, task, steps)
    bare = fresh(trainings.losses_of_a_bare_loop, task, steps)
    figure.data["starts"], figure.data["bare losses"] = ours, bare
    started, (first, second) = ours["started"], ours["seconds"]
    on = f"{started['model']} on {started['device']}, {task['threads']} thread(s) of PyTorch"
    add(figure, f"{on}: first job of an engine, to its log", f"{first:.2f} s", "stated", True)
    add(figure, "second job", f"{second:.2f} s", f"at most {SOON:g} s", second <= SOON)
    apart = max(abs(one - other) for one, other in pairs(ours["losses"], bare))
    add(
        figure,
        f"loss in {steps} steps, beside {BARE}",
        f"at most {apart:.1e} apart",
        f"at most {CLOSE:g}",
        apart <= CLOSE,
    )


def add_speeds(figure: Figure, task: Task, rounds: int) -> None:
    ways: Dict[str, Callable[[], Trained]] = {
        OURS: partial(fresh, trainings.by_the_engine, task),
        BARE: partial(fresh, trainings.by_a_bare_loop, task),
    }
    if trainings.trl_is_missing():
        say(f"lora: {' and '.join(trainings.TRL)} are not both installed, so not compared")
    else:
        ways[TRL] = partial(fresh, trainings.by_trl, task)
    trained = in_turns(rounds, ways)
    figure.data["trainings"] = trained
    speeds = {
        name: [trainings.tokens_a_second(task, each) for each in found]
        for name, found in trained.items()
    }
    for peer in list(ways)[1:]:
        ratios = [ours / theirs for ours, theirs in pairs(speeds[OURS], speeds[peer])]
        mean, low, high = interval(ratios)
        add(
            figure,
            f"training, {trainings.BATCH} records of {task['tokens']} tokens, beside {peer}",
            spread(speeds[OURS], "tokens a second", 0),
            f"its 95 % interval reaches {LEAST:g}",
            high >= LEAST,
            peer=f"{peer}: {spread(speeds[peer], '', 0)}",
            ratio=f"{mean:.3f} ({low:.3f} to {high:.3f})",
        )


def add_requests(figure: Figure, took: List[float]) -> None:
    figure.data["requests"] = took
    p50, p99 = (1000 * each for each in (statistics.median(took), percentile(took, 0.99)))
    add(
        figure,
        "the record of another job while a job trains",
        f"median {p50:.1f} ms, p99 {p99:.1f} ms",
        f"p99 at most {LATEST:g} ms",
        p99 <= LATEST,
    )


def add_chats(figure: Figure, found: Dict[str, Any]) -> None:
    figure.data["chats"] = found
    ratios = [alone / beside for alone, beside in pairs(found["alone"], found["beside"])]
    answers = sum(found["answers"]) / sum(found["beside"])
    add(
        figure,
        f"training while {CHECKPOINTS} checkpoints are chatted with, of that alone",
        f"{spread(ratios, '', 2)}, with {answers:.1f} answers a second",
        f"at least {HALF:g}",
        statistics.median(ratios) >= HALF,
    )
    memory = found["bytes"] / 1e6
    add(
        figure,
        "memory of each checkpoint that is chatted with",
        f"{memory:.1f} MB",
        f"at most {MOST_MEMORY:g} MB",
        memory <= MOST_MEMORY,
    )


def add_schema(figure: Figure, found: Dict[str, float]) -> None:
    figure.data["schema"] = found
    more = 1000 * (found["bound"] - found["free"])
    add(
        figure,
        "a JSON schema, each token of the answer",
        f"{more:.3f} ms of CPU more than the {1000 * found['free']:.3f} ms of a free one",
        f"at most {LONGEST:g} ms more",
        more <= LONGEST,
    )


def percentile(values: List[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))]
