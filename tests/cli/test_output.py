"""What is printed: in terminals narrow and wide, in a pipe, and of hostile texts."""

from __future__ import annotations

from typing import Any

import pytest

from support.command_line import CommandLine

HOSTILE = "\x1b[2Jna\x1b[31mme\x9b1m \u202etxt\u202c\x07\r\nsecond\x1b]0;title\x07 \ud800"
UNSAFE = set("\x1b\x9b\x07\r\u202e\u202c\ud800")
ROWS = [
    {
        "id": "job-0123456789-0123456789-0123456789",
        "name": HOSTILE,
        "status": "completed",
        "loss": 0.5,
    },
    {"id": "job-2", "name": "b" * 60, "status": "failed", "loss": None},
]
TABLE = f"output.table({ROWS!r}, ['id', 'name', 'status', 'loss'])"
FACTS = f"output.facts({ROWS[0]!r})"


@pytest.mark.parametrize("columns", [80, 160])
def test_a_table_fits_the_terminal_and_keeps_the_ids(
    cli: CommandLine, terminal: Any, columns: int
) -> None:
    shown = terminal(columns=columns, user=cli.probe(TABLE))
    assert shown.wait() == 0
    head, first, second = shown.screen[:3]
    assert head.split() == ["id", "name", "status", "loss"]
    assert first.split()[0] == ROWS[0]["id"]
    assert second.split()[0] == "job-2"
    assert shown.screen[3] == ""
    assert ("b" * 60 in second) is (columns == 160)
    assert ("…" in second) is (columns == 80)
    assert shown.printed.count(b"\x1b[32m") == 1  # the status, in green
    assert b"\x1b[2J" not in shown.printed
    assert b"title" not in shown.printed


def test_where_no_table_fits_each_row_is_a_block(cli: CommandLine, terminal: Any) -> None:
    shown = terminal(columns=40, user=cli.probe(TABLE))
    assert shown.wait() == 0
    assert [line.split(":")[0] for line in shown.screen if ":" in line][:4] == [
        "id",
        "name",
        "status",
        "loss",
    ]
    assert str(ROWS[0]["id"]) in shown.text.replace("\n", "")


@pytest.mark.parametrize(
    "variables",
    [{"NO_COLOR": "1"}, {"NO_COLOR": "no"}, {"TERM": "dumb"}],
    ids=["1", "no", "dumb"],
)
def test_no_colours_where_they_are_not_wanted(
    cli: CommandLine, terminal: Any, variables: Any
) -> None:
    shown = terminal(user=cli.probe(TABLE), **variables)
    assert shown.wait() == 0
    assert "completed" in shown.text
    assert b"\x1b" not in shown.printed


def test_an_empty_no_color_is_not_set(cli: CommandLine, terminal: Any) -> None:
    shown = terminal(user=cli.probe(TABLE), NO_COLOR="")
    assert shown.wait() == 0
    assert b"\x1b[32m" in shown.printed


def test_a_table_follows_the_size_of_the_terminal(cli: CommandLine, terminal: Any) -> None:
    user = cli.probe(TABLE, "output.note('ready')", "input()", TABLE)
    shown = terminal(columns=80, user=user)
    shown.until("ready")
    assert "b" * 60 not in shown.text
    shown.resize(160)
    shown.press("enter")
    assert shown.wait() == 0
    assert "b" * 60 in shown.text


def test_a_pipe_gets_a_line_for_each_row_with_tabs(nobody: CommandLine) -> None:
    ended = nobody.probe(TABLE)()
    first, second = (line.split("\t") for line in ended.stdout.splitlines())
    assert first == [ROWS[0]["id"], "name txt second ?", "completed", "0.5"]
    assert second == ["job-2", "b" * 60, "failed", "-"]
    assert ended.stderr == ""


def test_facts_are_lines(nobody: CommandLine) -> None:
    lines = nobody.probe(FACTS)().stdout.splitlines()
    assert lines[1] == "name: name txt second ?"
    assert len(lines) == 4


@pytest.mark.parametrize("shown", [TABLE, FACTS, f"output.json({ROWS!r})"])
def test_json_is_one_line_of_ascii_with_the_whole_text(nobody: CommandLine, shown: str) -> None:
    ended = nobody.probe(shown)("--json")
    assert ended.stdout.isascii()
    assert ended.stdout.count("\n") == 1
    found = ended.json if isinstance(ended.json, dict) else ended.json[0]
    assert found == ROWS[0]


def test_what_json_has_not_is_null(nobody: CommandLine) -> None:
    value = "{'a': [float('nan'), {'b': float('-inf'), 'c': 1.5}]}"
    assert nobody.probe(f"output.json({value})")().json == {"a": [None, {"b": None, "c": 1.5}]}


@pytest.mark.parametrize("call", ["line", "note"])
def test_a_text_of_others_does_not_act(nobody: CommandLine, call: str) -> None:
    ended = nobody.probe(f"output.{call}({HOSTILE!r})")()
    assert not UNSAFE & set(ended.stdout + ended.stderr)
    assert (ended.stdout or ended.stderr) == "name txt\nsecond ?\n"
