"""Checks the version of a client, and announces deprecations. Pure."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from arkor_sync.emulator.http.messages import ApiError

_SEMVER = re.compile(
    r"(?P<core>\d+\.\d+\.\d+)(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_COMPARATOR = re.compile(r"(\^|~|>=|<=|>|<|=)?\s*(\d+(?:\.\d+){0,2})(-[0-9A-Za-z.-]+)?")

Version = Tuple[Tuple[int, ...], Tuple[Tuple[int, int, str], ...]]


def check_client(header: Optional[str], supported_range: str) -> None:
    """Check that a client's version is supported.

    Args:
        header: The `X-Arkor-Client` header, which has to be `arkor/<semver>`.
        supported_range: An npm version range such as `^1.4.0 || >=2.1.0`; `*` is any version.

    Raises:
        ApiError: 426, if it is not.
    """
    if not header:
        raise _unsupported("unknown", supported_range, "missing")
    product, _, text = header.strip().partition("/")
    # As npm does: no version is longer than 256 characters.
    if product != "arkor" or len(text) > 256 or not _SEMVER.fullmatch(text):
        raise _unsupported("unknown", supported_range, "malformed")
    if not in_range(text, supported_range):
        raise _unsupported(text, supported_range, None)


def deprecation_headers(message: str, sunset: Optional[str]) -> Dict[str, str]:
    """Return the headers that announce a deprecation, and when the version stops working."""
    headers = {"Deprecation": "true", "Warning": f'299 - "{message}"'}
    if sunset:
        headers["Sunset"] = sunset
    return headers


def in_range(version: str, supported_range: str) -> bool:
    """Tell whether a version lies in an npm range.

    Supports `||`, `^`, `~`, comparisons and `*`. Unlike npm it compares a pre-release like any
    other version, also if the range does not mention it.
    """
    parsed = _parse(version)
    return any(
        all(low <= parsed and (high is None or parsed < high) for low, high in _bounds(part))
        for part in supported_range.split("||")
    )


def _bounds(part: str) -> List[Tuple[Version, Optional[Version]]]:
    if part.strip() in ("", "*"):
        return []
    if _COMPARATOR.sub("", part).strip():
        raise ValueError(f"not a version range: {part.strip()!r}")
    return [_bound(*match.groups()) for match in _COMPARATOR.finditer(part)]


def _bound(
    operator: Optional[str], core: str, pre: Optional[str]
) -> Tuple[Version, Optional[Version]]:
    given = [int(number) for number in core.split(".")]
    numbers = [*given, 0, 0][:3]
    exact = _parse(".".join(map(str, numbers)) + (pre or ""))
    after = (exact[0], (*exact[1], (0, 0, "")))
    if operator == ">=":
        return exact, None
    if operator == ">":
        return after, None
    if operator == "<":
        return _LOWEST, exact
    if operator == "<=":
        return _LOWEST, after
    # The upper end of the range is the version with one of its numbers increased: for a caret the
    # first that is not zero, for a tilde the second, for a plain version the last.
    if operator == "^":
        bumped = next((i for i, number in enumerate(given) if number), len(given) - 1)
    elif operator == "~":
        bumped = min(1, len(given) - 1)
    else:
        bumped = len(given) - 1
        if bumped == 2:
            return exact, after
    ceiling = [*numbers[:bumped], numbers[bumped] + 1, 0, 0][:3]
    # "-0" sorts before every other pre-release of the upper end.
    return exact, _parse(".".join(map(str, ceiling)) + "-0")


def _parse(text: str) -> Version:
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise ValueError(f"not a version: {text!r}")
    core = tuple(int(number) for number in match["core"].split("."))
    if match["pre"] is None:
        # A release sorts after each of its pre-releases.
        return core, ((2, 0, ""),)
    parts = match["pre"].split(".")
    return core, tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts)


_LOWEST: Version = ((0, 0, 0), ())


def _unsupported(version: str, supported_range: str, reason: Optional[str]) -> ApiError:
    body: Dict[str, Any] = {
        "error": "sdk_version_unsupported",
        "currentVersion": version,
        "supportedRange": supported_range,
        "upgrade": "npm install arkor@latest",
    }
    if reason:
        body["reason"] = reason
    return ApiError(426, body["error"], body=body)
