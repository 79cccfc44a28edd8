"""What is told of a run, and what is told only once."""

from __future__ import annotations

import re
import threading
from typing import Any, Callable, Dict, Iterator, List

import pytest

from arkor_sync import RunAborted
from arkor_sync.errors import ReconnectExhausted
from arkor_sync.handlers.notifiers.base import Notifier
from arkor_sync.handlers.notifiers.notification import EVENTS, Notification
from support.clocks import FakeClock
from support.notifier_contexts import FakeRun
from support.waiting import PATIENCE, until


class Kept(Notifier):
    """Keeps what it is to send."""

    def _connect(self, url: str) -> None:
        self.notes: List[Notification] = []
        self.threads: List[str] = []

    def _attempt(self, note: Notification) -> None:
        self.notes.append(note)
        self.threads.append(threading.current_thread().name)

    def flushed(self) -> List[Notification]:
        assert self._sample_outbox.flush(PATIENCE)
        assert self._outbox.flush(PATIENCE)
        return self.notes

    @property
    def titles(self) -> List[str]:
        return [note.title for note in self.flushed()]


Make = Callable[..., Kept]


@pytest.fixture
def kept() -> Iterator[Make]:
    made: List[Kept] = []

    def make(*on: str, **settings: Any) -> Kept:
        chosen = {"on": on} if on else {}
        made.append(
            Kept("there", clock=FakeClock(1.0), flush_timeout=PATIENCE, **chosen, **settings)
        )
        return made[-1]

    yield make
    for notifier in made:
        notifier.flushed()  # and its threads go at once


def everything(notifier: Notifier, run: FakeRun) -> None:
    notifier.on_started(run.started())
    notifier.on_log(run.log(1, loss=1.0))
    notifier.on_checkpoint(run.checkpoint(1))
    notifier.on_reconnect(run.reconnect())


def test_every_kind_of_end_is_told_by_default_and_nothing_else(kept: Make) -> None:
    notifier, run = kept(), FakeRun()
    everything(notifier, run)
    notifier.on_completed(run.completed())
    notifier.on_end(run.end())
    other = FakeRun(job_id="job-2")
    everything(notifier, other)
    notifier.on_failed(other.failed())
    notifier.on_end(other.end())
    third = FakeRun(job_id="job-3")
    notifier.on_cancelled(third.cancelled())
    notifier.on_end(third.end())
    notifier.on_end(FakeRun(job_id="job-4").end(ReconnectExhausted("no way back", 5)))
    assert notifier.titles == [
        "bot completed",
        "bot failed at step 7",
        "bot was cancelled",
        "bot is not followed any more",
    ]
    assert [note.urgent for note in notifier.notes] == [False, True, False, True]


def test_each_event_is_told_when_it_is_asked_for(kept: Make) -> None:
    notifier, run = kept(*EVENTS, every_n_steps=1), FakeRun()
    everything(notifier, run)
    notifier.on_failed(run.failed("out of memory", 12))
    notifier.on_end(run.end())
    assert notifier.titles == [
        "bot started",
        "bot: step 1",
        "bot: checkpoint 1",
        "bot: connection lost (1 in a row), next attempt in 2 s",
        "bot failed at step 12",
    ]
    assert notifier.notes[1].metrics == {"loss": 1.0}
    assert notifier.notes[3].text == "reset by peer"
    assert (notifier.notes[4].text, notifier.notes[4].step) == ("out of memory", 12)


def test_the_worker_thread_only_queues(kept: Make) -> None:
    notifier, run = kept("started"), FakeRun()
    notifier.on_started(run.started())
    notifier.flushed()
    assert notifier.threads == ["arkor-Kept"]


def test_a_run_that_the_program_stopped_is_told_with_its_reason(kept: Make) -> None:
    notifier, run = kept("cancelled"), FakeRun()
    run.cancelled("no progress")
    notifier.on_end(run.end())
    assert [(note.title, note.text) for note in notifier.flushed()] == [
        ("bot was cancelled", "no progress")
    ]


@pytest.mark.parametrize("ending", ["completed", "failed"])
def test_an_end_that_another_callback_kept_from_it_is_told_all_the_same(
    kept: Make, ending: str
) -> None:
    notifier, run = kept(), FakeRun()
    getattr(run, ending)()
    notifier.on_end(run.end(LookupError("of a callback before it")))
    assert notifier.titles == [f"bot {ending}", f"bot: a callback raised after the job {ending}"]


@pytest.mark.parametrize(
    ("error", "urgent"),
    [
        (ReconnectExhausted("no way back", 5), True),
        (LookupError("a callback"), True),
        (RunAborted("enough"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_a_run_that_ends_with_an_error_is_told_of_with_error(
    kept: Make, error: BaseException, urgent: bool
) -> None:
    notifier, run = kept("error"), FakeRun()
    notifier.on_end(run.end(error))
    (note,) = notifier.flushed()
    assert note.title == "bot is not followed any more"
    assert note.text == f"{type(error).__name__}: {error}".rstrip(": ")
    assert note.urgent is urgent


def test_every_n_steps_is_the_first_log_from_each_multiple_on(kept: Make) -> None:
    notifier, run = kept("failed", every_n_steps=10, min_interval=0), FakeRun()
    for step in (1, 9, 10, 10, 11, 19, 23, 29, 30, 65, 69):
        notifier.on_log(run.log(step))
    assert [note.step for note in notifier.flushed()] == [10, 23, 30, 65]


def test_progress_and_reconnects_come_no_more_often_than_allowed(kept: Make) -> None:
    notifier, run = kept("reconnect", every_n_steps=1, min_interval=30), FakeRun()
    clock = notifier.clock
    assert isinstance(clock, FakeClock)
    for step in range(1, 101):
        notifier.on_log(run.log(step))
        notifier.on_reconnect(run.reconnect(step))
        notifier.flushed()
        clock.time += 1
    assert [note.step for note in notifier.notes if note.event == "progress"] == [1, 31, 61, 91]
    assert [note.event for note in notifier.notes].count("reconnect") == 4


def test_checkpoints_and_ends_are_not_limited(kept: Make) -> None:
    notifier, run = kept("checkpoint", "failed"), FakeRun()
    for step in range(1, 21):
        notifier.on_checkpoint(run.checkpoint(step))
    notifier.on_failed(run.failed())
    assert len(notifier.flushed()) == 21


def test_an_event_that_comes_again_is_told_once(kept: Make) -> None:
    notifier, run = kept(*EVENTS, every_n_steps=5), FakeRun()
    for _ in range(3):
        notifier.on_started(run.started())
        notifier.on_log(run.log(5))
        notifier.on_checkpoint(run.checkpoint(5))
        notifier.on_completed(run.completed())
    notifier.on_end(run.end())
    assert [note.event for note in notifier.flushed()] == [
        "started",
        "progress",
        "checkpoint",
        "completed",
    ]


def test_runs_that_share_a_notifier_do_not_disturb_each_other(kept: Make) -> None:
    notifier = kept("started", "completed")
    runs = [FakeRun(job_id=f"job-{number}") for number in range(8)]
    barrier = threading.Barrier(8)

    def follow(run: FakeRun) -> None:
        barrier.wait(PATIENCE)
        for _ in range(2):
            notifier.on_started(run.started())
            notifier.state_dict()
            notifier.on_completed(run.completed())
        notifier.on_end(run.end())

    threads = [threading.Thread(target=follow, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted((note.job_id, note.event) for note in notifier.flushed()) == sorted(
        (run.job_id, event) for run in runs for event in ("started", "completed")
    )
    assert notifier.state_dict() == {}, "what was told of a run is forgotten at its end"


def test_another_process_tells_nothing_twice(kept: Make) -> None:
    import json

    first, run = kept("started", "checkpoint", "failed", every_n_steps=10), FakeRun()
    first.on_started(run.started())
    first.on_log(run.log(20))
    first.on_checkpoint(run.checkpoint(20))
    saved = json.loads(json.dumps(first.state_dict()))
    second = kept("started", "checkpoint", "failed", every_n_steps=10)
    second.load_state_dict(saved)
    second.on_started(run.started())
    second.on_log(run.log(20))
    second.on_log(run.log(29))
    second.on_checkpoint(run.checkpoint(20))
    second.on_log(run.log(30))
    second.on_failed(run.failed())
    assert [(note.event, note.step) for note in second.flushed()] == [
        ("progress", 30),
        ("failed", 7),
    ]
    third = kept("failed")
    third.load_state_dict(second.state_dict())
    third.on_failed(run.failed())
    third.on_end(run.end())
    assert third.flushed() == []


# Samples.


def test_a_checkpoint_is_asked_on_a_thread_of_the_notifiers_own(kept: Make) -> None:
    conversation = [{"role": "system", "content": "be short"}, {"role": "user", "content": "why?"}]
    notifier = kept("checkpoint", prompts=["hi", conversation])
    run = FakeRun(answer=lambda messages: f"about {messages[-1]['content']}")
    notifier.on_checkpoint(run.checkpoint(5))
    (note,) = notifier.flushed()
    assert [(s.prompt, s.answer) for s in note.samples] == [
        ("hi", "about hi"),
        ("why?", "about why?"),
    ]
    assert set(run.threads) == {"arkor-Kept-samples"}
    assert run.asked[0][0] == [{"role": "user", "content": "hi"}]
    assert run.asked[1][0] is conversation
    assert run.asked[0][1]["stream"] is False


def test_a_prompt_that_fails_spoils_nothing(kept: Make, caplog: pytest.LogCaptureFixture) -> None:
    def answer(messages: Any) -> Any:
        if messages[0]["content"] == "broken":
            raise ConnectionError("the cloud is away")
        return None

    notifier = kept("checkpoint", prompts=["broken", "fine", []])
    notifier.on_checkpoint(FakeRun(answer=answer).checkpoint(5))
    (note,) = notifier.flushed()
    assert [sample.answer for sample in note.samples] == [
        "(no answer: ConnectionError)",
        "(no text)",
        "(no answer: IndexError)",
    ]
    assert "checkpoint 5: no sample: ConnectionError: the cloud is away" in caplog.text


class SlowAnswer:
    """A checkpoint's answer that comes when the test says so."""

    def __init__(self) -> None:
        self.asked, self.given = threading.Event(), threading.Event()

    def __call__(self, messages: Any) -> str:
        self.asked.set()
        assert self.given.wait(PATIENCE)
        return "at last"


@pytest.mark.parametrize("end", ["failed", "cancelled", "error"])
def test_news_of_another_end_than_a_completion_does_not_wait_for_an_answer(
    kept: Make, end: str
) -> None:
    answer = SlowAnswer()
    notifier, run = kept("checkpoint", end, prompts=["hi"]), FakeRun(answer=answer)
    notifier.on_checkpoint(run.checkpoint(5))
    assert answer.asked.wait(PATIENCE)
    if end == "error":
        threading.Thread(target=notifier.on_end, args=(run.end(LookupError("x")),)).start()
        until(lambda: notifier.notes)
    else:
        getattr(notifier, f"on_{end}")(getattr(run, end)())
        assert notifier._outbox.flush(PATIENCE)
    assert [note.event for note in notifier.notes] == [end]
    answer.given.set()
    notifier.on_end(run.end())
    assert [note.event for note in notifier.notes] == [end, "checkpoint"]


def test_progress_and_the_completion_are_told_after_an_earlier_checkpoint(kept: Make) -> None:
    answer = SlowAnswer()
    settings: Any = {"every_n_steps": 1, "min_interval": 0, "prompts": ["hi"]}
    notifier, run = kept("checkpoint", "completed", **settings), FakeRun(answer=answer)
    notifier.on_log(run.log(5))
    notifier.on_checkpoint(run.checkpoint(5))
    assert answer.asked.wait(PATIENCE)
    notifier.on_log(run.log(6))
    notifier.on_completed(run.completed())
    other = FakeRun(job_id="job-2")
    notifier.on_completed(other.completed())
    assert notifier._outbox.flush(PATIENCE)
    told = [(note.job_id, note.event, note.step) for note in notifier.notes]
    assert told == [("job-1", "progress", 5), ("job-2", "completed", None)], "it has no checkpoint"
    answer.given.set()
    notifier.on_end(run.end())
    assert [(note.job_id, note.event, note.step) for note in notifier.notes[2:]] == [
        ("job-1", "checkpoint", 5),
        ("job-1", "progress", 6),
        ("job-1", "completed", None),
    ]


def test_a_completion_waits_for_an_answer_no_longer_than_the_time_allows(
    kept: Make, caplog: pytest.LogCaptureFixture
) -> None:
    answer = SlowAnswer()
    settings: Any = {"every_n_steps": 1, "min_interval": 0, "prompts": ["hi"]}
    notifier, run = kept("checkpoint", "completed", **settings), FakeRun(answer=answer)
    notifier.flush_timeout = 0.2
    notifier.on_checkpoint(run.checkpoint(5))
    assert answer.asked.wait(PATIENCE)
    notifier.on_log(run.log(6))
    notifier.on_completed(run.completed())
    notifier.on_end(run.end())
    assert notifier._outbox.flush(PATIENCE)
    assert [note.event for note in notifier.notes] == ["completed"]
    assert re.search(
        r"Kept-samples: 1 notification \(checkpoint of job job-1\) not delivered within 0\.\d s: "
        "the prompts are still being asked",
        caplog.text,
    )
    answer.given.set()
    assert [note.event for note in notifier.flushed()] == ["completed", "checkpoint"]


# Never the run's trouble.


def test_what_goes_wrong_in_a_callback_is_logged(
    kept: Make, caplog: pytest.LogCaptureFixture
) -> None:
    notifier, run = kept("started"), FakeRun()
    ctx = run.started()
    ctx.job = None  # type: ignore[assignment]
    notifier.on_started(ctx)
    assert "Kept.on_started failed: AttributeError" in caplog.text


def test_a_forked_child_begins_anew(kept: Make) -> None:
    notifier, run = kept("started", "failed"), FakeRun()
    notifier.on_started(run.started())
    notifier.flushed()
    notifier._jobs.after_fork()
    notifier.on_started(run.started())
    assert notifier.titles == ["bot started", "bot started"]


class Mute(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")


def test_an_end_that_cannot_be_told_is_waited_for_and_forgotten(kept: Make) -> None:
    notifier, run = kept("completed", "error"), FakeRun()
    run.completed()
    notifier.on_end(run.end(Mute()))
    assert [(note.event, note.text) for note in notifier.notes] == [
        ("completed", ""),
        ("error", "Mute: (it has no text)"),
    ]
    run.outcome = 7  # type: ignore[assignment]
    notifier.on_end(run.end(Mute()))
    assert notifier.state_dict() == {}


def test_an_exit_in_a_delivery_costs_that_one_only(
    kept: Make, caplog: pytest.LogCaptureFixture
) -> None:
    notifier, run = kept("started", "failed"), FakeRun()
    attempt = notifier._attempt

    def exits(note: Notification) -> None:
        if note.event == "started":
            raise SystemExit("http://s3cr3t")
        attempt(note)

    notifier._attempt = exits  # type: ignore[method-assign]
    notifier.on_started(run.started())
    notifier.on_failed(run.failed())
    notifier.on_end(run.end())
    assert [note.event for note in notifier.notes] == ["failed"]
    assert "started of job job-1 was not delivered: SystemExit" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_a_run_saves_what_was_told_of_it_and_of_no_other(kept: Make) -> None:
    notifier = kept("started")
    states: Dict[str, Any] = {}
    all_there = threading.Barrier(3)

    def follow(number: int) -> None:
        run = FakeRun(job_id=f"job-{number}")
        notifier.on_log(run.log(1))
        all_there.wait(PATIENCE)
        states[run.job_id] = notifier.state_dict()

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert {job_id: list(state) for job_id, state in states.items()} == {
        f"job-{number}": [f"job-{number}"] for number in range(3)
    }


def test_jobs_that_have_ended_in_another_process_do_not_pile_up(kept: Make) -> None:
    notifier = kept()
    for number in range(3000):
        saved = {"once": ["completed"], "checkpoint": -1, "progress": 0}
        notifier.load_state_dict({f"job-{number}": saved})
    assert len(notifier.state_dict()) <= 1000


def test_notes_of_ones_own_can_be_sent(kept: Make) -> None:
    notifier = kept()
    notifier.send(Notification("score", "job-1", "bot", "bot: score 0.9 at step 50"))
    assert notifier.titles == ["bot: score 0.9 at step 50"]


# Plain texts.


def test_a_plain_text_is_queued_with_its_first_line_as_the_title(kept: Make) -> None:
    notifier = kept("failed")
    notifier.notify("score 0.9\nwhy? -> because\x07\nhi -> hello")
    (note,) = notifier.flushed()
    assert (note.event, note.title) == ("message", "score 0.9")
    assert note.text == "why? -> because\nhi -> hello"
    assert notifier.threads == ["arkor-Kept"]
    assert not note.last


@pytest.mark.parametrize(
    "text", [None, 7, b"\xff", "\ud800", "", " \n", "\x00", "x" * 10**6, Mute()]
)
def test_no_text_raises_anything(kept: Make, text: Any) -> None:
    notifier = kept("failed")
    notifier.notify(text)
    assert all(1 <= len(note.title) <= 200 for note in notifier.flushed())
    Kept("").notify(text)  # one that is off


def test_a_long_first_line_is_told_as_a_whole_below(kept: Make) -> None:
    notifier = kept("failed")
    notifier.notify("word " * 100)
    (note,) = notifier.flushed()
    assert note.title.endswith("…")
    assert note.text == ("word " * 100).strip()
