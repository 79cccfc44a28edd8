"""What all commands share: help, exit codes, errors in a line."""

from __future__ import annotations

from typing import Any

from support.command_line import CommandLine


def test_a_command_that_is_unknown_is_a_usage_error(nobody: CommandLine) -> None:
    ended = nobody("nope", code=2)
    assert ended.stdout == ""
    assert "No such command 'nope'" in ended.stderr


def test_help_is_read_in_a_terminal(terminal: Any) -> None:
    shown = terminal("--help")
    assert shown.wait() == 0
    assert "doctor" in shown.text
