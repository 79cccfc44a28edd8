"""The requests for an event stream: headers, ends, statuses and content types.

After the Web Platform Tests for EventSource. A browser gives up at any status but 200 and a few
network errors; a run that costs GPU time is followed through more, which the names say.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, List

import pytest

from arkor_sync import (
    CloudApiClient,
    CloudApiError,
    ReconnectExhausted,
    ReconnectPolicy,
    RunAborted,
    StreamProtocolError,
    create_trainer,
    follow,
)
from arkor_sync.cloud.client_version import CLIENT_HEADER
from support.event_source_server import Answer, Cloud
from support.waiting import PATIENCE

ONE = b'id:1\ndata:{"type":"training.log","step":1}\n\n'
TWO = b'id:2\ndata:{"type":"training.log","step":2}\n\n'
END = b'id:3\ndata:{"type":"training.completed"}\n\n'


class Steps:
    """An on_log that keeps the steps."""

    def __init__(self) -> None:
        self.seen: List[int] = []

    def __call__(self, ctx: Any) -> None:
        self.seen.append(ctx.step)


def test_what_every_request_for_a_stream_carries(cloud: Cloud, client: CloudApiClient) -> None:
    cloud.answer("submitted", Answer(ONE), Answer(END))
    trainer = create_trainer(
        name="a run",
        model="unsloth/gemma-4-E4B-it",
        dataset={"type": "huggingface", "name": "owner/repo"},
        client=client,
        reconnect=ReconnectPolicy(base=0),
    )
    assert trainer.wait(PATIENCE).status == "completed"
    first, second = cloud.heads["submitted"]
    for head in (first, second):
        assert head["accept"] == "text/event-stream"
        assert head["cache-control"] == "no-cache"
        assert head["accept-encoding"] == "identity"
        assert head["authorization"] == "Bearer a-token"
        assert head["x-arkor-client"] == CLIENT_HEADER
        assert head["user-agent"].startswith("arkor-sync/")
    assert "last-event-id" not in first
    assert second["last-event-id"] == "1"


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("end", ["clean", "cut"])
def test_after_any_end_it_connects_again_and_resumes(
    cloud: Cloud,
    client: CloudApiClient,
    job_of: Callable[..., str],
    waits: List[float],
    end: str,
    framing: str,
) -> None:
    job_id = job_of(
        Answer(ONE + TWO[:-1], end=end, framing=framing),
        Answer(TWO, end=end, framing=framing),
        Answer(END, end=end, framing=framing),
    )
    steps = Steps()
    with follow(job_id, client=client, callbacks={"on_log": steps}) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert steps.seen == [1, 2]
    assert [head.get("last-event-id") for head in cloud.heads[job_id]] == [None, "1", "2"]


def test_no_answer_at_all_is_tried_again(
    cloud: Cloud, client: CloudApiClient, job_of: Callable[..., str], waits: List[float]
) -> None:
    job_id = job_of(Answer(status=""), Answer(ONE), Answer(status=""), Answer(END))
    with follow(job_id, client=client) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert waits == [1, 1, 1]
    resumed = [head.get("last-event-id") for head in cloud.heads[job_id]]
    assert resumed == [None, None, "1", "1"]


def test_a_server_that_never_answers_is_given_up_when_the_policy_says_so(
    cloud: Cloud, client: CloudApiClient, job_of: Callable[..., str], waits: List[float]
) -> None:
    job_id = job_of(*[Answer(status="")] * 9)
    policy = ReconnectPolicy(max_attempts=3)
    with (
        follow(job_id, client=client, reconnect=policy) as run,
        pytest.raises(ReconnectExhausted, match="4 times in a row"),
    ):
        run.wait(PATIENCE)
    assert len(cloud.heads[job_id]) == 4
    assert waits == [1, 2, 4]


@pytest.mark.parametrize(
    "status",
    [
        "205 Reset Content",
        "299 Odd",
        "301 Moved Permanently",
        "307 Temporary Redirect",
        "400 Bad Request",
        "404 Not Found",
        "408 Request Timeout",
        "409 Conflict",
        "418 Teapot",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    ],
)
def test_unlike_in_a_browser_any_other_status_is_tried_again(
    cloud: Cloud,
    client: CloudApiClient,
    job_of: Callable[..., str],
    waits: List[float],
    status: str,
) -> None:
    headers = {"Location": f"{cloud.url}/elsewhere", "Content-Length": "0"}
    no = Answer(status=status, kind=None, headers=headers, framing="close")
    job_id = job_of(no, Answer(ONE), no, no, Answer(END))
    steps = Steps()
    with follow(job_id, client=client, callbacks={"on_log": steps}) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert steps.seen == [1]
    resumed = [head.get("last-event-id") for head in cloud.heads[job_id]]
    assert resumed == [None, None, "1", "1", "1"]
    assert waits == [1, 1, 1, 2]
    assert "/elsewhere" not in cloud.targets, "redirects are not followed"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("before", [[], [Answer(ONE)]], ids=["at once", "later"])
def test_no_content_means_that_the_record_says_how_it_ended(
    cloud: Cloud,
    client: CloudApiClient,
    job_of: Callable[..., str],
    status: str,
    before: List[Answer],
) -> None:
    job_id = job_of(*before, Answer(status="204 No Content", kind=None))
    cloud.statuses[job_id] = status
    with follow(job_id, client=client) as run:
        assert run.wait(PATIENCE).status == status
    assert len(cloud.heads[job_id]) == len(before) + 1


def test_no_content_for_a_job_that_runs_is_asked_again_ever_more_slowly(
    cloud: Cloud, client: CloudApiClient, job_of: Callable[..., str], waits: List[float]
) -> None:
    no = Answer(status="204 No Content", kind=None)
    job_id = job_of(Answer(ONE), no, no, no, Answer(END))
    steps = Steps()
    with follow(job_id, client=client, callbacks={"on_log": steps}) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert steps.seen == [1]
    assert waits == [1, 1, 2, 4]
    records = [each for each in cloud.targets if each.startswith(f"/v1/jobs/{job_id}?")]
    assert len(records) == 4, "the job, and its record after each 204"
    job_id = job_of(no)
    policy = ReconnectPolicy(permanent={204})
    with (
        follow(job_id, client=client, reconnect=policy) as run,
        pytest.raises(CloudApiError, match="204: the event stream has ended"),
    ):
        run.wait(PATIENCE)


@pytest.mark.parametrize("status", [201, 202, 206, 226, 299])
def test_unlike_in_a_browser_the_events_of_any_success_are_taken(
    client: CloudApiClient, job_of: Callable[..., str], status: int
) -> None:
    with follow(job_of(Answer(END, status=f"{status} Odd")), client=client) as run:
        assert run.wait(PATIENCE).status == "completed"


@pytest.mark.parametrize("status", [401, 403, 426])
@pytest.mark.parametrize("before", [[], [Answer(ONE)]], ids=["at once", "later"])
def test_a_permanent_status_is_not_tried_again(
    cloud: Cloud,
    client: CloudApiClient,
    job_of: Callable[..., str],
    waits: List[float],
    status: int,
    before: List[Answer],
) -> None:
    job_id = job_of(*before, Answer(status=f"{status} No"), Answer(END))
    with follow(job_id, client=client) as run, pytest.raises(CloudApiError) as caught:
        run.wait(PATIENCE)
    assert caught.value.status == status
    assert len(cloud.heads[job_id]) == len(before) + 1


def test_unlike_in_a_browser_gone_is_answered_by_asking_once_for_the_whole_history(
    cloud: Cloud, client: CloudApiClient, job_of: Callable[..., str], waits: List[float]
) -> None:
    job_id = job_of(Answer(ONE), Answer(status="410 Gone"), Answer(ONE + TWO), Answer(END))
    steps = Steps()
    with follow(job_id, client=client, callbacks={"on_log": steps}) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert steps.seen == [1, 2]
    resumed = [head.get("last-event-id") for head in cloud.heads[job_id]]
    assert resumed == [None, "1", None, "2"]


TEXT = 'data:{"type":"training.failed","error":"ok…"}\n\n'.encode()


@pytest.mark.parametrize(
    "kind",
    [
        "text/event-stream",
        "text/event-stream;",
        "text/event-stream;charset=utf-8",
        "text/event-stream; charset=windows-1252",
        "text/event-stream;charset=utf-16",
        "text/event-stream;foo=bar;charset=bogus",
        "TEXT/Event-Stream ; x",
    ],
)
def test_a_stream_is_utf8_whatever_else_its_content_type_says(
    client: CloudApiClient, job_of: Callable[..., str], kind: str
) -> None:
    with follow(job_of(Answer(TEXT, kind=kind)), client=client) as run:
        assert run.wait(PATIENCE).job.error == "ok…"


def test_unlike_in_a_browser_a_stream_without_a_content_type_is_read(
    client: CloudApiClient, job_of: Callable[..., str]
) -> None:
    with follow(job_of(Answer(TEXT, kind=None)), client=client) as run:
        assert run.wait(PATIENCE).job.error == "ok…"


@pytest.mark.parametrize(
    "kind",
    [
        "text/x-bogus",
        "x bogus",
        "text/html; charset=utf-8",
        "application/json",
        "text/event-stream-2",
        "text/plain;text/event-stream",
    ],
)
def test_another_content_type_ends_the_run(
    cloud: Cloud, client: CloudApiClient, job_of: Callable[..., str], kind: str
) -> None:
    job_id = job_of(Answer(TEXT, kind=kind), Answer(END))
    named = kind.partition(";")[0]
    with follow(job_id, client=client) as run, pytest.raises(StreamProtocolError, match=named):
        run.wait(PATIENCE)
    assert len(cloud.heads[job_id]) == 1


def test_closing_leaves_the_connection_and_makes_no_other(
    cloud: Cloud, client: CloudApiClient, job_of: Callable[..., str]
) -> None:
    job_id = job_of(Answer(ONE, end="never"), Answer(END))
    reading = threading.Event()
    with follow(job_id, client=client, callbacks={"on_log": lambda ctx: reading.set()}) as run:
        assert reading.wait(PATIENCE)
        run.close()
        with pytest.raises(RunAborted):
            run.wait(PATIENCE)
    assert cloud.gone.acquire(timeout=PATIENCE)
    assert len(cloud.heads[job_id]) == 1
