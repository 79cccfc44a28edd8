"""How a refused argument is worded."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import pytest

from arkor_sync._common.arguments import MAX_SECONDS, check, is_seconds, refusal, show
from arkor_sync.errors import ArkorUsageError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        (True, "bool True"),
        (0.5, "float 0.5"),
        ("x", "str 'x'"),
        ("x" * 100, f"str '{'x' * 56}..."),
        ([1, 2.5], "list [1, 2.5]"),
        ((5, None), "tuple (5, None)"),
        ([], "an empty list"),
        (["secret"], "a list of 1"),
        ({"secret", "words"}, "a set of 2"),
        ({}, "an empty dict"),
        ({"token": "secret", 5: "secret"}, "a dict with 'token', 5"),
        ({"key=secret": 1, "hf_secretsecret": 2}, "a dict with 'key=[hidden]', '[hidden]'"),
        (PurePosixPath("/data/x.jsonl"), "PurePosixPath '/data/x.jsonl'"),
        (timedelta(hours=-1), "timedelta '-1 day, 23:00:00'"),
        (OSError, "the class OSError"),
        (b"secret", "a bytes"),
        (ValueError("secret"), "a ValueError"),
        (OSError("secret"), "an OSError"),
    ],
)
def test_a_value_is_shown_with_its_type_and_without_what_may_be_secret(
    value: Any, shown: str
) -> None:
    assert show(value) == shown


def test_of_a_secret_value_only_the_type_is_shown() -> None:
    assert show("secret", secret=True) == "a str"
    assert show(5, secret=True) == "an int"
    text = str(refusal("token", "secret", "a string", secret=True))
    assert text == "token: got a str; give a string"


def test_a_refusal_names_the_argument_the_value_and_what_would_work() -> None:
    check("every", 1, True, "a whole number, 1 or more")
    with pytest.raises(
        ArkorUsageError, match=r"^every: got int 0; give a whole number, 1 or more$"
    ):
        check("every", 0, False, "a whole number, 1 or more")
    assert (
        str(refusal("a, b", None, "one of them", got="both")) == "a, b: got both; give one of them"
    )


@pytest.mark.parametrize("value", [0, 0.5, MAX_SECONDS])
def test_seconds(value: Any) -> None:
    assert is_seconds(value)


@pytest.mark.parametrize(
    "value", [-1, MAX_SECONDS + 1, float("nan"), float("inf"), True, "1", None]
)
def test_what_is_no_number_of_seconds(value: Any) -> None:
    assert not is_seconds(value)
