"""The progress of `start` and `jobs follow` in a terminal: narrow, wide, beside what is printed."""

from __future__ import annotations

from typing import Any

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.command_line import CommandLine
from support.projects import write_project
from support.waiting import until

PRINTS = """
import logging, sys
trainer = create_trainer(**settings, max_steps=4)

@trainer.on_log
def log(ctx):
    print("loss", end=" ")
    print(f"of step {ctx.step} \\x1b[0m")
    print(f"a warning at {ctx.step}", file=sys.stderr)
    if ctx.step == 4:
        sys.stdout.write("without a newline")
"""


@pytest.mark.parametrize("columns", [40, 120])
def test_what_callbacks_print_stands_above_the_bar(
    terminal: Any, cli: CommandLine, emulator: Emulator, columns: int
) -> None:
    emulator.engine = ScriptedEngine(steps=4)
    write_project(cli.cwd, PRINTS)
    shown = terminal("start", columns=columns, lines=40)
    assert shown.wait() == 0
    whole = [line for line in shown.screen if line]
    for step in range(1, 5):
        assert f"loss of step {step}" in [line.rstrip() for line in whole]
        assert f"a warning at {step}" in whole
    assert any(line.startswith("without a newline") for line in whole)
    bars = [line for line in whole if line.startswith("bot: 100%|")]
    assert len(bars) == 1
    assert len(bars[0]) <= columns
    assert "(bot) completed: final loss" in "".join(line.ljust(columns) for line in shown.screen)


def test_a_lost_connection_is_told_above_the_bar(terminal: Any, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=6, manual=True), name="bot")
    emulator.step(job, 3)
    emulator.faults.add(Fault("cut_mid_event", event="4"))
    shown = terminal("jobs", "follow", "bot", columns=110)
    shown.until("bot: step")
    emulator.step(job, 1)
    shown.until("reconnecting in")
    emulator.step(job, 10)
    assert shown.wait() == 0
    assert any(line.startswith("arkor-sync: event stream of job") for line in shown.screen)
    assert len([line for line in shown.screen if line.startswith("bot: step")]) == 1


def test_the_bar_follows_the_window(terminal: Any, emulator: Emulator) -> None:
    job = emulator.create_job(
        ScriptedEngine(steps=40, manual=True), {"maxSteps": 40}, name="a job with a long name"
    )
    emulator.step(job, 2)
    shown = terminal("jobs", "follow", job, columns=120)
    shown.until("| 0/40")
    shown.resize(60)
    until(lambda: emulator.connections(job))
    emulator.step(job, 100)
    assert shown.wait() == 0
    # tqdm overwrites the wide bar with spaces, which may take a line of the narrow window.
    last = shown.printed[shown.printed.rindex(b"\ra job with") :].decode().split("\r\n")[0]
    assert "| 40/40" in last
    assert len(last.strip()) <= 60


def test_no_colours(terminal: Any, emulator: Emulator) -> None:
    emulator.create_job(ScriptedEngine(steps=2), name="bot")
    shown = terminal("jobs", "follow", "bot", NO_COLOR="1")
    assert shown.wait() == 0
    assert b"\x1b[3" not in shown.printed


def test_a_dumb_terminal_gets_lines(terminal: Any, emulator: Emulator) -> None:
    emulator.create_job(ScriptedEngine(steps=2), name="bot")
    shown = terminal("jobs", "follow", "bot", TERM="dumb")
    assert shown.wait() == 0
    assert b"\r\x1b" not in shown.printed
    assert "bot: completed at step 2" in shown.text


def test_a_hostile_name_and_reason_do_not_act(terminal: Any, emulator: Emulator) -> None:
    job = emulator.create_job(
        ScriptedEngine(steps=3, fails_at=2, error="bad \x1b[2J\x1b]0;owned\x07 reason\nx"),
        name="evil\x1b[31m\r\nname",
    )
    shown = terminal("jobs", "follow", job)
    assert shown.wait() == 1
    for sequence in (b"\x1b[2J", b"\x1b]0", b"\x1b[31m", b"\x07"):
        assert sequence not in shown.printed
    assert "evil name" in shown.text
