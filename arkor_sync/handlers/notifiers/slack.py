"""Slack, by an incoming webhook. The callbacks run on the run's worker thread."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Optional

from arkor_sync.handlers.notifiers.http import HttpNotifier
from arkor_sync.handlers.notifiers.notification import ZERO_WIDTH, Notification, fit

_MARKS = {
    "completed": "✅",
    "failed": "❌",
    "error": "❌",
    "cancelled": "⏹️",
    "reconnect": "⚠️",
}
_SECTION = 3000  # characters, in one text object
_MAX_SAMPLES = 20  # a message has at most 50 blocks


@dataclasses.dataclass(repr=False, eq=False)
class SlackNotifier(HttpNotifier):
    """Tells a Slack channel of a run, through an incoming webhook.

    The URL is `SLACK_WEBHOOK_URL` by default. For the other arguments see `Notifier` and
    `HttpNotifier`. The run's text cannot mention anybody.

    Args:
        mention: Put before a failure, and before nothing else: `<!here>`, `<!channel>`,
            `<!subteam^ID>`, `<@USER>`; None for nobody.
    """

    mention: Optional[str] = "<!here>"

    variable = "SLACK_WEBHOOK_URL"

    def body(self, note: Notification) -> Dict[str, Any]:
        """Return a message of Block Kit sections."""
        mention = f"{self.mention} " if note.urgent and self.mention else ""
        mark = f"{_MARKS[note.event]} " if note.event in _MARKS else ""
        title = fit(note.title, 300, escape)
        blocks = [_section(f"{mention}{mark}*{title}*")]
        facts = "   ".join(f"{escape(name)} *{value}*" for name, value in note.facts())
        if facts:
            blocks.append(_section(fit(facts, _SECTION)))
        if note.text:
            blocks.append(_section(_code(note.text, _SECTION)))
        for sample in note.samples[:_MAX_SAMPLES]:
            asked = fit(sample.prompt, 500, escape)
            blocks.append(_section(f"{asked}\n{_code(sample.answer, _SECTION - 500 - 1)}"))
        if note.origin:
            job = {"type": "mrkdwn", "text": fit(note.origin, 200, escape), "verbatim": True}
            blocks.append({"type": "context", "elements": [job]})
        return {"text": title, "blocks": blocks}


def escape(text: str) -> str:
    """Escape what Slack gives a meaning: mentions and links are written in angle brackets."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("```", f"`{ZERO_WIDTH}`{ZERO_WIDTH}`")


def _code(text: str, limit: int) -> str:
    return f"```{fit(text, limit - 6, escape)}```"


def _section(text: str) -> Dict[str, Any]:
    # Verbatim, so that Slack does not look for names of channels and people in plain text.
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
