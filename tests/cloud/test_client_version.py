from __future__ import annotations

import logging
import re
from typing import Any, Dict, List

import pytest
import requests

from arkor_sync import __version__
from arkor_sync.cloud import client_version
from arkor_sync.cloud.client_version import (
    CLIENT_HEADER,
    UPGRADE,
    USER_AGENT,
    DeprecationNotice,
    latest_deprecation,
    record_deprecation,
    upgrade_message,
)


def record(headers: Dict[str, str], sink: Any = None) -> None:
    found = requests.structures.CaseInsensitiveDict(headers)
    record_deprecation(found, CLIENT_HEADER, sink)


def test_what_is_sent() -> None:
    assert re.fullmatch(r"arkor/[\w.\-+]+", CLIENT_HEADER)
    assert USER_AGENT.startswith(f"arkor-sync/{__version__} python/3.")
    assert USER_AGENT.endswith(f"requests/{requests.__version__}")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Deprecation": "false", "Warning": '299 - "x"'},
        {"Deprecation": "True"},
        {"Deprecation": "@1688169599"},
        {"Warning": '299 - "x"', "Sunset": "Wed, 01 Jul 2026 00:00:00 GMT"},
    ],
)
def test_only_the_exact_header_is_a_notice(headers: Dict[str, str]) -> None:
    record(headers)
    assert latest_deprecation() is None


@pytest.mark.parametrize(
    ("warning", "message"),
    [
        ('299 - "please upgrade"', "please upgrade"),
        ('299  -  "please upgrade"  ', "please upgrade"),
        ('299 - "say "hello" \\"twice\\""', 'say "hello" \\"twice\\"'),
        ("please upgrade", "please upgrade"),
        ('299 - "unfinished', '299 - "unfinished'),
        ('29 - "x"', '29 - "x"'),
        ('299 arkor "x"', '299 arkor "x"'),
    ],
)
def test_the_message_of_a_warning(warning: str, message: str) -> None:
    record({"deprecation": "true", "Warning": warning})
    assert latest_deprecation() == DeprecationNotice("0.0.3-alpha.1", message, None)


def test_a_notice_without_a_warning_has_a_default_message() -> None:
    record({"Deprecation": "true", "Sunset": "Wed, 01 Jul 2026 00:00:00 GMT"})
    notice = latest_deprecation()
    assert notice is not None
    assert "0.0.3-alpha.1" in notice.message
    assert notice.sunset == "Wed, 01 Jul 2026 00:00:00 GMT"


def test_the_latest_notice_wins() -> None:
    record({"Deprecation": "true", "Warning": "first"})
    record({"Deprecation": "true", "Warning": "second"})
    record({})
    notice = latest_deprecation()
    assert notice is not None
    assert notice.message == "second"


def test_one_warning_for_each_message(caplog: pytest.LogCaptureFixture) -> None:
    for message in ("a", "b", "a", "b", "a"):
        record({"Deprecation": "true", "Warning": message, "Sunset": "soon"})
    assert [each.levelno for each in caplog.records] == [logging.WARNING] * 2
    assert {each.name for each in caplog.records} == {"arkor_sync.deprecation"}
    assert caplog.messages[0] == f"a (accepted until soon; {UPGRADE})"


def test_a_sink_takes_the_notice(caplog: pytest.LogCaptureFixture) -> None:
    taken: List[DeprecationNotice] = []
    record({"Deprecation": "true", "Warning": "x"}, taken.append)
    assert taken == [DeprecationNotice("0.0.3-alpha.1", "x", None)]
    assert latest_deprecation() is None
    assert not caplog.records


def test_a_sink_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def sink(notice: DeprecationNotice) -> None:
        raise RuntimeError("no")

    record({"Deprecation": "true"}, sink)
    assert [each.name for each in caplog.records] == ["arkor_sync.deprecation"]
    assert "RuntimeError: no" in caplog.text


def test_an_unsupported_version_names_both_and_our_own_command() -> None:
    message = upgrade_message(
        {
            "error": "sdk_version_unsupported",
            "currentVersion": "0.0.3-alpha.1",
            "supportedRange": "^1.4.0 || >=2.1.0",
            "upgrade": "npm install arkor@latest",
        },
        CLIENT_HEADER,
    )
    assert "0.0.3-alpha.1" in message
    assert "^1.4.0 || >=2.1.0" in message
    assert "install a newer version" in message
    assert "npm" not in message


@pytest.mark.parametrize("reason", ["missing", "malformed"])
def test_a_header_that_did_not_arrive_well_is_named(reason: str) -> None:
    body = {"currentVersion": "unknown", "supportedRange": "*", "reason": reason}
    message = upgrade_message(body, CLIENT_HEADER)
    assert "X-Arkor-Client" in message
    assert "unknown" not in message


@pytest.mark.parametrize(
    "body",
    [
        None,
        "text",
        5,
        [],
        {},
        {"currentVersion": 5},
        {"currentVersion": "1", "supportedRange": None},
    ],
)
def test_any_other_body_still_says_what_to_do(body: Any) -> None:
    message = upgrade_message(body, CLIENT_HEADER)
    assert UPGRADE in message
    assert CLIENT_HEADER in message


def test_a_server_with_ever_new_messages_fills_neither_memory_nor_disk(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(1_000):
        record_deprecation({"Deprecation": "true", "Warning": str(number)}, CLIENT_HEADER, None)
    assert caplog.messages == [f"{n} (accepted; {UPGRADE})" for n in range(len(caplog.messages))]
    assert len(caplog.messages) == len(client_version._logged) == 20
    notice = latest_deprecation()
    assert notice is not None
    assert notice.message == "999"
