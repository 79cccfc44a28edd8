"""Several runs side by side: the table, the rows, the files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Dict, List

import pytest

from arkor_sync import ArkorUsageError, Best, Comparison, History
from arkor_sync.comparison import ComparedRun
from arkor_sync.render.comparison import line_palette
from arkor_sync.stream.events import CHECKPOINT, LOG, TrainingEvent


def history_of(losses: List[Any], checkpoints: List[int], **more: Any) -> History:
    history = History()
    for step, loss in enumerate(losses, start=1):
        history.append(TrainingEvent(LOG, {"type": LOG, "step": step, "loss": loss, **more}))
    for step in checkpoints:
        history.append(TrainingEvent(CHECKPOINT, {"step": step}))
    return history


HISTORIES = {
    "baseline": history_of([2.0, 1.5, 1.75], [2]),
    "r=64, alpha=64": history_of([2.0, 1.25, 0.5, 0.123456], [1, 4], evalLoss=3),
    "日本": History(),
}


def texts(drawing: str) -> List[str]:
    return [e.text or "" for e in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]


def test_the_table_has_a_line_for_each_run_and_its_columns_are_aligned() -> None:
    table = str(History.compare(HISTORIES))
    assert table.splitlines() == [
        "name            steps  last loss    best  at step  checkpoint",
        "baseline            3       1.75     1.5        2           2",
        "r=64, alpha=64      4     0.1235  0.1235        4           4",
        "日本",
    ]


def test_the_rows_have_what_best_says() -> None:
    rows = History.compare(HISTORIES).to_dicts()
    assert rows[0] == {
        "name": "baseline",
        "steps": 3,
        "last": 1.75,
        "best": 1.5,
        "best_step": 2,
        "checkpoint": 2,
    }
    best = HISTORIES["r=64, alpha=64"].best("loss")
    assert Best(rows[1]["best_step"], rows[1]["best"], rows[1]["checkpoint"]) == best
    assert set(rows[2].values()) == {"日本", None}


def test_another_metric_and_the_highest_value() -> None:
    rows = History.compare(HISTORIES, "eval_loss", mode="max").to_dicts()
    assert [row["best"] for row in rows] == [None, 3, None]
    assert [row["best_step"] for row in rows] == [None, 1, None]
    assert "last eval_loss" in str(History.compare(HISTORIES, "eval_loss"))


def test_a_name_cannot_act_and_does_not_widen_the_table_without_end() -> None:
    table = str(History.compare({"a\x1b[31m\nb" + "x" * 1000: History()}))
    assert len(table.splitlines()) == 2
    assert "\x1b" not in table
    assert max(map(len, table.splitlines())) < 100


def test_a_field_of_the_wire_cannot_act_either_and_huge_numbers_stay_short() -> None:
    field = "a\x1b[31m" + "x" * 1000
    compared = History.compare({"a": history_of([1], [], **{field: 10**5000})}, field)
    for shown in (str(compared), compared.svg(), compared._repr_html_()):
        assert "\x1b" not in shown
        assert len(shown) < 5000
    assert max(map(len, texts(compared.svg()))) < 80


@pytest.mark.parametrize(
    ("histories", "more", "match"),
    [
        ({}, {}, "^histories: got an empty dict; give a mapping such as"),
        ([History()], {}, "^histories: got a list of 1; give a mapping such as"),
        ({"a": 1}, {}, "^histories: got a dict with 'a'; give a mapping such as"),
        (HISTORIES, {"metric": "evalloss"}, "^metric: got .*one that the history has: loss, eval_"),
        (HISTORIES, {"mode": "low"}, "^mode: got str 'low'; give 'min' or 'max'"),
    ],
    ids=range(5),
)
def test_what_cannot_be_compared_is_refused(
    histories: Any, more: Dict[str, Any], match: str
) -> None:
    with pytest.raises(ArkorUsageError, match=match):
        History.compare(histories, **more)


def test_it_stays_as_it_was() -> None:
    history = history_of([2.0], [])
    compared = History.compare({"a": history})
    before = (str(compared), compared.svg())
    history.append(TrainingEvent(LOG, {"type": LOG, "step": 2, "loss": 1.0}))
    assert (str(compared), compared.svg()) == before


# The chart. Its drawing has tests of its own, in `render/`.


def test_the_chart_has_the_runs_that_have_the_metric() -> None:
    shown = texts(History.compare(HISTORIES).svg())
    assert {"baseline", "r=64, alpha=64", "loss of 2 runs"} <= set(shown)
    assert "日本" not in shown
    assert "the dot is the lowest value of a run" in shown


@pytest.mark.parametrize(("mode", "best"), [("min", 1.0), ("max", 3.0)])
def test_of_two_values_at_one_step_the_dot_is_at_the_best(mode: Any, best: float) -> None:
    history = History()
    for step, loss in ((1, 2.0), (2, best), (2, 2.0), (3, 2.0)):
        history.append(TrainingEvent(LOG, {"type": LOG, "step": step, "loss": loss}))
    compared = History.compare({"a": history}, mode=mode)
    assert compared.runs[0].best == best
    [line] = compared._chart().lines
    assert line.dots() == [(2, best)]
    assert line.pieces() == [[(1, 2.0), (2, best), (3, 2.0)]]


@pytest.mark.parametrize(("mode", "kept"), [("min", range(10)), ("max", range(4, 14))])
def test_of_more_than_ten_runs_the_ten_best_are_drawn_and_the_chart_says_so(
    mode: Any, kept: range
) -> None:
    many = {f"run {n}": history_of([n, n], []) for n in range(14)}
    compared = History.compare(many, mode=mode)
    shown = texts(compared.svg())
    assert {text for text in shown if text.startswith("run ")} == {f"run {n}" for n in kept}
    assert "loss of the 10 best of 14 runs" in shown
    assert len(compared.to_dicts()) == 14


def test_a_chart_of_nothing_says_so() -> None:
    assert "no loss has been logged" in texts(History.compare({"a": History()}).svg())


def test_a_notebook_shows_the_table_and_the_chart_and_no_foreign_tags() -> None:
    page = History.compare({"<b>&": history_of([2.0, 1.0], [])})._repr_html_()
    root = ET.fromstring(page)
    assert [cell.text for cell in root.iter("td")] == ["<b>&", "2", "1", "1", "2", None]
    assert root.find(".//{http://www.w3.org/2000/svg}svg") is not None


def test_in_a_notebook_it_follows_the_theme_and_changes_nothing_else_there() -> None:
    page = History.compare(HISTORIES)._repr_html_()
    [style] = re.findall(r"<style>(.*?)</style>", page)
    for theme, name in (("light", "true"), ("dark", "false")):
        rule = re.search(rf"theme-light={name}\][^{{]*{{([^}}]*)}}", style)
        assert rule is not None
        for role, color in line_palette(theme).items():
            assert f"--arkor-{role}:{color};" in rule[1]
            assert f".arkor-live .{role}{{color:var(--arkor-{role})}}" in style
    selectors = re.findall(r"[^{}]+(?=\{)", style.replace("@media(prefers-color-scheme:dark){", ""))
    assert all(".arkor-live" in each or ".arkor-card" in each for each in selectors)
    assert page.count('class="arkor-live"') == 1


def test_an_svg_is_saved_as_a_whole(tmp_path: Path) -> None:
    compared = History.compare(HISTORIES)
    compared.save(tmp_path / "new" / "compared.svg", theme="dark")
    assert (tmp_path / "new" / "compared.svg").read_text("utf-8") == compared.svg("dark")
    assert compared.svg("dark") != compared.svg("light")


@pytest.mark.parametrize("name", ["compared", "compared.pdf", ".svg"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArkorUsageError, match=r"^path: got str .*; give a file name that ends in"):
        History.compare(HISTORIES).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_theme_that_there_is_not_is_refused(tmp_path: Path) -> None:
    compared = History.compare(HISTORIES)
    with pytest.raises(ArkorUsageError, match=r"^theme: got str 'blue'; give 'light'"):
        compared.svg("blue")  # type: ignore[arg-type]
    with pytest.raises(ArkorUsageError, match=r"^theme: got str 'blue'; give 'light'"):
        compared.save(tmp_path / "a.svg", theme="blue")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_png_without_matplotlib_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ArkorUsageError, match="the extra 'plot': pip install 'matplotlib"):
        History.compare(HISTORIES).save(tmp_path / "compared.png")
    assert list(tmp_path.iterdir()) == []


def test_its_repr_is_short() -> None:
    run = ComparedRun("a", 1, 2.0, 2.0, 1, None, ((1, 2.0),) * 1000)
    assert len(repr(Comparison("loss", "min", (run,)))) < 200
