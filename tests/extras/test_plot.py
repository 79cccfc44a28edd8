"""The loss chart as a PNG, drawn with matplotlib, beside whatever else the program draws."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Tuple

import matplotlib
import pytest
from matplotlib.image import imread

from arkor_sync import ArkorUsageError, Callback, History, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.handlers import LossPlot
from arkor_sync.render.chart import PALETTES, Chart
from arkor_sync.render.chart_png import render_png
from arkor_sync.render.comparison import line_colors
from arkor_sync.render.rows import Row, Rows
from arkor_sync.stream.events import LOG, TrainingEvent
from support.waiting import PATIENCE

Color = Tuple[int, int, int]


def rgb(color: str) -> Color:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def colors_of(picture: bytes) -> Dict[Color, int]:
    """Count the pixels of each colour."""
    pixels = (imread(io.BytesIO(picture))[:, :, :3] * 255).round().astype(int)
    counts: Dict[Color, int] = {}
    for color in map(tuple, pixels.reshape(-1, 3).tolist()):
        counts[color] = counts.get(color, 0) + 1
    return counts


def falling(steps: int) -> Rows:
    return {s: Row(3 / s, 3.5 / s if s % 5 == 0 else None) for s in range(1, steps + 1)}


def history_of(start: float) -> History:
    history = History()
    for step in range(1, 41):
        history.append(TrainingEvent(LOG, {"type": LOG, "step": step, "loss": start / step**0.5}))
    return history


def run_of(emulator: Emulator, client: Any, *callbacks: Any) -> Any:
    return follow(emulator.create_job(name="triage"), callbacks=callbacks, client=client)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_is_drawn_in_the_colours_of_its_theme(theme: str) -> None:
    counts = colors_of(render_png(Chart("support-bot", "completed", falling(40), [20, 40]), theme))
    palette = {role: rgb(color) for role, color in PALETTES[theme].items()}
    assert counts[palette["paper"]] > 0.9 * sum(counts.values())
    for role in ("train", "eval", "mark", "grid", "ink", "muted"):
        assert counts.get(palette[role], 0) > 20, role


ODD: List[Rows] = [
    {},
    {5: Row(1.5)},
    {1: Row(math.nan)},
    {1: Row(2.0), 2: Row(math.nan), 3: Row(1.0)},
    {s: Row(1.5**s) for s in range(100)},
    {s: Row(None, 0.0) for s in range(100)},
    {s: Row(math.sin(s)) for s in range(10_000)},
]


@pytest.mark.parametrize("rows", ODD, ids=range(len(ODD)))
def test_odd_curves_are_drawn(rows: Rows) -> None:
    counts = colors_of(render_png(Chart("odd", "running", rows, list(rows)), "light"))
    drawn = any(not math.isnan(row.loss) for row in rows.values() if row.loss is not None)
    assert (rgb(PALETTES["light"]["train"]) in counts) is drawn


@pytest.mark.parametrize(
    "name", ["$\\frac{1", "100% _a_ ^b^ {c}", "日本語 \U0001f600", "x" * 500, ""]
)
def test_any_name_is_drawn_as_it_is_and_without_a_warning(name: str) -> None:
    assert render_png(Chart(name, f"failed: {name}", falling(3)), "light").startswith(b"\x89PNG")


def test_the_programs_own_settings_change_nothing_and_are_not_changed() -> None:
    chart = Chart("support-bot", "completed", falling(40), [20])
    before = render_png(chart, "light")
    with matplotlib.rc_context():
        matplotlib.rcParams.update(
            {
                "text.usetex": True,
                "axes.grid": True,
                "axes.facecolor": "red",
                "figure.facecolor": "red",
                "axes.edgecolor": "red",
                "grid.linestyle": ":",
                "lines.marker": "x",
                "savefig.facecolor": "red",
                "savefig.dpi": 50,
            }
        )
        settings = dict(matplotlib.rcParams)
        assert colors_of(render_png(chart, "light")) == colors_of(before)
        assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("count", [1, 10])
def test_a_comparison_has_its_lines_and_its_legend(tmp_path: Path, theme: Any, count: int) -> None:
    path = tmp_path / "compared.png"
    histories = {f"run {n}": history_of(2.0 + n) for n in range(count)}
    History.compare(histories).save(path, theme=theme)
    picture = path.read_bytes()
    counts = colors_of(picture)
    assert counts[rgb(PALETTES[theme]["paper"])] > 0.9 * sum(counts.values())
    for number, color in enumerate(line_colors(theme)):
        assert (counts.get(rgb(color), 0) > 50) is (number % 5 < count), color
    # The legend: a sample of the first line in its last rows, and nothing that is cut at an edge.
    pixels = (imread(io.BytesIO(picture))[:, :, :3] * 255).round().astype(int)
    paper = list(rgb(PALETTES[theme]["paper"]))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == paper).all()
    below = pixels[-round(160 * 0.19 * count) - 10 :].reshape(-1, 3).tolist()
    assert list(rgb(line_colors(theme)[0])) in below


@pytest.mark.parametrize("name", ["_hidden_", "$\\frac{1", "日本語", "W" * 500, ""])
def test_any_name_is_in_the_legend_without_a_warning(name: str, tmp_path: Path) -> None:
    History.compare({name: history_of(2.0)}).save(tmp_path / "compared.png")
    picture = imread(tmp_path / "compared.png")[:, :, :3]
    assert (picture[:, -1] == 1).all(), "the widest name ends within the picture"


def test_a_comparison_of_nothing_is_drawn(tmp_path: Path) -> None:
    History.compare({"a": History()}).save(tmp_path / "compared.png")
    assert (tmp_path / "compared.png").read_bytes().startswith(b"\x89PNG")


def test_pyplot_is_not_even_loaded() -> None:
    code = """
import sys
from arkor_sync.render.chart import Chart
from arkor_sync.render.chart_png import render_png
assert render_png(Chart("", "", {}), "light")
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.arkor(engine=ScriptedEngine(steps=20, checkpoints=[10]))
def test_the_picture_is_drawn_as_the_run_goes_on_and_off_its_thread(
    arkor_emulator: Emulator,
    arkor_client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "deep" / "loss.png"
    plot = LossPlot(path, every=0, theme="dark")
    threads = set()
    pictures: List[bytes] = []

    def spy(chart: Chart, theme: str) -> bytes:
        threads.add(threading.current_thread().name)
        return render_png(chart, theme)

    monkeypatch.setattr("arkor_sync.handlers.display.plot.render_png", spy)

    class Look(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step in (5, 15):
                plot._outbox.flush(PATIENCE)
                pictures.append(path.read_bytes())

    assert run_of(arkor_emulator, arkor_client, plot, Look()).wait(PATIENCE).status == "completed"
    pictures.append(path.read_bytes())
    assert threads == {"arkor-LossPlot"}
    assert len(set(pictures)) == 3
    assert rgb(PALETTES["dark"]["paper"]) in colors_of(pictures[-1])
    assert [each.name for each in path.parent.iterdir()] == ["loss.png"]


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_folder_that_turns_into_a_file_harms_nothing(
    arkor_emulator: Emulator,
    arkor_client: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "folder" / "loss.png"
    plot = LossPlot(path, every=0)

    class Break(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step == 5:
                plot._outbox.flush(PATIENCE)
                path.unlink()
                path.parent.rmdir()
                path.parent.write_text("")

    run = run_of(arkor_emulator, arkor_client, plot, Break())
    assert run.wait(PATIENCE).status == "completed"
    assert run.health().given_up == 0
    assert caplog.text.count("could not be drawn: ") == 1


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_drawing_that_fails_harms_nothing(
    arkor_emulator: Emulator,
    arkor_client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    run = run_of(arkor_emulator, arkor_client, LossPlot(tmp_path / "loss.png", every=0))
    assert run.wait(PATIENCE).status == "completed"
    assert "could not be drawn: RuntimeError: no fonts" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ArkorUsageError, match=r"pip install 'arkor-sync\[plot\]'"):
        LossPlot(tmp_path / "loss.png")
    LossPlot(tmp_path / "loss.svg")  # needs nothing
