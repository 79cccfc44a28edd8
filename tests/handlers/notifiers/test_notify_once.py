"""That an error which ends a run and the program at the same time is told once, by either."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import pytest

from arkor_sync import WaitTimeout, create_trainer, exit_on
from arkor_sync.emulator import ScriptedEngine
from arkor_sync.errors import RunAborted
from arkor_sync.handlers import WebhookNotifier
from support.example_runs import python
from support.notifier_contexts import FakeRun
from support.waiting import PATIENCE, until
from support.webhook_services import Service

SETTINGS: Any = {
    "name": "support-bot",
    "model": "unsloth/gemma-4-E4B-it",
    "dataset": {"type": "huggingface", "name": "arkorlab/triage-demo"},
}


@contextmanager
def then_set(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


@pytest.mark.parametrize("first", ["block", "run"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_an_interruption_is_told_by_the_block_or_by_the_run(
    service: Service, notifier: WebhookNotifier, interruption: BaseException, first: str
) -> None:
    def end_block() -> None:
        with pytest.raises(type(interruption)), notifier.watching(name="nightly"):
            raise interruption

    def end_run() -> None:
        notifier.on_end(FakeRun().end(RunAborted("stopped", interruption)))

    for end in (end_block, end_run) if first == "block" else (end_run, end_block):
        end()
    [body] = service.bodies
    titles = {"block": "nightly was interrupted", "run": "bot is not followed any more"}
    assert (body["title"], body["urgent"]) == (titles[first], False)


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_a_signal_during_wait_is_told_once(
    arkor_client: Any, service: Service, notifier: WebhookNotifier
) -> None:
    goes_on = threading.Event()

    def terminated(ctx: Any) -> None:
        until(lambda: ctx.run._awaited)  # before, the signal would end the start of the run
        signal.raise_signal(signal.SIGTERM)
        goes_on.wait(PATIENCE)

    callbacks = [{"on_started": terminated}, notifier]
    trainer = create_trainer(client=arkor_client, callbacks=callbacks, **SETTINGS)
    with pytest.raises(SystemExit), notifier.watching(), exit_on(), then_set(goes_on):
        trainer.wait(PATIENCE)
    assert trainer.run is not None
    trainer.run.close(PATIENCE)
    [body] = service.bodies
    assert body["urgent"] is False


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_what_leaves_the_with_of_a_run_is_told_once(
    arkor_client: Any, service: Service, notifier: WebhookNotifier
) -> None:
    goes_on = threading.Event()
    callbacks = [{"on_started": lambda _: goes_on.wait(PATIENCE)}, notifier]
    trainer = create_trainer(client=arkor_client, callbacks=callbacks, **SETTINGS)
    with (
        pytest.raises(WaitTimeout),
        notifier.watching(),
        trainer.follow() as run,
        then_set(goes_on),
    ):
        run.wait(0.0)
    [body] = service.bodies
    assert body["title"] == "support-bot is not followed any more"
    assert "(reason: WaitTimeout(" in body["text"]
    assert body["urgent"] is True


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_an_abort_that_a_callback_outlives_is_told_once(
    arkor_client: Any, service: Service, notifier: WebhookNotifier
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def slow(_: Any) -> None:
        begun.set()
        goes_on.wait(PATIENCE)

    settings = {**SETTINGS, "callbacks": [{"on_started": slow}, notifier], "abort_grace": 0.01}
    run = create_trainer(client=arkor_client, **settings).follow()
    assert begun.wait(PATIENCE)
    run.abort("enough")
    with pytest.raises(RunAborted), notifier.watching(name="nightly"):
        run.wait()
    goes_on.set()
    run.close(PATIENCE)
    [body] = service.bodies
    assert body["title"] == "nightly failed with RunAborted"
    again = FakeRun(job_id=run.job.id)  # the same job, which was followed again
    for _ in range(2):
        notifier.on_end(again.end(RunAborted(f"stopped following job {run.job.id}", "enough")))
        with pytest.raises(RunAborted), notifier.watching():
            raise RunAborted(f"stopped following job {run.job.id}", "enough")
    assert len(service.bodies) == 3


SCRIPT = """
from arkor_sync import HuggingFaceDataset, create_trainer
from arkor_sync.emulator import Emulator, NgramEngine
from arkor_sync.handlers import WebhookNotifier

notifier = WebhookNotifier()
arkor = Emulator(engine=NgramEngine(step_delay=60)).start()
with notifier.watching():
    create_trainer(
        name="nightly",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("emulator/sample"),
        callbacks=[notifier],
        client=arkor.client(),
    ).follow().wait(0)
"""


@pytest.mark.slow
def test_a_timeout_that_ends_the_script_is_told_once(service: Service, tmp_path: Path) -> None:
    (tmp_path / "nightly.py").write_text(SCRIPT)
    env = {**os.environ, "ARKOR_WEBHOOK_URL": service.url, "HOME": str(tmp_path)}
    done = python("nightly.py", cwd=tmp_path, env=env)
    assert "the interpreter exits" in done.stderr, "the run was left"
    assert [body["title"] for body in service.bodies] == ["nightly.py failed with WaitTimeout"]
