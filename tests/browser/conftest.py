"""A local Arkor that asks for a sign-in, and a browser."""

from __future__ import annotations

from typing import Iterator

import pytest

from arkor_sync.emulator import Emulator
from support.browser import browser, page

__all__ = ["browser", "page"]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Start a local Arkor that asks on a page."""
    with Emulator(account_sign_in=True) as emulator:
        yield emulator
        assert emulator.errors == []
