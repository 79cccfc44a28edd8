"""The page of a job in a browser: its curves grow, and can be looked into."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List
from urllib.parse import urlsplit

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.waiting import PATIENCE

pytestmark = pytest.mark.slow

STEPS = 60


@pytest.fixture
def job(emulator: Emulator) -> str:
    """Return a job that has logged ten steps, and goes on when the test says so."""
    job_id = emulator.create_job(
        ScriptedEngine(
            steps=STEPS, checkpoints=[5, 30], eval_loss=lambda step: 4 / step, manual=True
        ),
        {"maxSteps": STEPS},
        name="watched <b>run</b>",
    )
    emulator.step(job_id, 12)  # the start, ten logs, a checkpoint
    return job_id


@pytest.fixture
def hosts(page: Any) -> List[str]:
    """Collect the hosts that the page asks."""
    asked: List[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).hostname or "data"))
    return asked


@pytest.fixture
def shown(server: Any, job: str, page: Any, hosts: List[str]) -> Any:
    """Open the job's page; it has its curves. It is closed before the server."""
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(server.url)
    page.goto(server.url.split("?")[0] + f"jobs/{job}")
    expect(page.locator("#shown-range")).to_have_text("All: step 1 to 10")
    return page


def expect(found: Any) -> Any:
    """Wait for what a locator finds."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE * 1000)
    return expect(found)


def test_a_running_job_is_followed_to_its_end(
    shown: Any, emulator: Emulator, job: str, hosts: List[str]
) -> None:
    expect(shown.locator("#status")).to_have_text("running")
    expect(shown.locator("h1")).to_have_text("watched <b>run</b>")
    expect(shown.locator("#steps")).to_contain_text(f"Step 10 of {STEPS}")
    expect(shown).to_have_title(re_of("^16 % Running"))
    emulator.step(job, 10)
    expect(shown.locator("#shown-range")).to_have_text("All: step 1 to 20")
    expect(shown.locator("#steps")).to_contain_text(f"Step 20 of {STEPS}")
    expect(shown.locator("#loss")).to_have_attribute(
        "aria-label", re_of(r"train loss: lowest [\d.]+ at 20")
    )
    expect(shown.locator("#checkpoints a")).to_have_text(["Step 5"])
    emulator.step(job, 100)
    expect(shown.locator("#status")).to_have_text("completed")
    expect(shown.locator("#checkpoints a")).to_have_text(["Step 5", "Step 30"])
    expect(shown.locator("#cancel")).to_be_hidden()
    expect(shown).to_have_title(re_of("^Completed"))
    assert shown.locator("link[rel=icon]").get_attribute("href").startswith("data:image/svg+xml")
    expect(shown.locator("#statistics tbody tr").first.locator("td").last).to_have_text(str(STEPS))
    assert set(hosts) <= {"127.0.0.1", "data"}


def test_zoom_and_back_by_pointer_and_buttons(shown: Any) -> None:
    chart, where = shown.locator("#loss"), shown.locator("#shown-range")
    box = chart.bounding_box()
    middle = box["y"] + box["height"] / 2
    with shown.expect_response(lambda answer: "from=" in answer.url):
        shown.mouse.move(box["x"] + box["width"] * 0.4, middle)
        shown.mouse.down()
        shown.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=4)
        shown.mouse.up()
    expect(where).to_contain_text("Part: step")
    expect(chart).to_have_attribute("aria-label", re_of(r"train loss: lowest [\d.]+ at 7,"))
    first = where.text_content()
    shown.mouse.wheel(0, -200)  # it has the focus
    expect(where).not_to_have_text(first)
    shown.locator("#zoom-all").click()
    expect(where).to_have_text("All: step 1 to 10")
    shown.locator("#zoom-in").click()
    expect(where).to_contain_text("Part:")
    shown.locator("#zoom-out").click()
    expect(where).to_have_text("All: step 1 to 10")


def test_the_chart_by_keyboard(shown: Any) -> None:
    spoken, where = shown.locator("#spoken"), shown.locator("#shown-range")
    shown.locator("#loss").focus()
    shown.keyboard.press("Home")
    expect(spoken).to_contain_text("step 1, train loss")
    for _ in range(4):
        shown.keyboard.press("ArrowRight")
    expect(spoken).to_contain_text("step 5, checkpoint, train loss")
    expect(spoken).to_contain_text("eval loss 0.8")
    shown.keyboard.press("+")
    expect(where).to_contain_text("Part: step 3 to")
    shown.keyboard.press("Shift+ArrowRight")
    expect(where).not_to_contain_text("step 3 to")
    shown.keyboard.press("0")
    expect(where).to_have_text("All: step 1 to 10")
    shown.keyboard.press("Escape")
    expect(spoken).to_have_text("")


def test_the_axes_and_the_table(shown: Any) -> None:
    shown.locator("#log").check()
    shown.locator("#smoothing").fill("0.9")
    expect(shown.locator("#smoothing-value")).to_have_text("0.9")
    shown.locator("#values summary").click()
    expect(shown.locator("#values tbody tr")).to_have_count(10)
    expect(shown.locator("#values tbody tr").nth(3).locator("td")).to_have_text(["4", "2.547", "1"])
    shown.locator("#x").select_option("time")
    expect(shown.locator("#shown-range")).to_contain_text("All: time 0 s to")
    expect(shown.locator("#values th").first).to_have_text("time")


def test_the_events_are_filtered_paused_and_copied(
    shown: Any, emulator: Emulator, job: str
) -> None:
    rows, counted = shown.locator("#rows [role=listitem]"), shown.locator("#matching")
    expect(counted).to_have_text("12 events")
    expect(rows).to_have_count(12)
    shown.locator("#filter").fill("checkpoint")
    expect(counted).to_have_text("1 of 12 events")
    expect(rows).to_have_count(1)
    shown.locator("#filter").fill("")
    expect(rows).to_have_count(12)
    shown.locator("#pause").click()
    emulator.step(job, 3)
    expect(shown.locator("#shown-range")).to_have_text("All: step 1 to 13")
    expect(counted).to_have_text("15 events")
    expect(rows).to_have_count(12)
    shown.locator("#pause").click()
    expect(rows).to_have_count(15)
    shown.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown.locator("#copy").click()
    expect(shown.locator("#notices")).to_contain_text("15 events are in the clipboard")
    copied = shown.evaluate("navigator.clipboard.readText()")
    assert len(copied.splitlines()) == 15
    assert "training.started" in copied


def test_a_job_is_cancelled_after_a_question(shown: Any, emulator: Emulator, job: str) -> None:
    shown.locator("#cancel button").click()
    shown.locator("dialog button", has_text="Back").click()
    expect(shown.locator("dialog")).to_have_count(0)
    assert emulator.jobs[job].status == "running"
    shown.locator("#cancel button").click()
    shown.locator("dialog button", has_text="Cancel the job").click()
    expect(shown.locator("#status")).to_have_text("cancelled")
    assert emulator.jobs[job].status == "cancelled"


def test_without_scripts_there_is_a_picture(browser: Any, server: Any, job: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(server.url)
        page.goto(server.url.split("?")[0] + f"jobs/{job}")
        expect(page.locator(".job-picture")).to_be_visible()
        expect(page.locator("#charts")).to_be_hidden()
        expect(page.locator("#cancel button")).to_be_visible()
        page.locator("#cancel button").click()
        expect(page.locator("#status")).to_have_text("cancelled")
    finally:
        context.close()


def test_a_saved_run_opens_from_the_disk(shown: Any, tmp_path: Path) -> None:
    with shown.expect_download() as started:
        shown.get_by_text("This run as one file").click()
    path = tmp_path / "run.html"
    started.value.save_as(path)
    shown.goto(path.as_uri())
    expect(shown.locator("h1")).to_have_text("watched <b>run</b>")
    chart = shown.locator("#loss")
    expect(chart).to_have_attribute("aria-label", re_of("step 1 to 10"))
    shown.locator("#in").click()
    expect(chart).not_to_have_attribute("aria-label", re_of("step 1 to 10"))
    shown.locator("#all").click()
    expect(chart).to_have_attribute("aria-label", re_of("step 1 to 10"))


def re_of(pattern: str) -> Any:
    """Compile a pattern, as `expect` takes it."""
    import re

    return re.compile(pattern)
