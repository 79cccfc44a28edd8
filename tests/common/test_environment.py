"""Environment variables, without the white space around their values; empty ones are not set."""

from __future__ import annotations

import os
import pwd
from typing import Optional

import pytest

from arkor_sync._common.environment import home_directory, variable


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        (" \n", None),
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


@pytest.mark.parametrize("home", [None, "", " "])
def test_without_home_the_users_own_directory_counts(
    monkeypatch: pytest.MonkeyPatch, home: Optional[str]
) -> None:
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert home_directory() == pwd.getpwuid(os.getuid()).pw_dir


@pytest.mark.parametrize("home", ["", None])
def test_a_user_whom_the_system_does_not_know_has_no_home_directory(
    monkeypatch: pytest.MonkeyPatch, home: Optional[str]
) -> None:
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_000)
    assert home_directory() == "~"
