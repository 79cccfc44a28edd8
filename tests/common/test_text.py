"""Text of others: what of it may be shown, and what is taken out."""

from __future__ import annotations

import logging
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync._common.log import Lines, get_logger
from arkor_sync._common.text import LINE, counted, safe_cell, safe_line, safe_text
from support.waiting import shortest

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ESCAPES = {
    "a colour": "\x1b[31m",
    "a colour with parameters": "\x1b[1;38;5;4m",
    "the screen is cleared": "\x1b[2J\x1b[H",
    "a C1 sequence": "\x9b31m",
    "a window's title": "\x1b]0;owned\x07",
    "a link": "\x1b]8;;https://evil.example\x1b\\",
    "the clipboard": "\x1b]52;c;cm0gLXJm\x1b\\",
    "a C1 command": "\x9d0;owned\x9c",
    "a device's string": "\x1bP+q544e\x1b\\",
    "a private message": "\x1b^x\x1b\\",
    "an application's command": "\x1b_x\x1b\\",
    "a reset": "\x1bc",
    "a character set": "\x1b(0",
    "an escape and nothing": "\x1b",
}


@pytest.mark.parametrize("code", list(ESCAPES.values()), ids=list(ESCAPES))
def test_an_escape_sequence_is_removed_with_what_it_carries(code: str) -> None:
    tail = "" if code == "\x1b" else "b"  # a lone escape takes the next character
    assert safe_text(f"a{code}{tail}") == f"a{tail}"
    assert safe_line(f"a{code}{tail}") == f"a{tail}"


def test_an_unfinished_sequence_hides_nothing() -> None:
    assert safe_text("a\x1b]0;the rest") == "a0;the rest"


@given(st.text(st.characters()))
def test_nothing_that_is_left_can_act(text: str) -> None:
    safe = safe_text(text)
    assert not any(
        unicodedata.category(c) in ("Cc", "Cs") for c in safe.replace("\n", "\t") if c != "\t"
    )
    assert not set(safe) & set(BIDI)
    assert len(safe.splitlines()) == len(safe.split("\n")) - (safe.endswith("\n") or not safe)
    assert safe_text(safe) == safe
    line = safe_line(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= LINE


@pytest.mark.parametrize(
    "newline", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]
)
def test_whatever_ends_a_line_is_a_newline_or_a_space(newline: str) -> None:
    assert safe_text(f"a{newline}b") == "a\nb"
    assert safe_line(f"a{newline}b") == "a b"


@pytest.mark.parametrize(
    "text", ["日本語", "שלום עולם", "می‌خواهم", "👩‍👩‍👧", "a\tb", "ﷺ", "e\u0301"]
)
def test_what_people_write_stays(text: str) -> None:
    assert safe_text(text) == text


def test_a_text_is_cut_at_its_limit() -> None:
    assert safe_text("a" * 10, 10) == "a" * 10
    assert safe_text("a" * 11, 10) == "a" * 9 + "…"
    assert safe_line("a " * 60_000) == "a " * 249 + "a…"


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[" * 200_000,
        "\x1b]" * 200_000,
        "\x1b[" + "0" * 400_000,
        "\x1b " * 200_000,
        "\x9d" * 400_000,
    ],
    ids=["CSI", "OSC", "parameters", "intermediates", "C1"],
)
def test_any_text_is_made_safe_in_linear_time(text: str) -> None:
    def measure() -> float:
        begun = time.thread_time()
        safe_line(text)
        return time.thread_time() - begun

    assert shortest(measure, 1.0) < 1.0


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"]
)
def test_a_cell_that_a_spreadsheet_would_run_is_text(cell: str) -> None:
    assert safe_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["a=1", "", "2026-01-01", -0.5, -1, None])
def test_any_other_cell_stays(cell: Any) -> None:
    assert safe_cell(cell) == cell
    assert type(safe_cell(cell)) is type(cell)


HOSTILE = "bad\x1b[2J\r\nERROR forged\u202e\x9b1m"


def test_a_log_line_is_one_safe_line(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_logger("arkor_sync.tests")
    logger.warning("%s: %d of %s", HOSTILE, 5, Path(HOSTILE))
    logger.warning("the stack:\n%s", Lines("one\n  two\x1b[1m\n"))
    logger.warning("a page%s", "<p>" * 20_000)
    logger.warning("a part%s", " of a sentence")
    first, second, third, fourth = caplog.messages
    assert first == "bad ERROR forged: 5 of bad ERROR forged"
    assert second == "the stack:\none\n  two\n"
    assert len(third) < 600
    assert fourth == "a part of a sentence"


@pytest.mark.parametrize(("number", "words"), [(0, "0 logs"), (1, "1 log"), (2, "2 logs")])
def test_one_of_something_is_said_in_the_singular(number: int, words: str) -> None:
    assert counted(number, "log") == words


def test_a_logger_makes_its_lines_safe_once() -> None:
    assert get_logger("arkor_sync.tests") is get_logger("arkor_sync.tests")
    assert len(logging.getLogger("arkor_sync.tests").filters) == 1
