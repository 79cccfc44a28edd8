from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator

import pytest

from arkor_sync.cloud import client_version, retries
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.project import ProjectState
from support.scripted_cloud import ScriptedCloud

TOKEN = "secret-token-0123456789"


@pytest.fixture(autouse=True)
def _no_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test its own home, working directory, environment and deprecation slot."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("ARKOR_TOKEN", "ARKOR_CLOUD_API_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retries, "_FIRST", 0.0)  # no test waits between two attempts
    monkeypatch.setattr(client_version, "_latest", None)
    monkeypatch.setattr(client_version, "_logged", {})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def new_cloud() -> Iterator[Callable[[], ScriptedCloud]]:
    clouds = []

    def make() -> ScriptedCloud:
        clouds.append(ScriptedCloud())
        return clouds[-1]

    yield make
    for cloud in clouds:
        cloud.stop()


@pytest.fixture
def cloud(new_cloud: Callable[[], ScriptedCloud]) -> ScriptedCloud:
    return new_cloud()


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def client(cloud: ScriptedCloud) -> CloudApiClient:
    return CloudApiClient(
        cloud.url,
        TokenCredentials(TOKEN),
        scope=ProjectState("my org", "my&project", "project-1"),
        timeout=(20.0, 20.0),
        retry="none",
    )
