"""The event stream format through a whole run: what the callbacks get, and where it resumes.

The events are the cloud's, in the disguises of the Web Platform Tests for EventSource, served in
both framings. Where a run differs from a browser on purpose, the name says so.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import pytest

from arkor_sync import CloudApiClient, ReconnectPolicy, follow
from support.event_source_server import Answer, Cloud
from support.waiting import PATIENCE

BOM = b"\xef\xbb\xbf"
END = b'data:{"type":"training.completed"}\n\n'


def log(step: int, more: bytes = b"") -> bytes:
    return b'{"type":"training.log","step":%d%b}' % (step, more)


class Stream(NamedTuple):
    """A body, the steps and ids that come of it, and the id that the next request resumes after."""

    body: bytes
    events: List[Tuple[int, Optional[str]]]
    resumed: Optional[str] = None
    skipped: int = 0


ONE, TWO, THREE = log(1), log(2), log(3)

STREAMS: Dict[str, Stream] = {
    "a byte order mark": Stream(
        BOM + b"id:1\ndata:" + ONE + b"\n\ndata:" + TWO + b"\n\n", [(1, "1"), (2, None)], "1"
    ),
    "a second byte order mark spoils the first field only": Stream(
        BOM + BOM + b"id:1\ndata:" + ONE + b"\n\n", [(1, None)]
    ),
    "bad UTF-8 spoils a text only": Stream(
        b"id:1\ndata:" + log(1, b',"note":"\xff\xe2\x80"') + b"\n\n", [(1, "1")], "1"
    ),
    "text beyond ASCII": Stream(
        b"id:1\ndata:" + log(1, ',"note":"…日本😀"'.encode()) + b"\n\n", [(1, "1")], "1"
    ),
    "comments everywhere": Stream(
        b":a\r:\0\nid:1\n:id:2\r\ndata:" + ONE + b"\n:data:x\n:" + b"x" * 4000 + b"\n\n:\n\n",
        [(1, "1")],
        "1",
    ),
    "one event over many lines of data": Stream(
        b'data:{"type":\ndata\ndata:  "training.log",\ndata:\t"step"\ndata::1\ndata:}\n\n',
        [(1, None)],
    ),
    "leading white space": Stream(
        b"id: 1\ndata: " + ONE + b"\n\nid: 2\ndata:\t" + TWO + b"\n\n", [(1, "1"), (2, "2")], "2"
    ),
    "carriage returns": Stream(
        b"id:1\rdata:" + ONE + b"\r\rid:2\rdata:" + TWO + b"\r\r", [(1, "1"), (2, "2")], "2"
    ),
    "all line ends": Stream(
        b"id:1\r\ndata:" + ONE + b"\r\n\r\nid:2\rdata:" + TWO + b"\n\rid:3\ndata:" + THREE
        + b"\r\n\n",
        [(1, "1"), (2, "2"), (3, "3")],
        "3",
    ),
    "unknown fields": Stream(
        b"foo:bar\nid:1\n id:2\nsome text\nData:x\ndata:" + ONE + b"\nidx:3\n\n", [(1, "1")], "1"
    ),
    "data that is no JSON is skipped, and its id is kept": Stream(
        b"id:1\ndata:" + ONE + b"\n\nid:2\ndata:test\n\nid:3\ndata:\0\n\nid:4\ndata\n\n",
        [(1, "1")],
        "4",
        skipped=3,
    ),
    "an event that is cut off is dropped": Stream(
        b"retry:1000\nid:1\ndata:" + ONE + b"\n\nid:2\ndata:" + TWO + b"\n", [(1, "1")], "1"
    ),
    "an event that is cut off within its line is dropped": Stream(
        b"id:1\ndata:" + ONE + b"\n\nid:2\ndata:" + TWO, [(1, "1")], "1"
    ),
    "an id persists for the next request": Stream(
        b"id:1\ndata:" + ONE + b"\n\ndata:" + TWO + b"\n\n", [(1, "1"), (2, None)], "1"
    ),
    "an id changes and persists": Stream(
        b"id:1\ndata:" + ONE + b"\n\nid:2\ndata:" + TWO + b"\n\ndata:" + THREE + b"\n\n",
        [(1, "1"), (2, "2"), (3, None)],
        "2",
    ),
    "unlike in a browser, an empty id does not reset the position": Stream(
        b"id:1\ndata:" + ONE + b"\n\nid\ndata:" + TWO + b"\n\nid:\ndata:" + THREE + b"\n\n",
        [(1, "1"), (2, None), (3, None)],
        "1",
    ),
    "unlike in a browser, the id of an event without data is lost": Stream(
        b"id:1\ndata:" + ONE + b"\n\nid:2\n\nid:3\nevent:x\n\n", [(1, "1")], "1"
    ),
    "an id with a null character is ignored": Stream(
        b"id:1\ndata:" + ONE + b"\n\nid:2\0\ndata:" + TWO + b"\n\n", [(1, "1"), (2, None)], "1"
    ),
    "an id beyond ASCII is sent as UTF-8": Stream(
        "id:…größe 日本😀\ndata:".encode() + ONE + b"\n\n", [(1, "…größe 日本😀")], "…größe 日本😀"
    ),
    "a long id with commas and spaces": Stream(
        b"id:" + b"a, b;" * 200 + b"\ndata:" + ONE + b"\n\n", [(1, "a, b;" * 200)], "a, b;" * 200
    ),
    "unlike in a browser, the JSON decides on the type and not the event field": Stream(
        b"event:training.completed\nid:1\ndata:" + ONE + b"\n\nevent:foo\nid:2\ndata:" + TWO
        + b"\n\nevent:\ndata:" + THREE + b"\n\n",
        [(1, "1"), (2, "2"), (3, None)],
        "2",
    ),
    "unlike in a browser, a ping is no event whatever it holds, and its id is not kept": Stream(
        b"id:1\ndata:" + ONE + b"\n\nid:2\nevent:ping\ndata:" + TWO + b"\n\n", [(1, "1")], "1"
    ),
    "unlike in a browser, what follows an end is not read, and its id is not kept": Stream(
        b"id:1\ndata:" + ONE + b"\n\nid:2\nevent:end\ndata:" + TWO + b"\n\nid:3\ndata:" + THREE
        + b"\n\n",
        [(1, "1")],
        "1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
def test_it_reads(
    cloud: Cloud,
    client: CloudApiClient,
    job_of: Callable[..., str],
    waits: List[float],
    stream: Stream,
    framing: str,
) -> None:
    job_id = job_of(Answer(stream.body, framing=framing), Answer(END, framing=framing))
    seen: List[Any] = []

    def on_log(ctx: Any) -> None:
        seen.append((ctx.step, ctx.event.id))

    with follow(job_id, client=client, callbacks={"on_log": on_log}) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert seen == stream.events
    assert run.health().skipped == stream.skipped
    first, second = cloud.heads[job_id]
    assert "last-event-id" not in first
    assert second.get("last-event-id") == stream.resumed


@pytest.mark.parametrize("event_id", [" a", "a ", "\t", "a\x01"])
def test_an_id_that_no_header_can_carry_is_not_sent_and_known_events_are_dropped(
    cloud: Cloud,
    client: CloudApiClient,
    job_of: Callable[..., str],
    waits: List[float],
    event_id: str,
) -> None:
    history = b"id: %b\ndata:%b\n\n" % (event_id.encode(), ONE)
    job_id = job_of(Answer(history), Answer(history + b"data:" + TWO + b"\n\n" + END))
    seen: List[Any] = []

    def on_log(ctx: Any) -> None:
        seen.append((ctx.step, ctx.event.id))

    with follow(job_id, client=client, callbacks={"on_log": on_log}) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert seen == [(1, event_id), (2, None)]
    assert ["last-event-id" in head for head in cloud.heads[job_id]] == [False, False]


RETRIES: Dict[str, Tuple[bytes, float]] = {
    "none": (b"", 3.0),
    "one": (b"retry:500\n", 0.5),
    "a bogus one": (b"retry:500x\n", 3.0),
    "a bogus one after a good one": (b"retry:2000\nretry:1000x\n", 2.0),
    "one without digits": (b"retry\n", 3.0),
    "one with a sign": (b"retry:-1\n", 3.0),
    "one in an event of its own": (b"retry: 250\n\n", 0.25),
    "one beyond the longest delay": (b"retry:10000001\n", 60.0),
    "one of 400 digits": (b"retry:1" + b"0" * 399 + b"\n", 60.0),
    "one of 5,000 digits": (b"retry:" + b"9" * 5000 + b"\n", 60.0),
}


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize(("field", "seconds"), RETRIES.values(), ids=RETRIES.keys())
def test_retry_is_the_delay_before_the_next_request(
    client: CloudApiClient,
    job_of: Callable[..., str],
    waits: List[float],
    field: bytes,
    seconds: float,
    framing: str,
) -> None:
    body = field + b"data:" + ONE + b"\n\n"
    job_id = job_of(Answer(body, framing=framing), Answer(END))
    policy = ReconnectPolicy(base=3.0, cap=60.0)
    with follow(job_id, client=client, reconnect=policy) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert waits == [seconds]


def test_retry_holds_for_later_connections_and_doubles_with_each_failure(
    client: CloudApiClient, job_of: Callable[..., str], waits: List[float]
) -> None:
    job_id = job_of(
        Answer(b"retry:500\ndata:" + ONE + b"\n\n"),
        Answer(status="503 Busy"),
        Answer(status="503 Busy"),
        Answer(b"data:" + TWO + b"\n\n"),
        Answer(END),
    )
    with follow(job_id, client=client) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert waits == [0.5, 0.5, 1.0, 0.5]
