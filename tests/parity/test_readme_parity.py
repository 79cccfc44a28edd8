"""What the READMEs say in signatures and in numbers. tests/package runs their blocks."""

from __future__ import annotations

import builtins
import configparser
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

import arkor_sync
from arkor_sync import (
    Action,
    CheckpointContext,
    CompletedContext,
    FailedContext,
    LogContext,
    ReconnectPolicy,
    StartedContext,
    handlers,
)
from arkor_sync.cloud.http import DEFAULT_TIMEOUT
from arkor_sync.stream.channel import MAX_BYTES, MAX_EVENTS
from arkor_sync.stream.events import CALLBACK_NAMES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
FOR_USERS = ("stream", "stores", "cloud", "handlers", "emulator")
ROOMS = [(ROOT / "arkor_sync" / room / "README.md").read_text("utf-8") for room in FOR_USERS]
TEXTS = "\n".join([README, *ROOMS, (ROOT / "tests/parity/README.md").read_text("utf-8")])
PROSE = " ".join(TEXTS.split())
NAMES: Dict[str, Any] = {name: getattr(arkor_sync, name) for name in arkor_sync.__all__}
BLOCKS: List[str] = re.findall(r"```python\n(.*?)```", TEXTS, re.DOTALL)


def block_with(text: str) -> str:
    (block,) = [block for block in BLOCKS if text in block]
    return block


def test_the_policy_of_the_example_can_be_built() -> None:
    names: Dict[str, Any] = {}
    exec(block_with("dead_letter="), names)
    policy = names["policy"]
    assert [rule.do for rule in policy.rules] == [Action.RETRY, Action.LOG, Action.RECONNECT]
    assert policy.otherwise is Action.ABORT


def test_the_reconnect_policy_has_the_defaults_that_are_shown() -> None:
    (shown,) = re.findall(r"`(ReconnectPolicy\(base=.*?\))`", PROSE)
    assert eval(shown, NAMES) == ReconnectPolicy()
    names = re.findall(r"(\w+)=", shown)
    assert names == [field.name for field in dataclasses.fields(ReconnectPolicy)]


def test_the_presets_and_their_numbers() -> None:
    for preset in (".log(budget=100)", ".reconnect(attempts=5)"):
        assert f"`{preset}`" in PROSE
        name, number = re.fullmatch(r"\.(\w+)\(\w+=(\d+)\)", preset).groups()  # type: ignore[union-attr]
        parameters = inspect.signature(getattr(arkor_sync.ErrorPolicy, name)).parameters
        assert next(iter(parameters.values())).default == int(number)


def test_the_numbers_of_the_prose_are_the_defaults() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(arkor_sync.create_trainer).parameters.items()
    }
    said = {
        "(1,024 events or 8 MiB)": (MAX_EVENTS, MAX_BYTES) == (1024, 8 * 1024 * 1024),
        "`abort_grace` (5 s)": defaults["abort_grace"] == 5,
        "five minutes of nothing but pings (`stale_after`)": defaults["stale_after"] == 300,
        "10 s to connect, 60 s for the whole answer": DEFAULT_TIMEOUT == (10, 60),
        "idle timeout, 45 s": ReconnectPolicy().idle_timeout == 45,
    }
    for text, holds in said.items():
        assert text in PROSE
        assert holds, text
    assert defaults["max_buffered_events"] == MAX_EVENTS
    assert defaults["max_buffered_bytes"] == MAX_BYTES


def test_the_table_of_actions_has_each_of_them() -> None:
    rows = re.findall(r"^\| `Action\.(\w+)`", TEXTS, re.MULTILINE)
    assert sorted(rows) == sorted(action.name for action in Action)


@pytest.mark.parametrize(
    "context", [StartedContext, LogContext, CheckpointContext, CompletedContext, FailedContext]
)
def test_the_table_of_callbacks_names_what_their_contexts_hold(context: Any) -> None:
    name = "on_" + context.__name__[: -len("Context")].lower()
    (row,) = re.findall(rf"^\| `{name}` \|[^|]*\|([^|]*)\|$", README, re.MULTILINE)
    named: Set[str] = set(re.findall(r"`(\w+)", row)) - {"None", "infer"}
    held = {field.name for field in dataclasses.fields(context)} - {"job"}
    assert named == held


def test_every_callback_is_in_the_text() -> None:
    for name in CALLBACK_NAMES:
        assert f"`{name}`" in README


def test_every_public_name_that_is_shown_exists() -> None:
    shown = set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*(?:Error|Aborted|Timeout|Policy))`", PROSE))
    known = {*arkor_sync.__all__, *dir(builtins), "ApiError"}  # the last is the emulator's
    assert len(shown) > 8
    assert shown <= known, shown - known


def test_every_ready_made_callback_is_in_the_text() -> None:
    for name in handlers.__all__:
        value = getattr(handlers, name)
        public = isinstance(value, type) and issubclass(value, arkor_sync.Callback)
        assert not public or name == "Notifier" or name in TEXTS, name


def test_every_extra_for_users_is_in_the_text() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"]) - {
        "test",
        "bench",
        "lint",
        "cli-test",
        "handlers-test",
        "servers-test",
    }
    texts = TEXTS + (ROOT / "arkor_sync/contrib/README.md").read_text("utf-8")
    assert all(f"`{extra}`" in texts for extra in extras), extras


def test_the_deadlines_of_notifiers_and_loggers_are_the_defaults() -> None:
    assert "`flush_timeout` seconds: 5 for notifiers, 10 for loggers" in PROSE
    assert handlers.SlackNotifier().flush_timeout == 5
    assert handlers.CSVLogger("metrics.csv").flush_timeout == 10


@pytest.mark.parametrize(
    "there",
    [
        "a credentials file that is JSON, but no identity",
        "`client.chat()` sends `stream` only if it is given",
        "`listProjects` returns the projects and the organisation",
        "a `CloudApiError` reads as the cloud's text alone",
        "a failure without a text, and artifacts that are no list",
    ],
)
def test_a_difference_that_was_chosen_has_a_row_with_the_reason(there: str) -> None:
    rows = [re.split(r" *\| *", row)[1:-1] for row in re.findall(r"^\|.*\|$", TEXTS, re.MULTILINE)]
    ((_, here, why),) = [row for row in rows if row[0].startswith(there)]
    assert here
    assert why
