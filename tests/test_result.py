"""Results, and the exceptions: what they say, what they hold, and that they survive pickling."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any, Dict, Iterator, List, Type

import pytest
import requests

from arkor_sync import errors
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import Metrics
from arkor_sync.errors import ArkorError, CloudApiError, add_note
from arkor_sync.history import History
from arkor_sync.result import RunHealth, TrainingResult


def job(status: str, **more: Any) -> TrainingJob:
    return TrainingJob("j1", "o", "p", "night run", status, {"model": "m"}, "now", **more)


# Results.


def test_a_completed_job_raises_nothing() -> None:
    result = TrainingResult(job("completed"), [1], Metrics(0.5, 100, 60.0))
    assert result.raise_for_status() is result
    assert result.status == "completed"
    assert result.metrics.final_loss == 0.5
    assert result.stop_reason is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("out of memory", "job j1 (night run) failed: out of memory"),
        (None, "job j1 (night run) failed: no reason given"),
        ("", "job j1 (night run) failed: no reason given"),
    ],
)
def test_a_failed_job_raises_with_the_clouds_text(error: Any, text: str) -> None:
    failed = job("failed", error=error)
    with pytest.raises(errors.TrainingFailedError) as caught:
        TrainingResult(failed).raise_for_status()
    assert str(caught.value) == text
    assert caught.value.job is failed
    assert isinstance(caught.value, errors.TrainingError)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (None, "job j1 (night run) was cancelled"),
        ("", "job j1 (night run) was cancelled"),
        ("it diverged", "job j1 (night run) was cancelled: it diverged"),
    ],
)
def test_a_cancelled_job_raises_with_the_reason(reason: Any, text: str) -> None:
    with pytest.raises(errors.TrainingCancelledError) as caught:
        TrainingResult(job("cancelled"), stop_reason=reason).raise_for_status()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("status", "error", "metrics", "reason", "text"),
    [
        ("completed", None, Metrics(0.42, 100, 9.0), None, "completed: final loss 0.42, 100 steps"),
        ("completed", None, Metrics(total_steps=100), None, "completed: 100 steps"),
        ("completed", None, Metrics(), None, "completed"),
        ("failed", "Traceback (a\nout of memory", Metrics(), None, "failed: out of memory"),
        ("failed", "token=hush", Metrics(), None, "failed: token=[hidden]"),
        ("cancelled", None, Metrics(), None, "cancelled"),
        ("cancelled", None, Metrics(), "it\ndiverged", "stopped: it diverged"),
        ("cancelled", None, Metrics(), "", "stopped"),
    ],
)
def test_a_result_that_is_printed_says_how_the_job_ended(
    status: str, error: Any, metrics: Metrics, reason: Any, text: str
) -> None:
    result = TrainingResult(job(status, error=error), [{"path": "a"}], metrics, reason)
    assert str(result) == f"job j1 (night run) {text}"
    assert repr(result).startswith("TrainingResult(job=TrainingJob(id='j1'")


def test_two_results_do_not_share_their_artifacts() -> None:
    one, two = TrainingResult(job("failed")), TrainingResult(job("failed"))
    assert one.artifacts == []
    assert one.artifacts is not two.artifacts
    assert one == two


def test_results_and_health_survive_pickling() -> None:
    result = TrainingResult(job("completed"), [{"path": "a"}], Metrics(0.5), "reason")
    health = RunHealth("settled", 1.0, None, 2.0, 0, 3, 10, 0, 1, 0, 0, 2, "on_log", 0.5, "10")
    for each in (result, health):
        assert pickle.loads(pickle.dumps(each)) == each


def test_the_values_of_a_result_hold_no_client() -> None:
    client, history = object(), History()
    result = TrainingResult(job("completed"), [{"path": "a"}], Metrics(0.5))
    assert "history" not in repr(result._of_run(client, history))  # type: ignore[arg-type]
    assert result.history is history
    assert result == TrainingResult(job("completed"), [{"path": "a"}], Metrics(0.5))
    values = dataclasses.asdict(result)
    assert set(values) == {"job", "artifacts", "metrics", "stop_reason"}
    assert json.loads(json.dumps(values)) == values


def test_a_result_that_no_run_made_says_what_to_ask_instead() -> None:
    result = TrainingResult(job("completed"))
    with pytest.raises(errors.ArkorUsageError) as caught:
        result.infer([], step=5)
    assert str(caught.value) == (
        "this result is a copy (it was unpickled, for instance), and a copy has no client; "
        "ask with a client: client.chat(messages, job='j1', step=5)"
    )
    with pytest.raises(errors.ArkorUsageError, match=r"^this result is a copy .* has no history"):
        print(result.history)


# Exceptions.


def tree(cls: Type[ArkorError]) -> Iterator[Type[ArkorError]]:
    yield cls
    for each in cls.__subclasses__():
        yield from tree(each)


EVERY = sorted(
    {each for each in tree(ArkorError) if each.__module__ == errors.__name__},
    key=lambda each: each.__name__,
)


def arguments(cls: Type[ArkorError]) -> Dict[str, Any]:
    if issubclass(cls, CloudApiError):
        return {
            "status": 409,
            "message": "the slug is taken",
            "code": "slug_taken",
            "body": "{}",
            "retry_after": 2.5,
        }
    if issubclass(cls, errors.TrainingError):
        return {"message": "failed", "job": job("failed", error="out of memory")}
    special: Dict[Any, Dict[str, Any]] = {
        errors.AnonymousTokenRejectedError: {"status": 403, "body": "no more today"},
        errors.RunAborted: {
            "message": "aborted",
            "reason": ("deploy", 7),
            "callback": "on_log",
            "stack": "  File x, line 1\n",
        },
        errors.ReconnectExhausted: {"message": "lost", "attempts": 7},
        errors.SubmissionUnknownError: {
            "message": "cut",
            "key": "order-17",
            "name": "bot [order-17]",
        },
        errors.ToolRoundsExhausted: {"rounds": 8, "messages": [{"role": "user", "content": "hi"}]},
    }
    return special.get(cls, {})


def build(cls: Type[ArkorError]) -> ArkorError:
    return cls(**arguments(cls)) if arguments(cls) else cls("it did not work")


def test_the_job_of_an_error_has_the_type_of_a_job() -> None:
    public = {name for name in dir(TrainingJob) if not name.startswith("_")}
    public |= set(TrainingJob.__dataclass_fields__)
    of_the_record = {"from_dict", "dataclass_json_config"}
    assert {name for name in dir(errors.EndedJob) if not name.startswith("_")} == (
        public - of_the_record
    )


def test_the_tree_was_found() -> None:
    assert len(EVERY) >= 29
    assert errors.ReplayUnavailable in EVERY


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_exception_survives_pickling(cls: Type[ArkorError], protocol: int) -> None:
    error = build(cls)
    add_note(error, "on_log raised, step 40")
    error.__cause__ = OSError("the network")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is cls
    assert (str(again), again.args) == (str(error), error.args)
    assert again.__dict__ == error.__dict__
    for name, value in arguments(cls).items():
        if name != "message" or issubclass(cls, CloudApiError):
            assert getattr(again, name) == value
    assert again.__notes__ == ["on_log raised, step 40"]
    assert again.__cause__ is None


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_exception_can_be_copied(cls: Type[ArkorError]) -> None:
    error = build(cls)
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is cls
        assert str(again) == str(error)
        assert again.__dict__ == error.__dict__


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_exception_says_something_and_says_what_it_is(cls: Type[ArkorError]) -> None:
    assert str(build(cls))
    assert issubclass(cls, ArkorError)
    assert cls.__doc__


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (410, errors.GoneError),
        (422, errors.UnprocessableEntityError),
        (426, errors.UpgradeRequiredError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (599, errors.ServerError),
        (302, CloudApiError),
        (402, CloudApiError),
        (418, CloudApiError),
        (499, CloudApiError),
    ],
)
def test_each_status_has_its_class(status: int, cls: Type[CloudApiError]) -> None:
    error = CloudApiError.for_status(status, "no", "a_code", "the body", 3.0)
    assert type(error) is cls
    assert (error.status, error.message, error.code) == (status, "no", "a_code")
    assert (error.body, error.retry_after) == ("the body", 3.0)
    assert (error.hint, str(error)) == ("", f"{status}: no")
    hinted = CloudApiError.for_status(status, "no", hint="GET https://x/v1/me")
    assert (hinted.message, str(hinted)) == ("no", f"{status}: no (GET https://x/v1/me)")


def test_bodies_are_cut() -> None:
    assert len(CloudApiError(500, "no", body="x" * 10_000).body) == 2000
    rejected = errors.AnonymousTokenRejectedError(403, "x" * 10_000)
    assert len(rejected.body) == 500
    assert len(str(rejected)) < 600
    assert str(errors.AnonymousTokenRejectedError(403, "")).endswith("with status 403")


def test_the_errors_are_also_what_a_program_already_catches() -> None:
    assert issubclass(errors.ArkorUsageError, ValueError)
    assert issubclass(errors.ArkorConnectionError, requests.RequestException)
    assert issubclass(errors.ArkorTimeoutError, errors.ArkorConnectionError)
    assert issubclass(errors.ArkorTimeoutError, requests.Timeout)
    assert issubclass(errors.WaitTimeout, TimeoutError)
    assert issubclass(errors.ReplayUnavailable, errors.GoneError)
    assert not issubclass(CloudApiError, requests.RequestException)


def test_a_connection_error_holds_no_request() -> None:
    error = errors.ArkorConnectionError("refused")
    assert (error.request, error.response) == (None, None)


def test_an_aborted_run_shows_the_stack_of_the_callback() -> None:
    error = errors.RunAborted("aborted; on_log is still running:", None, "on_log", "  File x\n")
    assert str(error) == "aborted; on_log is still running:\n  File x\n"
    assert str(errors.RunAborted("aborted")) == "aborted"


def test_notes_add_up_on_every_version() -> None:
    error = ValueError("no")
    add_note(error, "one")
    add_note(error, "two")
    notes: List[str] = error.__notes__  # type: ignore[attr-defined]
    assert notes == ["one", "two"]


def test_the_error_of_a_failed_job_cannot_act_on_a_terminal() -> None:
    hostile = dataclasses.replace(
        job("failed"), id="j\x1b[2J\n1", name="n\u202e\nx", error="a\x1b[31m\nb"
    )
    with pytest.raises(errors.TrainingFailedError) as caught:
        TrainingResult(hostile).raise_for_status()
    assert str(caught.value) == "job j 1 (n x) failed: a\nb"
