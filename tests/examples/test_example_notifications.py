"""The example of notifications, run as its reader runs it, with and without a place to post to."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, List

from example_runs import printed_by

NAMES = ("SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL", "TEAMS_WEBHOOK_URL")


def printed(**environment: str) -> str:
    rest = {name: value for name, value in os.environ.items() if name not in NAMES}
    return printed_by("notifications.py", env={**rest, **environment})


def test_it_prints_what_would_be_posted_and_pages_only_for_the_failure() -> None:
    text = printed()
    titles = [line for line in text.splitlines() if "*support-triage" in line]
    assert sorted(titles) == sorted(
        [
            "*support-triage started*",
            "*support-triage: step 50*",
            "*support-triage: checkpoint 50*",
            "*support-triage: step 100*",
            "*support-triage: checkpoint 100*",
            "✅ *support-triage completed*",
            "<!here> ❌ *support-triage failed*",
        ]
    )
    assert text.count("```category: feedback") == 2
    assert "could not be read: No such file" in text
    assert text.count("<!here>") == 1
    assert "status: completed, and then as expected: failed" in text


def test_with_a_webhook_in_the_environment_it_posts_there_and_prints_no_message() -> None:
    posted: List[Any] = []

    class Discord(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Discord) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api/webhooks/1/t"
        try:
            text = printed(DISCORD_WEBHOOK_URL=url)
        finally:
            server.shutdown()
    assert len(posted) == 7
    assert [body.get("content") for body in posted] == [None] * 6 + ["@here"]
    assert text == "status: completed, and then as expected: failed\n"
