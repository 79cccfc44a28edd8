"""`report`: a page, a picture or a table of a job, as a user asks for it."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from typing import Any, Callable, List

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.command_line import CommandLine

HOSTILE = "bot \x1b[31m[red]\n<script>alert(1)</script>/../x"
TOKEN = "hf_abcdefghijklmnop"


def ended_job(emulator: Emulator, name: str = "bot", **settings: Any) -> str:
    """Create a job that ends at once, and wait for its end."""
    source = {"type": "blob", "url": "https://a.test/x", "token": TOKEN}
    job = emulator.create_job(ScriptedEngine(**settings), {"datasetSource": source}, name=name)
    emulator.wait_for(lambda: emulator.jobs[job].completed_at)
    return job


def test_a_page_is_written_here_under_the_name_of_the_job(
    cli: CommandLine, emulator: Emulator
) -> None:
    job = ended_job(emulator, HOSTILE, steps=20, checkpoints=[10], fails_at=15, error="<b>\x1b[2J")
    ended = cli("report", job)
    (written,) = cli.cwd.iterdir()
    assert ended.stdout == f"{written.name}\n"
    assert ended.stderr == ""
    assert written.name == "bot_31m_red_script_alert_1_script_.._x.html"
    page = written.read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "<script" not in page
    assert "&lt;b&gt;" in page
    assert "\x1b" not in page
    assert "Step 10" in page
    assert TOKEN not in page
    assert not written.stat().st_mode & 0o022

    again = cli("report", job, code=2)
    assert "is there already; give --output" in again.stderr
    assert again.stdout == ""
    assert written.read_text("utf-8") == page


def test_a_file_that_is_named_is_replaced(cli: CommandLine, emulator: Emulator) -> None:
    job = ended_job(emulator, HOSTILE, steps=20)
    target = cli.cwd / "pictures" / "loss.svg"
    target.parent.mkdir()
    target.write_text("old")
    ended = cli("report", job, "--output", "pictures/loss.svg", "--json")
    assert ended.json == {"id": job, "format": "svg", "path": "pictures/loss.svg"}
    picture = target.read_text("utf-8")
    assert ET.fromstring(picture).tag.endswith("svg")
    assert "<script" not in picture


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        (["--output", "a.TXT", "--format", "csv"], "csv"),
        (["--output", "a.SVG"], "svg"),
        (["--output", "a.html", "--format", "html"], "html"),
        (["--output", "a"], "html"),
    ],
)
def test_the_format_of_a_file(
    cli: CommandLine, emulator: Emulator, arguments: List[str], form: str
) -> None:
    ended_job(emulator)
    assert cli("report", "bot", *arguments, "--json").json["format"] == form


@pytest.mark.slow
def test_a_table_on_standard_output_is_complete(cli: CommandLine, emulator: Emulator) -> None:
    """`run.history` keeps 10,000 logs; a report has all."""
    ended_job(emulator, steps=10_050)
    emulator.faults.add(Fault("cut_mid_event", route="stream", event="5000"))
    ended = cli("report", "bot", "--format", "csv", "--output", "-")
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert [int(row["step"]) for row in rows] == list(range(1, 10_051))
    assert list(cli.cwd.iterdir()) == []


def test_what_a_log_says_cannot_act_on_a_terminal(
    cli: CommandLine, emulator: Emulator, terminal: Callable[..., Any]
) -> None:
    log = {"type": "training.log", "step": 1, "loss": 1.0, "timestamp": "=now\x1b]0;title\x07"}
    job = emulator.create_job(ScriptedEngine(manual=True), name="bot")
    emulator.publish(job, log)
    emulator.finish(job, "completed")
    shown = terminal("report", job, "--format", "csv", "--output", "-")
    assert shown.wait() == 0
    assert "'=now,1,1.0" in shown.text
    assert b"\x1b]0;" not in shown.printed


def test_a_job_that_goes_on_is_shown_as_it_is(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(manual=True), name="bot")
    emulator.step(job, 4)
    ended = cli("report", "bot", "--format", "csv", "--output", "-")
    assert [line.split(",")[1] for line in ended.stdout.splitlines()] == ["step", "1", "2", "3"]
    assert ended.stderr == "job 'bot' has not ended: this is what has come until now\n"
    assert emulator.jobs[job].status == "running"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "no job of this project has the id or the name"),
        (["bot", "--format", "pdf"], "'html', 'svg', 'csv'"),
        (["bot", "--output", "-", "--json"], "--output FILE"),
        (["bot", "--output", "out.pdf"], "out.pdf ends with .pdf; a report is .html, .svg or .csv"),
        (["bot", "--output", "a.csv", "--format", "svg"], "ends with .csv, but --format is svg"),
        (["bot", "--output", "no/a.html"], "--output: no is no directory; make it first"),
    ],
)
def test_what_cannot_work_is_a_usage_error(
    cli: CommandLine, emulator: Emulator, arguments: List[str], told: str
) -> None:
    ended_job(emulator)
    ended = cli("report", *arguments, code=2)
    assert ended.stdout == ""
    assert told in " ".join(ended.stderr.split())
    assert list(cli.cwd.iterdir()) == []


def test_a_target_that_cannot_be_written_is_named(cli: CommandLine, emulator: Emulator) -> None:
    ended_job(emulator)
    (cli.cwd / "folder").mkdir()
    ended = cli("report", "bot", "--output", "folder", code=1)
    assert str(cli.cwd / "folder") in ended.stderr
    assert [path.name for path in cli.cwd.iterdir()] == ["folder"]
