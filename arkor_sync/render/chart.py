"""The loss chart of a run: its data, its axes, and the drawing as SVG. Pure."""

from __future__ import annotations

import dataclasses
import math
from html import escape
from typing import Dict, List, Literal, Mapping, Sequence, Tuple

from arkor_sync._common.arguments import check
from arkor_sync._common.text import counted
from arkor_sync.render.rows import Rows, downsample
from arkor_sync.render.text import one_line

Point = Tuple[float, float]
Theme = Literal["auto", "light", "dark"]

PALETTES: Dict[str, Dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1f2328",
        "muted": "#59636e",
        "grid": "#e3e6ea",
        "train": "#0a5fd0",
        "eval": "#b3480a",
        "mark": "#7a4bc4",
    },
    "dark": {
        "paper": "#0f141a",
        "ink": "#e6edf3",
        "muted": "#9aa5b1",
        "grid": "#2a323c",
        "train": "#6cb0ff",
        "eval": "#ffa24d",
        "mark": "#b899f5",
    },
}

_MAX_ROWS = 1500  # rows that are drawn
_MIN_LOG_LOSS = 1e-100  # the lowest loss that a logarithmic scale can show
_LOG_RATIO = 50.0  # highest loss / lowest loss, from which the scale is logarithmic
_MIN_SPAN = 1e-300  # floats nearer to each other leave no room for ticks between them
_MAX_THICK_ROWS = 600  # with more rows, the train loss is a thin line
_MAX_DESCRIPTION = 500  # columns of the name, and of the status, for screen readers
MAX_DOTS = 60  # with more evaluations, the eval loss has no dots
MAX_CHECKPOINT_LINES = 30  # with more checkpoints, they have no vertical lines

WIDTH, HEIGHT = 860, 430
LEFT, RIGHT, TOP, BOTTOM = 76, 836, 78, 376


@dataclasses.dataclass(frozen=True)
class Chart:
    """The data of one run's chart.

    Args:
        name: The job's name.
        status: The status of the run; after its end with the reason.
        rows: The metrics by step.
        checkpoints: The steps of the checkpoints.
    """

    name: str
    status: str
    rows: Rows
    checkpoints: Sequence[int] = ()

    @property
    def stroke(self) -> float:
        """The line width of the train loss: thin for many steps, which would hide the rest."""
        return 1.8 if len(self.rows) <= _MAX_THICK_ROWS else 0.9

    def curves(self) -> Tuple[List[List[Point]], List[List[Point]]]:
        """Return train loss and eval loss, each as a list of pieces: a NaN leaves a gap."""
        rows = downsample(self.rows, _MAX_ROWS)
        return (
            _split_at_nan([(step, row.loss) for step, row in rows.items() if row.loss is not None]),
            _split_at_nan(
                [(s, row.eval_loss) for s, row in rows.items() if row.eval_loss is not None]
            ),
        )


class Axes:
    """The ranges and ticks of a chart's axes.

    Args:
        curves: All that is drawn, each curve as a list of pieces.
        steps: More steps that must be on the horizontal axis: the checkpoints.

    Attributes:
        log: Whether the scale of the losses is logarithmic: it is for a wide range of losses.
        x, y: The range of each axis.
        x_ticks, y_ticks: The values at which each axis has a label.
    """

    def __init__(self, curves: Sequence[List[List[Point]]], steps: Sequence[int] = ()) -> None:
        points = [point for curve in curves for piece in curve for point in piece]
        xs = [x for x, _ in points] + [float(step) for step in steps]
        low, high = (
            min((y for _, y in points), default=0.0),
            max((y for _, y in points), default=1.0),
        )
        self.log = low > _MIN_LOG_LOSS and high / low >= _LOG_RATIO
        first, last = min(xs, default=0.0), max(xs, default=1.0)
        self.x = _pad(first, last, 0.02)
        self.x_ticks = [tick for tick in _ticks(first, last, 8) if tick == int(tick)]
        if self.log:
            below, above = _pad(math.log10(low), math.log10(high), 0.05)
            self.y = 10**below, 10**above
            self.y_ticks = _log_ticks(*self.y)
        else:
            self.y = _pad(low, high, 0.06)
            self.y_ticks = _ticks(*self.y, 6)

    def x_fraction(self, x: float) -> float:
        """Return the position of a step on its axis, from 0 to 1."""
        return (x - self.x[0]) / (self.x[1] - self.x[0])

    def y_fraction(self, y: float) -> float:
        """Return the position of a loss on its axis, from 0 to 1."""
        low, high = self.y
        if self.log:
            low, high, y = math.log10(low), math.log10(high), math.log10(y)
        return (y - low) / (high - low)


def check_theme(theme: str) -> None:
    """Refuse a theme that there is not.

    Raises:
        ArkorUsageError: It is none of `Theme`.
    """
    check("theme", theme, theme in ("auto", *PALETTES), "'light', 'dark' or 'auto'")


def svg_tag(view_box: str, theme: str) -> str:
    """Return the tag that begins a picture. Only one of the theme `auto` has `auto_style`."""
    kind = "arkor-chart arkor-auto" if theme == "auto" else "arkor-chart"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" role="img" '
        f'viewBox="{view_box}" font-size="13" font-family="system-ui, sans-serif">'
    )


def render_svg(chart: Chart, theme: str = "auto", heading: bool = True) -> str:
    """Draw a chart as an SVG document, which may also be a part of an HTML page.

    Args:
        chart: The data.
        theme: `light`, `dark`, or `auto`: the colours follow the system of the reader.
        heading: Whether the name and the status are drawn above the chart.
    """
    colors = PALETTES["dark" if theme == "dark" else "light"]
    train, evaluated = curves = chart.curves()
    axes = Axes(curves, chart.checkpoints)
    top = 0 if heading else 44  # without a heading the picture begins here
    parts = [
        svg_tag(f"0 {top} {WIDTH} {HEIGHT - top}", theme),
        f"<title>{escape(_description(chart, axes))}</title>",
        auto_style() if theme == "auto" else "",
        f'<rect class="paper" color="{colors["paper"]}" fill="currentColor" '
        f'y="{top}" width="{WIDTH}" height="{HEIGHT - top}"/>',
    ]

    def group(role: str, content: List[str], more: str = "") -> None:
        if content:
            parts.append(f'<g class="{role}" color="{colors[role]}" {more}>{"".join(content)}</g>')

    stroke = 'stroke="currentColor" fill="none"'
    fill = 'fill="currentColor"'
    grid, labels = draw_axes(axes, "loss", bool(train or evaluated))
    group("grid", grid, stroke)
    group("muted", labels, fill)
    marks = [_x(axes, step) for step in chart.checkpoints]
    if len(marks) <= MAX_CHECKPOINT_LINES:
        lines = [_line(x, TOP, x, BOTTOM) for x in marks]
        group("mark", lines, f'{stroke} stroke-opacity=".55" stroke-dasharray="2 4"')
    triangles = [f'<path d="M{x:.1f} {BOTTOM - 7}l5 8h-10z"/>' for x in marks]
    group("mark", triangles, fill)
    line = f'{stroke} stroke-linejoin="round" stroke-linecap="round" stroke-width='
    group("train", [draw_path(axes, piece) for piece in train], f'{line}"{chart.stroke}"')
    group("eval", [draw_path(axes, piece) for piece in evaluated], f'{line}"1.8"')
    group("train", [draw_dot(axes, piece[0]) for piece in train if len(piece) == 1], fill)
    dotted = [p for piece in evaluated for p in piece]
    if len(dotted) > MAX_DOTS:
        dotted = [piece[0] for piece in evaluated if len(piece) == 1]
    group("eval", [draw_dot(axes, point) for point in dotted], fill)
    if heading:
        group("ink", [draw_title(chart.name)], fill)
        group("muted", [draw_text(LEFT, 58, one_line(chart.status, 58))], fill)
    parts.append(_legend(colors, heading, bool(train), bool(evaluated), bool(marks)))
    return "".join(parts) + "</svg>\n"


def draw_axes(axes: Axes, metric: str, drawn: bool) -> Tuple[List[str], List[str]]:
    """Draw what is behind the curves: the lines of the grid, and the texts at both axes.

    Args:
        axes: The axes.
        metric: The name of the vertical one.
        drawn: Whether there are curves. If not, the text says so.
    """
    bottom, middle = _line(LEFT, BOTTOM, RIGHT, BOTTOM), (TOP + BOTTOM) / 2
    scale = escape(f"{metric} (log scale)" if axes.log else metric)
    labels = [
        draw_text((LEFT + RIGHT) / 2, BOTTOM + 42, "step", "middle"),
        f'<text x="17" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 17 {middle})">{scale}</text>',
    ]
    if not drawn:
        nothing = f"no {metric} has been logged"
        return [bottom], [*labels, draw_text((LEFT + RIGHT) / 2, middle, nothing, "middle")]
    grid = [_line(LEFT, _y(axes, t), RIGHT, _y(axes, t)) for t in axes.y_ticks]
    ys = [draw_text(LEFT - 8, _y(axes, t) + 4.5, format_tick(t), "end") for t in axes.y_ticks]
    xs = [draw_text(_x(axes, t), BOTTOM + 20, format_tick(t), "middle") for t in axes.x_ticks]
    return [*grid, bottom], [*ys, *xs, *labels]


def draw_title(title: str) -> str:
    """Draw the title of a chart."""
    return draw_text(LEFT, 28, one_line(title, 72), more='font-size="17" font-weight="600"')


def format_tick(tick: float) -> str:
    """Format the value of a tick; a large one with an exponent."""
    return f"{tick:.3g}" if abs(tick) >= 1e6 else f"{tick:.10g}"


def _description(chart: Chart, axes: Axes) -> str:
    name, status = (one_line(text, _MAX_DESCRIPTION) for text in (chart.name, chart.status))
    steps, were = counted(len(chart.rows), "step"), "was" if len(chart.rows) == 1 else "were"
    scale = "on a logarithmic scale" if axes.log else ""
    what = f"{name}: loss over {steps} that {were} logged"
    return ", ".join(filter(None, [what, status, scale]))


def auto_style(colors: Mapping[str, str] = PALETTES["dark"]) -> str:
    """Return the style that gives the groups their colours for a dark system, by their classes.

    In a page it holds for all of it, so it is about pictures of the theme `auto` alone.
    """
    rules = "".join(f".arkor-auto .{role}{{color:{color}}}" for role, color in colors.items())
    return f"<style>@media(prefers-color-scheme:dark){{{rules}}}</style>"


def _legend(
    colors: Dict[str, str], heading: bool, train: bool, evaluated: bool, marks: bool
) -> str:
    """Draw a legend of what the chart has: at the right if it has a heading, else at the left."""
    stroke = 'stroke="currentColor" stroke-width="2.4"'
    line = '<path d="M{0} 54h20" ' + stroke + "/>"
    dot = '<circle cx="{1}" cy="54" r="3.4" fill="currentColor"/>'
    triangle = '<path d="M{1} 49l5 8h-10z" fill="currentColor"/>'
    entries = [
        (train, "train", "train loss", 62, line),
        (evaluated, "eval", "eval loss", 58, line + dot),
        (marks, "mark", "checkpoint", 72, triangle),
    ]
    shown = [entry for entry in entries if entry[0]]
    x = float(RIGHT + 18 - sum(27 + entry[3] + 18 for entry in shown) if heading else LEFT)
    drawn = []
    for _, role, text, width, shape in shown:
        drawn.append(
            f'<g class="{role}" color="{colors[role]}">{shape.format(x, x + 10)}</g>'
            f'<g class="ink" color="{colors["ink"]}" fill="currentColor">'
            f"{draw_text(x + 27, 58.5, text)}</g>"
        )
        x += 27 + width + 18
    return "".join(drawn)


def draw_text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    """Draw a text on one line."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"/>'


def draw_path(axes: Axes, piece: List[Point]) -> str:
    """Draw one piece of a curve."""
    return f'<path d="M{"L".join(f"{_x(axes, x):.1f} {_y(axes, y):.1f}" for x, y in piece)}"/>'


def draw_dot(axes: Axes, point: Point) -> str:
    """Draw one point of a curve."""
    return f'<circle cx="{_x(axes, point[0]):.1f}" cy="{_y(axes, point[1]):.1f}" r="3.4"/>'


def _x(axes: Axes, step: float) -> float:
    return LEFT + (RIGHT - LEFT) * axes.x_fraction(step)


def _y(axes: Axes, loss: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * axes.y_fraction(loss)


def _split_at_nan(points: Sequence[Point]) -> List[List[Point]]:
    pieces: List[List[Point]] = [[]]
    for point in points:
        if math.isnan(point[1]):
            pieces.append([])
        else:
            pieces[-1].append(point)
    return [piece for piece in pieces if piece]


def _pad(low: float, high: float, share: float) -> Tuple[float, float]:
    span = high - low
    if span < _MIN_SPAN:
        span = max(1.0, abs(low))
    return low - span * share, high + span * share


def _ticks(low: float, high: float, count: int) -> List[float]:
    """Return about `count` round numbers in a range, at intervals of 1, 2 or 5 times 10**n."""
    rough = (high - low or 1.0) / count
    power = 10.0 ** math.floor(math.log10(rough))
    interval = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    first, last = math.ceil(low / interval - 1e-9), math.floor(high / interval + 1e-9)
    return [number * interval for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> List[float]:
    """Return 1, 2 and 5 times the powers of ten in a range, or fewer if they are too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    every = (last - first) // 8 + 1
    ticks = [n * 10.0**power for power in range(first, last + 1, every) for n in factors]
    return [tick for tick in ticks if low <= tick <= high]
