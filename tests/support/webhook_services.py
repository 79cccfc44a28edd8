"""Local servers that answer webhooks as the real services do, or as they are told to."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple, Type

from support.servers import LoopbackServer, QuietHandler
from support.waiting import PATIENCE

Answer = Tuple[int, Dict[str, str], str]
HANG: Answer = (-1, {}, "")  # say nothing until the server is closed
DROP: Answer = (-2, {}, "")  # close the connection


class Post(NamedTuple):
    path: str
    headers: Dict[str, str]
    raw: bytes
    body: Any
    status: int


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class Service(LoopbackServer):
    """Any endpoint: it takes every JSON document.

    `answers` come before what the contract says, one each; `always` for all.
    """

    path = "/hooks/s3cr3t-path-0123456789?key=s3cr3t-query-0123456789"

    def __init__(self, *answers: Answer, always: Optional[Answer] = None) -> None:
        self.answers: Deque[Answer] = deque(answers)
        self.always = always
        self.posts: List[Post] = []
        self.open = threading.Event()
        self._changed = threading.Condition()
        service = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802
                raw = self.body()
                status, headers, text = service._answer(self, raw)
                if status == DROP[0]:
                    return
                data = text.encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204 and "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        super().__init__(Handler)
        self.url += self.path

    def stop(self) -> None:
        self.open.set()
        super().stop()

    def wait_for(self, count: int) -> List[Post]:
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while len(self.posts) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.posts)} posts, not {count}"
                self._changed.wait(left)
            return list(self.posts)

    @property
    def bodies(self) -> List[Any]:
        """What was accepted."""
        return [post.body for post in self.posts if 200 <= post.status < 300]

    def contract(self, raw: bytes, body: Any) -> Answer:
        return 200, {}, "{}" if body is not None else "null"

    def _answer(self, request: Any, raw: bytes) -> Answer:
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        with self._changed:
            if self.answers:
                answer = self.answers.popleft()
            elif self.always is not None:
                answer = self.always
            elif request.path != self.path:
                answer = self.unknown()
            else:
                answer = self.contract(raw, body)
            post = Post(request.path, dict(request.headers), raw, body, answer[0])
            self.posts.append(post)
            self._changed.notify_all()
        if answer == HANG:
            self.open.wait(PATIENCE)
            return DROP
        return answer

    def unknown(self) -> Answer:
        return 404, {}, "no such hook"


class Slack(Service):
    path = "/services/T00000000/B00000000/s3cr3tXXXXXXXXXXXXXXXXXX"

    def unknown(self) -> Answer:
        return 404, {}, "no_service"

    def contract(self, raw: bytes, body: Any) -> Answer:
        if not isinstance(body, dict):
            return 400, {}, "invalid_payload"
        if not body.get("text") and not body.get("blocks"):
            return 400, {}, "no_text"
        blocks = body.get("blocks", [])
        if len(blocks) > 50 or not all(map(self._fits, blocks)):
            return 400, {}, "invalid_blocks"
        return 200, {}, "ok"

    @staticmethod
    def _fits(block: Any) -> bool:
        texts = block["elements"] if block["type"] == "context" else [block["text"]]
        return all(
            each["type"] == "mrkdwn" and 1 <= units(each["text"]) <= 3000 for each in texts
        ) and block["type"] in ("section", "context")


class Discord(Service):
    path = "/api/webhooks/123456789012345678/s3cr3t-token_0123456789abcdefghijklmnop"

    def unknown(self) -> Answer:
        return 404, {}, '{"message": "Unknown Webhook", "code": 10015}'

    def contract(self, raw: bytes, body: Any) -> Answer:
        content, embeds = body.get("content", ""), body.get("embeds", [])
        if not content and not embeds:
            return 400, {}, '{"message": "Cannot send an empty message", "code": 50006}'
        total = 0
        fits = units(content) <= 2000 and len(embeds) <= 10
        for embed in embeds:
            fields = embed.get("fields", [])
            texts = [
                (embed.get("title", ""), 0, 256),
                (embed.get("description", ""), 0, 4096),
                (embed.get("footer", {}).get("text", ""), 0, 2048),
                *[(field["name"], 1, 256) for field in fields],
                *[(field["value"], 1, 1024) for field in fields],
            ]
            fits = fits and len(fields) <= 25
            fits = fits and all(least <= units(text) <= most for text, least, most in texts)
            total += sum(units(text) for text, _, _ in texts)
        mentions = body.get("allowed_mentions", {})
        both = "users" in mentions.get("parse", []) and mentions.get("users")
        if not fits or total > 6000 or both:
            return 400, {}, '{"message": "Invalid Form Body", "code": 50035, "errors": {}}'
        limits = {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4"}
        return 204, {**limits, "X-RateLimit-Reset-After": "2.0"}, ""


class Teams(Service):
    path = "/workflows/s3cr3t0123456789/triggers/manual/paths/invoke?sig=s3cr3t-signature"

    def contract(self, raw: bytes, body: Any) -> Answer:
        if len(raw) > 28 * 1024:
            return 413, {}, '{"error": {"code": "RequestEntityTooLarge"}}'
        attachments = body.get("attachments") if isinstance(body, dict) else None
        kind = "application/vnd.microsoft.card.adaptive"
        if body.get("type") != "message" or not attachments:
            return 400, {}, '{"error": {"code": "TriggerInputSchemaMismatch"}}'
        cards = [each["content"] for each in attachments if each["contentType"] == kind]
        if not cards or any(card["type"] != "AdaptiveCard" or not card["body"] for card in cards):
            return 400, {}, '{"error": {"code": "BadRequest"}}'
        return 202, {}, ""


SERVICES: Dict[str, Type[Service]] = {
    "SlackNotifier": Slack,
    "DiscordNotifier": Discord,
    "TeamsNotifier": Teams,
    "WebhookNotifier": Service,
}
