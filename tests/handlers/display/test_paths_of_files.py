"""Where `HtmlReport` and `LossPlot` write, whatever a job is called."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import pytest

from arkor_sync.cloud.models import TrainingJob
from arkor_sync.handlers import HtmlReport, LossPlot
from arkor_sync.history import History

ODD = [
    "../../victim",
    "..",
    "",
    "/victim",
    "a/b",
    "a_b",
    "a\\b",
    "nul\0",
    "lone \ud800",
    "\udcff",
    "x" * 400,
    "é" * 200,
    "{name}",
    "{job_id}",
]
TEMPLATES = [
    "{job_id}.html",
    "{job_id}.svg",
    "{name}.svg",
    "{name}-{job_id}.svg",
    "shared.svg",
    "{job_id}/loss.svg",
    "{name}/{job_id}.svg",
]


def end_of(job_id: str, name: str) -> Any:
    job = TrainingJob(job_id, "o", "p", name, "completed", {}, "")
    run = SimpleNamespace(history=History())
    return SimpleNamespace(job=job, run=run, result=None, error=None, step=1)


def end_all(template: Path, contexts: List[Any]) -> None:
    path = str(template)
    callback = HtmlReport(path) if path.endswith(".html") else LossPlot(path, every=0)
    for ctx in contexts:
        callback.on_checkpoint(ctx)
    for ctx in contexts:
        callback.on_end(ctx)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_no_id_and_no_name_leads_out_of_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, template: str, odd: str
) -> None:
    folder = tmp_path / "above" / "runs"
    folder.mkdir(parents=True)
    for each in (tmp_path, folder.parent):
        for suffix in (".html", ".svg", ""):
            (each / f"victim{suffix}").write_text("precious")
    end_all(folder / template, [end_of("job-1", odd), end_of(odd, "a name")])
    assert caplog.text == ""
    made = [each for each in tmp_path.rglob("*") if each.is_file()]
    outside = [each for each in made if folder not in each.parents]
    assert {each.read_text() for each in outside} == {"precious"}
    assert len(made) == len(outside) + 2


@pytest.mark.parametrize("template", ["{job_id}.html", "{job_id}.svg", "shared.svg"])
def test_every_job_has_a_file_of_its_own(tmp_path: Path, template: str) -> None:
    end_all(tmp_path / "runs" / template, [end_of(odd, "a name") for odd in ODD])
    assert len(list((tmp_path / "runs").iterdir())) == len(ODD)


@pytest.mark.parametrize("name", ["report.html", "loss.svg"])
def test_a_file_keeps_its_mode_and_a_folder_cannot_be_written_by_others(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "made" / name
    old = os.umask(0)
    try:
        end_all(path, [end_of("job-1", "a name")])
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path)]
        assert modes == [0o755, 0o644]
        path.chmod(0o600)
        end_all(path, [end_of("job-1", "a name")])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


@pytest.mark.parametrize("name", ["report.html", "loss.svg"])
def test_a_fifo_that_nobody_reads_does_not_hold_the_end_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    end_all(tmp_path / name, [end_of("job-1", "a name")])
    assert "No such device or address" in caplog.text
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)
