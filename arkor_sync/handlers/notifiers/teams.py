"""Notifies a Microsoft Teams channel through a webhook. Runs on a thread of its own."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, Dict, List

from arkor_sync.handlers.notifiers.http import Answer, HttpNotifier
from arkor_sync.handlers.notifiers.notification import ZERO_WIDTH_SPACE, Notification, fit

_COLOURS = {"completed": "Good", "failed": "Attention", "error": "Attention"}
_MAX_BYTES = 27_000  # Teams accepts 28 KB
_TEXT_LIMITS = (4000, 2000, 1000, 300, 60)  # characters of each text; the first that fits is used


@dataclasses.dataclass(repr=False, eq=False)
class TeamsNotifier(HttpNotifier):
    """Sends notifications to a Teams channel as Adaptive Cards, through a webhook of Workflows.

    The URL is `TEAMS_WEBHOOK_URL` by default. In Teams a webhook cannot mention a whole channel, so
    a failure is only shown in red.
    """

    variable = "TEAMS_WEBHOOK_URL"

    def body(self, note: Notification) -> Dict[str, Any]:
        """Return a message with one card, with its texts shortened until Teams accepts it."""
        for limit in _TEXT_LIMITS:
            message = _message(note, limit)
            if len(json.dumps(message)) <= _MAX_BYTES:
                break
        return message

    def _status(self, answer: Answer) -> int:
        """Read the status from the text: the older connectors always answer 200."""
        failed = re.search(r"delivery failed.*HTTP error (\d{3})", answer.text)
        return int(failed.group(1)) if answer.status == 200 and failed else answer.status


def _message(note: Notification, limit: int) -> Dict[str, Any]:
    title = {"size": "Medium", "weight": "Bolder", "color": _COLOURS.get(note.event, "Default")}
    body = [_text(note.title, 300, **title)]
    if note.metrics:
        facts = [{"title": name, "value": value} for name, value in note.facts()[:10]]
        body.append({"type": "FactSet", "facts": facts})
    if note.text:
        body.append(_text(note.text, limit, fontType="Monospace"))
    for sample in note.samples[:20]:
        body.append(_text(sample.prompt, min(limit, 500), isSubtle=True))
        body.append(_text(sample.answer, limit, fontType="Monospace"))
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
    """Return a text that is shown as it is: a text run has no Markdown, unlike a text block."""
    runs: List[Dict[str, Any]] = [{"type": "TextRun", "text": fit(text, limit, escape), **style}]
    return {"type": "RichTextBlock", "inlines": runs}


def escape(text: str) -> str:
    """Make mentions and the placeholders for dates ineffective."""
    return text.replace("<at", f"<{ZERO_WIDTH_SPACE}at").replace("{{", f"{{{ZERO_WIDTH_SPACE}{{")
