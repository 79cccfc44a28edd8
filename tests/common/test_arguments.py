"""How a refused argument is worded."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import pytest

from arkor_sync._common.arguments import (
    MAX_SECONDS,
    check,
    check_keys,
    did_you_mean,
    is_seconds,
    refusal,
    show,
)
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


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("test_size", " (did you mean 'testSize'?)"),
        ("TESTSIZE", " (did you mean 'testSize'?)"),
        ("sed", " (did you mean 'seed'?)"),
        ("xyz", ""),
        (5, ""),
        (None, ""),
    ],
)
def test_the_nearest_name(given: Any, meant: str) -> None:
    assert did_you_mean(given, ("testSize", "seed")) == meant
    assert did_you_mean(given, ("testSize",)) == "", "there is nothing to choose from"


def test_a_key_that_would_be_ignored_is_refused() -> None:
    known = ("testSize", "seed")
    check_keys("split", {"seed": 1, "testSize": 0.1}, known)
    with pytest.raises(ArkorUsageError) as caught:
        check_keys("split", {"seed": 1, "test_size": 0.1}, known, ", or nothing")
    assert str(caught.value) == (
        "split: got the key str 'test_size', which the cloud would ignore; give only 'testSize', "
        "'seed' (did you mean 'testSize'?), or nothing"
    )
    check_keys("split", {"new": 1}, known, closed=False)
    for key in ("new", 5, None):
        with pytest.raises(ArkorUsageError, match=r"give only 'testSize', 'seed'$"):
            check_keys("split", {key: 1}, known)
