"""Ctrl-C in a terminal: it asks once whether to cancel the job, and twice it leaves at once."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.command_line import CommandLine
from support.projects import write_project
from support.waiting import until

QUESTION = "too? Else it goes on. [y/N]"
GOES_ON = "attaches to it again"


def text_of(terminal: Any) -> str:
    """Return what is on the screen, as if lines had no end."""
    return "".join(line.ljust(80) for line in terminal.screen)


@pytest.fixture
def job(emulator: Emulator) -> str:
    """Start a job that comes to no end."""
    return emulator.create_job(ScriptedEngine(silent_at=2), name="bot")


def test_yes_cancels_the_job_and_waits_for_its_end(
    terminal: Any, emulator: Emulator, job: str
) -> None:
    shown = terminal("jobs", "follow", "bot", columns=100)
    shown.until("following job")
    shown.until("bot: step")
    shown.press("ctrl-c")
    shown.until(QUESTION)
    assert emulator.jobs[job].status == "running"
    shown.press("y")
    shown.press("enter")
    assert shown.wait() == 3
    assert emulator.jobs[job].status == "cancelled"
    assert GOES_ON not in text_of(shown)
    assert f"job {job} (bot) cancelled" in shown.text


@pytest.mark.parametrize("answer", ["n", "", "ctrl-d", "no idea"])
def test_anything_else_leaves_the_job_alone(
    terminal: Any, emulator: Emulator, job: str, answer: str
) -> None:
    shown = terminal("jobs", "follow", "bot", columns=100)
    shown.until("following job")
    shown.until("bot: step")
    shown.press("ctrl-c")
    shown.until(QUESTION)
    shown.press(answer)
    if answer != "ctrl-d":
        shown.press("enter")
    assert shown.wait() == 130
    assert emulator.jobs[job].status == "running"
    assert text_of(shown).count(GOES_ON) == 1


def test_twice_leaves_at_once(terminal: Any, emulator: Emulator, job: str) -> None:
    shown = terminal("jobs", "follow", "bot", columns=100)
    shown.until("following job")
    shown.until("bot: step")
    shown.press("ctrl-c")
    shown.until(QUESTION)
    shown.press("ctrl-c")
    assert shown.wait() == 130
    assert emulator.jobs[job].status == "running"
    assert text_of(shown).count(GOES_ON) == 1
    assert shown.text.count(QUESTION) == 1


def test_the_job_goes_on_being_followed_behind_the_question(
    terminal: Any, emulator: Emulator
) -> None:
    """Nothing is written below the question. If the job ends meanwhile, that is its end."""
    job = emulator.create_job(ScriptedEngine(steps=4, manual=True), name="bot")
    emulator.step(job, 2)
    shown = terminal("jobs", "follow", "bot", columns=100)
    shown.until("following job")
    shown.until("bot: step")
    shown.press("ctrl-c")
    shown.until(QUESTION)
    emulator.step(job, 4)
    shown.until(lambda: not emulator.open_streams)  # the run has read the last event
    assert shown.text.rstrip().endswith(QUESTION)
    shown.press("n")
    shown.press("enter")
    assert shown.wait() == 0
    assert f"job {job} (bot) completed" in shown.text


def test_while_the_file_is_read(terminal: Any, cli: CommandLine, emulator: Emulator) -> None:
    write_project(cli.cwd, "import threading\nprint('reading')\nthreading.Event().wait(60)")
    shown = terminal("start")
    shown.until("reading")
    shown.press("ctrl-c")
    assert shown.wait() == 130
    assert GOES_ON not in text_of(shown)


def test_while_the_job_is_submitted(terminal: Any, cli: CommandLine, emulator: Emulator) -> None:
    emulator.faults.add(Fault("stall_before_headers", route="create_job"))
    write_project(cli.cwd)
    shown = terminal("start")
    until(lambda: any(request.route == "create_job" for request in emulator.requests))
    shown.press("ctrl-c")
    assert shown.wait() == 130
    assert "may have been created nevertheless; `arkor-sync jobs list` shows it" in text_of(shown)


def test_while_it_connects(terminal: Any, cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    emulator.faults.add(Fault("stall_before_headers", route="stream"))
    write_project(cli.cwd)
    shown = terminal("start")
    until(lambda: any(request.route == "stream" for request in emulator.requests))
    shown.until("is submitted")
    shown.press("ctrl-c")
    shown.until("Else it goes on.")
    shown.press("y")
    shown.press("enter")
    assert shown.wait() == 3


def test_in_a_callback(terminal: Any, cli: CommandLine, emulator: Emulator) -> None:
    """The callback runs on while the question stands; no yes, and it may end before the command."""
    emulator.engine = ScriptedEngine(silent_at=1)
    write_project(
        cli.cwd,
        """
import time
trainer = create_trainer(**settings)

@trainer.on_log
def log(ctx):
    print("the callback begins")
    deadline = time.monotonic() + 60
    while not os.path.exists("go on") and time.monotonic() < deadline:
        time.sleep(0.01)
    print("the callback has ended")
""",
    )
    shown = terminal("start", columns=100)
    shown.until("is submitted")
    shown.until("the callback begins")
    shown.press("ctrl-c")
    shown.until(QUESTION)
    shown.press("n")
    shown.press("enter")
    (cli.cwd / "go on").touch()
    assert shown.wait() == 130
    assert "the callback has ended" in shown.text
    assert text_of(shown).count(GOES_ON) == 1


def test_while_it_is_cancelled(terminal: Any, emulator: Emulator, job: str) -> None:
    emulator.settings.cancel_emits = "nothing"
    emulator.faults.add(Fault("stall_before_headers", route="cancel_job"))
    shown = terminal("jobs", "follow", "bot", columns=100)
    shown.until("following job")
    shown.until("bot: step")
    shown.press("ctrl-c")
    shown.until(QUESTION)
    shown.press("y")
    shown.press("enter")
    until(lambda: any(request.route == "cancel_job" for request in emulator.requests))
    shown.press("ctrl-c")
    assert shown.wait() == 130
    assert text_of(shown).count(GOES_ON) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_question(
    terminal: Any, emulator: Emulator, job: str, number: signal.Signals
) -> None:
    shown = terminal("jobs", "follow", "bot", columns=100)
    shown.until("following job")
    shown.until("bot: step")
    shown.press("ctrl-c")
    shown.until(QUESTION)
    shown.send_signal(number)
    assert shown.wait() == 128 + number
    assert text_of(shown).count(GOES_ON) == 1
