"""Two texts side by side: complete rows that fit, whatever comes first."""

from __future__ import annotations

from typing import List

from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.cli.columns import Columns
from arkor_sync.render.text import display_width

WORDS = [
    "a",
    "ticket",
    "invoices",
    "日本語",
    "Cafe\u0301",
    "\U0001f600",
    "x" * 30,
    " ",
    "   ",
    "\n",
    "\t",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=20).map("".join)
WIDTHS = st.integers(7, 60)


def all_rows(left: List[str], right: List[str], width: int) -> List[str]:
    columns = Columns(["left", "right"])
    rows: List[str] = []
    for number, pieces in enumerate((left, right)):
        for piece in pieces:
            columns.feed(number, piece)
            rows += columns.rows(width)
        columns.end(number)
        rows += columns.rows(width)
    return rows


def cut(text: str, data: st.DataObject) -> List[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]


@given(TEXTS, TEXTS, WIDTHS, st.data())
def test_any_splitting_gives_the_same_rows(
    left: str, right: str, width: int, data: st.DataObject
) -> None:
    rows = all_rows(cut(left, data), cut(right, data), width)
    assert rows == all_rows([left], [right], width)


@given(TEXTS, TEXTS, WIDTHS)
def test_each_row_fits_and_no_word_is_lost(left: str, right: str, width: int) -> None:
    rows = all_rows([left], [right], width)
    assert all(display_width(row) <= width for row in rows)
    cells = [row.partition(" |") for row in rows]
    assert "".join("".join(cell[0] for cell in cells).split()) == "".join(left.split())
    assert "".join("".join(cell[2] for cell in cells).split()) == "".join(right.split())


def test_lines_end_between_words_and_keep_what_they_are_indented_by() -> None:
    left = "to be or not to be\n\n    that is\n"
    assert all_rows([left], ["yes"], 27) == [
        "to be or not | yes",
        "to be        |",
        "             |",
        "    that is  |",
    ]


def test_wide_characters_and_marks_leave_the_second_text_in_its_column() -> None:
    assert all_rows(["日本 Cafe\u0301"], ["yes"], 23) == ["日本 Cafe\u0301  | yes"]


def test_a_row_waits_until_its_line_cannot_grow_on_either_side() -> None:
    columns = Columns(["left", "right"])
    columns.feed(0, "one\n")
    assert list(columns.rows(23)) == []
    columns.feed(1, "two")
    assert list(columns.rows(23)) == []
    columns.feed(1, " and three")
    assert list(columns.rows(23)) == ["one        | two and"]
    columns.end(0)
    columns.end(1)
    assert list(columns.rows(23)) == ["           | three"]


def test_the_next_row_fits_a_terminal_that_has_become_narrower() -> None:
    columns = Columns(["left", "right"])
    columns.feed(0, "the first line of the left\nthe second line of the left")
    columns.feed(1, "the first of the right\nthe second of the right")
    assert next(columns.rows(60)) == "the first line of the left   | the first of the right"
    columns.end(0)
    columns.end(1)
    assert list(columns.rows(31)) == [
        "the second     | the second of",
        "line of the    | the right",
        "left           |",
    ]


def test_the_heading_is_as_wide_as_the_columns() -> None:
    columns = Columns(["triage-v1@10", "a job with a name that is long"])
    assert columns.heading(31) == [
        "triage-v1@10   | a job with a…",
        "-------------- | --------------",
    ]
    assert Columns(["triage"]).heading(40) == ["triage", "-" * 40]
