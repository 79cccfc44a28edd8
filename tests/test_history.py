"""A run's metrics so far, as pairs, as rows and as CSV."""

from __future__ import annotations

import csv
import gc
import tracemalloc
from pathlib import Path
from typing import Any, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync import Callbacks
from arkor_sync.cloud.sse import Frame
from arkor_sync.errors import ArkorUsageError
from arkor_sync.history import LIMIT, Best, History
from arkor_sync.stream.batches import COMMON, Delivery, EventBatch, read_logs
from arkor_sync.stream.events import CHECKPOINT, LOG, METRICS, TrainingEvent, decode
from support.fake_cloud import completed, logs, make_run
from support.waiting import PATIENCE


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
    assert repr(history) == "<History 3 logs, 1 checkpoint>"


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


def decoded(step: int, rest: str, event_id: str = "") -> TrainingEvent:
    return decode(Frame(LOG, f'{{"type":"{LOG}","jobId":"j","step":{step}{rest}}}', event_id))


def logs_together(steps: range, rest: str) -> Delivery:
    text = '{"type":"training.log","jobId":"j","step":%d%s}'
    blocks = (f"id: {n}\nevent: {LOG}\ndata: {text % (n, rest)}\n\n" for n in steps)
    logs = read_logs("".join(blocks).encode())
    assert logs is not None
    return Delivery(logs, begun=len(logs))


LARGE = {
    "one text": ',"note":"' + "x" * 30_000 + '"',
    "a text of wide characters": ',"note":"' + "\N{PARTY POPPER}" * 8_000 + '"',
    "a list of lists": ',"note":[' + ",".join(["[]"] * 6_000) + "]",
    "objects": ',"note":[' + ",".join(["{}"] * 6_000) + "]",
    "many fields": "".join(f',"f{n}":1' for n in range(2_000)),
    "small, but nested": ',"note":[' + ",".join(["{}"] * 150) + "]",
    "a number that JSON cannot hold": ',"loss":1e999,"note":"' + "x" * 20_000 + '"',
}


@pytest.mark.parametrize("rest", list(LARGE.values()), ids=list(LARGE))
@pytest.mark.parametrize("together", [False, True])
def test_it_is_bounded_in_bytes_of_memory(rest: str, together: bool) -> None:
    limit, count = 400_000, 2 * max(10, 500_000 // len(rest))
    tracemalloc.start()
    try:
        history = History(max_bytes=limit)
        for step in range(0, count, 2):
            if together:
                logs = logs_together(range(step, step + 2), rest)
                # The worker looks at the logs one by one, which makes the batch keep its parts.
                assert [event.step for event in logs.batch] == [step, step + 1]
                history.append_logs(logs)
            else:
                history.append(decoded(step, rest))
                history.append(decoded(step + 1, rest))
        last = history.logs[-1]["step"]
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert last == count - 1
    newest = 30 * len(rest) * 2  # what is delivered at this moment is there in any case
    assert held < 1.2 * limit + newest + 100_000
    assert len(history) >= 1


def test_ids_count_as_well() -> None:
    history = History(max_bytes=100_000)
    for step in range(20):
        history.append(decoded(step, "", "x" * 50_000 + str(step)))
        history.append_logs(Delivery(EventBatch([decoded(step, "", "y" * 50_000)]), begun=1))
    held = sum(event.size for each in history._logs for event in each.batch)
    assert held < 200_000
    assert history.logs[-1] == {"step": 19}


def test_usual_logs_are_bounded_by_their_number_and_not_by_their_bytes() -> None:
    history = History()
    rest = "".join(f',"{field}":{0.1 + n}' for n, field in enumerate(METRICS.values()) if n)
    for step in range(LIMIT + 50):
        history.append(decoded(step, rest, f"{step:013d}-0"))
    assert len(history) == LIMIT


@pytest.mark.parametrize(
    "rest", ["", ',"note":[1,{"a":["b"]}]', ',"n":{"a":1.5}', ',"t":"\\ud800ä"']
)
def test_a_log_that_is_kept_as_text_has_the_same_fields(rest: str) -> None:
    padding = ',"long":"' + "x" * 600 + '"'
    events = [decoded(step, rest + padding) for step in range(3)]
    history = History()
    for event in events:
        history.append(event)
    expected = [{k: v for k, v in event.data.items() if k not in COMMON} for event in events]
    assert history.logs == history.logs == expected


@pytest.mark.parametrize("closed", [False, True])
def test_of_a_batch_that_comes_again_only_what_was_begun_is_kept(closed: bool) -> None:
    history = History()
    logs = logs_together(range(10), LARGE["one text"])
    logs.begun = 1
    history.append_logs(logs)
    if closed:
        history.close_logs()
        assert [len(each.batch) for each in history._logs] == [1]
    history.append(decoded(10, ""))
    assert [each["step"] for each in history.logs] == [0, 10]
    assert [len(each.batch) for each in history._logs] == [1, 1]


def test_it_may_keep_nothing() -> None:
    history = History(limit=0)
    history.append(log(1))
    assert history.logs == []
    assert len(history) == 0


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2)), max_size=20),
    st.integers(1, 6),
)
def test_the_last_logs_are_kept_whatever_they_came_in(
    entries: List[Tuple[int, int, int]], limit: int
) -> None:
    history, expected = History(limit), []
    for size, begun, closed in entries:
        steps = [len(expected) + i for i in range(max(1, size))]
        if size:
            logs = batch(*steps)
            history.append_logs(logs)
            logs.begun = begun = min(begun, size)
        else:
            history.append(log(*steps))
            begun = 1
        expected += steps[:begun]
        for _ in range(closed):  # the worker may do so more than once, or not at all
            history.close_logs()
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
    assert history.csv_text() == path.read_text()


def test_a_timestamp_in_the_csv_is_no_formula(tmp_path: Path) -> None:
    history = History()
    event = log(1, loss=-2.0)
    event.data["timestamp"] = "=1+1"
    history.append(event)
    history.to_csv(tmp_path / "history.csv")
    (row,) = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert (row["timestamp"], row["loss"]) == ("'=1+1", "-2.0")


def test_a_csv_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        History().to_csv(tmp_path / "file" / "history.csv")


# The best value.


def history_of(values: List[Any], checkpoints: List[int], metric: str = "evalLoss") -> History:
    """Make a history whose first value is that of step 1."""
    history = History()
    for step, value in enumerate(values, start=1):
        history.append(log(step, **{metric: value}))
    for step in checkpoints:
        history.append(TrainingEvent(CHECKPOINT, {"step": step}))
    return history


@pytest.mark.parametrize(
    ("checkpoints", "nearest"),
    [([], None), ([4], 4), ([2, 4, 6], 4), ([2, 6], 2), ([6, 2], 2), ([1, 5], 5), ([9], 9)],
    ids=str,
)
def test_the_checkpoint_of_the_best_value_is_the_nearest(
    checkpoints: List[int], nearest: Optional[int]
) -> None:
    history = history_of([5.0, 4.0, 3.0, 2.0, 3.0], checkpoints)
    assert history.best("eval_loss") == Best(4, 2.0, nearest)


@pytest.mark.parametrize(
    ("values", "lowest", "highest"),
    [
        ([3, 1, 2, 1, 3], (2, 1), (1, 3)),
        ([float("nan"), 2.0, float("nan")], (2, 2.0), (2, 2.0)),
        ([float("-inf"), 2.0, float("inf")], (2, 2.0), (2, 2.0)),
        ([10**400, 1], (2, 1), (2, 1)),
        (["NaN", None, True, 5], (4, 5), (4, 5)),
        ([0.0, -0.0], (1, 0.0), (1, 0.0)),
    ],
    ids=range(6),
)
def test_the_first_of_the_best_finite_values_is_found(
    values: List[Any], lowest: Any, highest: Any
) -> None:
    history = history_of(values, [])
    assert history.best("eval_loss") == Best(*lowest, None)
    assert history.best("eval_loss", mode="max") == Best(*highest, None)


def test_a_field_of_the_wire_may_be_the_metric() -> None:
    assert history_of([2, 1], [1], "gradNorm").best("gradNorm") == Best(2, 1, 1)


def test_a_metric_that_was_never_there_has_no_best_value() -> None:
    assert history_of([1.0], [1]).best("loss") is None
    assert history_of([float("nan")], [1]).best("eval_loss") is None
    assert History().best("gradNorm") is None, "nothing says yet that there is no such metric"


def test_a_misspelt_metric_is_refused_with_those_that_exist() -> None:
    history = history_of([1.0], [])
    history.append(log(2, loss=1.0, zeta=1, note="text", gradNorm=7))
    with pytest.raises(ArkorUsageError) as caught:
        history.best("evalloss")
    assert str(caught.value) == (
        "metric: got str 'evalloss'; give one that the history has: loss, eval_loss, gradNorm, zeta"
    )
    with pytest.raises(ArkorUsageError, match=r"^mode: got str 'lowest'; give 'min' or 'max'"):
        history.best("loss", mode="lowest")  # type: ignore[arg-type]


def test_a_run_counts_its_logs_when_they_are_delivered_and_not_before_the_next_ones() -> None:
    closed: List[bool] = []
    run, _ = make_run(
        [logs(1, 2), logs(3, 3), completed()],
        callbacks=Callbacks(on_log=lambda _: closed.append(not run.history._grows)),
    )
    run.start().wait(PATIENCE)
    assert closed == [False] * 3  # it may still grow while callbacks are called
    assert not run.history._grows
    assert len(run.history) == 3
