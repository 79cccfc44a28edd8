"""Discord, by a channel's webhook. The callbacks run on the run's worker thread."""

from __future__ import annotations

import dataclasses
import json
import re
from contextlib import suppress
from typing import Any, Dict, Optional

from arkor_sync.cloud.http import parse_retry_after
from arkor_sync.handlers.notifiers.http import Answer, HttpNotifier
from arkor_sync.handlers.notifiers.notification import ZERO_WIDTH, Notification, fit

_BLUE, _GREEN, _RED, _GREY = 0x3B82F6, 0x22C55E, 0xEF4444, 0x6B7280
_COLOURS = {"completed": _GREEN, "failed": _RED, "error": _RED, "cancelled": _GREY}
_CONTENT, _TITLE, _DESCRIPTION = 2000, 256, 4096  # characters
_FIELDS = 10  # of 25: all texts of an embed together must stay below 6,000 characters


@dataclasses.dataclass(repr=False, eq=False)
class DiscordNotifier(HttpNotifier):
    """Tells a Discord channel of a run, through a webhook.

    The URL is `DISCORD_WEBHOOK_URL` by default. For the other arguments see `Notifier` and
    `HttpNotifier`. The run's text cannot mention anybody.

    Args:
        mention: Put before a failure, and before nothing else: `@here`, `@everyone`, `<@&ROLE>`,
            `<@USER>`; None for nobody.
    """

    mention: Optional[str] = "@here"

    variable = "DISCORD_WEBHOOK_URL"

    def body(self, note: Notification) -> Dict[str, Any]:
        """Return a message of one embed; only the mention, if there is one, stands outside."""
        embed: Dict[str, Any] = {
            "title": fit(note.title, _TITLE, defused),
            "color": _COLOURS.get(note.event, _BLUE),
            "fields": [
                {"name": fit(name, 50, defused), "value": fit(value, 50, defused), "inline": True}
                for name, value in note.facts()[:_FIELDS]
            ],
        }
        if note.origin:
            embed["footer"] = {"text": fit(note.origin, 200, defused)}
        parts = [("", note.text)] if note.text else []
        parts += [(sample.prompt, sample.answer) for sample in note.samples]
        if parts:
            share = _DESCRIPTION // len(parts)
            told = "\n".join(_part(asked, text, share) for asked, text in parts)
            embed["description"] = fit(told, _DESCRIPTION)
        message: Dict[str, Any] = {"embeds": [embed], "allowed_mentions": {"parse": []}}
        if note.urgent and self.mention:
            message["content"] = self.mention[:_CONTENT]
            message["allowed_mentions"] = _allowed(self.mention)
        return message

    def _pause(self, answer: Answer) -> Optional[float]:
        """Discord says it in three places, and beside the last message that it still allows."""
        told = answer.headers
        found = [told.get("Retry-After")]
        if answer.status == 429 or told.get("X-RateLimit-Remaining") == "0":
            found.append(told.get("X-RateLimit-Reset-After"))
        if answer.status == 429:
            with suppress(ValueError, TypeError, KeyError):  # it may be Cloudflare's own page
                found.append(str(json.loads(answer.text)["retry_after"]))
        return max(parse_retry_after(each) or 0.0 for each in found)


def defused(text: str) -> str:
    """Take the meaning from what Discord reads: Markdown, mentions, channels."""
    return re.sub(r"([\\*_~`|>#\[\]()<])", r"\\\1", _unmentioned(text))


def _unmentioned(text: str) -> str:
    return text.replace("@", f"@{ZERO_WIDTH}")


def _part(asked: str, text: str, limit: int) -> str:
    head = f"{fit(asked, limit // 3, defused)}\n" if asked else ""

    def inert(raw: str) -> str:  # in a block of code nothing else has a meaning
        return _unmentioned(raw).replace("```", f"`{ZERO_WIDTH}`{ZERO_WIDTH}`")

    return f"{head}```\n{fit(text, max(1, limit - len(head) - 10), inert)}\n```"


def _allowed(mention: str) -> Dict[str, Any]:
    allowed: Dict[str, Any] = {"parse": []}
    if re.search("@(everyone|here)", mention):
        allowed["parse"] = ["everyone"]
    for kind, pattern in (("roles", r"<@&(\d+)>"), ("users", r"<@!?(\d+)>")):
        if re.search(pattern, mention):
            allowed[kind] = re.findall(pattern, mention)
    return allowed
