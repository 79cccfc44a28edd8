"""Every environment variable that the package reads: an empty one counts as one that is not set."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Set

import pytest

import arkor_sync
from arkor_sync._common.environment import variable

PACKAGE = Path(arkor_sync.__file__).parent


def variables_read() -> Set[str]:
    """Find the names in `variable("NAME")`, and in the attribute `variable` of the notifiers."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "variable":
                found |= {each.value for each in node.args if isinstance(each, ast.Constant)}
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "variable":
                found |= {node.value.value} if isinstance(node.value, ast.Constant) else set()
    return found - {""}  # of the base class


READ = variables_read() | {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}  # these are read in a loop


def test_they_are_found() -> None:
    assert {"ARKOR_TOKEN", "ARKOR_PROJECT_ID", "SLACK_WEBHOOK_URL", "TERM"} <= variables_read()


@pytest.mark.parametrize("name", sorted(READ))
@pytest.mark.parametrize("empty", ["", " ", "\n"], ids=["empty", "space", "newline"])
def test_an_empty_one_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str, empty: str) -> None:
    monkeypatch.setenv(name, empty)
    assert variable(name) is None
