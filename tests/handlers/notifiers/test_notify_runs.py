"""Whole runs that are told of, with services that break in the middle: the run goes on unharmed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from arkor_sync import (
    CloudApiClient,
    FileCursorStore,
    ReconnectPolicy,
    StopTraining,
    create_trainer,
    follow,
    handlers,
)
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.handlers import CheckpointEvaluator, SlackNotifier, WebhookNotifier
from support.clocks import StoppedClock
from support.waiting import PATIENCE, until
from support.webhook_services import DROP, HANG, SERVICES, Service

EVERYTHING = ("started", "checkpoint", "reconnect", "completed", "failed", "cancelled", "error")
STEPS = 20


@pytest.fixture
def clock() -> Iterator[StoppedClock]:
    stopped = StoppedClock()
    yield stopped
    stopped.over.set()


class Steps:
    """Counts what the run delivered."""

    def __init__(self) -> None:
        self.seen: List[int] = []
        self.ends: List[str] = []

    def table(self) -> Any:
        return {
            "on_log": lambda ctx: self.seen.append(ctx.step),
            "on_completed": lambda ctx: self.ends.append("completed"),
            "on_failed": lambda ctx: self.ends.append("failed"),
        }


def trainer(client: CloudApiClient, *callbacks: Any, **more: Any) -> Any:
    return create_trainer(
        name="support-bot",
        model="unsloth/gemma-4-E4B-it",
        dataset={"type": "huggingface", "name": "arkorlab/triage-demo"},
        client=client,
        callbacks=list(callbacks),
        **more,
    )


SCRIPT = ScriptedEngine(steps=STEPS, checkpoints=[10, 20])
FAILS = ScriptedEngine(steps=STEPS, fails_at=15, error="<!channel> CUDA out of memory")


@pytest.mark.arkor(engine=SCRIPT)
def test_a_run_is_told_from_its_start_to_its_end(
    arkor_client: CloudApiClient, arkor_no_leaks: None
) -> None:
    with Service() as service:
        notifier = WebhookNotifier(
            service.url,
            on=EVERYTHING,
            every_n_steps=10,
            min_interval=0,
            prompts=["hello"],
            flush_timeout=PATIENCE,
        )
        trainer(arkor_client, notifier).wait(PATIENCE).raise_for_status()
        notes = [(body["event"], body["step"]) for body in service.bodies]
    assert notes == [
        ("started", None),
        ("progress", 10),
        ("checkpoint", 10),
        ("progress", 20),
        ("checkpoint", 20),
        ("completed", None),
    ]
    samples = [body["samples"][0] for body in service.bodies if body["samples"]]
    assert [sample["answer"] for sample in samples] == [
        "[support-bot @ 10] hello",
        "[support-bot @ 20] hello",
    ]


@pytest.mark.arkor(
    engine=SCRIPT,
    faults=[Fault("stall_before_headers", route="chat", seconds=0.2, count=None)],
)
def test_with_a_slow_chat_the_checkpoints_are_told_before_the_completion(
    arkor_client: CloudApiClient,
) -> None:
    with Service() as service:
        notifier = WebhookNotifier(
            service.url,
            on=("checkpoint", "completed"),
            every_n_steps=10,
            min_interval=0,
            prompts=["hello"],
            flush_timeout=PATIENCE,
        )
        trainer(arkor_client, notifier).wait(PATIENCE).raise_for_status()
        told = [(body["event"], body["step"]) for body in service.bodies]
    assert told == [
        ("progress", 10),
        ("checkpoint", 10),
        ("progress", 20),
        ("checkpoint", 20),
        ("completed", None),
    ]


@pytest.mark.arkor(engine=FAILS)
def test_a_failure_is_told_and_pages_only_whom_it_should(arkor_client: CloudApiClient) -> None:
    with SERVICES["SlackNotifier"]() as service:
        slack = SlackNotifier(service.url, flush_timeout=PATIENCE)
        result = trainer(arkor_client, slack).wait(PATIENCE)
        (body,) = service.bodies
    assert result.status == "failed"
    assert body["blocks"][0]["text"]["text"] == "<!here> ❌ *support-bot failed at step 15*"
    assert "&lt;!channel&gt; CUDA out of memory" in body["blocks"][1]["text"]["text"]


@pytest.mark.arkor(engine=ScriptedEngine(steps=STEPS, manual=True))
def test_a_run_that_the_program_stops_is_told_with_the_reason(
    arkor_emulator: Emulator, arkor_client: CloudApiClient
) -> None:
    def stop(ctx: Any) -> None:
        raise StopTraining("good enough")

    with Service() as service:
        notifier = WebhookNotifier(service.url, on="cancelled", flush_timeout=PATIENCE)
        run = trainer(arkor_client, {"on_log": stop}, notifier).follow()
        arkor_emulator.step(run.job.id, 2)
        result = run.wait(PATIENCE)
        (body,) = service.bodies
    assert result.stop_reason == "good enough"
    assert (body["event"], body["text"]) == ("cancelled", "good enough")


@pytest.mark.arkor(engine=SCRIPT)
def test_a_run_that_an_error_ends_is_told(arkor_client: CloudApiClient) -> None:
    def broken(ctx: Any) -> None:
        raise LookupError("no such row")

    with Service() as service:
        notifier = WebhookNotifier(service.url, on=("completed", "error"), flush_timeout=PATIENCE)
        with pytest.raises(LookupError):
            trainer(arkor_client, {"on_completed": broken}, notifier).wait(PATIENCE)
        told = [(body["event"], body["text"]) for body in service.bodies]
    assert [event for event, _ in told] == ["completed", "error"]
    assert told[1][1].startswith("LookupError: no such row\njob ")
    assert told[1][1].endswith(": on_completed raised, event 24, attempt 1"), "its note"


@pytest.mark.arkor(
    engine=SCRIPT, faults=[Fault("cut_mid_event", route="stream", event="9", byte=4)]
)
def test_a_lost_stream_is_told(arkor_client: CloudApiClient) -> None:
    with Service() as service:
        notifier = WebhookNotifier(service.url, on="reconnect", flush_timeout=PATIENCE)
        quick = ReconnectPolicy(base=0.01)
        trainer(arkor_client, notifier, reconnect=quick).wait(PATIENCE).raise_for_status()
        (body,) = service.bodies
    assert "connection lost (1 in a row)" in body["title"]


BROKEN: List[Any] = [(500, {}, "no"), (429, {"Retry-After": "3600"}, ""), HANG, DROP, "dies"]


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("how", BROKEN, ids=str)
@pytest.mark.arkor(engine=SCRIPT)
def test_a_service_that_breaks_in_the_middle_does_not_harm_the_run(
    kind: str,
    how: Any,
    arkor_client: CloudApiClient,
    clock: StoppedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps = Steps()
    service = SERVICES[kind]()
    closed = threading.Event()

    def breaks(ctx: Any) -> None:
        if ctx.step == 5:
            service.wait_for(1)
            if how == "dies":
                service.stop()
                closed.set()
            else:
                service.always = how

    notifier = getattr(handlers, kind)(
        service.url,
        on=EVERYTHING,
        every_n_steps=1,
        min_interval=0,
        timeout=(PATIENCE, 0.1 if how == HANG else PATIENCE),
        flush_timeout=0.1,
        clock=clock,
    )
    try:
        run = trainer(arkor_client, {"on_log": breaks}, notifier, steps.table()).follow()
        assert run.wait(PATIENCE).status == "completed"
        assert steps.seen == list(range(1, STEPS + 1)), "nothing is lost or repeated"
        assert steps.ends == ["completed"]
        assert run.health().given_up == 0
        assert f"{kind}: " in caplog.text
        assert " not delivered within " in caplog.text
    finally:
        clock.over.set()
        if not closed.is_set():
            service.stop()
        assert notifier._outbox.flush(PATIENCE)


@pytest.mark.arkor(engine=ScriptedEngine(steps=500))
def test_a_service_that_hangs_does_not_slow_the_run(
    arkor_client: CloudApiClient, clock: StoppedClock
) -> None:
    spent: List[float] = []

    class Timed(WebhookNotifier):
        def on_log(self, ctx: Any) -> None:
            begin = time.perf_counter()
            super().on_log(ctx)
            spent.append(time.perf_counter() - begin)

    with Service(always=HANG) as service:
        notifier = Timed(
            service.url,
            every_n_steps=1,
            min_interval=0,
            flush_timeout=0.05,
            timeout=(PATIENCE, PATIENCE),
            clock=clock,
        )
        trainer(arkor_client, notifier).wait(PATIENCE).raise_for_status()
        assert len(spent) == 500
        assert sorted(spent)[250] < 0.005
        clock.over.set()
        service.open.set()
        assert notifier._outbox.flush(PATIENCE)


@pytest.mark.arkor(engine=ScriptedEngine(steps=STEPS, checkpoints=[5, 10], manual=True))
def test_a_process_that_carries_on_tells_nothing_twice(
    arkor_emulator: Emulator, arkor_client: CloudApiClient, tmp_path: Path
) -> None:
    job_id = arkor_emulator.create_job(name="support-bot")
    store = FileCursorStore(tmp_path)

    def attach(service: Service) -> Any:
        notifier = WebhookNotifier(
            service.url,
            on=EVERYTHING,
            every_n_steps=5,
            min_interval=0,
            flush_timeout=PATIENCE,
        )
        return follow(
            job_id,
            client=arkor_client,
            cursor_store=store,
            callbacks=notifier,
            abort_grace=PATIENCE,
        )

    with Service() as service:
        with attach(service) as run:
            arkor_emulator.step(job_id, 8)
            until(lambda: run.health().delivered >= 8)
        arkor_emulator.step(job_id, 99)
        with attach(service) as run:
            assert run.wait(PATIENCE).status == "completed"
        assert attach(service).wait(PATIENCE).status == "completed"
        told = [(body["event"], body["step"]) for body in service.bodies]
    steps = [step for event, step in told if event == "progress"]
    assert steps == [5, 10, 15, 20]
    assert [step for event, step in told if event == "checkpoint"] == [5, 10]
    assert [event for event, _ in told].count("started") == 1
    assert [event for event, _ in told].count("completed") == 1
    assert [event for event, _ in told].count("error") == 1, "the first run was closed"


@pytest.mark.arkor(engine=SCRIPT)
def test_many_runs_may_share_a_notifier(arkor_client: CloudApiClient, arkor_no_leaks: None) -> None:
    with Service() as service:
        notifier = WebhookNotifier(service.url, on=("started", "completed"), flush_timeout=PATIENCE)
        runs = [trainer(arkor_client, notifier).follow() for _ in range(6)]
        for run in runs:
            run.wait(PATIENCE).raise_for_status()
        told = sorted((body["job_id"], body["event"]) for body in service.bodies)
    assert told == sorted((run.job.id, event) for run in runs for event in ("started", "completed"))


@pytest.mark.arkor(engine=SCRIPT, faults=[Fault("status", route="chat", status=500, count=None)])
def test_a_checkpoint_that_cannot_be_asked_is_told_all_the_same(
    arkor_client: CloudApiClient,
) -> None:
    with Service() as service:
        notifier = WebhookNotifier(
            service.url, on="checkpoint", prompts=["hello"], flush_timeout=PATIENCE
        )
        trainer(arkor_client, notifier).wait(PATIENCE).raise_for_status()
        answers = [body["samples"][0]["answer"] for body in service.bodies]
    assert answers == ["(no answer: ServerError)"] * 2


@pytest.mark.arkor(engine=SCRIPT)
def test_an_evaluator_tells_a_notifier_of_each_checkpoint(arkor_client: CloudApiClient) -> None:
    with SERVICES["SlackNotifier"]() as service:
        slack = SlackNotifier(service.url, flush_timeout=PATIENCE)
        evaluator = CheckpointEvaluator(["hello"], expected=["no"], notify=slack.notify)
        trainer(arkor_client, evaluator, slack).wait(PATIENCE).raise_for_status()
        titles = [body["text"] for body in service.bodies]
    assert titles == [
        "checkpoint 10: score 0, the best is 0 at 10",
        "checkpoint 20: score 0, the best is 0 at 10",
        "support-bot completed",
    ]
