"""A hundred more services, by Apprise. The callbacks run on the run's worker thread."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, List, Optional

from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.safety import load
from arkor_sync.handlers.notifiers.base import Notifier, Unavailable
from arkor_sync.handlers.notifiers.http import quiet
from arkor_sync.handlers.notifiers.notification import ZERO_WIDTH, Notification, fit

_TYPES = {"completed": "success", "failed": "failure", "error": "failure", "reconnect": "warning"}
_MAX_BODY = 10_000  # characters; each service cuts or splits it further
_LOGGERS = ("apprise", "urllib3.connectionpool", "urllib3.util.retry")


@dataclasses.dataclass(repr=False, eq=False)
class AppriseNotifier(Notifier):
    """Tells any service that Apprise knows of a run. It needs the extra `apprise`.

    The URL is `APPRISE_URL` by default; several, separated by spaces or commas, are told one
    after the other. For the other arguments see `Notifier`. Apprise does not say why a service
    refused, so every refusal is tried again. The run's text cannot mention anybody.
    """

    variable = "APPRISE_URL"

    def _connect(self, url: str) -> None:
        library = load("apprise", "apprise", "AppriseNotifier")
        # Neither threads nor an event loop of Apprise's own: this thread is made for waiting.
        asset = library.AppriseAsset(async_mode=False)
        with quiet(*_LOGGERS):
            services = library.Apprise(asset=asset)
            understood = services.add(url)
        if not understood:
            raise ArkorUsageError("AppriseNotifier: Apprise cannot read url, or APPRISE_URL")
        self._services = [library.Apprise(each, asset=asset) for each in services]
        self._note: Optional[Notification] = None  # that is being sent, and to whom it was not yet
        self._left: List[Any] = []

    def _attempt(self, note: Notification) -> None:
        if note is not self._note:
            self._note, self._left = note, list(self._services)
        with quiet(*_LOGGERS):
            self._left = [service for service in self._left if not _told(service, note)]
        if self._left:
            names = ", ".join(str(each.service_name) for one in self._left for each in one)
            raise Unavailable(f"{names} did not take it")


def _told(service: Any, note: Notification) -> bool:
    kind = _TYPES.get(note.event, "info")
    title, body = defused(note.title), defused(_body(note))
    return bool(service.notify(body=body, title=title, notify_type=kind, body_format="text"))


def _body(note: Notification) -> str:
    facts = [f"{name}: {value}" for name, value in note.facts()]
    samples = [f"{sample.prompt}\n{sample.answer}" for sample in note.samples]
    parts = ["\n".join(facts), note.text, *samples, note.origin]
    return fit("\n\n".join(filter(None, parts)) or note.title, _MAX_BODY)


def defused(text: str) -> str:
    """Break mentions, however a service writes them: `@name`, `<!here>`, `<@123>`."""
    return re.sub("([@<])(?=[^\\s])", rf"\1{ZERO_WIDTH}", text)
