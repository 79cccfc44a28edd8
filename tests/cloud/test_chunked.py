"""The chunked transfer coding, byte by byte and all at once."""

from __future__ import annotations

import re
from typing import Iterator, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.cloud.chunked import ChunkedDecoder

END = b"0\r\n\r\n"


def encode(chunks: List[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)


def decode(pieces: List[bytes]) -> bytes:
    decoder = ChunkedDecoder()
    body = b"".join(map(decoder.feed, pieces))
    assert decoder.finished
    return body


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 300)))
def test_every_body_comes_out_however_it_was_cut(chunks: List[bytes], cuts: List[int]) -> None:
    wire = encode(chunks) + END
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    pieces = [wire[begin:end] for begin, end in zip(edges, edges[1:])]
    assert decode(pieces) == b"".join(chunks)
    assert decode([wire[i : i + 1] for i in range(len(wire))]) == b"".join(chunks)


# What looks like chunks, so that a part of one may be taken for a whole one.
PAYLOADS = [
    b"1\r\na\r\n",
    b"0\r\n\r\n",
    b"\r\n",
    b"2\r\n",
    b"b\r\n1\r\na\r\n1\r\nb\r\n",
    b"a\r\n" + 14 * b"c",  # its size is 11, so "1\r\na\r\n" is in the middle of it
]


@given(st.lists(st.lists(st.sampled_from(PAYLOADS), min_size=1).map(b"".join)), st.data())
def test_whole_chunks_are_told_from_what_looks_like_them(
    chunks: List[bytes], data: st.DataObject
) -> None:
    pieces = []
    for chunk in chunks:
        wire = encode([chunk])
        cuts = data.draw(st.lists(st.sampled_from(list(places(wire)))), "cuts")
        edges = [0, *sorted(cuts), len(wire)]
        pieces += [wire[begin:end] for begin, end in zip(edges, edges[1:])]
    assert decode([*pieces, END]) == b"".join(chunks)


def places(wire: bytes) -> Iterator[int]:
    """In the size, and before and after each newline."""
    yield 1
    for match in re.finditer(b"\r\n", wire):
        yield match.start()
        yield match.end()


def test_what_has_arrived_of_a_chunk_comes_out_at_once() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"5\r\nab") == b"ab"
    assert decoder.feed(b"c") == b"c"
    assert decoder.feed(b"de\r") == b"de"
    assert decoder.feed(b"\n3\r") == b""
    assert decoder.feed(b"\nfgh") == b"fgh"
    assert not decoder.finished


def test_sizes_may_be_upper_case_and_have_extensions() -> None:
    assert decode([b'A;name="v"\r\n0123456789\r\n1 ; x\r\na\r\n0;last\r\n\r\n']) == b"0123456789a"


@pytest.mark.parametrize(
    "size",
    [b"00000000000000000005", b"5   ", b"5\t", b"  5", b" \t 005 \t", b"5 ; x", b"0" * 4000 + b"5"],
)
def test_sizes_may_be_padded(size: bytes) -> None:
    wire = (
        size + b"\r\nabcde\r\n" + size + b"\r\nfghij\r\n" + size.replace(b"5", b"0") + b"\r\n\r\n"
    )
    assert decode([wire]) == b"abcdefghij"
    assert decode([wire[i : i + 1] for i in range(len(wire))]) == b"abcdefghij"


def test_trailers_and_whatever_else_follows_the_last_chunk_is_dropped() -> None:
    assert decode([b"1\r\na\r\n0\r\nX: y\r\n\r\nHTTP/1.1 200", b"5\r\nabcde"]) == b"a"


@pytest.mark.parametrize(
    "wire",
    [b"x\r\n", b"-1\r\na\r\n", b"1\r\nab\r\n1\r\n", b"\r\n\r\n", b"1" * 5000, b"1" * 16 + b"\r\n"],
)
def test_what_is_not_a_size_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match="not the size of a chunk"):
        decode([wire, b"\r\n\r\n\r\n"])
    with pytest.raises(ValueError, match="not the size of a chunk"):
        decode([*(wire[i : i + 1] for i in range(len(wire))), b"\r\n\r\n\r\n"])


def test_two_bytes_after_a_chunk_that_are_no_newline_are_refused() -> None:
    with pytest.raises(ValueError, match="not the size of a chunk"):
        decode([b"1\r\nabc", END])
