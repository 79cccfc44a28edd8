"""Notifies a Slack channel through an incoming webhook. Runs on a thread of its own."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Optional

from arkor_sync.handlers.notifiers.http import HttpNotifier
from arkor_sync.handlers.notifiers.notification import Notification, break_fences, fit

_ICONS = {
    "completed": "✅",
    "failed": "❌",
    "error": "❌",
    "cancelled": "⏹️",
    "reconnect": "⚠️",
}
_MAX_SECTION = 3000  # characters of one text object
_MAX_SAMPLES = 20  # a message has at most 50 blocks


@dataclasses.dataclass(repr=False, eq=False)
class SlackNotifier(HttpNotifier):
    """Sends notifications to a Slack channel, through an incoming webhook.

    The URL is `SLACK_WEBHOOK_URL` by default. No text of a run can mention anybody.

    Args:
        mention: Who is mentioned in the notification of a failure, and in no other: `<!here>`,
            `<!channel>`, `<!subteam^ID>`, `<@USER>`; None for nobody.
    """

    mention: Optional[str] = "<!here>"

    variable = "SLACK_WEBHOOK_URL"

    def body(self, note: Notification) -> Dict[str, Any]:
        """Return a message of Block Kit sections."""
        mention = f"{self.mention} " if note.urgent and self.mention else ""
        icon = f"{_ICONS[note.event]} " if note.event in _ICONS else ""
        title = fit(note.title, 300, escape)
        blocks = [_section(f"{mention}{icon}*{title}*")]
        facts = "   ".join(f"{escape(name)} *{value}*" for name, value in note.facts())
        if facts:
            blocks.append(_section(fit(facts, _MAX_SECTION)))
        if note.text:
            blocks.append(_section(_code(note.text, _MAX_SECTION)))
        for sample in note.samples[:_MAX_SAMPLES]:
            prompt = fit(sample.prompt, 500, escape)
            blocks.append(_section(f"{prompt}\n{_code(sample.answer, _MAX_SECTION - 500 - 1)}"))
        if note.origin:
            job = {"type": "mrkdwn", "text": fit(note.origin, 200, escape), "verbatim": True}
            blocks.append({"type": "context", "elements": [job]})
        return {"text": title, "blocks": blocks}


def escape(text: str) -> str:
    """Escape angle brackets, in which Slack writes mentions and links, and ends of code blocks."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return break_fences(escaped)


def _code(text: str, limit: int) -> str:
    return f"```{fit(text, limit - 6, escape)}```"


def _section(text: str) -> Dict[str, Any]:
    # Verbatim, so that Slack does not turn names of channels and people into mentions.
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
