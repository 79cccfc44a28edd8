"""The loss chart as SVG: needs no optional library. What is drawn, and what must not break it."""

from __future__ import annotations

import errno
import math
import os
import re
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arkor_sync import ArkorUsageError, Callback, FileCursorStore, RunAborted, follow
from arkor_sync._common.files import write_atomically
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.handlers import LossPlot
from arkor_sync.handlers.display import live_chart
from arkor_sync.handlers.display import plot as module
from arkor_sync.history import History
from arkor_sync.render.chart import HEIGHT, WIDTH, Axes, Chart, render_svg
from arkor_sync.render.rows import Row, Rows, add_log, collect_rows, downsample
from arkor_sync.render.text import format_duration, one_line, parse_timestamp
from support.waiting import PATIENCE

SVG = "{http://www.w3.org/2000/svg}"


def losses(values: List[Optional[float]]) -> Rows:
    return {step: Row(value) for step, value in enumerate(values, start=1)}


def groups(drawing: str, role: str) -> List[ET.Element]:
    root = ET.fromstring(drawing)
    return [each for each in root.iter(f"{SVG}g") if each.get("class") == role]


def texts(drawing: str) -> List[str]:
    return [each.text or "" for each in ET.fromstring(drawing).iter(f"{SVG}text")]


def curves(drawing: str, role: str) -> List[str]:
    """Return the paths of the first group of a role: its curve."""
    return [path.get("d") or "" for path in groups(drawing, role)[0].iter(f"{SVG}path")]


# Rows.


def test_a_step_that_comes_again_is_one_row_with_what_is_known_of_it() -> None:
    rows = collect_rows(
        [
            {"step": 1, "loss": 2.0, "epoch": 0.1},
            {"step": 1, "evalLoss": 2.5, "loss": None},
            {"step": 1, "loss": 2.0},
            {"step": 2, "evalLoss": 2.25},
        ]
    )
    assert rows == {1: Row(2.0, 2.5, None, 0.1), 2: Row(None, 2.25)}


@pytest.mark.parametrize("value", [None, float("inf"), 1e309, -1e300, 10**400, "NaN", True])
def test_a_loss_that_is_no_number_is_a_gap(value: Any) -> None:
    rows: Rows = {}
    add_log(rows, {"step": 1, "loss": value})
    assert rows[1].loss is not None
    assert math.isnan(rows[1].loss)
    add_log(rows, {"step": 1, "loss": 0.5})
    assert rows[1].loss == 0.5
    add_log(rows, {"step": 1, "loss": value})
    assert rows[1].loss == 0.5


def test_a_log_without_a_loss_is_no_gap() -> None:
    rows = collect_rows(
        [{"step": 1, "loss": 2}, {"step": 2, "learningRate": 1e-4}, {"step": 3, "loss": 1}]
    )
    assert Chart("", "", rows).curves()[0] == [[(1, 2.0), (3, 1.0)]]


@given(
    st.dictionaries(
        st.integers(0, 10**6),
        st.builds(
            Row,
            st.none() | st.just(math.nan) | st.floats(-1e9, 1e9),
            st.none() | st.floats(-1e9, 1e9),
        ),
        max_size=300,
    ),
    st.integers(12, 60),
)
def test_thinning_is_bounded_and_keeps_the_ends_and_the_extremes(rows: Rows, limit: int) -> None:
    few = downsample(rows, limit)
    assert list(few) == sorted(few)
    assert len(few) <= max(limit, 0)
    assert all(few[step] is rows[step] for step in few)
    if rows:
        assert {min(rows), max(rows)} <= set(few)
    finite = [
        row.loss for row in rows.values() if row.loss is not None and not math.isnan(row.loss)
    ]
    kept = [row.loss for row in few.values() if row.loss is not None and not math.isnan(row.loss)]
    if finite:
        assert min(kept) == min(finite)
    assert downsample(few, limit) == few


# The drawing.


def test_both_losses_and_the_checkpoints_are_drawn_and_named() -> None:
    rows = {step: Row(3 / step, 3.3 / step if step % 2 == 0 else None) for step in range(1, 9)}
    drawing = render_svg(Chart("support-bot", "completed", rows, [4, 8]))
    assert texts(drawing)[-3:] == ["train loss", "eval loss", "checkpoint"]
    assert {"support-bot", "completed", "step", "loss"} <= set(texts(drawing))
    assert len(curves(drawing, "train")) == 1
    assert len(curves(drawing, "eval")) == 1
    dashed, triangles, _ = groups(drawing, "mark")
    assert (len(dashed), len(triangles)) == (2, 2)


@pytest.mark.parametrize(
    ("values", "pieces", "dots"),
    [
        ([], 0, 0),
        ([1.5], 1, 1),
        ([3.0, math.nan, 2.0, 1.0], 2, 1),
        ([math.nan, 3.0, 2.0, math.nan, math.nan, 1.0, 0.5, math.nan], 2, 0),
        ([math.nan, math.nan], 0, 0),
        ([0.0, 0.0, 0.0], 1, 0),
        ([-5.0, 5.0], 1, 0),
        ([1e-8, 1e90], 1, 0),
        ([2.00000001, 2.00000002], 1, 0),
    ],
)
def test_odd_curves_are_drawn_inside_the_picture(
    values: List[Optional[float]], pieces: int, dots: int
) -> None:
    drawing = render_svg(Chart("", "", losses(values), [1, 2]))
    train = groups(drawing, "train")
    paths = [path.get("d") or "" for g in train[:-1] for path in g.iter(f"{SVG}path")]
    assert len(paths) == pieces
    assert sum(1 for g in train for _ in g.iter(f"{SVG}circle")) == dots
    numbers = [float(n) for path in paths for n in re.findall(r"-?[\d.]+(?:e[-+]\d+)?", path)]
    assert all(0 <= x <= WIDTH for x in numbers[::2])
    assert all(0 <= y <= HEIGHT for y in numbers[1::2])
    assert ("no loss has been logged" in texts(drawing)) == (not pieces)


@pytest.mark.parametrize(
    ("values", "log"),
    [([100.0, 1.0], True), ([10.0, 1.0], False), ([100.0, 0.0], False), ([100.0, -1.0], False)],
)
def test_the_scale_is_logarithmic_where_the_losses_span_much(
    values: List[Optional[float]], log: bool
) -> None:
    chart = Chart("", "", losses(values))
    assert Axes(chart.curves(), chart.checkpoints).log is log
    assert ("loss (log scale)" in texts(render_svg(chart))) is log


@example([0.0, 5e-324], 0)
@given(st.lists(st.floats(-1e99, 1e99) | st.just(math.nan), max_size=30), st.integers(0, 10**9))
def test_there_are_never_too_many_ticks_and_all_are_on_the_axis(
    values: List[float], first: int
) -> None:
    rows = {first + step * 7: Row(value) for step, value in enumerate(values)}
    chart = Chart("", "", rows)
    axes = Axes(chart.curves(), chart.checkpoints)
    assert len(axes.x_ticks) <= 10
    assert len(axes.y_ticks) <= 12
    assert all(-1e-6 <= axes.x_fraction(tick) <= 1 + 1e-6 for tick in axes.x_ticks)
    assert all(-1e-6 <= axes.y_fraction(tick) <= 1 + 1e-6 for tick in axes.y_ticks)
    ET.fromstring(render_svg(chart))


def test_ten_thousand_points_make_a_small_picture() -> None:
    rows = {step: Row(math.sin(step) + 2) for step in range(10_000)}
    assert len(render_svg(Chart("", "", rows, range(0, 10_000, 50)))) < 60_000


def test_a_name_and_a_status_are_escaped_and_cut() -> None:
    name, status = "<script>&\"' " + "long " * 50, "failed: </text> " + "why " * 50
    drawing = render_svg(Chart(name, status, {}))
    assert "<script" not in drawing
    shown = texts(drawing)
    assert any(text.startswith("<script>&\"' long") and text.endswith("…") for text in shown)
    assert any(text.startswith("failed: </text> why") and text.endswith("…") for text in shown)
    assert all(len(text) <= 72 for text in shown)


@pytest.mark.parametrize("odd", ["\x00", "\x1b[31m", "\x0b", "\ufffe", "\ud800", "\x85"])
def test_no_character_of_a_name_or_a_status_makes_the_picture_unreadable(
    odd: str, tmp_path: Path
) -> None:
    path = tmp_path / "loss.svg"
    drawing = render_svg(Chart(f"a{odd}b", f"failed: {odd}", losses([1.0])))
    write_atomically(path, drawing, 0o644)
    title = ET.parse(path).getroot().findtext(f"{SVG}title")
    assert title is not None
    assert title.startswith("a")
    assert "1 step that was logged, failed:" in title


def test_the_legend_is_where_it_is_seen_first() -> None:
    chart = Chart("", "", {1: Row(1.0, 1.0), 2: Row(2.0)}, [1])

    def places(drawing: str) -> Dict[str, float]:
        found = ET.fromstring(drawing).iter(f"{SVG}text")
        return {str(each.text): float(each.get("x") or 0) for each in found}

    beside, alone = places(render_svg(chart)), places(render_svg(chart, heading=False))
    order = ["train loss", "eval loss", "checkpoint"]
    for each in (beside, alone):
        assert sorted(order, key=each.__getitem__) == order
    assert beside["checkpoint"] + 72 == 836  # the right end of the picture's
    assert alone["checkpoint"] + 72 < WIDTH / 2  # a phone shows the left half


def test_the_colours_follow_the_reader_unless_a_theme_is_chosen() -> None:
    chart = Chart("", "", losses([1.0, 2.0]))
    assert "prefers-color-scheme:dark" in render_svg(chart)
    for theme, paper in (("light", "#ffffff"), ("dark", "#0f141a")):
        drawing = render_svg(chart, theme)
        assert "<style>" not in drawing
        assert f'class="paper" color="{paper}"' in drawing


# Words and figures.


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (2.345, "2.3 s"),
        (9.96, "10 s"),
        (59.7, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00.5Z", 60.5),
        ("1970-01-01T00:01:00.123456789Z", 60.123456789),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("1970-01-01 00:00:01", 1.0),
        ("1970-01-01t00:01:00z", 60.0),
        ("1970-01-01T00:01:00.5z", 60.5),
        ("2016-12-31T23:59:60Z", 1483228800.0),
        ("2016-12-31t23:59:60.5z", 1483228800.5),
        ("1990-12-31T15:59:60-08:00", 662688000.0),
        ("1970-01-01T00:00:61Z", None),
        ("1970-01-01T24:00:00Z", None),
        ("\u0661970-01-01T00:00:00Z", None),
        ("1970-13-01T00:00:00Z", None),
        ("t1", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_as_the_cloud_may_write_them(
    timestamp: Optional[str], seconds: Optional[float]
) -> None:
    assert parse_timestamp(timestamp) == seconds


def test_one_line_counts_columns_and_drops_what_controls() -> None:
    assert one_line("a\n b\x1b[31m\u202e c\x1b[0m\x1b[1;38;5;4mde\x1b", 99) == "a b cde"
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcde…"
    assert one_line("日本語", 6) == "日本語"
    assert one_line("日本語の", 6) == "日本…"
    assert one_line("日本語の", 7) == "日本語…"
    assert one_line("a" * 100_000 + "日", 3) == "aa…"


# Whole runs.


def run_of(emulator: Emulator, client: Any, *callbacks: Any, **more: Any) -> Any:
    job_id = emulator.create_job(name=more.pop("name", "triage"))
    return follow(job_id, callbacks=callbacks, client=client, **more)


@pytest.mark.arkor(engine=ScriptedEngine(steps=20, checkpoints=[10]))
def test_the_picture_is_drawn_as_the_run_goes_on_and_at_its_end(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "loss.svg"
    plot = LossPlot(path, every=0)
    seen: List[str] = []

    class Look(Callback):
        def on_log(self, ctx: Any) -> None:
            plot._outbox.flush(PATIENCE)
            seen.append(path.read_text("utf-8"))

    run = run_of(arkor_emulator, arkor_client, plot, Look())
    assert run.wait(PATIENCE).status == "completed"
    assert "running" in texts(seen[4])
    assert len(curves(seen[4], "train")[0].split("L")) == 5
    last = path.read_text("utf-8")
    assert "completed" in texts(last)
    assert len(curves(last, "train")[0].split("L")) == 20
    assert len(groups(last, "mark")[1]) == 1
    assert [each.name for each in path.parent.iterdir()] == ["loss.svg"]
    assert plot.state_dict() == {}


@pytest.mark.arkor(engine=ScriptedEngine(steps=50))
def test_pictures_are_no_more_frequent_than_they_may_be(
    arkor_emulator: Emulator,
    arkor_client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statuses: List[str] = []
    times = iter(range(1000))
    monkeypatch.setattr(live_chart, "_now", lambda: float(next(times)))
    plot = LossPlot(tmp_path / "loss.svg", every=20)
    put = plot._outbox.put
    monkeypatch.setattr(
        plot._outbox,
        "put",
        lambda item, **more: (statuses.append(item.chart.status), put(item, **more)),
    )
    run_of(arkor_emulator, arkor_client, plot).wait(PATIENCE)
    assert statuses == ["running"] * 3 + ["completed"]


@pytest.mark.arkor(engine=ScriptedEngine(steps=30, fails_at=30, error="no\nmemory"))
def test_several_runs_at_a_time_have_a_file_each(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    plot = LossPlot(tmp_path / "{name}.svg")
    runs = [
        run_of(arkor_emulator, arkor_client, plot, name=name) for name in ("../a/b", "c", ".c", "c")
    ]
    for run in runs:
        run.wait(PATIENCE)
    names = {each.name for each in tmp_path.iterdir()}
    assert "_a_b.svg" in names
    assert "c.svg" in names
    for each in tmp_path.iterdir():
        assert "failed: no memory" in texts(each.read_text("utf-8"))
    assert plot._places == plot._owners == plot._drawn == plot.state_dict() == {}


def test_two_runs_to_one_path_do_not_share_a_file(tmp_path: Path) -> None:
    plot = LossPlot(tmp_path / "loss.svg")
    chart = Chart("a", "running", {})
    assert plot._choose_place(chart, "job-1") == tmp_path / "loss.svg"
    assert plot._choose_place(chart, "job-2") == tmp_path / "loss-job-2.svg"


@pytest.mark.arkor(engine=ScriptedEngine(steps=30, checkpoints=[10]))
def test_a_run_that_is_carried_on_keeps_its_curve(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    class Die(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step == 15:
                ctx.run.abort("killed")

    job_id = arkor_emulator.create_job()
    path = tmp_path / "loss.svg"
    more: Dict[str, Any] = {
        "client": arkor_client,
        "cursor_store": FileCursorStore(tmp_path / "cursors"),
        "abort_grace": PATIENCE,
    }
    with pytest.raises(RunAborted):
        follow(job_id, callbacks=[LossPlot(path), Die()], **more).wait(PATIENCE)
    # If the job has ended before it is followed, nothing is said to go on.
    drawn = texts(path.read_text("utf-8"))
    assert {"aborted: killed", "aborted: killed; the job goes on"} & {*drawn}
    follow(job_id, callbacks=[LossPlot(path)], **more).wait(PATIENCE)
    drawing = path.read_text("utf-8")
    assert len(curves(drawing, "train")[0].split("L")) == 30
    assert len(groups(drawing, "mark")[1]) == 1


@pytest.mark.arkor(
    engine=ScriptedEngine(steps=3000, checkpoints=range(1, 3001), loss=lambda s: math.sin(s) + 2)
)
def test_what_is_kept_for_a_restart_is_bounded(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    plot = LossPlot(tmp_path / "loss.svg", every=1e9)
    sizes: List[int] = []

    class Measure(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step % 10 == 0:
                sizes.append(sum(map(len, plot.state_dict().values())))

    run_of(arkor_emulator, arkor_client, plot, Measure()).wait(PATIENCE)
    assert len(sizes) == 300
    assert max(sizes) < 40_000
    # The picture of this process has more: what the history has.
    drawing = (tmp_path / "loss.svg").read_text("utf-8")
    assert len(curves(drawing, "train")[0].split("L")) > 600


def test_each_run_saves_its_own_state(tmp_path: Path) -> None:
    plot = LossPlot(tmp_path / "loss.svg")
    plot.load_state_dict({"job-1": "[[[1, [2.0, null, null, null, null]]], [1]]"})
    plot.load_state_dict({"job-2": "[[], []]"})
    assert set(plot.state_dict()) == {"job-1", "job-2"}  # it knows of no run yet
    job = TrainingJob("job-1", "o", "p", "triage", "running", {}, "")
    ctx: Any = SimpleNamespace(job=job, step=1, run=SimpleNamespace(history=History()))
    plot.on_checkpoint(ctx)
    assert plot.state_dict() == {"job-1": "[[[1, [2.0, null, null, null, null]]], [1]]"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"path": "loss.pdf"}, "path"),
        ({"path": "a.svg", "theme": "sepia"}, "theme"),
        ({"path": "a.svg", "every": -1}, "every"),
        ({"path": "a.svg", "timeout": None}, "timeout"),
    ],
)
def test_what_cannot_work_is_refused(arguments: Dict[str, Any], word: str) -> None:
    with pytest.raises(ArkorUsageError, match=word):
        LossPlot(**arguments)


# A broken disk.


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_disk_that_fills_up_harms_nothing_and_is_told_of_once(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plot = LossPlot(tmp_path / "loss.svg", every=0)

    class Fill(Callback):
        def on_log(self, ctx: Any) -> None:
            plot._outbox.flush(PATIENCE)
            if ctx.step == 5:
                monkeypatch.setattr("arkor_sync._common.files.os.replace", full)

    run = run_of(arkor_emulator, arkor_client, plot, Fill())
    assert run.wait(PATIENCE).status == "completed"
    assert run.health().given_up == 0
    assert caplog.text.count("could not be drawn: OSError: [Errno 28]") == 1
    assert "running" in texts((tmp_path / "loss.svg").read_text("utf-8"))  # the last whole one
    assert [each.name for each in tmp_path.iterdir()] == ["loss.svg"]


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_folder_that_is_removed_is_made_again(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "loss.svg"
    plot = LossPlot(path, every=0)

    class Remove(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step == 10:
                plot._outbox.flush(PATIENCE)
                path.unlink()
                path.parent.rmdir()

    run_of(arkor_emulator, arkor_client, plot, Remove()).wait(PATIENCE)
    assert "completed" in texts(path.read_text("utf-8"))


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_a_disk_that_hangs_holds_the_end_up_no_longer_than_it_may(
    arkor_emulator: Emulator,
    arkor_client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    healed = threading.Event()
    monkeypatch.setattr(module, "write_atomically", lambda *_, **__: healed.wait(PATIENCE))
    run = run_of(arkor_emulator, arkor_client, LossPlot(tmp_path / "loss.svg", timeout=0.05))
    try:
        assert run.wait(PATIENCE).status == "completed"
        late = f"LossPlot: {tmp_path / 'loss.svg'} not delivered within 0.1 s: still being drawn"
        assert late in caplog.text
    finally:
        healed.set()
