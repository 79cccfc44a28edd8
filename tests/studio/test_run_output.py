"""What a program prints, as a page shows it: safe lines, and not too many."""

from __future__ import annotations

import random
from typing import List

import pytest

from arkor_sync.studio.run_output import KEPT, LONGEST, RunOutput


def shown(*pieces: bytes) -> RunOutput:
    output = RunOutput()
    for each in pieces:
        output.feed(each)
    return output


@pytest.mark.parametrize(
    ("printed", "lines", "open_line"),
    [
        (b"one\ntwo\n", ["one", "two"], ""),
        (b"one\r\n\r\ntwo", ["one", ""], "two"),
        (b"\x1b[31mred\x1b[0m \x1b]0;title\x07end\n", ["red end"], ""),
        (b"10%\r20%\r30%", [], "30%"),
        (b"10%\r20%\r", [], "20%"),
        (b"10%\r20%\r\nafter\n", ["20%", "after"], ""),
        ("caf\u00e9 \u202eevil\n".encode(), ["caf\u00e9 evil"], ""),
        (b"\xff\xfe!\n", ["\ufffd\ufffd!"], ""),
        (b"a\x0bb\x0cc\n", ["a b c"], ""),
        (b"<script>alert(1)</script>\n", ["<script>alert(1)</script>"], ""),
    ],
)
def test_it_is_the_same_in_every_chunking(printed: bytes, lines: List[str], open_line: str) -> None:
    pieces = [bytes([each]) for each in printed]
    for output in (shown(printed), shown(*pieces)):
        assert output.lines(0, 100) == lines
        assert output.open == open_line
        assert output.next == len(lines)


def test_the_end_ends_the_last_line() -> None:
    output = shown(b"one\nlast")
    assert output.end() == ["last"]
    assert output.end() == []
    assert output.lines(0, 10) == ["one", "last"]


def test_a_long_line_becomes_several() -> None:
    whole = shown(b"x" * (2 * LONGEST + 5) + b"\n")
    assert [len(each) for each in whole.lines(0, 10)] == [LONGEST, LONGEST, 5]
    endless = shown(*[b"x" * 1000] * 9)
    assert [len(each) for each in endless.lines(0, 10)] == [LONGEST, LONGEST]
    assert len(endless.open) == 9000 - 2 * LONGEST


def test_the_oldest_are_dropped_and_the_numbers_stay() -> None:
    output = RunOutput()
    numbers = random.Random(7)
    for number in range(20_000):
        output.feed(b"%d %s\n" % (number, b"x" * numbers.randrange(60)))
    assert output.next == 20_000
    assert output.first > 0
    kept = output.lines(0, 30_000)
    assert [int(each.split()[0]) for each in kept] == list(range(output.first, 20_000))
    assert sum(len(each) + 1 for each in kept) <= KEPT
    assert output.lines(output.first - 5, 1) == kept[:1]
    assert output.lines(19_999, 10) == kept[-1:]
    assert output.lines(20_000, 10) == output.lines(90_000, 10) == []


def test_a_flood_of_empty_lines_takes_no_more() -> None:
    output = shown(*[b"\n" * 100_000] * 5)
    assert output.next - output.first == KEPT
