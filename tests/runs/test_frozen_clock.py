"""A clock that the program has stopped, or that steps: nothing waits for it or goes by it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest
from freezegun import freeze_time

from arkor_sync import RunAborted, WaitTimeout, follow
from arkor_sync._common.clock import Clock
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.handlers import CSVLogger, LossPlot, ProgressBar, Timer, WebhookNotifier
from support.hang_phases import cloud_of
from support.servers import Webhook
from support.waiting import PATIENCE, Background


def frozen(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function while all of Python's clocks stand still; a hang fails the test."""
    with freeze_time("2012-01-14"):
        background = Background(function, *arguments)
        background.thread.join(PATIENCE)
    return background.result()


def test_the_engines_clock_goes_on() -> None:
    def measure() -> float:
        began = Clock.now()
        threading.Event().wait(0.01)
        return Clock.now() - began

    assert frozen(measure) >= 0.009


def test_a_run_is_followed_to_its_end_with_every_handler(tmp_path: Path) -> None:
    async def sleep(ctx: Any) -> None:
        await asyncio.sleep(0.001)

    def train() -> Any:
        engine = ScriptedEngine(steps=20, step_delay=0.001)
        fault = Fault("cut_clean", route="stream", event="training.log", nth=3)
        with Webhook() as webhook, Emulator(engine, ping_interval=0.01) as emulator:
            emulator.faults.add(fault)
            cloud = cloud_of(emulator, emulator.create_job())
            handlers = [
                Timer(PATIENCE),
                CSVLogger(tmp_path / "log.csv"),
                LossPlot(tmp_path / "loss.svg", every=0.01),
                ProgressBar(),
                WebhookNotifier(f"{webhook.url}/hook", on=("completed",)),
                {"on_log": sleep},
            ]
            result = follow(cloud.job_id, client=cloud.client(), callbacks=handlers).wait(PATIENCE)
            return result.status, len(webhook.posted)

    assert frozen(train) == ("completed", 1)


def test_timeouts_and_graces_strike() -> None:
    let_go = threading.Event()

    def stuck(ctx: Any) -> None:
        let_go.wait(PATIENCE)

    def follow_one() -> List[str]:
        seen: List[str] = []
        with Emulator(ScriptedEngine(steps=5, silent_at=2)) as emulator:
            cloud = cloud_of(emulator, emulator.create_job())
            callbacks = {"on_log": stuck}
            run = follow(cloud.job_id, client=cloud.client(), callbacks=callbacks, abort_grace=0.05)
            with pytest.raises(WaitTimeout):
                run.wait(0.05)
            seen.append("timeout")
            with pytest.raises(TimeoutError):
                emulator.wait_for(lambda: False, 0.05)
            seen.append("emulator")
            run.abort()
            with pytest.raises(RunAborted):
                run.wait(PATIENCE)
            seen.append("grace")
            run.close(0.05)
            let_go.set()
            run.close(PATIENCE)
        return seen

    assert frozen(follow_one) == ["timeout", "emulator", "grace"]


def test_a_time_of_day_that_jumps_stops_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that runs, followed anew under a clock that is three hours off, either way."""
    import itertools
    import time

    real = time.time
    offsets = itertools.cycle([-3 * 3600.0, 0.0, 3 * 3600.0, 1e9])
    monkeypatch.setattr(time, "time", lambda: real() + next(offsets))
    with Emulator(ScriptedEngine(steps=20, step_delay=0.001)) as emulator:
        cloud = cloud_of(emulator, emulator.create_job())
        timer = Timer(600)
        timer.load_state_dict({"jobId": cloud.job_id, "ran": 1.0})
        run = follow(cloud.job_id, client=cloud.client(), callbacks=timer)
        assert run.wait(PATIENCE).status == "completed"
