"""The client version that is sent to the cloud, and the cloud's answers about it. Any thread.

The cloud refuses versions that it no longer accepts (status 426), and announces that some time
before (the `Deprecation` header). In both cases the advice is to upgrade.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional

import requests

from arkor_sync._common.log import get_logger
from arkor_sync._version import __version__

CLIENT_HEADER_NAME = "X-Arkor-Client"

CLIENT_HEADER = "arkor/0.0.3-alpha.1"
"""The version of the protocol, in the only form that the cloud is known to accept."""

USER_AGENT = (
    f"arkor-sync/{__version__} python/{sys.version_info[0]}.{sys.version_info[1]} "
    f"requests/{requests.__version__}"
)

UPGRADE = "install a newer version of arkor-sync, from where you got this one"
"""There is no command that fits all: the package is on no index."""

_logger = get_logger("arkor_sync.deprecation")


@dataclass(frozen=True)
class DeprecationNotice:
    """The cloud's announcement that it will stop accepting this client version.

    Attributes:
        sdk_version: The version that was sent in `X-Arkor-Client`.
        message: The text of the `Warning` header, or a default.
        sunset: The `Sunset` header verbatim (an HTTP date), or `None`.
    """

    sdk_version: str
    message: str
    sunset: Optional[str] = None


DeprecationSink = Callable[[DeprecationNotice], object]

_MAX_LOGGED = 20  # messages of one process: a server may send another one with each answer

_latest: Optional[DeprecationNotice] = None
_logged: Dict[str, object] = {}  # by message


def latest_deprecation() -> Optional[DeprecationNotice]:
    """Return the last notice that this process received and that no `on_deprecation` was given."""
    return _latest


def record_deprecation(
    headers: Mapping[str, str], client_header: str, sink: Optional[DeprecationSink]
) -> None:
    """Report the deprecation notice in a response's headers, if there is one.

    Args:
        headers: The response headers (`Deprecation`, `Warning`, `Sunset`). The case of the names
            must not matter.
        client_header: What was sent in `X-Arkor-Client`.
        sink: Called with the notice; what it raises is logged. If it is `None`, the notice is kept
            for `latest_deprecation`, and logged once per process and message, up to 20 messages.
    """
    if headers.get("Deprecation") != "true":
        return
    version = client_header.partition("/")[2]
    warning = headers.get("Warning")
    match = re.fullmatch(r'\d{3}\s+-\s+"(.*)"\s*', warning or "", re.DOTALL)
    message = match[1] if match else warning
    if not message:
        message = f"client version {version} is deprecated"
    notice = DeprecationNotice(version, message, headers.get("Sunset"))
    if sink is None:
        _keep(notice)
        return
    try:
        sink(notice)
    except Exception:
        _logger.exception("on_deprecation failed")


def _keep(notice: DeprecationNotice) -> None:
    global _latest
    _latest = notice
    if len(_logged) >= _MAX_LOGGED:
        return
    mark = object()
    if _logged.setdefault(notice.message, mark) is mark:  # of several threads, one is first
        until = f" until {notice.sunset}" if notice.sunset else ""
        _logger.warning("%s (accepted%s; %s)", notice.message, until, UPGRADE)


def upgrade_message(body: Any, client_header: str) -> str:
    """Return the error message for a 426.

    Args:
        body: The decoded JSON body, whatever it is.
        client_header: What was sent in `X-Arkor-Client`.
    """
    fields = body if isinstance(body, dict) else {}
    reason = fields.get("reason")
    current, supported = fields.get("currentVersion"), fields.get("supportedRange")
    if reason == "missing":
        return (
            f"the request reached the cloud without its {CLIENT_HEADER_NAME} header; a proxy may "
            f"have removed it. If there is no proxy, {UPGRADE}"
        )
    if reason == "malformed":
        return (
            f"the cloud cannot read the {CLIENT_HEADER_NAME} header {client_header!r}; "
            f"leave client_header at its default, or {UPGRADE}"
        )
    if isinstance(current, str) and isinstance(supported, str) and current and supported:
        return (
            f"the cloud no longer accepts client version {current} (it accepts {supported}); "
            f"{UPGRADE}"
        )
    return f"the cloud no longer accepts client {client_header}; {UPGRADE}"
