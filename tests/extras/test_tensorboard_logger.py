"""TensorBoard's event files, read back record by record."""

from __future__ import annotations

import dataclasses
import gc
import io
import json
import os
import shutil
import stat
import struct
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from arkor_sync import follow
from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import TensorBoardLogger
from support.forking import fork
from support.logger_contexts import a_job, end, log, started
from support.logger_runs import EVENTS, at, drain, each_event_twice, train
from support.waiting import PATIENCE


def events_in(folder: Path) -> List[Any]:
    """Read whole files, and check every checksum."""
    events = []
    for path in sorted(folder.glob("*tfevents*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            record = data[12 : 12 + size]
            assert struct.unpack("<I", data[8:12])[0] == masked_crc32c(data[:8])
            assert struct.unpack("<I", data[12 + size : 16 + size])[0] == masked_crc32c(record)
            events.append(Event.FromString(record))
            data = data[16 + size :]
    return events


def scalars_in(folder: Path) -> List[Tuple[str, int, float]]:
    return [
        (value.tag, event.step, value.simple_value)
        for event in events_in(folder)
        for value in event.summary.value
        if value.WhichOneof("value") == "simple_value"
    ]


def texts_in(folder: Path) -> Dict[str, str]:
    return {
        value.tag: value.tensor.string_val[0].decode()
        for event in events_in(folder)
        for value in event.summary.value
        if value.WhichOneof("value") == "tensor"
    }


WHOLE = [
    ("train/loss", 1, 3.0),
    ("train/learning_rate", 1, pytest.approx(0.001)),
    ("train/gradNorm", 1, 0.5),
    ("eval/loss", 1, 3.125),
    ("train/loss", 2, 2.5),
    ("train/loss", 3, 2.0),
    ("eval/loss", 3, 2.25),
]


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_is_a_directory_of_train_and_eval_scalars(arkor_client: Any, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    job = train(arkor_client, each_event_twice(logger)).job
    folder = tmp_path / "a_run" / job.id
    assert scalars_in(folder) == WHOLE
    table = texts_in(folder)["hyperparams/text_summary"]
    assert "|maxSteps|3|" in table
    assert "s3cret" not in table
    assert events_in(folder)[0].file_version == "brain.Event:2"
    assert logger._writers == {}


def test_names_are_made_safe_and_a_version_may_be_a_number(tmp_path: Path) -> None:
    for logger in (
        TensorBoardLogger(tmp_path, "../my runs", 3),
        TensorBoardLogger(tmp_path, version="v/1"),
    ):
        logger.on_log(log(1, loss=1.0, evalAccuracy=0.5, evaluations=2))
        logger.on_end(end())
    assert [tag for tag, _, _ in scalars_in(tmp_path / "_my_runs" / "version_3")] == [
        "train/loss",
        "eval/accuracy",
        "train/evaluations",
    ]
    assert scalars_in(tmp_path / "fake" / "v_1")


def test_points_have_the_time_of_their_event(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.on_log(log(1, loss=1.0))
    logger.on_end(end())
    assert events_in(tmp_path / "fake" / "job-1")[-1].wall_time == 1767225601.5


def test_a_process_that_carries_on_repeats_nothing(tmp_path: Path) -> None:
    first = TensorBoardLogger(tmp_path)
    first.on_started(started())
    for step in (1, 2):
        first.on_log(log(step, loss=1.0))
    drain(first)
    [path] = (tmp_path / "fake" / "job-1").iterdir()
    path.write_bytes(path.read_bytes()[:-5])  # the process was killed while it wrote step 2
    second = TensorBoardLogger(tmp_path)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    second.on_started(started())
    second.on_log(log(1, loss=1.0))
    second.on_log(log(3, loss=1.0))
    second.on_log(log(3, evalLoss=1.0))
    second.on_end(end())
    path.unlink()
    assert scalars_in(tmp_path / "fake" / "job-1") == [("train/loss", 3, 1.0), ("eval/loss", 3, 1)]
    assert texts_in(tmp_path / "fake" / "job-1") == {}
    first.on_end(end())


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_directory_that_is_removed_in_the_middle_does_not_harm_the_run(
    arkor_client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = tmp_path / "logs"
    logger = TensorBoardLogger(logs)

    def remove() -> None:
        shutil.rmtree(logs)
        logs.write_text("a file in its place")

    result = train(arkor_client, [logger, at(2, logger, remove)])
    assert result.status == "completed"
    assert "TensorBoardLogger.log_rows failed" in caplog.text
    assert "1 log of job" in caplog.text


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_disk_that_fails_for_a_while_costs_nothing(
    arkor_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    logger = TensorBoardLogger(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    breaking = at(1, logger, lambda: monkeypatch.setattr(os, "fsync", full))
    mending = at(2, logger, monkeypatch.undo)
    job = train(arkor_client, [logger, breaking, mending]).job
    seen = {(tag, step) for tag, step, _ in scalars_in(tmp_path / "a_run" / job.id)}
    assert seen == {(tag, step) for tag, step, _ in WHOLE}


def test_two_runs_at_once_go_to_two_directories(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, "both")
    jobs = [a_job("job-1"), a_job("job-2")]
    for step in (1, 2):
        for job in jobs:
            logger.on_log(log(step, job, loss=float(job.id[-1])))
    for job in jobs:
        logger.on_end(end("completed", job))
        value = float(job.id[-1])
        expected = [("train/loss", 1, value), ("train/loss", 2, value)]
        assert scalars_in(tmp_path / "both" / job.id) == expected


@pytest.mark.parametrize("name", ["x" * 300, "é🦙" * 100, "../../etc/passwd\nroot", "..", "\0"])
def test_whatever_a_job_is_called_is_one_directory(name: str, tmp_path: Path) -> None:
    job = dataclasses.replace(a_job(), name=name)
    logger = TensorBoardLogger(tmp_path / "logs")
    logger.on_log(log(1, job, loss=1.0))
    logger.on_end(end("completed", job))
    [folder] = (tmp_path / "logs").iterdir()
    assert scalars_in(folder / "job-1") == [("train/loss", 1, 1.0)]


def test_a_file_that_cannot_be_read_to_its_end_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "fake" / "job-1"
    folder.mkdir(parents=True)
    record = b"\xff" * 20
    garbage = struct.pack("<Q", len(record)) + bytes(4) + record + bytes(4)
    (folder / "events.out.tfevents.1").write_bytes(garbage)
    logger = TensorBoardLogger(tmp_path)
    logger.on_log(log(1, loss=1.0))
    logger.on_end(end())
    [written] = [path for path in folder.iterdir() if path.name != "events.out.tfevents.1"]
    written.rename(tmp_path / "tfevents")
    assert scalars_in(tmp_path) == [("train/loss", 1, 1.0)]


@pytest.mark.parametrize("job_id", ["../../victim", "..", "", "a/b", "a_b", "nul\0", "x" * 300])
def test_any_id_is_a_directory_of_its_own(tmp_path: Path, job_id: str) -> None:
    folder = tmp_path / "above" / "boards"
    logger = TensorBoardLogger(folder)
    old = os.umask(0)
    try:
        for job in (a_job(job_id), a_job("a-b")):
            logger.on_log(log(1, job, loss=1.0))
            logger.on_end(end("completed", job))
    finally:
        os.umask(old)
    made = [each.relative_to(folder).parts for each in tmp_path.rglob("*tfevents*")]
    assert [len(each) for each in made] == [3, 3]
    assert len({each[1] for each in made}) == 2
    modes = {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.rglob("*")}
    assert modes == {0o755, 0o644}


def flush_as_at_exit() -> None:
    """Do what an interpreter does with its files when it exits."""
    for each in gc.get_objects():
        if isinstance(each, io.BufferedWriter) and "tfevents" in str(each.name):
            each.flush()


def test_a_forked_child_writes_no_row_a_second_time(
    arkor_client: Any, arkor_emulator: Any, tmp_path: Path
) -> None:
    """The forks find rows that are made and not yet written."""

    class Forking(TensorBoardLogger):
        def _write(self, summaries: Any) -> None:
            def forking() -> Any:
                for summary in summaries:
                    yield summary
                    codes.append(fork(flush_as_at_exit)())

            super()._write(forking())

    codes: List[int] = []
    job_id = arkor_emulator.create_job(ScriptedEngine(events=EVENTS))
    follow(job_id, client=arkor_client, callbacks=Forking(tmp_path)).wait(PATIENCE)
    (folder,) = tmp_path.glob("*/*")
    assert scalars_in(folder) == WHOLE
    assert codes == [0] * len(codes) != []
