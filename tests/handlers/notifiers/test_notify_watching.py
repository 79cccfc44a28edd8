"""What is told when the program itself ends with an error, and that nothing is told twice."""

from __future__ import annotations

import os
import pickle
import re
import sys
import threading
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import pytest

from arkor_sync import (
    Action,
    ArkorUsageError,
    CloudApiClient,
    ErrorPolicy,
    TokenCredentials,
    TrainingFailedError,
    create_trainer,
)
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.errors import AuthenticationError, RunAborted, add_note
from arkor_sync.handlers import SlackNotifier, WebhookNotifier
from support.example_runs import python
from support.notifier_contexts import FakeRun
from support.waiting import PATIENCE, Background
from support.webhook_services import HANG, Service, Slack

Told = Callable[[], List[Tuple[str, str]]]


@pytest.fixture
def told(service: Service) -> Told:
    """Return what was told by now: the end of each block waits for it."""
    return lambda: [(body["title"], body["text"]) for body in service.bodies]


def end_with(notifier: Any, error: BaseException, name: Optional[str] = "nightly") -> None:
    """Have a block end with an error, and see that the error goes on as it is."""
    with pytest.raises(type(error)) as caught, notifier.watching(name=name):
        raise error
    assert caught.value is error


def train(client: Any, *callbacks: Any, **more: Any) -> Any:
    settings: Any = {
        "name": "support-bot",
        "model": "unsloth/gemma-4-E4B-it",
        "dataset": {"type": "huggingface", "name": "arkorlab/triage-demo"},
        **more,
    }
    return create_trainer(client=client, callbacks=list(callbacks), **settings).wait(PATIENCE)


@pytest.mark.parametrize(
    ("error", "title", "text", "urgent"),
    [
        (LookupError("no row"), "failed with LookupError", "LookupError: no row", True),
        (SystemExit("no data"), "failed with SystemExit", "SystemExit: no data", True),
        (SystemExit(2), "failed with SystemExit", "SystemExit: 2", True),
        (SystemExit(""), "failed with SystemExit", "SystemExit", True),
        (KeyboardInterrupt(), "was interrupted", "KeyboardInterrupt", False),
        (SystemExit(143), "was interrupted", "SystemExit: 143", False),
        (SystemExit(255), "failed with SystemExit", "SystemExit: 255", True),
    ],
    ids=str,
)
def test_an_error_of_the_program_is_told_before_the_block_ends(
    service: Service,
    notifier: WebhookNotifier,
    error: BaseException,
    title: str,
    text: str,
    urgent: bool,
) -> None:
    end_with(notifier, error)
    [body] = service.bodies
    assert (body["event"], body["title"]) == ("error", f"nightly {title}")
    assert (body["text"], body["urgent"]) == (text, urgent)
    assert (body["job_id"], body["job_name"]) == ("", "")


@pytest.mark.parametrize("error", [SystemExit(), SystemExit(0), GeneratorExit()], ids=repr)
def test_an_ordinary_end_is_not_told(
    notifier: WebhookNotifier, told: Told, error: BaseException
) -> None:
    end_with(notifier, error)
    with notifier.watching():
        pass
    assert told() == []


def test_the_notes_of_an_error_are_told_with_it(notifier: WebhookNotifier, told: Told) -> None:
    error = LookupError("no row")
    add_note(error, "job j-1 goes on; follow('j-1') attaches to it again")
    end_with(notifier, error)
    [(_, text)] = told()
    assert text == "LookupError: no row\njob j-1 goes on; follow('j-1') attaches to it again"


# What happens outside of a run.


def test_a_wrong_token_is_told(
    notifier: WebhookNotifier, told: Told, arkor_emulator: Emulator
) -> None:
    client = CloudApiClient(arkor_emulator.url, TokenCredentials("wrong"))
    with pytest.raises(AuthenticationError), notifier.watching(name="nightly"):
        client.me()
    [(title, text)] = told()
    assert title == "nightly failed with AuthenticationError"
    assert text.startswith("AuthenticationError: 401")


def test_a_submission_without_a_network_is_told(
    arkor_emulator: Emulator, arkor_client: CloudApiClient, notifier: WebhookNotifier, told: Told
) -> None:
    arkor_emulator.stop()
    with pytest.raises(Exception, match="refused"), notifier.watching(name="nightly"):
        train(arkor_client, notifier)
    [(title, _)] = told()
    assert title.startswith("nightly failed with Arkor")


def test_an_argument_that_cannot_work_is_told(
    arkor_client: CloudApiClient, notifier: WebhookNotifier, told: Told
) -> None:
    with pytest.raises(ArkorUsageError), notifier.watching(name="nightly"):
        train(arkor_client, notifier, max_steps=-1)
    [(title, text)] = told()
    assert title == "nightly failed with ArkorUsageError"
    assert text.startswith("ArkorUsageError: max_steps: got int -1")


# What a run has told already.


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_an_error_that_a_run_has_told_is_not_told_again(
    arkor_client: CloudApiClient, notifier: WebhookNotifier, told: Told
) -> None:
    def broken(ctx: Any) -> None:
        raise LookupError("no such row")

    with pytest.raises(LookupError), notifier.watching():
        train(arkor_client, {"on_log": broken}, notifier, error_policy=ErrorPolicy.abort())
    [(title, text)] = told()
    assert title == "support-bot is not followed any more"
    first, where, goes_on = text.split("\n")
    assert first == "LookupError: no such row"
    assert " raised, step 1, " in where
    assert re.fullmatch(r"job (\S+) goes on; follow\('\1'\) attaches to it again", goes_on)


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_a_job_that_is_cancelled_for_an_error_is_not_said_to_go_on(
    arkor_client: CloudApiClient, notifier: WebhookNotifier, told: Told
) -> None:
    def broken(ctx: Any) -> None:
        raise LookupError("no such row")

    policy = ErrorPolicy.abort().on(Exception, do=Action.CANCEL)
    with pytest.raises(LookupError):
        train(arkor_client, {"on_started": broken}, notifier, error_policy=policy)
    [(_, text)] = told()
    assert "goes on" not in text


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_a_callback_that_raises_after_the_job_completed_is_told_as_that(
    arkor_client: CloudApiClient, notifier: WebhookNotifier, told: Told
) -> None:
    def broken(ctx: Any) -> None:
        raise LookupError("no such row")

    callbacks = ({"on_completed": broken}, notifier)
    with pytest.raises(LookupError), notifier.watching():
        train(arkor_client, *callbacks, error_policy=ErrorPolicy.abort())
    [_, (title, text)] = told()
    assert title == "support-bot: a callback raised after the job completed"
    assert "goes on" not in text


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_an_on_end_that_raises_is_told_with_its_job(
    arkor_client: CloudApiClient, notifier: WebhookNotifier, told: Told
) -> None:
    def broken(ctx: Any) -> None:
        raise LookupError("no such row")

    callbacks = ({"on_end": broken}, notifier)
    with pytest.raises(LookupError), notifier.watching(name="nightly"):
        train(arkor_client, *callbacks, error_policy=ErrorPolicy.abort())
    [_, (title, text)] = told()
    assert title == "nightly failed with LookupError"
    where = r"LookupError: no such row\njob \S+: \S*on_end\S* raised, attempt 1"
    assert re.fullmatch(where, text)


@pytest.mark.arkor(engine=ScriptedEngine(steps=5, fails_at=3, error="out of memory"))
def test_the_status_of_a_job_whose_failure_was_told_is_not_told_again(
    arkor_client: CloudApiClient, notifier: WebhookNotifier, told: Told
) -> None:
    with pytest.raises(TrainingFailedError), notifier.watching():
        train(arkor_client, notifier).raise_for_status()
    assert told() == [("support-bot failed at step 3", "out of memory")]
    with pytest.raises(TrainingFailedError), notifier.watching(name="nightly"):
        train(arkor_client).raise_for_status()
    assert [title for title, _ in told()[1:]] == ["nightly failed with TrainingFailedError"], (
        "nobody told of the second job"
    )


def ended_run(notifier: Any, error: BaseException) -> None:
    run = FakeRun()
    notifier.on_end(run.end(error))


def test_what_is_raised_from_a_told_error_is_not_told(
    notifier: WebhookNotifier, told: Told
) -> None:
    cause = LookupError("no row")
    ended_run(notifier, cause)

    def wrapped() -> None:
        try:
            raise cause
        except LookupError as error:
            raise RuntimeError("the training ended") from error

    def exits() -> None:
        try:
            wrapped()
        except RuntimeError:
            sys.exit("error")

    for program in (wrapped, exits):
        with pytest.raises((RuntimeError, SystemExit)), notifier.watching():
            program()
    assert len(told()) == 1


def test_another_error_while_a_told_one_is_handled_is_told(
    notifier: WebhookNotifier, told: Told
) -> None:
    cause = LookupError("no row")
    ended_run(notifier, cause)

    @notifier.watching(name="nightly")
    def program() -> None:
        try:
            raise cause
        except LookupError:
            raise OSError("the disk is full")  # noqa: B904

    with pytest.raises(OSError, match="disk"):
        program()
    assert [title for title, _ in told()[1:]] == ["nightly failed with OSError"]


def test_the_exception_for_which_a_run_was_aborted_is_not_told_again(
    notifier: WebhookNotifier, told: Told
) -> None:
    interruption = KeyboardInterrupt()
    ended_run(notifier, RunAborted("stopped following", interruption))
    end_with(notifier, interruption)
    assert [title for title, _ in told()] == ["bot is not followed any more"]


def test_the_same_error_ends_several_runs_and_each_tells_of_its_job(
    notifier: WebhookNotifier, told: Told
) -> None:
    error = LookupError("the database is away")
    for _ in range(2):
        ended_run(notifier, error)
    assert len(told()) == 2


def test_an_error_whose_causes_go_in_a_circle_is_told(
    notifier: WebhookNotifier, told: Told
) -> None:
    first, second = LookupError("a"), LookupError("b")
    first.__cause__, second.__cause__ = second, first
    end_with(notifier, first)
    assert len(told()) == 1


def test_nested_blocks_tell_once(notifier: WebhookNotifier, told: Told) -> None:
    error = LookupError("no row")

    @notifier.watching(name="outer")
    def program() -> None:
        end_with(notifier, error, "inner")
        raise error

    with pytest.raises(LookupError):
        program()
    end_with(notifier, LookupError("another"), "outer")
    assert told() == [
        ("inner failed with LookupError", "LookupError: no row"),
        ("outer failed with LookupError", "LookupError: another"),
    ]


def test_each_of_two_notifiers_tells(notifier: WebhookNotifier, told: Told) -> None:
    with Slack() as slack:
        other = SlackNotifier(slack.url, flush_timeout=PATIENCE)
        error = LookupError("no row")
        with pytest.raises(LookupError), notifier.watching(), other.watching(name="nightly"):
            raise error
        [body] = slack.bodies
    assert body["blocks"][0]["text"]["text"] == "<!here> ❌ *nightly failed with LookupError*"
    assert len(told()) == 1


def test_several_threads_share_a_block_and_each_error_is_told(
    notifier: WebhookNotifier, told: Told
) -> None:
    watching = notifier.watching(name="batch")
    all_there = threading.Barrier(4)

    @watching
    def work(number: int) -> None:
        all_there.wait(PATIENCE)
        raise LookupError(f"in thread {number}")

    threads = [Background(work, number) for number in range(4)]
    for thread in threads:
        with pytest.raises(LookupError):
            thread.result()
    assert sorted(text for _, text in told()) == [
        f"LookupError: in thread {number}" for number in range(4)
    ]


def test_that_an_error_was_told_survives_pickling(notifier: WebhookNotifier, told: Told) -> None:
    copy = pickle.loads(pickle.dumps(notifier))
    error = LookupError("in another process")
    ended_run(copy, error)
    end_with(notifier, pickle.loads(pickle.dumps(error)))
    assert len(told()) == 1


def test_it_is_a_decorator_too(notifier: WebhookNotifier, told: Told) -> None:
    @notifier.watching(name="main")
    def main(error: Optional[Exception]) -> int:
        if error is not None:
            raise error
        return 7

    assert main(None) == 7
    with pytest.raises(LookupError):
        main(LookupError("no row"))
    assert told() == [("main failed with LookupError", "LookupError: no row")]


# The name, secrets, and what may go wrong.


SCRIPT = """
from arkor_sync.handlers import WebhookNotifier
with WebhookNotifier().watching():
    raise LookupError("no row")
"""


def test_a_script_is_told_by_its_name_and_python_still_reports_its_error(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "nightly.py").write_text(SCRIPT)
    env = {**os.environ, "ARKOR_WEBHOOK_URL": service.url}
    done = python("nightly.py", "--token", "s3cr3t", cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert done.stderr.endswith("LookupError: no row\n")
    assert [body["title"] for body in service.bodies] == ["nightly.py failed with LookupError"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["/srv/bot/nightly.py", "--token", "s3cr3t"], "nightly.py"),
        (["/srv/bot/package/__main__.py"], "package"),
        (["-c"], "a Python program"),
        ([""], "a Python program"),
        ([], "a Python program"),
    ],
)
def test_the_title_begins_with_the_name_of_the_script(
    notifier: WebhookNotifier,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    arguments: List[str],
    name: str,
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    end_with(notifier, LookupError("no row"), None)
    assert [title for title, _ in told()] == [f"{name} failed with LookupError"]


def test_no_secret_is_told(service: Service, notifier: WebhookNotifier, told: Told) -> None:
    end_with(
        notifier,
        LookupError(f"POST {service.url} token=abcdef-123456 https://me:pa55word@host/x"),
        "job with token=abcdef-123456",
    )
    ended_run(notifier, LookupError(f"POST {service.url} token=abcdef-123456"))
    for title, text in told():
        for secret in ("s3cr3t", "abcdef", "pa55word"):
            assert secret not in title + text


def test_a_service_that_hangs_holds_the_error_up_no_longer_than_it_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Service(HANG) as service:
        notifier = WebhookNotifier(service.url, flush_timeout=0.05, timeout=(PATIENCE, PATIENCE))
        end_with(notifier, LookupError("no row"))
        assert "1 notification (error) not delivered within 0.1 s: still being sent" in caplog.text
        service.open.set()
        assert notifier._outbox.flush(PATIENCE)


class Odd(Exception):
    """An error that has no text, and notes that are none."""

    def __str__(self) -> str:
        raise LookupError("no text")


def test_an_odd_error_is_told_and_goes_on(notifier: WebhookNotifier, told: Told) -> None:
    error = Odd()
    error.__notes__ = [7, "a note"]  # type: ignore[attr-defined]
    end_with(notifier, error)
    assert told() == [("nightly failed with Odd", "Odd: (it has no text)\na note")]
    broken = Odd()
    broken.__notes__ = 7  # type: ignore[attr-defined]
    end_with(notifier, broken)
    assert told()[1:] == [("nightly failed with Odd", "Odd: (it has no text)")]


def test_a_notifier_that_is_off_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    end_with(SlackNotifier(""), LookupError("no row"))
    ended_run(SlackNotifier(""), LookupError("no row"))
    assert caplog.text == ""


def test_watching_without_the_event_error_is_refused() -> None:
    notifier = SlackNotifier("", on=("completed", "failed"))
    with pytest.raises(ArkorUsageError, match="on: got completed, failed; give 'error' too"):
        notifier.watching()


@pytest.mark.parametrize("name", ["", " \n", 7])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"^name: got .*; give a text that names the"):
        SlackNotifier("").watching(name)


def test_the_hint_about_a_local_file_is_told_as_it_is(
    notifier: WebhookNotifier, told: Told, tmp_path: Path
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    cloud = CloudApiClient("https://arkor.invalid", TokenCredentials("t"))
    with pytest.raises(ArkorUsageError), notifier.watching():
        train(cloud, notifier, dataset=str(path))
    [(_, text)] = told()
    assert "give BlobDataset(url, token=...) or HuggingFaceDataset('owner/repo')" in text


def test_the_hint_about_a_proxy_is_told_as_it_is(
    notifier: WebhookNotifier, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = CloudApiClient("http://arkor.invalid", TokenCredentials("t"))
    monkeypatch.setenv("HTTP_PROXY", "http://me:s3cr/3t@proxy:80")
    with pytest.raises(ArkorUsageError), notifier.watching():
        cloud.me()
    monkeypatch.undo()
    [(_, text)] = told()
    assert "give http://host:port or http://user:password@host:port, in HTTPS_PROXY" in text
    assert "s3cr" not in text
