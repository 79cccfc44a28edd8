from __future__ import annotations

import itertools
import threading
from typing import Any, Callable, Iterator, List

import pytest

from arkor_sync import CloudApiClient, ProjectState, TokenCredentials
from arkor_sync._common.clock import Clock
from support.event_source_server import Answer, Cloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.stop()


@pytest.fixture
def client(cloud: Cloud) -> CloudApiClient:
    scope = ProjectState("org", "project", "project-1")
    return CloudApiClient(cloud.url, TokenCredentials("a-token"), scope=scope)


_numbers = itertools.count(1)


@pytest.fixture
def job_of(cloud: Cloud) -> Callable[..., str]:
    """Make a job whose stream gives these answers, one after the other."""

    def make(*answers: Answer) -> str:
        job_id = f"job-{next(_numbers)}"
        cloud.answer(job_id, *answers)
        return job_id

    return make


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> List[float]:
    """Let all waiting between connections take no time, and write down how long it was to be."""
    seen: List[float] = []

    def wait(self: Any, event: threading.Event, seconds: float) -> bool:
        seen.append(seconds)
        return event.is_set()

    monkeypatch.setattr(Clock, "wait", wait)
    monkeypatch.setattr(Clock, "random", lambda self: 0.5)
    return seen
