"""Environment variables, without the white space around their values."""

from __future__ import annotations

from typing import Optional

import pytest

from arkor_sync._common.environment import variable


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", ""),
        ("\n", ""),
        ("secret\n", "secret"),
        ("secret\r\n", "secret"),
        (" two words\t", "two words"),
    ],
)
def test_a_variable(
    monkeypatch: pytest.MonkeyPatch, value: Optional[str], expected: Optional[str]
) -> None:
    monkeypatch.delenv("SOME_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_SECRET", value)
    assert variable("SOME_SECRET") == expected
