"""The list of jobs and the comparison, in a real browser."""

from __future__ import annotations

import re
from typing import Any, Callable, List

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.extras import need
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

MANUAL = ScriptedEngine(manual=True)
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture
def jobs(server: Any, page: Any) -> Callable[..., Any]:
    """Return a function that opens the list of jobs."""

    def open_page() -> Any:
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(server.url)
        page.get_by_role("link", name="Jobs", exact=True).click()
        return page

    return open_page


def expect(thing: Any) -> Any:
    need("playwright")
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE * 1000)
    return expect(thing)


def names(page: Any) -> List[str]:
    found: List[str] = page.locator(".jobs-name > a").all_text_contents()
    return found


def shows(page: Any, *expected: str) -> None:
    expect(page.locator(".jobs-name > a")).to_have_text(list(expected))


def make(emulator: Emulator, count: int) -> List[str]:
    return [emulator.create_job(MANUAL, name=f"job {number:02}") for number in range(count)]


def test_the_list_is_searched_filtered_sorted_and_turned(jobs: Any, emulator: Emulator) -> None:
    ids = make(emulator, 60)
    for each in ids[:3]:
        emulator.finish(each, "completed")
    page = jobs()
    shown = page.locator("#shown")
    expect(shown).to_have_text("1 to 50 of 60 jobs")

    page.get_by_role("link", name="Name").click()
    expect(page.locator("tbody tr").first).to_contain_text("job 00")
    page.get_by_role("link", name="Next").click()
    expect(shown).to_have_text("51 to 60 of 60 jobs")
    assert names(page) == [f"job {number}" for number in range(50, 60)]

    page.get_by_label("Name or id").press_sequentially("job 0")
    expect(shown).to_have_text("1 to 10 of 10 jobs")
    assert "search=job+0" in page.url
    page.get_by_role("checkbox", name="completed").check()
    shows(page, "job 00", "job 01", "job 02")
    page.reload()  # the URL says it all
    shows(page, "job 00", "job 01", "job 02")
    expect(page.get_by_role("checkbox", name="completed")).to_be_checked()

    page.go_back()
    expect(shown).to_have_text("1 to 10 of 10 jobs")
    expect(page.get_by_role("checkbox", name="completed")).not_to_be_checked()
    page.get_by_label("Order").select_option("name, Z to A")
    expect(page.locator("tbody tr").first).to_contain_text("job 09")
    page.get_by_label("Name or id").fill("there is none")
    expect(page.get_by_text("None of the 60 jobs matches.")).to_be_visible()
    page.get_by_role("link", name="Show all jobs").click()
    expect(shown).to_have_text("1 to 50 of 60 jobs")
    expect(page.get_by_label("Name or id")).to_have_value("")


def test_what_changes_is_shown(jobs: Any, emulator: Emulator) -> None:
    (job,) = make(emulator, 1)
    emulator.step(job)
    page = jobs()
    row = page.locator(f'[data-job="{job}"]')
    expect(row.locator(".status")).to_have_text("running")
    before = row.locator(".jobs-duration").inner_text()
    expect(row.locator(".jobs-duration")).not_to_have_text(before)  # it ticks
    emulator.finish(job, "failed", error=f"out of memory {HOSTILE}")
    expect(row.locator(".status")).to_have_text("failed")
    expect(row).to_contain_text(f"out of memory {HOSTILE}")
    expect(row.get_by_role("link", name="Cancel")).to_have_count(0)
    expect(page.locator('[data-count="failed"]')).to_have_text("1")
    emulator.create_job(MANUAL, name=HOSTILE)
    shows(page, HOSTILE, "job 00")
    assert page.title() == "Jobs · Arkor"


def test_a_job_is_cancelled_after_a_question(jobs: Any, emulator: Emulator) -> None:
    job = emulator.create_job(MANUAL, name=HOSTILE)
    page = jobs()
    row = page.locator(f'[data-job="{job}"]')
    row.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"Cancel {HOSTILE}?")
    page.get_by_role("button", name="Back").click()
    assert emulator.jobs[job].status != "cancelled"
    row.get_by_role("link", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(row.locator(".status")).to_have_text("cancelled")
    assert emulator.jobs[job].status == "cancelled"


def test_jobs_of_several_pages_are_compared(jobs: Any, emulator: Emulator) -> None:
    ids = make(emulator, 51)
    for each in (ids[0], ids[50]):
        emulator.step(each, 3)
    page = jobs()
    compare = page.locator("#compare-chosen")
    expect(compare).to_be_disabled()
    page.get_by_label("Compare job 50").check()
    page.get_by_role("link", name="Next").click()
    page.get_by_label("Compare job 00").check()
    expect(compare).to_have_text("Compare the 2 chosen")
    page.get_by_role("link", name="Previous").click()
    expect(page.get_by_label("Compare job 50")).to_be_checked()
    compare.click()
    page.wait_for_url(re.compile("/compare"))
    assert set(re.findall(r"job=([^&]+)", page.url)) == {ids[0], ids[50]}
    chart = page.get_by_role("application")
    expect(chart).to_have_attribute("aria-label", re.compile("job 50: lowest .*; job 00: lowest"))

    row = page.locator(f'[data-job="{ids[0]}"]')
    expect(row.locator('[data-value="steps"]')).to_have_text("2")
    emulator.step(ids[0], 4)
    expect(row.locator('[data-value="steps"]')).to_have_text("6")
    expect(chart).to_have_attribute("aria-label", re.compile("step 1 to 6"))
    emulator.finish(ids[0], "completed")
    expect(row.locator(".status")).to_have_text("completed")

    page.get_by_label("Show the curve of job 50").uncheck()
    expect(chart).not_to_have_attribute("aria-label", re.compile("job 50"))
    page.get_by_label("Metric").select_option("eval loss")
    expect(chart).to_have_attribute("aria-label", re.compile("no values yet"))
    page.get_by_label("Metric").select_option("loss")
    page.get_by_label("Over").select_option("time")
    expect(chart).to_have_attribute("aria-label", re.compile("time"))
    page.go_back()
    expect(page.get_by_label("Compare job 50")).to_be_checked()
    page.get_by_role("button", name="Choose none").click()
    expect(page.get_by_label("Compare job 50")).not_to_be_checked()


def test_the_keyboard_is_enough(jobs: Any, emulator: Emulator) -> None:
    ids = make(emulator, 2)
    page = jobs()
    page.get_by_label("Name or id").focus()
    page.keyboard.type("job 01")
    shows(page, "job 01")
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("name", "search")

    def go_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if name in (focused.get_attribute("aria-label") or focused.inner_text()):
                return
        raise AssertionError(f"Tab does not lead to {name}")

    go_to("Created")
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
    expect(focused).to_have_text(re.compile("Created"))  # it is where it was
    go_to("Compare job 01")
    page.keyboard.press("Space")
    go_to("Cancel job 01")
    page.keyboard.press("Enter")
    go_to("Cancel the job")
    page.keyboard.press("Enter")
    expect(page.locator(".status")).to_have_text("cancelled")
    assert emulator.jobs[ids[1]].status == "cancelled"
    assert emulator.jobs[ids[0]].status != "cancelled"


def test_all_of_it_works_without_scripts(server: Any, browser: Any, emulator: Emulator) -> None:
    make(emulator, 3)
    page = browser.new_page(java_script_enabled=False)
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(server.url)
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_label("Order").select_option("name, A to Z")
    page.get_by_role("button", name="Show").click()
    shows(page, "job 00", "job 01", "job 02")
    for name in ("job 00", "job 02"):
        page.get_by_label(f"Compare {name}").check()
    page.get_by_role("button", name="Compare the chosen jobs").click()
    expect(page.locator("h1")).to_have_text("2 jobs compared")
    page.go_back()
    page.get_by_role("link", name="Cancel job 01").click()
    page.get_by_role("button", name="Cancel the job").click()
    until(lambda: "cancelled" in [each.status for each in emulator.jobs.values()])
    page.close()
