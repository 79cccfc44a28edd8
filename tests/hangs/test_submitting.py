"""A submission ends in time: for an abort, an abort event, a timeout, Ctrl-C."""

from __future__ import annotations

import ctypes
import io
import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from arkor_sync import (
    ArkorConnectionError,
    ArkorTimeoutError,
    BadRequestError,
    CloudApiClient,
    FileCursorStore,
    HuggingFaceDataset,
    LeaseHeldError,
    ProjectState,
    RunAborted,
    RunError,
    TokenCredentials,
    Trainer,
    WaitTimeout,
    create_trainer,
)
from support.forking import lock_of_another
from support.hang_phases import is_in
from support.hostile import BODIES, DRIPS, answer_json, drip
from support.loopback import Connection, Server, stay_silent
from support.scripted_cloud import JOB
from support.waiting import PATIENCE, Background, shortest, until

LIMIT = 0.2  # seconds
MAYBE = "the job 'n' may have been created nevertheless; client.jobs.list() shows it"
GOES_ON = "job job-1 goes on; follow('job-1') attaches to it again"
ATTACKS = {
    "silence": stay_silent,
    "100 Continue": DRIPS["100 Continue"],
    "a header": DRIPS["a header"],
    "chunks": BODIES["chunks"],
}


def trainer_of(server: Server, **more: Any) -> Trainer:
    client = more.pop("client", None) or CloudApiClient(
        server.url,
        TokenCredentials("token"),
        scope=ProjectState("org", "project", "1"),
        timeout=more.pop("timeout", (PATIENCE, PATIENCE)),
    )
    return create_trainer(
        name="n",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("a/b"),
        client=client,
        **more,
    )


def no_submission() -> bool:
    return not any(thread.name == "arkor-submit" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    until(no_submission)


def seconds_to_stop(server: Server, stop: Callable[[Trainer, threading.Event], Any]) -> float:
    event = threading.Event()
    trainer = trainer_of(server, abort_event=event)
    seen = len(server.requests)
    blocked = Background(trainer.wait, PATIENCE)
    until(lambda: len(server.requests) > seen)
    begin = time.monotonic()
    stop(trainer, event)
    with pytest.raises(RunAborted, match=r"aborted while it was submitted.*may have been created"):
        blocked.result()
    return time.monotonic() - begin


@pytest.mark.parametrize("attack", sorted(ATTACKS))
@pytest.mark.parametrize("how", ["abort", "abort_event"])
def test_a_submission_is_aborted_at_once(attack: str, how: str) -> None:
    def stop(trainer: Trainer, event: threading.Event) -> None:
        event.set() if how == "abort_event" else trainer.abort("enough")

    with Server(ATTACKS[attack]) as server:
        assert shortest(lambda: seconds_to_stop(server, stop), LIMIT) < LIMIT


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_wait_ends_in_time_and_the_next_waits_for_the_same_job(attack: str) -> None:
    with Server(ATTACKS[attack]) as server:
        trainer = trainer_of(server)
        for _ in range(3):
            begin = time.monotonic()
            with pytest.raises(WaitTimeout, match="is still being submitted"):
                trainer.wait(0.1)
            assert time.monotonic() - begin < PATIENCE / 2
        until(lambda: server.requests)
        assert len(server.requests) == 1
        trainer.abort()
        with pytest.raises(RunAborted):
            trainer.start()


def test_the_job_of_a_submission_that_took_long_is_followed() -> None:
    go = threading.Event()

    def answer(connection: Connection, request: str) -> None:
        assert go.wait(PATIENCE)
        answer_json({"job": JOB})(connection, request)

    with Server(answer) as server:
        trainer = trainer_of(server)
        with pytest.raises(WaitTimeout):
            trainer.wait(0.0)
        go.set()
        assert trainer.start().id == "job-1"
        assert [request.split()[0] for request in server.requests] == ["POST"]


@pytest.mark.parametrize("attack", sorted(set(ATTACKS) - {"silence"}))
def test_a_submission_has_a_deadline_of_its_own(
    attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(ATTACKS[attack]) as server:
        trainer = trainer_of(server, timeout=(PATIENCE, 0.2))
        with pytest.raises(ArkorTimeoutError, match="may have been created"):
            Background(trainer.wait).result()
    assert said(caplog) == [MAYBE]


def said(caplog: pytest.LogCaptureFixture) -> List[str]:
    """List the warnings about a job that may exist, or that goes on."""
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [line for line in lines if "may have been" in line or "goes on" in line]


def refuse(connection: Connection, request: str) -> None:
    connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_of_a_job_that_cannot_exist_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with Server(refuse) as server:
        trainer = trainer_of(server)
        with pytest.raises(BadRequestError) as refused:
            trainer.wait()
    with pytest.raises(ArkorConnectionError) as closed:
        trainer.wait()  # the server is gone
    assert said(caplog) == []
    for error in (refused.value, closed.value):
        assert "may have been" not in str(error) + str(getattr(error, "__notes__", ""))


def test_who_is_interrupted_as_the_answer_comes_is_told_the_job_and_can_follow_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Server(answer_json({"job": JOB})) as server:
        trainer = trainer_of(server)
        submission = trainer._submitter._start()
        assert submission is not None

        def wait_and_be_interrupted(*_: Any) -> None:
            until(lambda: submission.done)
            raise KeyboardInterrupt

        submission.wait = wait_and_be_interrupted  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt) as caught:
            trainer.start()
        assert caught.value.__notes__ == [GOES_ON]  # type: ignore[attr-defined]
        assert said(caplog) == [GOES_ON]
        assert trainer.start().id == "job-1"
        assert posts(server) == 1


def test_at_the_exit_a_job_that_nobody_has_waited_for_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "arkor_sync.run")
    with Server(answer_json({"job": JOB})) as server:
        trainer = trainer_of(server)
        with pytest.raises(WaitTimeout):
            trainer.wait(0)
        submission = trainer._submitter._start()
        assert submission is not None
        until(lambda: f"job job-1 ({JOB['name']}) was submitted" in caplog.text)
        assert submission.done
        submission.at_exit(PATIENCE)
        assert said(caplog) == [f"{GOES_ON} (the interpreter exits)"]
        submission.at_exit(PATIENCE)
        assert len(said(caplog)) == 1
    with Server(answer_json({"job": JOB})) as server:
        submission = trainer_of(server)._submitter._start()
        assert submission is not None
        submission.result()
        submission.at_exit(PATIENCE)
        assert len(said(caplog)) == 1, "whoever has the job knows it"


def test_what_comes_before_the_submission_is_aborted_too(tmp_path: Any, monkeypatch: Any) -> None:
    """A sign-in that drips, and the lock of another program, which nothing can interrupt."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ARKOR_TOKEN", raising=False)

    def abort(trainer: Trainer) -> None:
        blocked = Background(trainer.wait)
        until(lambda: not no_submission())
        trainer.abort("enough")
        with pytest.raises(RunAborted) as caught:
            blocked.result()
        assert caught.value.reason == "enough"

    with Server(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n")) as server:
        abort(trainer_of(server, client=CloudApiClient(server.url, timeout=(1.0, 1.0))))
        until(no_submission)
        with lock_of_another(tmp_path / ".arkor"):
            abort(trainer_of(server, client=CloudApiClient(server.url, timeout=(0.5, 0.5))))
            until(no_submission)
        assert not any("/v1/jobs" in request for request in server.requests)


def test_ctrl_c_ends_a_submission(caplog: pytest.LogCaptureFixture) -> None:
    with Server(stay_silent) as server:
        trainer = trainer_of(server)

        def interrupt() -> None:
            until(lambda: is_in(threading.main_thread(), ("submission.wait",)))
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        sending = Background(interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            trainer.wait()
        sending.result()
        assert caught.value.__notes__ == [MAYBE]  # type: ignore[attr-defined]
        assert said(caplog) == [MAYBE]
        until(no_submission)


def posts(server: Server) -> int:
    return sum(request.startswith("POST") for request in server.requests)


def test_a_time_limit_that_strikes_a_submission_says_that_the_job_may_exist() -> None:
    """Job systems set an `Exception` for a thread whose time is over."""

    class TimeIsOver(Exception):
        pass

    with Server(stay_silent) as server:
        trainer = trainer_of(server)
        blocked = Background(trainer.wait)
        until(lambda: server.requests)
        strike(blocked.thread, TimeIsOver)
        with pytest.raises(TimeIsOver) as caught:
            blocked.result()
        assert caught.value.__notes__ == [MAYBE]  # type: ignore[attr-defined]
        until(no_submission)
        assert posts(server) == 1


def test_who_wakes_late_from_a_submission_that_failed_does_not_disturb_the_next() -> None:
    late, go = threading.Event(), threading.Event()
    with Server(stay_silent) as server:
        submitter = trainer_of(server)._submitter
        failed = submitter._start()
        assert failed is not None

        def wake_late(*_: Any) -> None:
            late.set()
            assert go.wait(PATIENCE)
            raise ValueError("the request failed")

        failed.wait = wake_late  # type: ignore[method-assign, assignment]
        first = Background(submitter.submit, None)
        assert late.wait(PATIENCE)
        submitter._running.clear()  # as another thread does that has woken before
        retry = submitter._start()
        go.set()
        with pytest.raises(ValueError, match="the request failed"):
            first.result()
        assert submitter._start() is retry
        for each in (failed, retry):
            assert each is not None
            each._transport.close()


def test_after_an_abort_every_answer_says_that_the_job_may_exist(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Server(stay_silent) as server:
        trainer = trainer_of(server)
        blocked = Background(trainer.wait)
        until(lambda: server.requests)
        trainer.abort("enough")
        for ask in (blocked.result, trainer.start, trainer.wait):
            with pytest.raises(RunAborted, match=r"aborted while.*may have been created"):
                ask()
        assert posts(server) == 1
        assert said(caplog) == [MAYBE]


def test_a_submission_that_can_have_no_thread_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Server(stay_silent) as server:
        trainer = trainer_of(server)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RunError, match="is not submitted: this process cannot start"):
                trainer.start()
        assert server.requests == []


def strike(thread: threading.Thread, error: type) -> None:
    """Set an exception for another thread, as watchdogs do."""
    identity = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(error))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_logging_that_raises_keeps_nobody_waiting() -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise OSError("the disk of the log is full")

    broken, logger = Broken(), logging.getLogger("arkor_sync.run")
    level = logger.level
    logger.addFilter(broken)
    logger.setLevel(logging.INFO)
    try:
        with Server(answer_json({"job": JOB})) as server:
            assert trainer_of(server).start().id == "job-1"
    finally:
        logger.removeFilter(broken)
        logger.setLevel(level)


def test_logging_that_blocks_keeps_nobody_waiting() -> None:
    """A signal handler that submits runs where the main thread holds the lock of a handler."""
    written = io.StringIO()
    handler, logger = logging.StreamHandler(written), logging.getLogger("arkor_sync.run")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with Server(answer_json({"job": JOB})) as server:
            trainer = trainer_of(server)
            handler.acquire()
            try:
                assert Background(trainer.start).result().id == "job-1"
            finally:
                handler.release()
            until(no_submission)
            assert written.getvalue().count("was submitted") == 1
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_a_follow_that_is_tried_again_and_again_warns_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    store = FileCursorStore(tmp_path)
    release = store.lease("job-1")  # as another run has it
    with Server(answer_json({"job": JOB})) as server:
        trainer = trainer_of(server, cursor_store=store)
        for _ in range(3):
            with pytest.raises(LeaseHeldError) as caught:
                trainer.follow()
            assert caught.value.__notes__ == [GOES_ON]  # type: ignore[attr-defined]
    release()
    assert said(caplog) == [GOES_ON]
