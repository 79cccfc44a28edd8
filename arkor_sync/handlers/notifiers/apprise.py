"""Notifies any service that the library Apprise supports. Runs on a thread of its own."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, List, Optional

from arkor_sync._common.extras import import_extra
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.notifiers.base import Notifier
from arkor_sync.handlers.notifiers.delivery import Unavailable
from arkor_sync.handlers.notifiers.http import mute_loggers
from arkor_sync.handlers.notifiers.notification import (
    ZERO_WIDTH_SPACE,
    Notification,
    break_fences,
    fit,
)

_TYPES = {"completed": "success", "failed": "failure", "error": "failure", "reconnect": "warning"}
_MAX_BODY = 10_000  # characters; Apprise shortens or splits it further for each service
_LOGGERS = ("apprise", "urllib3.connectionpool", "urllib3.util.retry")


@dataclasses.dataclass(repr=False, eq=False)
class AppriseNotifier(Notifier):
    """Sends notifications through the library Apprise. It needs the extra `apprise`.

    The URL is `APPRISE_URL` by default. It may hold several Apprise URLs, separated by spaces or
    commas; the services are notified one after the other. Apprise does not report why a service
    refused a message, so every refusal is tried again. No text of a run can mention anybody.
    """

    variable = "APPRISE_URL"

    def _connect(self, url: str) -> None:
        library = import_extra("apprise", "apprise", "AppriseNotifier")
        # Without Apprise's own threads and event loop: the notifier's thread may wait.
        asset = library.AppriseAsset(async_mode=False)
        with mute_loggers(*_LOGGERS):
            services = library.Apprise(asset=asset)
            is_known = services.add(url)
        if not is_known:
            raise ArkorUsageError(
                "url: got a text that Apprise cannot read (it may be secret, so it is not shown "
                "here); give an Apprise URL as url or in APPRISE_URL"
            )
        self._services = [library.Apprise(each, asset=asset) for each in services]
        self._note: Optional[Notification] = None  # the one that is being sent
        self._remaining: List[Any] = []  # the services that have not accepted it yet

    def _attempt(self, note: Notification) -> None:
        if note is not self._note:
            self._note, self._remaining = note, list(self._services)
        with mute_loggers(*_LOGGERS):
            self._remaining = [each for each in self._remaining if not _notify(each, note)]
        if self._remaining:
            names = ", ".join(str(each.service_name) for one in self._remaining for each in one)
            raise Unavailable(f"{names} did not accept it")


def _notify(service: Any, note: Notification) -> bool:
    """Send a notification to one service; return whether the service accepted it."""
    kind = _TYPES.get(note.event, "info")
    title, body = break_mentions(note.title), break_mentions(_body(note))
    return bool(service.notify(body=body, title=title, notify_type=kind, body_format="text"))


def _body(note: Notification) -> str:
    facts = [f"{name}: {value}" for name, value in note.facts()]
    samples = [f"{sample.prompt}\n{sample.answer}" for sample in note.samples]
    parts = ["\n".join(facts), note.text, *samples, note.origin]
    return fit("\n\n".join(filter(None, parts)) or note.title, _MAX_BODY)


def break_mentions(text: str) -> str:
    """Make mentions (`@name`, `<!here>`, `<@123>`) and code blocks of all services ineffective."""
    return break_fences(re.sub("([@<])(?=[^\\s])", rf"\1{ZERO_WIDTH_SPACE}", text))
