"""Text in pieces: however it is split, what is shown is what the whole text would show."""

from __future__ import annotations

import time
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync._common.text import safe_text
from arkor_sync.cli.safe_stream import SafeStream
from support.waiting import shortest

# What escape sequences are made of, and what ends them or does not.
PARTS = [
    *"\x1b\x9b\x9d\x90\x98\x9e\x9f\x9c\x07\x18[]PX^_\\()0;31m?H~ /-@a\r\n\t\x85\u2028\u202e",
    "\x1b[",
    "\x1b]8;;https://evil.example",
    "\x1b\\",
    "\x1b]0;owned\x07",
    "\r\n",
    "\ud83d",
    "\U0001f600",
    "日本",
    "plain words",
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=30).map("".join) | st.text(st.characters())


def shown(pieces: List[str]) -> str:
    stream = SafeStream()
    return "".join([*map(stream.feed, pieces), stream.end()])


@given(TEXTS, st.data())
def test_any_splitting_shows_what_the_whole_text_shows(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]
    assert shown(pieces) == safe_text(text)


@given(TEXTS)
def test_a_text_may_come_character_by_character(text: str) -> None:
    assert shown(list(text)) == safe_text(text)


@given(TEXTS, TEXTS)
def test_what_is_shown_early_can_never_act(first: str, second: str) -> None:
    stream = SafeStream()
    early = stream.feed(first)
    assert safe_text(early) == early
    assert safe_text(first + second).startswith(early)


def test_plain_text_is_shown_at_once() -> None:
    stream = SafeStream()
    assert [stream.feed(word) for word in ("The ", "ticket ", "is")] == ["The ", "ticket ", "is"]


def test_only_what_may_be_an_escape_sequence_is_held_back() -> None:
    stream = SafeStream()
    assert stream.feed("red \x1b[3") == "red "
    assert stream.feed("1") == ""
    assert stream.feed("m text") == " text"
    assert stream.end() == ""


def test_a_sequence_that_never_ends_hides_nothing() -> None:
    assert shown(["a\x1b]0;the", " rest"]) == "a0;the rest"


@pytest.mark.parametrize("start", ["\x1b]", "\x1b[", "\x9d", "\x1b"])
def test_a_long_sequence_in_small_pieces_takes_no_quadratic_time(start: str) -> None:
    piece = " " if start == "\x1b" else "1"

    def measure() -> float:
        stream, begin = SafeStream(), time.perf_counter()
        stream.feed(start)
        for _ in range(50_000):
            stream.feed(piece)
        stream.end()
        return time.perf_counter() - begin

    assert shortest(measure, 0.5) < 0.5
