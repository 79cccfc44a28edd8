"""A run's metrics so far, as pairs, as rows and as CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.history import History
from arkor_sync.stream.batches import Delivery, read_logs
from arkor_sync.stream.events import CHECKPOINT, LOG, TrainingEvent


def log(step: int, **metrics: Any) -> TrainingEvent:
    return TrainingEvent(LOG, {"type": LOG, "timestamp": f"t{step}", "step": step, **metrics})


def test_a_metric_leaves_out_the_logs_that_do_not_have_it() -> None:
    history = History()
    history.append(log(1, loss=2.0))
    history.append(log(1, evalLoss=2.5))
    history.append(log(2, loss="NaN", gradNorm=7))
    assert history.metric("loss") == [(1, 2.0)]
    assert history.metric("eval_loss") == [(1, 2.5)]
    assert history.metric("gradNorm") == [(2, 7)]
    assert history.metric("nothing") == []


def test_the_logs_are_there_with_all_their_fields() -> None:
    history = History()
    history.append(log(1, loss=2.0, gradNorm=7))
    history.append(TrainingEvent(CHECKPOINT, {"step": 1}))
    [fields] = history.logs
    assert fields["gradNorm"] == 7
    history.logs.clear()
    assert len(history) == 1


def test_it_is_bounded_and_keeps_the_last() -> None:
    history = History(limit=3)
    for step in range(10):
        history.append(log(step))
    history.append(TrainingEvent(CHECKPOINT, {"step": 9}))
    assert [row["step"] for row in history.to_dicts()] == [7, 8, 9]
    assert repr(history) == "<History 3 logs, 1 checkpoints>"


def batch(*steps: int) -> Delivery:
    text = '{"type":"training.log","jobId":"j","step":%d,"loss":0.5}'
    blocks = (f"id: {step}\nevent: training.log\ndata: {text % step}\n\n" for step in steps)
    logs = read_logs("".join(blocks).encode())
    assert logs is not None
    return Delivery(logs)


def test_a_log_of_a_batch_is_there_from_when_the_worker_begins_with_it() -> None:
    history = History()
    history.append(log(1))
    logs = batch(2, 3, 4)
    history.append_logs(logs)
    for begun in range(4):
        logs.begun = begun
        assert [each["step"] for each in history.logs] == [1, 2, 3, 4][: 1 + begun]
        assert len(history) == 1 + begun
    assert history.logs[-1] == {"step": 4, "loss": 0.5}


def test_a_batch_has_no_more_fields_there_than_an_event_has() -> None:
    text = '{"type":"training.log","timestamp":"t","jobId":"j","step":1}'
    logs = read_logs(f"id: 1\nevent: training.log\ndata: {text}\n\n".encode())
    assert logs is not None
    history = History()
    history.append_logs(Delivery(logs, begun=1))
    assert history.logs == [{"timestamp": "t", "step": 1}]


def test_it_may_keep_nothing() -> None:
    history = History(limit=0)
    history.append(log(1))
    assert history.logs == []
    assert len(history) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20), st.integers(1, 6))
def test_the_last_logs_are_kept_whatever_they_came_in(
    entries: List[Tuple[int, int]], limit: int
) -> None:
    history, expected = History(limit), []
    for size, begun in entries:
        steps = [len(expected) + i for i in range(max(1, size))]
        if size:
            logs = batch(*steps)
            history.append_logs(logs)
            logs.begun = begun = min(begun, size)
        else:
            history.append(log(*steps))
            begun = 1
        expected += steps[:begun]
        assert [each["step"] for each in history.logs] == expected[-limit:]
        assert len(history) == len(history.logs)
        assert len(history._logs) <= limit + sum(not each.begun for each in history._logs) + 1


def test_the_csv_has_fixed_columns_and_replaces_the_file_as_a_whole(tmp_path: Path) -> None:
    history = History()
    history.append(log(1, loss=2.0, evalLoss=None))
    path = tmp_path / "with a space" / "history.csv"
    for _ in range(2):
        history.to_csv(path)
    assert list(csv.DictReader(path.read_text().splitlines())) == [
        {
            "timestamp": "t1",
            "step": "1",
            "loss": "2.0",
            "eval_loss": "",
            "learning_rate": "",
            "epoch": "",
            "samples_per_second": "",
        }
    ]
    assert [each.name for each in path.parent.iterdir()] == ["history.csv"]


def test_a_csv_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        History().to_csv(tmp_path / "file" / "history.csv")
