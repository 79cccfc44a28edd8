"""The event stream format, case by case, after the Web Platform Tests for EventSource.

Each case is parsed whole, byte by byte, cut in two at every place, and in pieces of random sizes:
the frames must not depend on how the bytes came. Where the parser differs from a browser on
purpose, the name of the case or of the test says so.
"""

from __future__ import annotations

import random
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from arkor_sync.cloud.sse import Frame, FrameParser

BOM = b"\xef\xbb\xbf"
LONG = b"x" * 300


class Case(NamedTuple):
    body: bytes
    data: List[str]
    retry: Optional[int] = None


def parse(chunks: List[bytes]) -> Tuple[List[Frame], Optional[int]]:
    parser = FrameParser()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    return frames, parser.retry_ms


def chunkings(body: bytes) -> Iterator[List[bytes]]:
    """Cut a body in many ways; the same ones each time."""
    yield [body]
    yield [body[i : i + 1] for i in range(len(body))]
    for cut in range(1, len(body)):
        yield [body[:cut], body[cut:]]
    rng = random.Random(len(body))
    for _ in range(20):
        cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(2, 8)))
        yield [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)])]


def frames_of(body: bytes) -> List[Frame]:
    """Parse a body in every chunking; all must agree."""
    expected = parse([body])
    for chunks in chunkings(body):
        assert parse(chunks) == expected, chunks
    return expected[0]


CASES: Dict[str, Case] = {
    # The byte order mark.
    "a byte order mark begins the stream": Case(BOM + b"data:1\n\ndata:2\n\n", ["1", "2"]),
    "a second byte order mark is part of a field's name": Case(
        BOM + BOM + b"data:1\n\ndata:2\n\n", ["2"]
    ),
    "a byte order mark later on is part of a field's name": Case(
        b"data:1\n\n" + BOM + b"data:2\n\ndata:3\n\n", ["1", "3"]
    ),
    "a byte order mark in a value stays": Case(b"data:" + BOM + b"1\n\n", ["\ufeff1"]),
    "half a byte order mark is no mark": Case(b"\xef\xbbdata:1\n\ndata:2\n\n", ["2"]),
    "a byte order mark and nothing else": Case(BOM, []),
    "a byte order mark of UTF-16 is no mark": Case(b"\xff\xfedata:1\n\ndata:2\n\n", ["2"]),
    # UTF-8, whatever the headers say.
    "text beyond ASCII": Case("data:ok… größe 日本 😀\n\n".encode(), ["ok… größe 日本 😀"]),
    "Latin-1 bytes are replaced": Case(b"data:gr\xf6\xdfe\n\n", ["gr\ufffd\ufffde"]),
    "a sequence cut by the line's end is replaced": Case(
        b"data:a\xe2\x80\ndata:b\n\n", ["a\ufffd\nb"]
    ),
    "an overlong slash is replaced": Case(b"data:\xc0\xaf\n\n", ["\ufffd\ufffd"]),
    "an encoded surrogate is replaced": Case(b"data:\xed\xa0\x80\n\n", ["\ufffd" * 3]),
    "bad bytes in a field's name spoil that line only": Case(
        b"da\xffta:1\ndata:2\nevent\xff:x\n\n", ["2"]
    ),
    # Comments.
    "comments of all kinds between the lines of one event": Case(
        b"data:1\r:\0\n:\r\ndata:2\n:" + LONG + b"\rdata:3\n:data:no\r: " + LONG + b"\ndata:4\n\n",
        ["1\n2\n3\n4"],
    ),
    "comments alone are no event": Case(b":\n\n: a\n\n:b\n:c\n\n", []),
    "a comment may hold a colon and a field": Case(b"::data:x\n: id:9\ndata:1\n\n", ["1"]),
    # The data field.
    "empty data, two empty lines of data, and data": Case(
        b"data:\n\ndata\ndata\n\ndata:test\n\n", ["", "\n", "test"]
    ),
    "only the first colon separates": Case(b"data:a:b: c\ndata::\n\n", ["a:b: c\n:"]),
    "one leading space is taken away": Case(
        b"data:\tx\ndata: x\ndata:  x\ndata: \ndata:x \n\n", ["\tx\nx\n x\n\nx "]
    ),
    "a no-break space is no leading space": Case(b"data:\xc2\xa0x\n\n", ["\u00a0x"]),
    "names are exact: case, spaces and lengths count": Case(
        b"Data:1\nDATA:2\n data:3\ndata :4\ndat:5\ndataa:6\nda-ta:7\ndata_8\ndata:9\n\n", ["9"]
    ),
    "data after which nothing comes is no event": Case(b"data:1\n\ndata:2\n", ["1"]),
    "data after which not even a line's end comes": Case(b"data:1\n\nid:7\ndata:2", ["1"]),
    # The event field is looked at below; here only what it does to the data.
    "a name without data is no event and does not stick": Case(
        b"event:ping\nid:1\n\ndata:x\n\n", ["x"]
    ),
    # Line ends.
    "line feeds": Case(b"data:1\ndata:2\n\ndata:3\n\n", ["1\n2", "3"]),
    "carriage returns": Case(b"data:1\rdata:2\r\rdata:3\r\r", ["1\n2", "3"]),
    "pairs": Case(b"data:1\r\ndata:2\r\n\r\ndata:3\r\n\r\n", ["1\n2", "3"]),
    "every line end in one event": Case(b"data:1\r\ndata\ndata:3\rdata:4\r\n\r", ["1\n\n3\n4"]),
    "a pair is one line end": Case(b"data:1\r\ndata:2\r\n\n", ["1\n2"]),
    "a line feed and a carriage return are two": Case(b"data:1\n\rdata:2\n\r", ["1", "2"]),
    "many blank lines are as good as one": Case(
        b"\n\r\n\rdata:1\n\n\n\r\r\n\ndata:2\n\n", ["1", "2"]
    ),
    "other white space ends no line": Case(
        b"data:a\x0bb\x0cc\x1cd\x1de\x1ef\n\n", ["a\x0bb\x0cc\x1cd\x1de\x1ef"]
    ),
    "Unicode's line separators end no line": Case(
        "data:a\u0085b\u2028c\u2029d\n\n".encode(), ["a\u0085b\u2028c\u2029d"]
    ),
    # Null characters.
    "a null character as data": Case(b"data:\0\n\n", ["\0"]),
    "null characters within data": Case(b"data:a\0b\ndata: \0\n\n", ["a\0b\n\0"]),
    "a null character in a field's name": Case(b"data\0:1\n\0data:2\ndata:3\n\n", ["3"]),
    # Unknown fields.
    "unknown fields and lines that are none": Case(
        b"data:a\n data\ndata\nfoo:bar\nsome text\n:a comment\n{}\ndata:b\n\n", ["a\n\nb"]
    ),
    "unknown fields alone are no event": Case(b"foo:bar\nfoo\nfoo bar\n\n", []),
    # The retry field.
    "retry": Case(b"retry:1500\ndata:x\n\n", ["x"], 1500),
    "retry with a leading space": Case(b"retry: 1500\n\n", [], 1500),
    "retry of zero": Case(b"retry:0\n\n", [], 0),
    "retry with leading zeros is decimal": Case(b"retry:0010\n\n", [], 10),
    "retry with very many leading zeros": Case(b"retry:" + b"0" * 50 + b"7\n\n", [], 7),
    "retry of zeros": Case(b"retry:000\n\n", [], 0),
    "the last valid retry counts": Case(b"retry:10\nretry:20\n\nretry:30\ndata:x\n\n", ["x"], 30),
    "a bogus retry leaves the one before": Case(
        b"retry:3000\nretry:1000x\ndata:x\n\n", ["x"], 3000
    ),
    "no retry without digits": Case(b"retry\nretry:\nretry: \ndata:x\n\n", ["x"]),
    "no retry but plain digits": Case(
        b"retry:-5\nretry:+5\nretry:1.5\nretry:1e3\nretry:0x10\nretry:1 0\nretry:1_0\nretry:5 \n"
        b"retry:  5\nretry:\t5\nretry:5\0\nretry:NaN\nretry:5:\n\n",
        [],
    ),
    "no retry of digits that are not ASCII": Case("retry:\u0663\nretry:\uff15\n\n".encode(), []),
    "no retry under another name": Case(b"Retry:5\n retry:6\nretry :7\nretry-after:8\n\n", []),
    "a retry that a comment swallows": Case(b":retry:5\n\n", []),
    "unlike in a browser, a retry in an event that is cut off is lost": Case(
        b"data:x\n\nretry:5\ndata:y\n", ["x"]
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_it_reads(case: Case) -> None:
    assert [frame.data for frame in frames_of(case.body)] == case.data
    assert parse([case.body])[1] == case.retry


@pytest.mark.parametrize("digits", [13, 20, 309, 400, 4300, 5000, 100_000])
@pytest.mark.parametrize("first", [b"9", b"0", b"1"])
def test_a_retry_of_any_length_is_a_number_that_can_be_waited_for(
    digits: int, first: bytes
) -> None:
    """Neither an integer of thousands of digits nor a float of hundreds can be made of it."""
    frames, retry = parse([b"retry:" + first * digits + b"\ndata:x\n\n"])
    assert [frame.data for frame in frames] == ["x"]
    assert retry is not None
    assert retry == 0 if first == b"0" else retry / 1000 > 1e8


EVENTS: Dict[str, Tuple[bytes, List[str]]] = {
    "none": (b"data:x\n\n", ["message"]),
    "one": (b"event:test\ndata:x\n\n", ["test"]),
    "one after the data": (b"data:x\nevent: test\n\n", ["test"]),
    "it is an event's own": (b"event:test\ndata:x\n\ndata:x\n\n", ["test", "message"]),
    "an empty one": (b"event:\ndata:x\n\n", ["message"]),
    "an empty one, with its space": (b"event: \ndata:x\n\n", ["message"]),
    "a name without a colon": (b"event\ndata:x\n\n", ["message"]),
    "the last one counts": (b"event:a\nevent:b\ndata:x\n\n", ["b"]),
    "an empty last one counts, too": (b"event:a\nevent\ndata:x\n\n", ["message"]),
    "one leading space": (b"event:  a b \ndata:x\n\n", [" a b "]),
    "beyond ASCII": ("event:größe…\ndata:x\n\n".encode(), ["größe…"]),
    "other names": (b"Event:a\nevent-type:b\nEVENT:c\ndata:x\n\n", ["message"]),
}


@pytest.mark.parametrize(("body", "names"), EVENTS.values(), ids=EVENTS.keys())
def test_the_event_field(body: bytes, names: List[str]) -> None:
    assert [frame.event for frame in frames_of(body)] == names


IDS: Dict[str, Tuple[bytes, List[Optional[str]]]] = {
    "one": (b"id:1\ndata:x\n\n", ["1"]),
    "one after the data": (b"data:x\nid: 1\n\n", ["1"]),
    "the last one counts": (b"id:1\nid:2\ndata:x\n\n", ["2"]),
    "one leading space": (b"id:  a b \ndata:x\n\n", [" a b "]),
    "beyond ASCII": ("id:…日本😀\ndata:x\n\n".encode(), ["…日本😀"]),
    "bad bytes are replaced": (b"id:\xff\ndata:x\n\n", ["\ufffd"]),
    "colons": (b"id:2026-01-01T00:00:00Z\ndata:x\n\n", ["2026-01-01T00:00:00Z"]),
    "null characters": (b"id:\0\0\ndata:x\n\n", [None]),
    "a null character at the end": (b"id:1\0\ndata:x\n\n", [None]),
    "a null character leaves the id before it": (b"id:1\nid:2\0\ndata:x\n\n", ["1"]),
    "a null character in the next line is no matter": (b"id:1\ndata:\0\n\n", ["1"]),
    "other names": (b"Id:1\nID:2\nidx:3\ndata:x\n\n", [None]),
}


@pytest.mark.parametrize(("body", "ids"), IDS.values(), ids=IDS.keys())
def test_the_id_field(body: bytes, ids: List[Optional[str]]) -> None:
    assert [frame.id for frame in frames_of(body)] == ids


def test_unlike_in_a_browser_an_id_is_not_inherited() -> None:
    body = b"id:1\ndata:a\n\ndata:b\n\nid:2\ndata:c\n\ndata:d\n\n"
    assert [frame.id for frame in frames_of(body)] == ["1", None, "2", None]


@pytest.mark.parametrize("empty", [b"id", b"id:", b"id: "])
def test_an_empty_id_is_told_from_none(empty: bytes) -> None:
    body = b"id:1\ndata:a\n\n" + empty + b"\ndata:b\n\ndata:c\n\n"
    assert [frame.id for frame in frames_of(body)] == ["1", "", None]


def test_unlike_in_a_browser_the_id_of_an_event_without_data_is_lost() -> None:
    assert frames_of(b"id:1\n\nid:2\nevent:x\n\ndata:a\n\n") == [Frame("message", "a", None)]


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_stream_that_is_cut_anywhere_yields_the_first_of_its_frames(name: str) -> None:
    body = CASES[name].body
    whole = parse([body])[0]
    for cut in range(len(body)):
        frames = parse([body[:cut]])[0]
        assert frames == whole[: len(frames)]
