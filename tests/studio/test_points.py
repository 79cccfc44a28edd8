"""What a chart shows of a job's logs: every spike, the ends, the order, and no more than fits."""

from __future__ import annotations

import json
import math
import random
import statistics
from array import array
from typing import Any, Dict, List, Optional
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.studio import points, spread
from arkor_sync.studio.points import Columns, Series, curves

SMALL = 4  # values of a block, so that short lists have many
VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=150)


def series_of(values: List[Any], at_once: int = 7) -> Series:
    series = Series()
    for start in range(0, len(values), at_once):
        series.extend(values[start : start + at_once])
    return series


def columns_of(logs: List[Dict[str, Any]]) -> Columns:
    columns = Columns()
    for start in range(0, len(logs), 100):
        columns.extend(logs[start : start + 100])
    return columns


@given(VALUES, st.data())
def test_extremes_are_those_of_a_look_at_every_value(
    values: List[Optional[float]], data: st.DataObject
) -> None:
    there = [(row, value) for row, value in enumerate(values) if value is not None]
    with patch.object(points, "BLOCK", SMALL):
        series = series_of(values)
        assert series.count == len(there)
        if not there:
            return
        start = data.draw(st.integers(0, len(there) - 1))
        stop = data.draw(st.integers(start + 1, len(there)))
        low, high = series.extremes(start, stop)
    part = [value for _, value in there[start:stop]]
    assert there[start + part.index(min(part))][0] == low
    assert there[start + part.index(max(part))][0] == high


@given(VALUES, st.integers(4, 40), st.data())
def test_every_spike_is_kept_and_the_ends_and_the_order(
    values: List[Optional[float]], count: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    with patch.object(points, "BLOCK", SMALL):
        rows, exact = series_of(values).reduced(start, stop, count)
    there = [row for row, value in enumerate(values) if value is not None]
    inside = [row for row in there if start <= row < stop]
    before = [row for row in there if row < start][-1:]
    after = [row for row in there if row >= stop][:1]
    candidates = [*before, *inside, *after]  # a line goes on to what is just outside
    assert rows == sorted(set(rows))
    assert set(rows) <= set(candidates)
    assert len(rows) <= count
    if exact or len(candidates) <= count:
        assert rows == candidates
        return
    assert rows[0] == candidates[0]
    assert rows[-1] == candidates[-1]
    shown = [values[row] for row in rows]
    all_of_them = [values[row] for row in candidates]
    assert min(shown) == min(all_of_them)  # type: ignore[type-var]
    assert max(shown) == max(all_of_them)  # type: ignore[type-var]
    # Each value is between two that are shown, in its own part of the curve or a block beside it.
    near = -(-len(candidates) // max(1, (count - 2) // 2)) + 2 * SMALL
    at = {row: position for position, row in enumerate(candidates)}
    for row in candidates:
        close = [values[each] for each in rows if abs(at[each] - at[row]) <= near]
        assert min(close) <= values[row] <= max(close)  # type: ignore[operator, type-var]


def test_a_lone_spike_in_a_million_is_shown_and_can_be_zoomed_to() -> None:
    series = Series()
    for start in range(0, 100_000, 1000):
        values = [1.0] * 1000
        if start == 42_000:
            values[321] = 9.5
        series.extend(values)
    rows, exact = series.reduced(0, 100_000, 200)
    assert (exact, 42_321 in rows, len(rows) <= 200) == (False, True, True)
    rows, exact = series.reduced(42_300, 42_340, 200)
    assert exact
    assert rows == list(range(42_299, 42_341))


def test_a_short_job_is_shown_byte_by_byte() -> None:
    columns = columns_of(
        [
            {"step": 1, "loss": 2.5, "epoch": 0.1, "timestamp": "2026-01-02T03:04:05.250Z"},
            {"step": 2, "loss": 1.123456789, "timestamp": "2026-01-02T03:04:06.000Z"},
            {"step": 3, "evalLoss": 7, "epoch": 0.3, "timestamp": "2026-01-02T03:05:06+01:00"},
        ]
    )
    text = json.dumps(curves(columns), separators=(",", ":"))
    assert text == (
        '{"x_range":[1,3],"series":{"loss":[[1,2],[2.5,1.123456789]],"eval_loss":[[3],[7.0]],'
        '"learning_rate":[[],[]],"samples_per_second":[[],[]]}}'
    )
    assert curves(columns, "epoch")["series"]["loss"] == [[0.1, 0.1], [2.5, 1.123456789]]
    # The clock of the third is behind, so it counts as made with the second.
    assert curves(columns, "time")["series"]["eval_loss"] == [[0.75], [7.0]]
    assert columns.rows(0, 3) == [
        [1, 2.5, None, None, 0.1, None, 0.0],
        [2, 1.123456789, None, None, None, None, 0.75],
        [3, None, 7.0, None, 0.3, None, 0.75],
    ]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, "2.0", True, None, [1.0], {"a": 1}]
)
def test_what_is_no_finite_number_is_left_out(value: Any) -> None:
    columns = columns_of([{"step": 1, "loss": 2.0}, {"step": 2, "loss": value}, {"step": 3}])
    assert curves(columns)["series"]["loss"] == [[1], [2.0]]
    json.dumps(columns.rows(0, 3), allow_nan=False)


@pytest.mark.parametrize(
    "timestamp", [None, 5, "yesterday", "2026-01-02T03:04:nanZ", "2026-13-02T03:04:05Z", "Z"]
)
def test_a_log_without_a_time_has_that_of_the_one_before(timestamp: Any) -> None:
    columns = columns_of(
        [
            {"step": 1, "timestamp": timestamp},
            {"step": 2, "timestamp": "2026-01-02T03:04:05Z"},
            {"step": 3, "timestamp": "2026-01-02T03:04:06.5Z"},
            {"step": 4, "timestamp": timestamp},
        ]
    )
    assert list(columns.axis("time")) == [0.0, 0.0, 1.5, 1.5]


def test_a_job_that_began_again_at_a_checkpoint_is_shown_in_the_order_of_its_steps() -> None:
    steps = [1, 2, 3, 4, 2, 3, 4, 5]
    columns = columns_of([{"step": step, "loss": float(n)} for n, step in enumerate(steps)])
    assert curves(columns)["series"]["loss"] == [
        [1, 2, 2, 3, 3, 4, 4, 5],
        [0.0, 1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 7.0],
    ]
    assert curves(columns, begin=4.5)["series"]["loss"] == [[4, 5], [6.0, 7.0]]
    columns.extend([{"step": 6, "loss": 8.0}])
    assert curves(columns)["x_range"] == [1, 6]


def test_a_step_that_no_float_holds_is_that_of_the_log_before() -> None:
    columns = columns_of([{"step": 10**400}, {"step": 3}, {"step": 10**400}, {"step": 4}])
    assert list(columns.steps) == [0, 3, 3, 4]
    columns.extend([{"step": 10**400}])
    assert columns.rows(4, 5)[0][0] == 4


def test_without_logs_there_is_nothing() -> None:
    found = curves(Columns())
    assert found["x_range"] is None
    assert found["series"]["loss"] == [[], []]
    assert Columns().spreads["loss"].summary(array("d")) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200))
def test_statistics_are_those_of_all_values(values: List[float]) -> None:
    with patch.object(spread, "CHUNK", 16), patch.object(points, "BLOCK", SMALL):
        columns = columns_of([{"step": n, "loss": value} for n, value in enumerate(values)])
        found = columns.spreads["loss"].summary(columns.steps)
    assert found is not None
    in_order = sorted(values)
    assert found["count"] == len(values)
    assert found["mean"] == pytest.approx(statistics.fmean(values), abs=1e-9)
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    assert found["std"] == pytest.approx(std, abs=1e-6)
    assert found["p90"] == in_order[math.ceil(len(values) * 90 / 100) - 1]
    assert found["p95"] == in_order[math.ceil(len(values) * 95 / 100) - 1]
    assert (found["last"], found["best"]) == (values[-1], in_order[0])
    assert found["best_step"] == values.index(in_order[0])


def test_the_interval_of_few_values_is_students() -> None:
    columns = columns_of([{"step": n, "loss": float(n)} for n in (1, 2, 3)])
    found = columns.spreads["loss"].summary(columns.steps)
    assert found is not None
    assert found["half_width"] == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    one = columns_of([{"step": 1, "loss": 3.0}])
    found = one.spreads["loss"].summary(one.steps)
    assert found is not None
    assert (found["std"], found["half_width"]) == (0.0, 0.0)


def test_a_high_speed_is_the_best_one() -> None:
    logs = [{"step": n, "samplesPerSecond": value} for n, value in enumerate((3.0, 9.0, 5.0))]
    columns = columns_of(logs)
    found = columns.spreads["samples_per_second"].summary(columns.steps)
    assert found is not None
    assert (found["best"], found["best_step"]) == (9.0, 1)


def test_squares_that_no_float_holds_leave_numbers_that_json_knows() -> None:
    columns = columns_of([{"step": n, "loss": value} for n, value in enumerate((1e300, -1e300))])
    found = columns.spreads["loss"].summary(columns.steps)
    assert found is not None
    assert found["std"] is None
    json.dumps(found, allow_nan=False)


def test_a_rank_among_many_equal_values_is_found() -> None:
    draw = random.Random(5)
    values = [float(draw.choice((1, 2, 2, 2, 3))) for _ in range(3000)]
    chunks = [array("d", sorted(values[n : n + 100])) for n in range(0, 3000, 100)]
    in_order = sorted(values)
    with patch.object(spread, "CHUNK", 50):
        for rank in (0, 500, 1500, 2700, 2999):
            assert spread.at_rank(chunks, rank) == in_order[rank]
