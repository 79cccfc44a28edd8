"""CSV and JSON lines: what is in the file, and what is not in it twice."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from arkor_sync import ArkorUsageError, create_trainer
from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import CSVLogger, JSONLLogger
from arkor_sync.handlers.loggers.files import COLUMNS
from support.logger_contexts import a_job, end, log, started
from support.waiting import PATIENCE

LOGGERS = pytest.mark.parametrize("logger_of", [CSVLogger, JSONLLogger])
EVENTS = [
    {"type": "training.started"},
    {"type": "training.log", "step": 1, "loss": 3.0, "learningRate": 0.001, "gradNorm": 0.5},
    {"type": "training.log", "step": 1, "evalLoss": 3.1},
    {"type": "training.log", "step": 2, "gradNorm": 0.25},
    {"type": "training.completed", "artifacts": []},
]
Make = Callable[..., Any]


def train(client: Any, callbacks: Any) -> Any:
    return create_trainer(
        name="a run",
        model="unsloth/gemma-4-E4B-it",
        dataset={"type": "huggingface", "name": "arkorlab/triage-demo"},
        callbacks=callbacks,
        client=client,
    ).wait(PATIENCE)


def rows_of(path: Path) -> List[Dict[str, Any]]:
    with open(path, newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file]


def steps_of(path: Path) -> List[int]:
    return [int(row["step"]) for row in rows_of(path)]


def path_for(logger_of: Make, folder: Path) -> Path:
    return folder / ("metrics.csv" if logger_of is CSVLogger else "metrics.jsonl")


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_csv_file_has_fixed_columns_and_a_row_for_each_log(
    arkor_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "made on demand" / "metrics.csv"
    job = train(arkor_client, CSVLogger(path)).job
    header, train_row, eval_row = path.read_text().splitlines()
    assert header.split(",") == list(COLUMNS)
    assert header == ("job_id,timestamp,step,loss,eval_loss,learning_rate,epoch,samples_per_second")
    first, timestamp, *rest = train_row.split(",")
    assert first == job.id
    assert timestamp.startswith("20")
    assert rest == ["1", "3.0", "", "0.001", "", ""]
    assert eval_row.split(",")[2:] == ["1", "", "3.1", "", "", ""]


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_json_lines_have_every_number(arkor_client: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    job = train(arkor_client, JSONLLogger(path)).job
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row.pop("job_id") for row in rows} == {job.id}
    assert all(row.pop("timestamp").startswith("20") for row in rows)
    assert rows == [
        {"step": 1, "loss": 3.0, "learning_rate": 0.001, "gradNorm": 0.5},
        {"step": 1, "eval_loss": 3.1},
        {"step": 2, "gradNorm": 0.25},
    ]


@LOGGERS
def test_a_row_is_in_the_file_when_the_callback_returns(logger_of: Make, tmp_path: Path) -> None:
    path = path_for(logger_of, tmp_path)
    logger = logger_of(path)
    for step in (1, 2, 3):
        logger.on_log(log(step, loss=1.0))
        assert steps_of(path) == list(range(1, step + 1))


@LOGGERS
def test_without_append_an_older_file_is_replaced_once(logger_of: Make, tmp_path: Path) -> None:
    path = path_for(logger_of, tmp_path)
    path.write_text("older\n")
    logger = logger_of(path)
    for job in (a_job("job-1"), a_job("job-2")):
        logger.on_started(started(job))
        logger.on_log(log(1, job, loss=1.0))
        logger.on_end(end("completed", job))
    assert [row["job_id"] for row in rows_of(path)] == ["job-1", "job-2"]


@LOGGERS
def test_append_adds_what_the_file_does_not_have(logger_of: Make, tmp_path: Path) -> None:
    path = path_for(logger_of, tmp_path)
    for steps in (range(1, 4), range(2, 6)):
        logger = logger_of(path, append=True)
        for step in steps:
            logger.on_log(log(step, loss=1.0))
            logger.on_log(log(step, evalLoss=1.0))  # another thing of the same step
        logger.on_end(end())
    assert steps_of(path) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    logger = logger_of(path, append=True)
    logger.on_log(log(1, a_job("another"), loss=1.0))
    assert rows_of(path)[-1]["job_id"] == "another"


@LOGGERS
def test_a_last_line_that_a_kill_cut_off_is_written_anew(logger_of: Make, tmp_path: Path) -> None:
    path = path_for(logger_of, tmp_path)
    logger = logger_of(path)
    for step in (1, 2):
        logger.on_log(log(step, loss=1.25))
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    again = logger_of(path, append=True)
    again.on_log(log(2, loss=1.25))
    assert path.read_bytes() == whole


def test_a_file_with_other_columns_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "precious.csv"
    path.write_text("name,salary\nAda,1")
    logger = CSVLogger(path, append=True)
    logger.on_log(log(1, loss=1.0))
    assert path.read_text() == "name,salary\nAda,1"
    assert "other columns" in caplog.text


def test_another_separator(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for append in (False, True):
        logger = CSVLogger(path, ";", append)
        logger.on_log(log(1, loss=1.0))
        logger.on_end(end())
    assert path.read_text().splitlines() == [
        ";".join(COLUMNS),
        "job-1;2026-01-01T00:00:01.500Z;1;1.0;;;;",
    ]
    for separator in ("", ";;", "\n", '"', None):
        with pytest.raises(ArkorUsageError, match="separator"):
            CSVLogger(path, separator)  # type: ignore[arg-type]


@LOGGERS
def test_a_process_that_carries_on_does_not_replace_the_file(
    logger_of: Make, tmp_path: Path
) -> None:
    path = path_for(logger_of, tmp_path)
    first = logger_of(path)
    first.on_log(log(1, loss=1.0))
    state = json.loads(json.dumps(first.state_dict()))
    first.on_log(log(2, loss=1.0))  # written, and then the process was killed
    second = logger_of(path)
    second.load_state_dict(state)
    second.on_log(log(2, loss=1.0))
    second.on_log(log(3, loss=1.0))
    assert steps_of(path) == [1, 2, 3]


CLIENT = """
import os, resource, signal, sys
from arkor_sync import CloudApiClient, FileCursorStore, follow
from arkor_sync.handlers import CSVLogger, JSONLLogger
client = CloudApiClient()
"""


def in_a_process(
    code: str, emulator: Any, job_id: str, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CLIENT + textwrap.dedent(code), job_id, *arguments],
        cwd=folder,
        env={**os.environ, **emulator.environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )


KILLED = """
    def on_log(ctx):
        if ctx.step == 4 and sys.argv[2] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    follow(
        sys.argv[1],
        client=client,
        callbacks=[{name}("metrics.{suffix}"), dict(on_log=on_log)],
        cursor_store=FileCursorStore("cursors"),
    ).wait(30)
"""


@LOGGERS
@pytest.mark.arkor(engine=ScriptedEngine(steps=8))
def test_a_killed_process_loses_no_row_and_the_next_repeats_none(
    arkor_emulator: Any, logger_of: Make, tmp_path: Path
) -> None:
    job_id = arkor_emulator.create_job()
    path = path_for(logger_of, tmp_path)
    code = KILLED.format(name=logger_of.__name__, suffix=path.suffix[1:])
    codes = [
        in_a_process(code, arkor_emulator, job_id, tmp_path, how).returncode
        for how in ("kill", "go on")
    ]
    assert codes == [-signal.SIGKILL, 0]
    assert steps_of(path) == [1, 2, 3, 4, 5, 6, 7, 8]


@LOGGERS
@pytest.mark.arkor(engine=ScriptedEngine(steps=6))
def test_a_directory_that_is_removed_in_the_middle_does_not_harm_the_run(
    arkor_client: Any, logger_of: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "metrics"
    path = path_for(logger_of, folder)

    def on_log(ctx: Any) -> None:
        if ctx.step == 2:
            shutil.rmtree(folder)
            folder.write_text("a file in its place")
        if ctx.step == 4:
            folder.unlink()

    assert train(arkor_client, [logger_of(path), {"on_log": on_log}]).status == "completed"
    assert caplog.text.count(f"{logger_of.__name__}.log_rows failed") == 1
    assert steps_of(path) == [3, 4, 5, 6], "what could not be written was written later"


FULL_DISK = """
    def on_log(ctx):
        if ctx.step == 3:
            limit = os.path.getsize("metrics.{suffix}") + 100  # in the middle of a row
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = follow(
        sys.argv[1], client=client, callbacks=[{name}("metrics.{suffix}"), dict(on_log=on_log)]
    ).wait(30)
    print(result.status)
"""


@LOGGERS
@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_disk_that_is_full_in_the_middle_costs_rows_and_no_run(
    arkor_emulator: Any, logger_of: Make, tmp_path: Path
) -> None:
    job_id = arkor_emulator.create_job()
    path = path_for(logger_of, tmp_path)
    code = FULL_DISK.format(name=logger_of.__name__, suffix=path.suffix[1:])
    done = in_a_process(code, arkor_emulator, job_id, tmp_path)
    assert done.stdout == "completed\n", done.stderr
    assert done.stderr.count(f"{logger_of.__name__}.log_rows failed") == 1
    assert "are lost" in done.stderr
    written = path.read_bytes()
    assert written.endswith(b"\n"), "a row is there as a whole or not at all"
    steps = steps_of(path)
    assert 3 <= len(steps) < 20
    assert steps == list(range(1, len(steps) + 1))


@LOGGERS
def test_of_a_long_file_only_what_is_of_the_job_is_parsed(
    logger_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_for(logger_of, tmp_path)
    for number in range(3):
        logger = logger_of(path, append=True)
        logger.on_log(log(1, a_job(f"job-{number}"), loss=1.0))
    parsed: List[str] = []
    rows = logger_of._parse_rows  # type: ignore[attr-defined]

    def spy(self: Any, lines: Any) -> Any:
        parsed.extend(lines)
        return rows(self, parsed)

    monkeypatch.setattr(logger_of, "_parse_rows", spy)
    logger = logger_of(path, append=True)
    logger.on_log(log(1, a_job("job-1"), loss=1.0))
    assert len(parsed) == 1
    assert [row["job_id"] for row in rows_of(path)] == ["job-0", "job-1", "job-2"]


@LOGGERS
@pytest.mark.parametrize("job_id", ['a"b,c;d', "é", "", "loss", "$", "a\\b"])
def test_whatever_a_job_is_called_its_rows_are_found_again(
    logger_of: Make, tmp_path: Path, job_id: str
) -> None:
    path, job = path_for(logger_of, tmp_path), a_job(job_id)
    for _ in range(2):
        logger = logger_of(path, append=True)
        logger.on_log(log(1, job, loss=1.0))
    assert [row["job_id"] for row in rows_of(path)] == [job_id]


DAMAGED = {
    CSVLogger: [
        b"job-1,\0\0\0,1,2.0\n",
        b"job-1," + b"x" * 200_000 + b",1\n",
        b"job-1,,--1,\n",
        b"job-1,," + b"9" * 5000 + b",\n",
        b'job-1,"\n',
        b"job-1\n",
    ],
    JSONLLogger: [
        b'{"job_id": "job-1", "step": 1\0}\n',
        b'{"job_id": "job-1", "step": [1], "loss": 1}\n',
        b'{"job_id": "job-1", "step": 1e999, "loss": 1}\n',
        b'{"job_id": "job-1", "step": ' + b"9" * 5000 + b"}\n",
        b'["job-1"]\n',
        b'"job-1"\n',
        b"[" * 100_000 + b'"job-1"\n',
    ],
}


@LOGGERS
@pytest.mark.parametrize("number", range(7))
def test_a_damaged_line_costs_no_row(
    logger_of: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    path = path_for(logger_of, tmp_path)
    logger_of(path).on_log(log(1, loss=1.0))
    damaged = path.read_bytes() + DAMAGED[logger_of][number % len(DAMAGED[logger_of])]
    path.write_bytes(damaged)
    again = logger_of(path, append=True)
    for step in (1, 2):  # the first is there already
        again.on_log(log(step, loss=1.0))
    assert caplog.text == ""
    added = path.read_bytes()[len(damaged) :]
    assert path.read_bytes().startswith(damaged)
    assert added.count(b"\n") == 1
    assert b"1.0" in added


@LOGGERS
def test_what_is_made_cannot_be_written_by_others(logger_of: Make, tmp_path: Path) -> None:
    path = path_for(logger_of, tmp_path / "made" / "folder")
    old = os.umask(0)
    try:
        logger_of(path).on_log(log(1, loss=1.0))
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path.parents[1], path.parent, path)]
    assert modes == [0o755, 0o755, 0o644]


@LOGGERS
@pytest.mark.parametrize("append", [False, True])
def test_rows_can_be_sent_through_a_fifo(logger_of: Make, tmp_path: Path, append: bool) -> None:
    path = path_for(logger_of, tmp_path)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    logger = logger_of(path, append=append)
    for step in (1, 2):
        logger.on_log(log(step, loss=1.0))
    with os.fdopen(reader) as file:
        rows = file.read().splitlines()
    assert [row for row in rows if "1.0" in row] == rows[-2:]
    assert (",".join(COLUMNS) in rows) == (logger_of is CSVLogger and not append)


@LOGGERS
def test_a_fifo_that_nobody_reads_does_not_hold_the_run_up(
    logger_of: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = path_for(logger_of, tmp_path)
    os.mkfifo(path)
    logger_of(path).on_log(log(1, loss=1.0))
    assert os.strerror(errno.ENXIO) in caplog.text


@LOGGERS
@pytest.mark.parametrize("state", [[], None, "text", {}, {"other": 1}])
def test_a_state_of_another_shape_keeps_the_rows(
    logger_of: Make, tmp_path: Path, state: Any
) -> None:
    path = path_for(logger_of, tmp_path)
    logger_of(path).on_log(log(1, loss=1.0))
    logger = logger_of(path)
    logger.load_state_dict(state)
    logger.on_log(log(2, loss=1.0))
    assert steps_of(path) == [1, 2]


def test_a_header_that_was_cut_off_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("job_id,time")
    CSVLogger(path, append=True).on_log(log(1, loss=1.0))
    assert steps_of(path) == [1]
    assert path.read_text().startswith(",".join(COLUMNS))


@pytest.mark.parametrize("job_id", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_cell_is_a_formula_and_the_job_is_still_recognised(job_id: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for steps in ((1, 2), (2, 3)):
        logger = CSVLogger(path, append=True)
        for step in steps:
            logger.on_log(log(step, a_job(job_id), loss=-0.5))
        logger.on_end(end("completed", a_job(job_id)))
    rows = rows_of(path)
    assert [(row["job_id"], row["step"], row["loss"]) for row in rows] == [
        (f"'{job_id}", str(step), "-0.5") for step in (1, 2, 3)
    ]
