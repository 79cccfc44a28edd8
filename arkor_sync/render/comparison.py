"""One metric of several runs: a chart as SVG, and a table as text. Pure."""

from __future__ import annotations

import dataclasses
import math
from html import escape
from typing import Dict, List, Sequence, Tuple, Union

from arkor_sync.render.chart import (
    BOTTOM,
    LEFT,
    PALETTES,
    WIDTH,
    Axes,
    Chart,
    Point,
    auto_style,
    draw_axes,
    draw_dot,
    draw_path,
    draw_text,
    draw_title,
    svg_tag,
)
from arkor_sync.render.rows import Rows
from arkor_sync.render.text import display_width, format_number, one_line

Cell = Union[str, float, None]

MAX_LINES = 10
"""The most lines of one chart: five colours, each of them once solid and once dashed."""

# Told apart also by those who see fewer colours, and with a contrast of 4.5 to the paper and more.
LINE_COLORS: Dict[str, Tuple[str, ...]] = {
    "light": ("#0a5fd0", "#b3480a", "#0a4a2a", "#6a0f4f", "#6e7781"),
    "dark": ("#6cb0ff", "#ffa24d", "#5ff0a8", "#f0489a", "#dadae5"),
}

_LEGEND_TOP, _LEGEND_ROW = BOTTOM + 70, 22
_MAX_NAME = 54  # columns in the legend: as many of the widest letters as there is room for
_MAX_CELL = 40  # columns of a name in the table
_LONG = 10**15  # from here on, a whole number is written with an exponent


@dataclasses.dataclass(frozen=True)
class Line:
    """One run of a comparison chart.

    Args:
        name: Its name in the legend.
        rows: The metric by step, in the place of the loss.
        best_step: The step that has a dot.
    """

    name: str
    rows: Rows
    best_step: int

    @property
    def legend_name(self) -> str:
        """The name as the legend has room for it."""
        return one_line(self.name, _MAX_NAME)

    def dots(self) -> List[Point]:
        """Return the point at the best step, unless it cannot be drawn."""
        value = self.rows[self.best_step].loss
        return [] if value is None or math.isnan(value) else [(self.best_step, value)]

    def pieces(self) -> List[List[Point]]:
        """Return the curve as a list of pieces, of so many points as can be seen."""
        return Chart(self.name, "", self.rows).curves()[0]


@dataclasses.dataclass(frozen=True)
class ComparisonChart:
    """The data of a comparison chart.

    Args:
        title: What stands above it.
        metric: The metric, as it is shown at its axis.
        note: What stands below the title.
        lines: At most `MAX_LINES`.
    """

    title: str
    metric: str
    note: str
    lines: Sequence[Line]


def is_dashed(number: int) -> bool:
    """Whether the line with this number, from 0, is dashed."""
    return number >= MAX_LINES // 2


def line_colors(theme: str) -> List[str]:
    """Return the colours of the lines, `MAX_LINES` of them."""
    return [*LINE_COLORS["dark" if theme == "dark" else "light"]] * 2


def line_palette(theme: str) -> Dict[str, str]:
    """Return the colour of each part of the picture, as `PALETTES` has them, and of the lines."""
    lines = {f"line{number}": color for number, color in enumerate(line_colors(theme))}
    return {**PALETTES["dark" if theme == "dark" else "light"], **lines}


def render_comparison_svg(chart: ComparisonChart, theme: str = "auto") -> str:
    """Draw a comparison as an SVG document, which may also be a part of an HTML page.

    Args:
        chart: The data.
        theme: `light`, `dark`, or `auto`: the colours follow the system of the reader.
    """
    colors = line_palette(theme)
    curves = [line.pieces() for line in chart.lines]
    axes = Axes(curves)
    height = _LEGEND_TOP + _LEGEND_ROW * len(chart.lines)
    names = ", ".join(line.name for line in chart.lines)
    described = f"{chart.title}, {chart.note}: {names}"
    parts = [
        svg_tag(f"0 0 {WIDTH} {height}", theme),
        f"<title>{escape(one_line(described, 500))}</title>",
        auto_style(line_palette("dark")) if theme == "auto" else "",
        f'<rect class="paper" color="{colors["paper"]}" fill="currentColor" '
        f'width="{WIDTH}" height="{height}"/>',
    ]

    def group(role: str, content: Sequence[str], more: str) -> None:
        parts.append(f'<g class="{role}" color="{colors[role]}" {more}>{"".join(content)}</g>')

    stroke, fill = 'stroke="currentColor" fill="none"', 'fill="currentColor"'
    grid, labels = draw_axes(axes, chart.metric, any(curves))
    group("grid", grid, stroke)
    group("muted", [*labels, draw_text(LEFT, 54, one_line(chart.note, 100))], fill)
    group("ink", [draw_title(chart.title)], fill)
    for number, (line, pieces) in enumerate(zip(chart.lines, curves)):
        role = f"line{number}"
        y = _LEGEND_TOP + _LEGEND_ROW * number
        dashes = 'stroke-dasharray="7 4"' if is_dashed(number) else ""
        shape = f'{stroke} stroke-width="1.9" stroke-linejoin="round" {dashes}'
        drawn = [draw_path(axes, piece) for piece in pieces]
        group(role, [*drawn, f'<path d="M{LEFT} {y}h32"/>'], shape)
        dots = [*line.dots(), *(piece[0] for piece in pieces if len(piece) == 1)]
        group(role, [draw_dot(axes, dot) for dot in dots], fill)
        group("ink", [draw_text(LEFT + 42, y + 4.5, line.legend_name)], fill)
    return "".join(parts) + "</svg>\n"


def render_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Format a table as text: the first column to the left, the numbers to the right."""
    lines = [[*map(cell_text, columns)], *([*map(cell_text, row)] for row in rows)]
    widths = [max(map(display_width, column)) for column in zip(*lines)]

    def align(line: Sequence[str]) -> str:
        blanks = [" " * (width - display_width(text)) for text, width in zip(line, widths)]
        numbers = (blank + text for blank, text in zip(blanks[1:], line[1:]))
        return "  ".join([line[0] + blanks[0], *numbers]).rstrip()

    return "\n".join(map(align, lines))


def cell_text(value: Cell) -> str:
    """Format what a cell of the table shows, on one line."""
    if isinstance(value, str):
        return one_line(value, _MAX_CELL)
    if value is None:
        return ""
    is_short = isinstance(value, int) and abs(value) < _LONG
    return str(value) if is_short else format_number(value)
