"""The overview in a real browser: run the trainer, watch its output, stop it in both ways."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.extras import need_extra
from support.projects import write_project
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

PRINTS = """
trainer = create_trainer(**settings)

@trainer.on_log
def log(ctx):
    print("mine", ctx.step)
"""


@pytest.fixture
def opened(emulator: Emulator, project: Path, page: Any) -> Iterator[Any]:
    """Open the overview of a server that may run the project's file."""
    need_extra("studio")
    from arkor_sync.studio.server import StudioServer

    write_project(project, PRINTS)
    server = StudioServer(emulator.client(), 0, Path("trainer.py"))
    thread = threading.Thread(target=server.run)
    thread.start()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(server.url)
    yield page
    page.goto("about:blank")
    server.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def shows(opened: Any, place: str, text: str) -> None:
    opened.locator(place, has_text=text).wait_for()


def run(opened: Any, emulator: Emulator) -> str:
    """Press the button, and return the job when the page has named it."""
    before = set(emulator.jobs)
    opened.get_by_role("button", name="Run bot").click()
    shows(opened, "#run-state", "The job")
    (job,) = set(emulator.jobs) - before
    shows(opened, "#run-state", job)
    return job


def test_a_run_is_watched_and_left_and_another_is_cancelled(
    opened: Any, emulator: Emulator
) -> None:
    emulator.engine = ScriptedEngine(steps=9, manual=True)
    job = run(opened, emulator)
    shows(opened, "#output", f"job {job} (bot) is submitted")
    for step in (2, 5):
        emulator.step(job, 3)  # the first of all is the start
        shows(opened, "#output", f"mine {step}")  # without loading the page again
    shows(opened, "#newest tr", "running")
    opened.get_by_text("Stop…").click()
    opened.get_by_role("button", name="Stop following").click()
    shows(opened, "#run-state", "It was stopped: the job goes on.")
    assert emulator.jobs[job].status == "running"

    other = run(opened, emulator)
    emulator.step(other)
    opened.get_by_text("Stop…").click()
    opened.get_by_role("button", name="Cancel the job").click()
    shows(opened, "#run-state", "the job was cancelled")
    shows(opened, "#newest tr", "cancelled")
    assert emulator.jobs[other].status == "cancelled"
    assert emulator.jobs[job].status == "running"


def test_the_question_stays_open_while_the_page_changes(opened: Any, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=9, manual=True)
    job = run(opened, emulator)
    opened.get_by_text("Stop…").focus()
    opened.keyboard.press("Enter")
    following = opened.get_by_role("button", name="Stop following")
    following.focus()
    emulator.step(job, 20)  # it ends while the question stands
    shows(opened, "#run-state", "It has ended: all went well.")
    assert following.count() == 0
    opened.keyboard.press("Tab")  # the focus is not lost
    assert opened.evaluate("document.activeElement.tagName") != "BODY"


def test_with_the_keyboard_alone(opened: Any, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    shows(opened, "button", "Run bot")

    def focused() -> str:
        opened.keyboard.press("Tab")
        return str(opened.evaluate("document.activeElement.textContent"))

    def tab_to(text: str) -> None:
        assert any(focused() == text for _ in range(40)), text

    tab_to("Run bot")
    opened.keyboard.press("Enter")
    shows(opened, "#run-state", "The job")
    tab_to("Stop…")
    opened.keyboard.press("Enter")
    tab_to("Cancel the job")
    opened.keyboard.press("Enter")
    shows(opened, "#run-state", "the job was cancelled")


def test_what_others_write_is_text(opened: Any, emulator: Emulator, project: Path) -> None:
    hostile = "<img src=x onerror=document.title='taken'>"
    emulator.create_job(ScriptedEngine(silent_at=1), name=hostile)
    shows(opened, "#newest a", hostile)
    write_project(project, f"print({hostile!r})\nraise SystemExit(2)")
    shows(opened, "#trainer .problem", "sys.exit()")
    opened.get_by_role("button", name="Run trainer.py").click()
    shows(opened, "#output", hostile)
    shows(opened, "#run-state", "exit code 2")
    assert opened.locator("#content img").count() == 0
    assert "taken" not in opened.title()


def test_another_tab_sees_the_run(opened: Any, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=4, manual=True)
    with opened.expect_popup() as popup:
        opened.evaluate("open(location.href)")
    other = popup.value
    job = run(opened, emulator)
    emulator.step(job, 4)
    other.bring_to_front()
    other.locator("#output", has_text="mine 3").wait_for(timeout=PATIENCE * 1000)
    emulator.step(job, 9)
    other.locator("#run-state", has_text="all went well").wait_for(timeout=PATIENCE * 1000)
    other.close()
    until(lambda: emulator.jobs[job].status == "completed")
