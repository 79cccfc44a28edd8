"""The loss chart as a PNG, drawn with matplotlib. Any thread.

Only matplotlib's object interface is used, and not pyplot: the program's backend and settings of
matplotlib stay as they are.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any, Callable, Dict, List, Sequence, Tuple

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
from arkor_sync.render.comparison import ComparisonChart, is_dashed, line_colors
from arkor_sync.render.text import one_line

_FONT = "DejaVu Sans"  # it comes with matplotlib
_WORDS: Dict[str, Any] = {"parse_math": False, "usetex": False, "family": _FONT}
_DPI = 160
_LEGEND_INCHES = 0.19  # of a line of the legend
_draw_lock = ProcessLock()  # matplotlib shares its fonts between figures


def render_png(chart: Chart, theme: str) -> bytes:
    """Draw a chart as a PNG.

    Args:
        chart: The data.
        theme: `dark`; every other value means light.
    """
    return _draw(lambda: _figure(chart, PALETTES["dark" if theme == "dark" else "light"]))


def render_comparison_png(chart: ComparisonChart, theme: str) -> bytes:
    """Draw a comparison as a PNG.

    Args:
        chart: The data.
        theme: `dark`; every other value means light.
    """
    return _draw(lambda: _comparison_figure(chart, theme))


def _draw(make_figure: Callable[[], Any]) -> bytes:
    picture = io.BytesIO()
    with _draw_lock():
        figure = make_figure()
        figure.savefig(picture, format="png", dpi=_DPI, facecolor=figure.get_facecolor())
    return picture.getvalue()


def _comparison_figure(chart: ComparisonChart, theme: str) -> Any:
    colors = PALETTES["dark" if theme == "dark" else "light"]
    curves = [line.pieces() for line in chart.lines]
    names = [_drawable(line.legend_name) for line in chart.lines]
    below = _LEGEND_INCHES * len(names)  # for the legend
    words = [_drawable(text) for text in (chart.title, chart.metric, chart.note)]
    figure, plot = _plot(Axes(curves), any(curves), words, colors, below)
    new_line = import_module("matplotlib.lines").Line2D
    handles = []
    for number, (line, pieces, color) in enumerate(zip(chart.lines, curves, line_colors(theme))):
        dashes = (0, (4, 2.3)) if is_dashed(number) else "-"
        shape: Dict[str, Any] = {"color": color, "linewidth": 1.6, "linestyle": dashes}
        for piece in pieces:
            plot.plot(*zip(*piece), marker="o" if len(piece) == 1 else "", markersize=5, **shape)
        plot.plot(*zip(*line.dots()), **{**shape, "marker": "o", "markersize": 5})
        # The blank: matplotlib hides a name that begins with an underscore.
        handles.append(new_line([], [], marker="", label=f" {names[number]}", **shape))
    _legend(figure, handles, colors, 1, loc="lower left", bbox_to_anchor=(0.085, 0.0))
    return figure


def _plot(
    axes: Axes, drawn: bool, words: Sequence[str], colors: Dict[str, str], below: float = 0.0
) -> Tuple[Any, Any]:
    """Make a figure with its axes, and no curves.

    Args:
        axes: The axes.
        drawn: Whether there will be curves.
        words: The title, the name of the vertical axis, and the line below the title.
        colors: The colours of the theme.
        below: Inches that are left free below the horizontal axis and its texts.
    """
    height = 4.3 + below
    figure = import_module("matplotlib.figure").Figure(
        figsize=(8.6, height), dpi=_DPI, facecolor=colors["paper"]
    )
    place = (0.095, (0.56 + below) / height, 0.875, 2.92 / height)
    plot = figure.add_axes(place, facecolor=colors["paper"])
    title, metric, note = words
    muted, grid = colors["muted"], colors["grid"]
    at = {"size": 13, "weight": "bold"}
    figure.text(0.095, 1 - 0.32 / height, title, color=colors["ink"], **at, **_WORDS)
    figure.text(0.095, 1 - 0.645 / height, note, color=muted, size=9.5, **_WORDS)
    plot.set_yscale("log" if axes.log else "linear")
    plot.set(xlim=axes.x, ylim=axes.y)
    if drawn:
        plot.set_xticks(axes.x_ticks, [*map(format_tick, axes.x_ticks)], **_WORDS)
        plot.set_yticks(axes.y_ticks, [*map(format_tick, axes.y_ticks)], **_WORDS)
    else:
        plot.set(xticks=[], yticks=[])
        middle: Dict[str, Any] = {"ha": "center", "transform": plot.transAxes}
        plot.text(0.5, 0.5, f"no {metric} has been logged", color=muted, **middle, **_WORDS)
    plot.set_yticks([], minor=True)
    plot.set_xlabel("step", color=muted, size=9.5, **_WORDS)
    scale = f"{metric} (log scale)" if axes.log else metric
    plot.set_ylabel(scale, color=muted, size=9.5, **_WORDS)
    plot.tick_params(colors=muted, labelsize=9, length=0)
    plot.grid(False)
    plot.grid(True, axis="y", color=grid, linewidth=0.9, linestyle="-", alpha=1)
    plot.set_axisbelow(True)
    for side, spine in plot.spines.items():
        spine.set(visible=side == "bottom", color=grid)
    return figure, plot


def _legend(
    figure: Any, handles: List[Any], colors: Dict[str, str], columns: int, **place: Any
) -> None:
    if not handles:
        return
    legend = figure.legend(
        handles=handles,
        ncol=columns,
        frameon=False,
        labelcolor=colors["ink"],
        columnspacing=1.4,
        handletextpad=0.6,
        prop={"family": _FONT, "size": 9},
        **place,
    )
    for text in legend.get_texts():
        text.set(parse_math=False, usetex=False)


def _figure(chart: Chart, colors: Dict[str, str]) -> Any:
    new_line = import_module("matplotlib.lines").Line2D
    train, evaluated = curves = chart.curves()
    name, status = _drawable(one_line(chart.name, 64)), _drawable(one_line(chart.status, 56))
    axes, drawn = Axes(curves, chart.checkpoints), bool(train or evaluated)
    figure, plot = _plot(axes, drawn, (name, "loss", status), colors)
    mark = colors["mark"]
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
    _legend(figure, handles, colors, 3, loc="center right", bbox_to_anchor=(0.985, 0.865))
    return figure


def _drawable(text: str) -> str:
    """Replace characters that the font does not have: matplotlib would warn about each of them."""
    fonts = import_module("matplotlib.font_manager")
    signs = fonts.get_font(fonts.findfont(_FONT)).get_charmap()
    return "".join(character if ord(character) in signs else "?" for character in text)
