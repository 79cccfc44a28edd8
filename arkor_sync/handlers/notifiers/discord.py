"""Notifies a Discord channel through its webhook. Runs on a thread of its own."""

from __future__ import annotations

import dataclasses
import json
import re
from contextlib import suppress
from typing import Any, Dict, Optional

from arkor_sync.cloud.retry_after import parse_retry_after
from arkor_sync.handlers.notifiers.http import Answer, HttpNotifier
from arkor_sync.handlers.notifiers.notification import (
    ZERO_WIDTH_SPACE,
    Notification,
    break_fences,
    fit,
)

_BLUE, _GREEN, _RED, _GREY = 0x3B82F6, 0x22C55E, 0xEF4444, 0x6B7280
_COLOURS = {"completed": _GREEN, "failed": _RED, "error": _RED, "cancelled": _GREY}
_CONTENT, _TITLE, _DESCRIPTION = 2000, 256, 4096  # characters
_FIELDS = 10  # of 25 possible: all texts of an embed together may have 6,000 characters


@dataclasses.dataclass(repr=False, eq=False)
class DiscordNotifier(HttpNotifier):
    """Sends notifications to a Discord channel, through a webhook.

    The URL is `DISCORD_WEBHOOK_URL` by default. No text of a run can mention anybody.

    Args:
        mention: Who is mentioned in the notification of a failure, and in no other: `@here`,
            `@everyone`, `<@&ROLE>`, `<@USER>`; None for nobody.
    """

    mention: Optional[str] = "@here"

    variable = "DISCORD_WEBHOOK_URL"

    def body(self, note: Notification) -> Dict[str, Any]:
        """Return a message with one embed; only the mention is outside of the embed."""
        embed: Dict[str, Any] = {
            "title": fit(note.title, _TITLE, escape),
            "color": _COLOURS.get(note.event, _BLUE),
            "fields": [
                {"name": fit(name, 50, escape), "value": fit(value, 50, escape), "inline": True}
                for name, value in note.facts()[:_FIELDS]
            ],
        }
        if note.origin:
            embed["footer"] = {"text": fit(note.origin, 200, escape)}
        parts = [("", note.text)] if note.text else []
        parts += [(sample.prompt, sample.answer) for sample in note.samples]
        if parts:
            share = _DESCRIPTION // len(parts)
            description = "\n".join(_part(heading, text, share) for heading, text in parts)
            embed["description"] = fit(description, _DESCRIPTION)
        message: Dict[str, Any] = {"embeds": [embed], "allowed_mentions": {"parse": []}}
        if note.urgent and self.mention:
            message["content"] = self.mention[:_CONTENT]
            message["allowed_mentions"] = _allowed_mentions(self.mention)
        return message

    def _retry_after(self, answer: Answer) -> Optional[float]:
        """Return the longest delay of the three places in which Discord gives one.

        Discord also gives one with the last message that it accepts before its limit.
        """
        headers = answer.headers
        found = [headers.get("Retry-After")]
        if answer.status == 429 or headers.get("X-RateLimit-Remaining") == "0":
            found.append(headers.get("X-RateLimit-Reset-After"))
        if answer.status == 429:
            with suppress(ValueError, TypeError, KeyError):  # the answer may be Cloudflare's page
                found.append(str(json.loads(answer.text)["retry_after"]))
        return max(parse_retry_after(each, headers.get("Date")) or 0.0 for each in found)


def escape(text: str) -> str:
    """Escape Markdown, and make mentions and links to channels ineffective."""
    return re.sub(r"([\\*_~`|>#\[\]()<])", r"\\\1", _break_mentions(text))


def _escape_code(text: str) -> str:
    """Escape a text for a code block, in which only mentions and the end of the block count."""
    return break_fences(_break_mentions(text))


def _break_mentions(text: str) -> str:
    return text.replace("@", f"@{ZERO_WIDTH_SPACE}")


def _part(heading: str, text: str, limit: int) -> str:
    """Return a text as a code block under a heading, which may be empty."""
    head = f"{fit(heading, limit // 3, escape)}\n" if heading else ""
    return f"{head}```\n{fit(text, max(1, limit - len(head) - 10), _escape_code)}\n```"


def _allowed_mentions(mention: str) -> Dict[str, Any]:
    allowed: Dict[str, Any] = {"parse": []}
    if re.search("@(everyone|here)", mention):
        allowed["parse"] = ["everyone"]
    for kind, pattern in (("roles", r"<@&(\d+)>"), ("users", r"<@!?(\d+)>")):
        if re.search(pattern, mention):
            allowed[kind] = re.findall(pattern, mention)
    return allowed
