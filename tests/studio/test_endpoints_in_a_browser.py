"""The pages of endpoints in a real browser.

The server comes before the page, which so is closed first: nothing is being loaded then.
"""

from __future__ import annotations

import logging
import re
from typing import Any, List

import pytest

from arkor_sync.emulator import Emulator
from arkor_sync.emulator.engine.scripted import ScriptedEngine

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>"
BASE = {"kind": "base_model", "baseModel": "unsloth/gemma-4-E4B-it"}
KEY = re.compile("ark_live_[0-9a-f]{32}")


def expect(what: Any) -> Any:
    from playwright.sync_api import expect

    return expect(what)


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until an element has the focus, as who has no mouse does."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab never comes to {selector}")


def open_page(page: Any, server: Any, path: str) -> None:
    page.goto(server.url)
    page.goto(server.url.partition("/?")[0] + path)


def open_endpoint(page: Any, server: Any, emulator: Emulator, **fields: Any) -> str:
    """Open the page of a new endpoint; return its path."""
    path = f"/endpoints/{emulator.add_deployment('shop', BASE, **fields)}"
    open_page(page, server, path)
    return path


def test_create_with_the_keyboard_after_an_error(
    server: Any, page: Any, emulator: Emulator
) -> None:
    emulator.add_deployment("shop", BASE)
    job = emulator.create_job(ScriptedEngine(steps=4, checkpoints=[2, 4]), name=HOSTILE)
    emulator.wait_for(lambda: emulator.jobs[job].status == "completed")
    open_page(page, server, "/endpoints")

    tab_to(page, "#slug")
    page.keyboard.type("shop")
    tab_to(page, "#target")
    page.keyboard.press("ArrowDown")  # the one job
    expect(page.locator("#step option")).to_have_count(3)
    tab_to(page, "#step")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    tab_to(page, "#retention")
    tab_to(page, "button.main")
    page.keyboard.press("Enter")

    expect(page.locator("#slug-problem")).to_contain_text("is already taken")
    expect(page.locator("#slug")).to_be_focused()
    expect(page.locator("#step")).to_have_value("2")
    page.keyboard.press("End")
    page.keyboard.type("-2")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status").filter(has_text="shop-2 is served now")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="shop-2")
    expect(row).to_contain_text(f"{HOSTILE}, checkpoint at step 2")


def test_a_new_endpoint_is_awaited(server: Any, page: Any, emulator: Emulator) -> None:
    open_page(page, server, "/endpoints?created=late-one")
    expect(page.locator("[data-awaited]")).to_be_visible()
    emulator.add_deployment("late-one", BASE)
    expect(page.get_by_role("row").filter(has_text="late-one")).to_be_visible()
    expect(page.locator("[data-awaited]")).to_have_count(0)


def test_a_key_is_guarded_until_it_was_copied(
    server: Any, page: Any, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    urls: List[str] = []
    questions: List[str] = []

    def stay(dialog: Any) -> None:
        questions.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.on("request", lambda request: urls.append(request.url))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    path = open_endpoint(page, server, emulator, authMode="fixed_api_key")

    tab_to(page, "#label")
    page.keyboard.type(HOSTILE)
    page.keyboard.press("Enter")
    expect(page.locator("#key")).to_be_visible()
    expect(page.locator("#copy-key")).to_be_focused()
    key = page.locator("#key").inner_text()
    assert KEY.fullmatch(key)
    assert page.url.endswith(path)

    page.get_by_role("link", name="Jobs").click(no_wait_after=True)
    expect(page.locator("#key")).to_have_text(key)
    assert questions == ["beforeunload"]  # who leaves was asked, and stayed

    page.locator("#copy-key").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#copy-key")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == key
    page.get_by_role("link", name="Jobs").click()
    page.wait_for_url("**/jobs")
    assert len(questions) == 1

    page.go_back()
    expect(page.get_by_role("cell", name=HOSTILE)).to_be_visible()
    assert key not in page.content()
    assert not any(key in url for url in urls)
    assert key not in caplog.text
    assert not any(key in str(each) for each in page.context.cookies())


def test_the_next_key_can_be_issued_once_the_first_was_stored(
    server: Any, page: Any, emulator: Emulator
) -> None:
    open_endpoint(page, server, emulator, authMode="fixed_api_key")
    for label in ("first", "second"):
        page.locator("#label").fill(label)
        page.keyboard.press("Enter")
        expect(page.locator("#issue")).to_have_count(0)  # there is a key to store first
        tab_to(page, "#key-stored")
        page.keyboard.press("Enter")
        expect(page.locator("#key")).to_have_count(0)
        expect(page.get_by_role("cell", name=label, exact=True)).to_be_visible()


def test_revoke_with_the_keyboard(server: Any, page: Any, emulator: Emulator) -> None:
    path = f"/endpoints/{emulator.add_deployment('shop', BASE)}"
    keys = emulator.client().deployments.keys
    keys.create(path.rpartition("/")[2], "ci")
    open_page(page, server, path)
    button = page.get_by_role("button", name="Revoke ci")
    expect(button).to_be_hidden()
    tab_to(page, ".question summary")
    page.keyboard.press("Enter")
    expect(button).to_be_visible()
    tab_to(page, ".question button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("cell", name="revoked", exact=True)).to_be_visible()
    assert [each.enabled for each in keys.list(path.rpartition("/")[2])] == [False]


def test_serve_another_model(server: Any, page: Any, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=4, checkpoints=[2, 4], fails_at=3))
    emulator.wait_for(lambda: emulator.jobs[job].status == "failed")
    open_endpoint(page, server, emulator)
    expect(page.locator("#step")).to_be_hidden()
    page.locator("#target").select_option(f"job:{job}")
    expect(page.locator("#step")).to_have_value("2")  # a failed job has no final model
    page.get_by_role("button", name="Serve this").click()
    expect(page.get_by_text("Now: job, checkpoint at step 2")).to_be_visible()


def test_delete_by_typing_the_slug(server: Any, page: Any, emulator: Emulator) -> None:
    open_endpoint(page, server, emulator)
    tab_to(page, "#typed")
    page.keyboard.type("shopp")
    page.keyboard.press("Enter")
    expect(page.locator("#typed-problem")).to_contain_text("nothing was deleted")
    expect(page.locator("#typed")).to_be_focused()
    page.keyboard.type("shop")
    page.keyboard.press("Enter")
    expect(page.get_by_text("There is no endpoint yet")).to_be_visible()
    assert emulator.client().deployments.list() == []
