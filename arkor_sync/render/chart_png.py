"""The loss chart as a PNG, drawn with matplotlib. Any thread.

Only matplotlib's object interface is used, and not pyplot: the program's backend and settings of
matplotlib stay as they are.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any, Dict, List, Tuple

from arkor_sync._common.locks import ProcessLock
from arkor_sync.render.chart import (
    MAX_CHECKPOINT_LINES,
    MAX_DOTS,
    PALETTES,
    Axes,
    Chart,
    Point,
    format_tick,
)
from arkor_sync.render.text import one_line

_FONT = "DejaVu Sans"  # it comes with matplotlib
_DPI = 160
_draw_lock = ProcessLock()  # matplotlib shares its fonts between figures


def render_png(chart: Chart, theme: str) -> bytes:
    """Draw a chart as a PNG.

    Args:
        chart: The data.
        theme: `dark`; every other value means light.
    """
    picture = io.BytesIO()
    with _draw_lock():
        figure = _figure(chart, PALETTES["dark" if theme == "dark" else "light"])
        figure.savefig(picture, format="png", dpi=_DPI, facecolor=figure.get_facecolor())
    return picture.getvalue()


def _figure(chart: Chart, colors: Dict[str, str]) -> Any:
    new_figure = import_module("matplotlib.figure").Figure
    new_line = import_module("matplotlib.lines").Line2D
    train, evaluated = curves = chart.curves()
    axes, drawn = Axes(chart, curves), bool(train or evaluated)
    muted, grid, mark = colors["muted"], colors["grid"], colors["mark"]
    words: Dict[str, Any] = {"parse_math": False, "usetex": False, "family": _FONT}
    figure = new_figure(figsize=(8.6, 4.3), dpi=_DPI, facecolor=colors["paper"])
    plot = figure.add_axes((0.095, 0.13, 0.875, 0.68), facecolor=colors["paper"])
    name, status = _drawable(one_line(chart.name, 64)), _drawable(one_line(chart.status, 56))
    figure.text(0.095, 0.925, name, color=colors["ink"], size=13, weight="bold", **words)
    figure.text(0.095, 0.85, status, color=muted, size=9.5, **words)

    plot.set_yscale("log" if axes.log else "linear")
    plot.set(xlim=axes.x, ylim=axes.y)
    if drawn:
        plot.set_xticks(axes.x_ticks, [*map(format_tick, axes.x_ticks)], **words)
        plot.set_yticks(axes.y_ticks, [*map(format_tick, axes.y_ticks)], **words)
    else:
        plot.set(xticks=[], yticks=[])
        middle: Dict[str, Any] = {"ha": "center", "transform": plot.transAxes}
        plot.text(0.5, 0.5, "no loss has been logged", color=muted, **middle, **words)
    plot.set_yticks([], minor=True)
    plot.set_xlabel("step", color=muted, size=9.5, **words)
    plot.set_ylabel("loss (log scale)" if axes.log else "loss", color=muted, size=9.5, **words)
    plot.tick_params(colors=muted, labelsize=9, length=0)
    plot.grid(False)
    plot.grid(True, axis="y", color=grid, linewidth=0.9, linestyle="-", alpha=1)
    plot.set_axisbelow(True)
    for side, spine in plot.spines.items():
        spine.set(visible=side == "bottom", color=grid)

    marks = list(chart.checkpoints)
    if len(marks) <= MAX_CHECKPOINT_LINES:
        dotted: Dict[str, Any] = {"linestyle": (0, (2, 4)), "linewidth": 0.9, "marker": ""}
        for step in marks:
            plot.axvline(step, color=mark, alpha=0.55, **dotted)
    common: Dict[str, Any] = {"markersize": 5, "markeredgewidth": 0}
    kinds: List[Tuple[str, List[List[Point]], bool, float]] = [
        ("train", train, False, 0.85 * chart.stroke),
        ("eval", evaluated, sum(map(len, evaluated)) <= MAX_DOTS, 1.5),
    ]
    handles = []
    for kind, pieces, dots, width in kinds:
        line = {**common, "color": colors[kind], "linestyle": "-"}
        for piece in pieces:
            dot = "o" if dots or len(piece) == 1 else ""
            plot.plot(*zip(*piece), marker=dot, linewidth=width, **line)
        if pieces:
            dot = "o" if kind == "eval" else ""
            handles.append(
                new_line([], [], marker=dot, linewidth=1.5, label=f"{kind} loss", **line)
            )
    if marks:
        bottom = plot.get_xaxis_transform()
        triangles = {**common, "color": mark, "marker": "^", "markersize": 6, "linestyle": ""}
        plot.plot(marks, [0.015] * len(marks), transform=bottom, clip_on=False, **triangles)
        handles.append(new_line([], [], label="checkpoint", **triangles))
    if handles:
        legend = figure.legend(
            handles=handles,
            loc="center right",
            bbox_to_anchor=(0.985, 0.865),
            ncol=3,
            frameon=False,
            labelcolor=colors["ink"],
            columnspacing=1.4,
            handletextpad=0.6,
            prop={"family": _FONT, "size": 9},
        )
        for text in legend.get_texts():
            text.set(parse_math=False, usetex=False)
    return figure


def _drawable(text: str) -> str:
    """Replace characters that the font does not have: matplotlib would warn about each of them."""
    fonts = import_module("matplotlib.font_manager")
    signs = fonts.get_font(fonts.findfont(_FONT)).get_charmap()
    return "".join(character if ord(character) in signs else "?" for character in text)
