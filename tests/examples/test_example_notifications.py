"""The example of notifications, run as its reader runs it, with and without a place to post to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, List

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "notifications.py"
NAMES = ("SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL", "TEAMS_WEBHOOK_URL")


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    rest = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**rest, **environment},
    )


def test_it_prints_what_would_be_posted_and_pages_only_for_the_failure() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    titles = [line for line in done.stdout.splitlines() if "*support-triage" in line]
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
    assert done.stdout.count("```category: feedback") == 2
    assert "could not be read: No such file" in done.stdout
    assert done.stdout.count("<!here>") == 1
    assert "status: completed, and then as expected: failed" in done.stdout


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
        done = run(DISCORD_WEBHOOK_URL=f"http://127.0.0.1:{server.server_port}/api/webhooks/1/t")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(posted) == 7
    assert [body.get("content") for body in posted] == [None] * 6 + ["@here"]
    assert done.stdout == "status: completed, and then as expected: failed\n"
