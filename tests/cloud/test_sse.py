"""The frame parser against a plain reading of the WHATWG rules, whole and byte by byte."""

from __future__ import annotations

import random
import time
from typing import Dict, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.cloud.sse import MAX_EVENT_BYTES, MAX_EVENT_LINES, Frame, FrameParser
from arkor_sync.errors import StreamProtocolError
from support.waiting import shortest


def reference(body: bytes) -> Tuple[List[Frame], Optional[int]]:
    """Read the event stream as the standard says, in one piece, with no care for speed."""
    text = body.decode("utf-8", "replace")
    if text.startswith("\ufeff"):
        text = text[1:]
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    if "" not in lines:
        return [], None
    while lines[-1] != "":
        lines.pop()  # an unfinished block
    frames: List[Frame] = []
    retry: Optional[int] = None
    fields: Dict[str, List[str]] = {}
    for line in lines:
        if line == "":
            if "data" in fields:
                event = (fields.get("event") or [""])[-1] or "message"
                frame_id = fields["id"][-1] if "id" in fields else None
                frames.append(Frame(event, "\n".join(fields["data"]), frame_id))
            fields = {}
            continue
        name, _, value = line.partition(":")
        if value.startswith(" "):
            value = value[1:]
        if name == "id" and "\0" in value:
            continue
        if name == "retry":
            if value and all(digit in "0123456789" for digit in value):
                retry = int(value)
            continue
        fields.setdefault(name, []).append(value)
    return frames, retry


def parse(chunks: List[bytes]) -> Tuple[List[Frame], Optional[int]]:
    parser = FrameParser()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    return frames, parser.retry_ms


def bytewise(body: bytes) -> List[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


TOKENS = [
    b"data: a", b"data:  b", b"data", b"data:", b'data: {"step":1}', b"id: 7", b"id:", b"id",
    b"id: 2\x003", b"id:\xc3\xa9", b"event: training.log", b"event:", b"event", b"retry: 250",
    b"retry:9", b"retry: 3e3", b"retry: -5", b"retry: \xd9\xa3", b"retry:", b": comment", b":",
    b"unknown: x", b"data: \xff", b"data: \xe2\x80\xa8\xc2\x85", b"Data: x", b" data: x",
    b"data: \xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"\x0b", b"\x00", b"data: \x00",
]  # fmt: skip
NEWLINES = [b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b"\n\r\n", b"\r\n\n"]
bodies = st.lists(st.sampled_from(TOKENS + NEWLINES + NEWLINES), max_size=40).map(b"".join)


@given(bodies, st.randoms(use_true_random=False))
def test_every_chunking_reads_as_the_standard_says(body: bytes, rng: random.Random) -> None:
    expected = reference(body)
    assert parse([body]) == expected
    assert parse(bytewise(body)) == expected
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(6)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)])]
    assert parse(pieces) == expected


@given(bodies)
def test_a_cut_anywhere_yields_a_prefix_of_the_frames(body: bytes) -> None:
    whole, _ = reference(body)
    for cut in range(len(body) + 1):
        frames, _ = parse([body[:cut]])
        assert frames == reference(body[:cut])[0]
        # Only a cut inside a CRLF pair ends a block where the whole body would not.
        assert len(frames) <= len(whole)


CASES = {
    "the unfinished tail is dropped": (
        b'id: 12\ndata: {"step":12,"loss":0.123',
        [],
    ),
    "a block without its blank line is dropped": (b'id: 12\ndata: {"a":1}\n', []),
    "mixed newlines separate blocks": (
        b"id: 1\ndata: a\n\r\nid: 2\ndata: b\n\r\n",
        [Frame("message", "a", "1"), Frame("message", "b", "2")],
    ),
    "a byte order mark is not part of the first field": (
        b"\xef\xbb\xbfid: 1\ndata: a\n\n",
        [Frame("message", "a", "1")],
    ),
    "bad UTF-8 is replaced and does not end the stream": (
        b"id: 1\ndata: \xff\n\nid: 2\ndata: ok\n\n",
        [Frame("message", "\ufffd", "1"), Frame("message", "ok", "2")],
    ),
    "an id with NUL is ignored": (b"id: 2\x003\ndata: b\n\n", [Frame("message", "b", None)]),
    "an id is a block's own": (
        b"id: 1\ndata: a\n\ndata: b\n\n",
        [Frame("message", "a", "1"), Frame("message", "b", None)],
    ),
    "an empty id is told from none": (b"id:\ndata: a\n\n", [Frame("message", "a", "")]),
    "a block without data is no frame": (b"event: ping\nid: 7\n\n", []),
    "a ping with an empty data line is one": (b"event: ping\ndata:\n\n", [Frame("ping", "", None)]),
    "unicode line separators stay in the data": (
        "data: a\u2028b\u0085c\n\n".encode(),
        [Frame("message", "a\u2028b\u0085c", None)],
    ),
    "data lines are joined": (b"data: a\ndata: b\n\n", [Frame("message", "a\nb", None)]),
}


@pytest.mark.parametrize(("body", "frames"), list(CASES.values()), ids=list(CASES))
@pytest.mark.parametrize("split", [lambda body: [body], bytewise], ids=["whole", "bytewise"])
def test_case(body: bytes, frames: List[Frame], split) -> None:
    assert parse(split(body))[0] == frames
    assert reference(body)[0] == frames


def test_retry_of_a_block_without_data_is_kept() -> None:
    assert parse([b"retry: 3000\n\n"])[1] == 3000


def test_retry_of_an_unfinished_block_is_not() -> None:
    assert parse([b"data: a\n\nretry: 3000\n"])[1] is None


def test_an_endless_line_stops_at_the_limit() -> None:
    parser = FrameParser(max_event_bytes=1000)
    parser.feed(b"data: ")
    for _ in range(15):
        parser.feed(b"x" * 64)
    with pytest.raises(StreamProtocolError, match=r"larger than 1,000 bytes.*max_event_bytes"):
        parser.feed(b"x" * 64)


def test_a_whole_event_over_the_limit_is_refused() -> None:
    parser = FrameParser(max_event_bytes=1000)
    with pytest.raises(StreamProtocolError, match="larger"):
        parser.feed(b"data: a\n\ndata: " + b"x" * 1001 + b"\n\n")


def test_many_small_events_in_one_chunk_are_not_a_large_one() -> None:
    parser = FrameParser(max_event_bytes=1000)
    assert len(parser.feed(b"data: a\n\n" * 3000)) == 3000


def test_too_many_lines_are_refused() -> None:
    with pytest.raises(StreamProtocolError, match="lines"):
        FrameParser().feed(b"data: a\n" * (MAX_EVENT_LINES + 1) + b"\n")


def test_comments_without_blank_lines_may_go_on_for_ever() -> None:
    parser = FrameParser(max_event_bytes=200)
    for _ in range(5000):
        assert parser.feed(b": still here\n") == []
    assert parser.feed(b"data: a\n\n") == [Frame("message", "a", None)]


def test_comments_do_not_count_as_lines_of_an_event() -> None:
    body = b": c\n" * (MAX_EVENT_LINES * 2) + b"data: a\n\n"
    assert FrameParser().feed(body) == [Frame("message", "a", None)]


NEARLY_FULL = b"data: " + b"x" * (MAX_EVENT_BYTES - 30) + b"\n"
COMMENT_CHUNKS = {
    "one comment each": [b":\n"] * 15_000,
    "byte by byte": [b":", b"\n"] * 15_000,
    "CRLF": [b":\r\n"] * 10_000,
    "one endless comment": [b":", *[b"c"] * 30_000, b"\n"],
    "behind a field that is unfinished": [b"id: 1", *[b"\n:c"] * 10_000, b"\n"],
}


@pytest.mark.parametrize("chunks", list(COMMENT_CHUNKS.values()), ids=list(COMMENT_CHUNKS))
def test_comments_behind_a_nearly_full_event_cost_linear_time(chunks: List[bytes]) -> None:
    def parse_all() -> float:
        begun = time.thread_time()
        parser = FrameParser()
        assert parser.feed(NEARLY_FULL) == []
        for chunk in chunks:
            assert parser.feed(chunk) == []
        (frame,) = parser.feed(b"\n")
        assert len(frame.data) == MAX_EVENT_BYTES - 30
        return time.thread_time() - begun

    assert shortest(parse_all, 0.5) < 0.5  # looking at the whole event for each takes 5 s


def test_comments_within_a_block_cost_linear_time() -> None:
    def parse_all() -> float:
        begun = time.thread_time()
        assert len(FrameParser().feed(b":\n" * 500_000 + b"data: a\n\n")) == 1
        return time.thread_time() - begun

    assert shortest(parse_all, 1.0) < 1.0  # joined line by line, they take 10 s


def test_comments_that_are_left_out_change_no_event() -> None:
    parser = FrameParser(max_event_bytes=60)
    chunks = [b"id: 1\n", *[b": c", b"omment\n"] * 40, b"event: e\n", *[b":\n"] * 40, b"data: :a\n"]
    for chunk in [*chunks, *[b":" * 70] * 3, b"\n:data: no\n"]:
        assert parser.feed(chunk) == []
    assert parser.feed(b"data:b\n\n") == [Frame("e", ":a\nb", "1")]


def test_comments_hide_no_event_that_is_too_large() -> None:
    parser = FrameParser(max_event_bytes=200)
    parser.feed(b"data: " + b"x" * 150 + b"\n")
    for _ in range(50):
        parser.feed(b": c\n")
    with pytest.raises(StreamProtocolError, match="larger"):
        parser.feed(b"data: " + b"x" * 100)


def test_small_chunks_of_a_large_event_stay_linear() -> None:
    parser = FrameParser()
    parser.feed(b"data: ")
    for _ in range(8000):
        parser.feed(b"x" * 120)
    (frame,) = parser.feed(b"\n\n")
    assert len(frame.data) == 8000 * 120
