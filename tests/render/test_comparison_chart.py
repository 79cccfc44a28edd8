"""The chart of several runs as SVG: what is drawn, and that it can be read."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import combinations
from typing import Dict, List, Tuple

import pytest

from arkor_sync.render.chart import PALETTES, WIDTH
from arkor_sync.render.comparison import (
    LINE_COLORS,
    MAX_LINES,
    ComparisonChart,
    Line,
    is_dashed,
    line_colors,
    render_comparison_svg,
    render_table,
)
from arkor_sync.render.rows import rows_of

SVG = "{http://www.w3.org/2000/svg}"
Color = Tuple[float, float, float]


def falling(name: str, start: float) -> Line:
    return Line(name, rows_of([(step, start / step) for step in range(1, 9)]), 8)


def chart(*lines: Line) -> ComparisonChart:
    return ComparisonChart("loss of some runs", "loss", "the dot is the lowest value", lines)


def ten() -> ComparisonChart:
    return chart(*(falling(f"run {n}", 2.0 + n) for n in range(MAX_LINES)))


def groups(drawing: str, role: str) -> List[ET.Element]:
    return [each for each in ET.fromstring(drawing).iter(f"{SVG}g") if each.get("class") == role]


def test_each_run_has_a_line_a_dot_at_its_best_value_and_a_line_in_the_legend() -> None:
    drawing = render_comparison_svg(ten(), "light")
    for number in range(MAX_LINES):
        lines, dots = groups(drawing, f"line{number}")
        assert len(lines.findall(f"{SVG}path")) == 2
        assert len(dots.findall(f"{SVG}circle")) == 1
        assert lines.get("color") == line_colors("light")[number]


def test_no_two_lines_look_the_same() -> None:
    drawing = render_comparison_svg(ten())
    looks = []
    for number in range(MAX_LINES):
        group = groups(drawing, f"line{number}")[0]
        looks.append((group.get("color"), group.get("stroke-dasharray")))
        assert (group.get("stroke-dasharray") is not None) is is_dashed(number)
    assert len(set(looks)) == MAX_LINES


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10])
def test_the_whole_legend_is_inside_the_picture_and_no_name_covers_another(count: int) -> None:
    widest = "W" * 200
    lines = [Line(widest, rows_of([(1, 1.0), (2, 0.5)]), 2) for _ in range(count)]
    drawing = render_comparison_svg(chart(*lines))
    root = ET.fromstring(drawing)
    height = float((root.get("viewBox") or "").split()[3])
    names = [each for each in root.iter(f"{SVG}text") if (each.text or "").startswith("WW")]
    places = [(float(each.get("x", 0)), float(each.get("y", 0))) for each in names]
    assert len(set(places)) == count
    widest_letter = 0.95 * 13  # a W of common fonts, at the size of the legend
    for x, y in places:
        assert y + 6 < height
        assert x + widest_letter * len(names[0].text or "") < WIDTH
    ys = sorted(y for _, y in places)
    assert all(lower - upper >= 20 for upper, lower in zip(ys, ys[1:]))


def test_a_gap_stays_a_gap_and_what_cannot_be_drawn_is_left_out() -> None:
    gap = Line("gap", rows_of([(1, 2.0), (2, math.nan), (3, 1.0), (4, 1e300), (5, 10**400)]), 5)
    lines, dots = groups(render_comparison_svg(chart(gap)), "line0")
    assert len(lines.findall(f"{SVG}path")) == 3, "two pieces, and the legend"
    assert len(dots.findall(f"{SVG}circle")) == 2, "each piece is one point"


def test_a_long_run_is_thinned() -> None:
    lines = [
        Line(f"run {n}", rows_of([(step, 1 + n + math.sin(step)) for step in range(10_000)]), 0)
        for n in range(MAX_LINES)
    ]
    assert len(render_comparison_svg(chart(*lines))) < 400_000


def test_no_name_is_markup() -> None:
    drawing = render_comparison_svg(chart(falling("<script>&\x1b[31m", 2.0)))
    assert "<script>" not in drawing
    assert "<script>&" in [each.text for each in ET.fromstring(drawing).iter(f"{SVG}text")]


def test_a_reader_of_the_screen_hears_what_it_shows() -> None:
    title = ET.fromstring(render_comparison_svg(ten())).find(f"{SVG}title")
    assert title is not None
    assert (title.text or "").startswith("loss of some runs, the dot is the lowest value: run 0")


def test_by_itself_it_follows_the_readers_system() -> None:
    light, dark, auto = (render_comparison_svg(ten(), each) for each in ("light", "dark", "auto"))
    assert "prefers-color-scheme" in auto
    assert "prefers-color-scheme" not in light + dark
    # Its style holds for a whole page: it is about no picture of another theme.
    assert set(re.findall(r"(\.[\w-]+) \.\w+{", auto)) == {".arkor-auto"}
    assert ["arkor-auto" in each for each in (light, dark, auto)] == [False, False, True]
    for color in LINE_COLORS["dark"]:
        assert color in auto
        assert color in dark
        assert color not in light


# Colours.


def linear(color: str) -> Color:
    def channel(text: str) -> float:
        value = int(text, 16) / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    r, g, b = re.findall("[0-9a-f]{2}", color)
    return channel(r), channel(g), channel(b)


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, "relative luminance")."""

    def luminance(color: str) -> float:
        r, g, b = linear(color)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


# How those see who lack one kind of cones (Machado, Oliveira and Fernandes, 2009; severity 1).
EYES: Dict[str, List[Color]] = {
    "usual": [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "protan": [
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ],
    "deutan": [
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ],
    "tritan": [
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ],
}


def lab(color: Color) -> Color:
    r, g, b = (max(0.0, each) for each in color)
    x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def difference(one: str, other: str, eyes: str) -> float:
    """Return how different two colours are for these eyes (CIE 1976)."""

    def seen(color: str) -> Color:
        r, g, b = (sum(m * c for m, c in zip(row, linear(color))) for row in EYES[eyes])
        return lab((r, g, b))

    return math.dist(seen(one), seen(other))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_line_stands_out_from_the_paper(theme: str) -> None:
    for color in LINE_COLORS[theme]:
        assert contrast(color, PALETTES[theme]["paper"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eyes", EYES)
def test_the_colours_are_told_apart_by_all_eyes(theme: str, eyes: str) -> None:
    for one, other in combinations(LINE_COLORS[theme], 2):
        assert difference(one, other, eyes) > 20, (one, other)


# The table.


def test_a_table_is_aligned_with_wide_characters_too() -> None:
    assert render_table(["name", "n"], [["日本", 1], ["a", 0.123456], ["b", None]]).split("\n") == [
        "name       n",
        "日本       1",
        "a     0.1235",
        "b",
    ]
