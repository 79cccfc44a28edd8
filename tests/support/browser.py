"""A real browser: Debian's Chromium, without a window, driven by Playwright. Fixtures for rooms."""

from __future__ import annotations

import os
import shutil
from typing import Any, Iterator

import pytest

from support.extras import need


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium. Without Playwright or Chromium the test is skipped; in CI it fails.

    Playwright has an event loop in this thread until it ends, and Django refuses to work there. So
    it ends with the module.
    """
    need("playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("ARKOR_EXTRAS") != "all":
            pytest.skip("this test needs Chromium (`apt install chromium`)")
        pytest.fail("there is no Chromium (`apt install chromium`)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--no-proxy-server"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Open a page whose console shows no errors."""
    page = browser.new_page()
    problems = []
    page.on("console", lambda each: problems.append(each.text) if each.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    problems = [each for each in problems if "status of 4" not in each]
    assert problems == [], problems
