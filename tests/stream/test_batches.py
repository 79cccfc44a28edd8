"""Runs of plain logs: whatever the short cut reads, the parser and `decode` read the same."""

from __future__ import annotations

import json
import pickle
from itertools import product
from typing import Any, Callable, Iterable, List, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.cloud.sse import Frame, FrameParser
from arkor_sync.errors import StreamProtocolError
from arkor_sync.stream.batches import LogBatch, read_logs, split
from arkor_sync.stream.events import LOG, TrainingEvent, decode

HEAD = '{"type":"training.log","jobId":"j"'


def log(step: Any, **more: Any) -> bytes:
    fields = "".join(f',"{name}":{value}' for name, value in more.items())
    text = f'{HEAD},"step":{step}{fields}}}'
    return f"id: {step}\nevent: training.log\ndata: {text}\n\n".encode()


def one_by_one(chunks: List[bytes], limit: int = 1 << 20) -> List[TrainingEvent]:
    """Read a body the slow way."""
    parser = FrameParser(limit)
    return [decode(frame) for chunk in chunks for frame in parser.feed(chunk)]


def at_once(chunks: List[bytes], limit: int = 1 << 20) -> List[TrainingEvent]:
    parser = FrameParser(limit)
    events: List[TrainingEvent] = []
    for chunk in chunks:
        for piece in split(parser, chunk):
            if isinstance(piece, LogBatch):
                check_columns(piece)
                events += piece
            else:
                events += map(decode, piece)
    return events


def check_columns(logs: LogBatch) -> None:
    """See that what is decoded together is what each event says alone."""
    events = list(logs)
    assert logs.keys() == [event.key for event in events]
    fields = logs.plain_logs()
    plain = [event.type == LOG and event.problem is None for event in events]
    if fields is None:
        return
    assert all(plain)
    head = json.loads(logs.head.rstrip(", ") + "}")
    assert [{**head, **own} for own in fields] == [event.data for event in events]


def same(body: bytes) -> None:
    whole, bytewise = [body], [body[i : i + 1] for i in range(len(body))]
    expected = one_by_one(whole)
    for chunks in (whole, bytewise):
        events = at_once(chunks)
        assert events == expected
        assert [event.key for event in events] == [event.key for event in expected]
        # The order of a dict's fields is no part of its equality.
        assert [list(event.data) for event in events] == [list(event.data) for event in expected]


# A line of each, in the form of the cloud and in all that is nearly of that form.
ID_LINES = [b"id: 7", b"id:7", b"id:  7", b"id: ", b"id: a\0", b"id: \xff", b"id", b"x: 1"]
EVENT_LINES = [
    b"event: training.log",
    b"event:x",
    b"event: ",
    b"event: end",
    b"event: \xe2\x82",
    b"event: a\rid: 9",
    b"event",
]
ODD = b'{"type":"checkpoint.saved","step":1,"a":"\xc3\xa9\x85\xe2\x80\xa8\x0b\0"}'
DATA_LINES = [
    b"data: {}",
    b"data: " + ODD,
    b"data:{} ",
    b"data: \xff",
    b"data: ",
    b"data",
    b"",
    b"data: x\ry",
]
NEWLINES = [b"\n", b"\r\n", b"\r", b"\n\n"]


@pytest.mark.parametrize("before", [b"", b"\n", b"\r", b"data: x", b"data: x\n\n", b"data: x\r\r"])
@pytest.mark.parametrize("limit", [30, 1 << 20])
def test_a_chunk_that_is_one_block_is_read_like_any(before: bytes, limit: int) -> None:
    for lines in product(ID_LINES, EVENT_LINES, DATA_LINES):
        for newline in NEWLINES:
            for end in (newline, 2 * newline, 3 * newline):
                whole = newline.join(lines) + end
                assert outcome(by_frames, [before, whole], limit) == outcome(
                    FrameParser.feed, [before, whole], limit
                )


def outcome(
    take: Callable[[FrameParser, bytes], Iterable[Any]], chunks: List[bytes], limit: int
) -> Any:
    """Tell what frames chunks come to; none of them is a plain log."""
    parser = FrameParser(limit)
    parser.feed(b"\n")  # the beginning of a body is another matter
    try:
        return [list(take(parser, chunk)) for chunk in chunks]
    except StreamProtocolError as error:
        return str(error)


def by_frames(parser: FrameParser, chunk: bytes) -> List[Frame]:
    return [frame for piece in split(parser, chunk) for frame in cast(List[Frame], piece)]


DATA = [
    '{"type":"training.log","jobId":"j","step":1,"loss":0.5}',
    '{"type": "training.log", "jobId": "j", "step": 2, "loss": null}',
    '{"type":"training.log","jobId":"j","step":3,"type":"x"}',
    '{"type":"training.log","jobId":"j","step":3,"jobId":"k"}',
    '{"type":"training.log","jobId":"j","step":3,"\\u0074ype":"x"}',
    '{"type":"training.log","jobId":"j",}',
    '{"type":"training.log","jobId":"j"}',
    '{"type":"training.log","jobId":"\t","step":4}',
    '{"type":"training.log","jobId":"j","step":4,"a":[1}',
    '{"type":"training.log","jobId":"j","step":4,"c":2}]}',
    '{"type":"training.log","jobId":"j","step":4},5',
    '{"type":"training.log","jobId":"j","step":4,"a":"}',
    '{"type":"training.log","jobId":"j","step":4,"a":{"b":{}}}',
    '{"type":"training.log","jobId":"j","step":4,"a":{',
    '{"type":"training.log","jobId":"j","step":4,"a":[',
    '{"type":"training.log","jobId":"j","step":4}}',
    '{"type":"training.log","jobId":"j","step":4}]',
    '{"type":"training.log","jobId":"j","step":4},{"step":5}',
    '{"type":"training.log","jobId":"j","step":4,"a":[1,2]}',
    '{"type":"training.log","jobId":"j",","step":4}',
    '{"type":"training.log","jobId":"j","step":4} ',
    '{"type":"training.log","jobId":"j", "step":4}',
    '{"type":"training.log","step":1,"loss":0.5}',
    '{"type":"training.log","step":2}',
    '{"type":"training.log","step":2.0}',
    '{"type":"training.log","step":true}',
    '{"type":"training.log"}',
    '{"type":["training.log"],"step":1}',
    '{"type":"training.completed"}',
    '{"type":"training.log","step":3,"x":{}}',
    '{"x":"}',
    '{":1}',
    '{"}',
    "{},{}",
    '{"a":[{}',
    "{}]}",
    '{"type":"training.log","step":NaN}',
    "{",
    "}",
    "",
    "null",
    "{}\n{}",
    '{"type":"training.log",\n"step":4}',
]


def test_a_log_that_is_nested_too_deeply_is_a_problem_of_its_own() -> None:
    for deep in ('{"":' * 100_000 + "1" + "}" * 100_000, "[" * 100_000 + "]" * 100_000):
        same_events = [log(1), log(2, x=deep), log(3)]
        (first, second, third) = at_once([b"".join(same_events)])
        assert (first.problem, third.problem) == (None, None)
        assert second.problem is not None
        (alone,) = at_once([log(2, x=deep)])
        assert alone.problem == second.problem


IDS = ["1", "2", "", " 3", '"4"', "{", "\0", "\xe9"]


def block(event_id: str, data: str) -> bytes:
    return f"id: {event_id}\nevent: training.log\ndata: {data}\n\n".encode()


@given(st.lists(st.builds(block, st.sampled_from(IDS), st.sampled_from(DATA)), max_size=6))
def test_any_data_is_read_as_the_parser_reads_it(blocks: List[bytes]) -> None:
    same(b"".join(blocks))


BLOCKS = [
    b"id: 1\nevent: training.log\ndata: {}\n\n",
    b"id: \nevent: training.log\ndata: \n\n",
    b"id:  2\nevent: training.log\ndata:  {}\n\n",
    b"id: 3\nevent: ping\ndata: x\n\n",
    b"id: 4\nevent: \ndata: x\n\n",
    b"id: 5\x00\nevent: training.log\ndata: x\n\n",
    b"id: 6\nevent: training.log\n\n",
    b"id: 7\nevent: training.log\ndata: x\ndata: y\n\n",
    b"event: training.log\nid: 8\ndata: x\n\n",
    b": c\nid: 9\nevent: training.log\ndata: x\n\n",
    b"retry: 5\nid: 9\nevent: training.log\n\n",
    b"id: 9\nevent: training.log\ndata: retry: 5\n\n",
    b"id: \xff\nevent: training.log\ndata: \xff\n\n",
    b"id\nevent: training.log\ndata\n\n",
    b"\n",
]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(BLOCKS), st.integers(0, 9).map(log)), max_size=8))
def test_any_blocks_are_read_as_the_parser_reads_them(blocks: List[bytes]) -> None:
    same(b"".join(blocks))


def test_the_short_cut_is_taken_for_what_the_cloud_sends() -> None:
    logs = read_logs(b"".join(log(step, loss=0.5) for step in range(50)))
    assert logs is not None
    assert logs.plain_logs() == [{"step": step, "loss": 0.5} for step in range(50)]
    assert [event.step for event in logs] == list(range(50))


def test_it_is_taken_for_the_logs_between_other_events_too() -> None:
    other = b'id: c\ndata: {"type":"checkpoint.saved","step":3}\n\n'
    body = b"".join([*map(log, range(3)), other, *map(log, range(3, 6)), b": ping\n\n", log(6)])
    pieces = list(split(FrameParser(), body))
    assert [type(piece).__name__ for piece in pieces] == ["LogBatch", "list", "LogBatch", "list"]
    assert [len(piece) for piece in pieces] == [3, 1, 3, 1]
    same(body)


def test_the_limit_holds_for_each_event_and_not_for_many_together() -> None:
    body = b"".join(map(log, range(50)))
    assert at_once([body], limit=200) == one_by_one([body])
    with pytest.raises(StreamProtocolError, match="larger than 200 bytes"):
        at_once([body + log(50, x="1" * 200) + log(51)], limit=200)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20))
def test_a_batch_is_a_sequence_of_its_events(count: int, begin: int, end: int) -> None:
    body = b"".join(map(log, range(count)))
    logs = read_logs(body)
    assert logs is not None
    events = one_by_one([body])
    assert list(logs) == events
    assert list(logs[begin:end]) == events[begin:end]
    assert logs[-1] == events[-1]
    assert logs.keys() == [event.key for event in events]
    assert logs.size == sum(event.size for event in events)
    with pytest.raises(IndexError):
        logs[count]


def test_an_event_of_a_batch_is_an_event_like_any_other() -> None:
    logs = read_logs(log(1, loss=0.5) + log(2))
    assert logs is not None
    assert pickle.loads(pickle.dumps(logs[0])) == one_by_one([log(1, loss=0.5)])[0]
    logs[0].data["loss"] = 9
    assert logs[0].data["loss"] == 0.5, "each is built anew: nobody spoils another's"
