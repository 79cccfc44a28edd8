"""The whole sign-in, as a user does it: a command in a terminal, a button in a real browser."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Tuple

import pytest

from arkor_sync.emulator import Emulator
from support.command_line import CommandLine
from support.extras import need_extra
from support.scripted_cloud import Reply, ScriptedCloud
from support.visitors import signing_in
from support.waiting import PATIENCE

SIZES = [(360, 640), (1280, 800)]


@pytest.fixture
def user(tmp_path: Path, emulator: Emulator) -> CommandLine:
    """A user who has nothing, before the local Arkor."""
    need_extra("cli")
    home, cwd = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    cwd.mkdir()
    return CommandLine(home, cwd, {"ARKOR_CLOUD_API_URL": emulator.url})


def test_who_presses_sign_in_is_signed_in(user: CommandLine, page: Any, emulator: Emulator) -> None:
    with signing_in(user) as (process, url):
        page.goto(url)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="You may close this").wait_for()
        assert page.url.startswith("http://127.0.0.1:")
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    file = user.home / ".arkor" / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["mode"] == "oauth"
    assert "somebody@example.com" in user("whoami").stdout
    user("projects", "use", f"{emulator.org_slug}/{emulator.project_slug}")
    assert (user.cwd / ".arkor" / "state.json").exists()


def test_who_refuses_is_told_so_in_both_places(user: CommandLine, page: Any) -> None:
    with signing_in(user) as (process, url):
        page.goto(url)
        page.get_by_role("button", name="Refuse").click()
        page.get_by_text("the sign-in was refused: access_denied").wait_for()
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4
    assert "access_denied: The user refused the sign-in." in said
    assert not (user.home / ".arkor").exists()


def test_a_page_of_another_site_cannot_end_the_sign_in(user: CommandLine, page: Any) -> None:
    """It sends a callback to the port, as an image and as a page in a frame."""
    site = ScriptedCloud()
    with signing_in(user) as (process, url):
        page.goto(url)
        port = url.partition("127.0.0.1%3A")[2].partition("%2F")[0]
        callback = f"http://127.0.0.1:{port}/callback?code=stolen&state=guessed"
        tags = f'<img src="{callback}"><iframe src="{callback}"></iframe>'
        site.replies = [Reply(200, tags, headers={"Content-Type": "text/html"})]
        other = page.context.browser.new_page()
        with other.expect_response(lambda answer: "/callback?" in answer.url) as answered:
            other.goto(site.url)
        assert answered.value.status == 400
        other.close()
        site.stop()
        assert process.poll() is None
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="You may close this").wait_for()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize("size", SIZES, ids=["narrow", "wide"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_and_can_be_read(
    user: CommandLine, browser: Any, size: Tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    """`ARKOR_SCREENSHOTS=folder` keeps what it looks at."""
    pictures = Path(os.environ.get("ARKOR_SCREENSHOTS") or tmp_path)
    width, height = size
    with signing_in(user) as (process, url):
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale="en"
        )
        page.goto(url)
        for name in ("sign-in", "close-this"):
            page.screenshot(path=pictures / f"{name}-{scheme}-{width}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            dark = page.evaluate("getComputedStyle(document.body).color") == "rgb(255, 255, 255)"
            assert dark == (scheme == "dark")
            if name == "sign-in":
                page.get_by_role("button", name="Sign in").click()
                page.get_by_role("heading", name="You may close this").wait_for()
        page.close()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
