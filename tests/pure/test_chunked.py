"""The chunked transfer coding, byte by byte and all at once."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.stream.chunked import ChunkedDecoder

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
