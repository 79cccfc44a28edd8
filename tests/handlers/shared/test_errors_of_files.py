"""Whatever writes a file for its user says which one it could not write, and why."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Type

import pytest

from arkor_sync import FileCursorStore
from arkor_sync.cloud.credentials import AnonymousCredentials, write_credentials
from arkor_sync.errors import CredentialsError, CursorStoreError
from arkor_sync.handlers import (
    CheckpointEvaluator,
    CSVLogger,
    HtmlReport,
    JSONLLogger,
    LossPlot,
    write_report,
)
from arkor_sync.history import History
from arkor_sync.stores import SavedCursor
from support import logger_contexts as contexts

JOB = contexts.a_job()


def run() -> Any:
    return SimpleNamespace(
        done=lambda: False, outcome=None, history=History(), job=JOB, health=lambda: None
    )


def log_with(kind: Type[Any]) -> Callable[[Path], None]:
    def log(path: Path) -> None:
        logger = kind(path)
        logger.on_started(contexts.started())
        logger.on_log(contexts.log(1, loss=0.5))

    return log


def end_with(kind: Type[Any]) -> Callable[[Path], None]:
    def end(path: Path) -> None:
        ctx: Any = SimpleNamespace(job=JOB, run=run(), result=None, error=None, step=1)
        kind(path).on_end(ctx)

    return end


def save(path: Path) -> None:
    FileCursorStore(path.parent).save(path.stem, SavedCursor())


RAISES: Dict[str, Callable[[Path], Any]] = {
    "history.csv": lambda path: History().to_csv(path),
    "rows.csv": lambda path: CheckpointEvaluator(["x"]).to_csv(path),
    "report.html": lambda path: write_report(run(), path),
    "job-1.json": save,
    "credentials.json": lambda path: write_credentials(
        AnonymousCredentials("t", "i", None, "o"), path
    ),
}
LOGS: Dict[str, Callable[[Path], Any]] = {
    "report.html": end_with(HtmlReport),
    "loss.svg": end_with(LossPlot),
    "metrics.csv": log_with(CSVLogger),
    "metrics.jsonl": log_with(JSONLLogger),
}


def full_disk(path: Path) -> str:
    path.symlink_to("/dev/full")
    return "No space left on device"


def directory(path: Path) -> str:
    path.mkdir()
    return "Is a directory"


def file_above(path: Path) -> str:
    path.parent.rmdir()
    path.parent.write_text("")
    return f"the directory {path.parent} cannot be made: File exists"


def link_to_itself(path: Path) -> str:
    path.symlink_to(path)
    return "Too many levels of symbolic links"


PLANTS = [full_disk, directory, link_to_itself]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the program knows by a relative path."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    return Path("folder")


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", RAISES)
def test_an_error_that_is_raised_names_the_file(
    folder: Path, tmp_path: Path, name: str, plant: Callable[[Path], str]
) -> None:
    reason = plant(folder.resolve() / name)
    with pytest.raises((OSError, CursorStoreError, CredentialsError)) as caught:
        RAISES[name](folder / name)
    assert f"cannot be written: {reason}" in str(caught.value)
    assert str(tmp_path / "folder" / name) in str(caught.value)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", LOGS)
def test_an_error_that_is_logged_names_the_file(
    folder: Path,
    tmp_path: Path,
    name: str,
    plant: Callable[[Path], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reason = plant(folder.resolve() / name)
    LOGS[name](folder / name)
    assert f"] cannot be written: {reason}: '{tmp_path / 'folder' / name}'" in caplog.text


@pytest.mark.parametrize("name", ["metrics.csv", "metrics.jsonl"])
def test_a_logger_whose_folder_is_a_file_names_both(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason = file_above(folder.resolve() / name)
    LOGS[name](folder / name)
    assert f"cannot be written: {reason}: '{os.path.abspath(folder / name)}'" in caplog.text
