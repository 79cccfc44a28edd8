"""The page of why in a real browser: a stream is cut, and one watches it recover."""

from __future__ import annotations

from typing import Any

import pytest

from arkor_sync.emulator import Emulator
from arkor_sync.emulator.engine.scripted import ScriptedEngine

pytestmark = pytest.mark.slow


def expect(what: Any) -> Any:
    from playwright.sync_api import expect

    return expect(what)


def test_a_stream_is_cut_and_recovers(server: Any, page: Any, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=50, checkpoints=[2], manual=True))
    emulator.step(job, 3)
    page.goto(server.url)
    page.goto(f"{server.url.partition('/?')[0]}/jobs/{job}/why")
    story = page.locator("#story")
    expect(story).to_contain_text("2 logs, steps 1 to 2")

    cut = page.get_by_role("button", name="Cut this stream now")
    cut.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#waiting")).to_be_visible()
    expect(cut).to_be_focused()
    emulator.step(job, 2)
    expect(story).to_contain_text("The stream was cut: ")
    expect(story).to_contain_text("nothing was lost")
    expect(story).to_contain_text("The checkpoint at step 2 was saved")
    expect(page.locator("#done")).to_have_text("It was cut 1 time by this switch.")
    expect(page.locator("#waiting")).to_have_count(0)

    emulator.step(job, 100)
    expect(story).to_contain_text("The training completed")


def test_filters(server: Any, page: Any, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=4, checkpoints=[2]))
    page.goto(server.url)
    page.goto(f"{server.url.partition('/?')[0]}/jobs/{job}/why")
    expect(page.locator(".story-event")).to_have_count(3)
    page.get_by_label("Its events").uncheck()
    page.get_by_role("button", name="Show these").click()
    expect(page.locator(".story-event")).to_have_count(0)
    expect(page.locator(".story-logs")).not_to_have_count(0)
    page.go_back()
    expect(page.locator(".story-event")).to_have_count(3)
