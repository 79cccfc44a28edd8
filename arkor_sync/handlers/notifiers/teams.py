"""Microsoft Teams, by a workflow's webhook. The callbacks run on the run's worker thread."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, Dict, List

from arkor_sync.handlers.notifiers.http import Answer, HttpNotifier
from arkor_sync.handlers.notifiers.notification import ZERO_WIDTH, Notification, fit

_COLOURS = {"completed": "Good", "failed": "Attention", "error": "Attention"}
_MAX_BYTES = 27_000  # Teams takes 28 KB
_ROOMS = (4000, 2000, 1000, 300, 60)  # characters of each text, tried in turn


@dataclasses.dataclass(repr=False, eq=False)
class TeamsNotifier(HttpNotifier):
    """Tells a Teams channel of a run, through a webhook of Workflows, with an Adaptive Card.

    The URL is `TEAMS_WEBHOOK_URL` by default. For the arguments see `Notifier` and `HttpNotifier`.
    A webhook cannot mention a whole channel in Teams, so a failure is only coloured.
    """

    variable = "TEAMS_WEBHOOK_URL"

    def body(self, note: Notification) -> Dict[str, Any]:
        """Return a message with one card, short enough for Teams."""
        for room in _ROOMS:
            message = _message(note, room)
            if len(json.dumps(message)) <= _MAX_BYTES:
                break
        return message

    def _status(self, answer: Answer) -> int:
        """The connectors of old answer 200 to everything, and put the status into the text."""
        failed = re.search(r"delivery failed.*HTTP error (\d{3})", answer.text)
        return int(failed.group(1)) if answer.status == 200 and failed else answer.status


def _message(note: Notification, room: int) -> Dict[str, Any]:
    title = {"size": "Medium", "weight": "Bolder", "color": _COLOURS.get(note.event, "Default")}
    body = [_text(note.title, 300, **title)]
    if note.metrics:
        facts = [{"title": name, "value": value} for name, value in note.facts()[:10]]
        body.append({"type": "FactSet", "facts": facts})
    if note.text:
        body.append(_text(note.text, room, fontType="Monospace"))
    for sample in note.samples[:20]:
        body.append(_text(sample.prompt, min(room, 500), isSubtle=True))
        body.append(_text(sample.answer, room, fontType="Monospace"))
    if note.origin:
        body.append(_text(note.origin, 200, size="Small", isSubtle=True))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


def _text(text: str, limit: int, **style: Any) -> Dict[str, Any]:
    """Return text that is shown as it is: unlike a text block, a text run knows no Markdown."""
    runs: List[Dict[str, Any]] = [{"type": "TextRun", "text": fit(text, limit, inert), **style}]
    return {"type": "RichTextBlock", "inlines": runs}


def inert(text: str) -> str:
    """Break what means something in any text of a card: mentions, and dates to be filled in."""
    return text.replace("<at", f"<{ZERO_WIDTH}at").replace("{{", f"{{{ZERO_WIDTH}{{")
