"""Child processes on demand, and the clouds that they follow."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest
from children import Nursery


@pytest.fixture(scope="session")
def _nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def nursery(_nursery: Nursery, tmp_path: Path) -> Iterator[Nursery]:
    """Starts children; none of them outlives the test."""
    _nursery.directory = tmp_path
    yield _nursery
    _nursery.kill_all()
