"""The shop on Flask, run as its reader runs it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.example_runs import EXAMPLES, printed_by
from support.extras import need


@pytest.mark.slow
def test_the_order_is_trained_once_although_the_web_server_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("flask_sqlalchemy")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    lines = printed_by("flask_app/run.py").splitlines()
    first, second = (line for line in lines if line.startswith("bought: "))
    assert first == second
    orders = [ast.literal_eval(line[7:]) for line in lines if line.startswith("order: ")]
    assert orders[-1]["status"] == "completed"
    assert orders[-1]["step"] == 40
    assert orders[-1]["loss"] > 0
    assert lines[-1] == "1 job was paid"
    assert list(tmp_path.iterdir()) == []


def test_its_page_fits_on_a_screen_and_names_the_command() -> None:
    page = (EXAMPLES / "flask_app" / "README.md").read_text("utf-8")
    assert "python examples/flask_app/run.py" in page
    assert len(page.splitlines()) <= 50
