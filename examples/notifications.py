"""Hear of a run in Slack, Discord or Teams: how it goes, what each checkpoint says, how it ended.

    python examples/notifications.py                               # prints what would be posted
    SLACK_WEBHOOK_URL=https://... python examples/notifications.py   # posts it

DISCORD_WEBHOOK_URL and TEAMS_WEBHOOK_URL do the same for these. A notifier with url="" is off.
A local Arkor trains a small model, and then fails to train another.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, Union

from arkor_sync import (
    ArkorError,
    BlobDataset,
    CloudApiClient,
    Steps,
    TrainingResult,
    create_trainer,
)
from arkor_sync.emulator import Emulator
from arkor_sync.handlers import DiscordNotifier, SlackNotifier, TeamsNotifier

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
SETTINGS: Dict[str, Any] = {
    "on": ("started", "checkpoint", "completed", "failed"),
    "every_n_steps": 50,
    "min_interval": 0,  # seconds; here 50 steps take less than one
    "prompts": ["The lady in your chat was so patient with me. Please tell her thank you."],
}


class Receiver(BaseHTTPRequestHandler):
    """Stands in for Slack."""

    def do_POST(self) -> None:
        """Print the message and accept it."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = [block["text"]["text"] for block in message["blocks"] if "text" in block]
        print("\n".join(texts).replace("\n", "\n    "), end="\n\n", flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Print nothing else."""


@contextlib.contextmanager
def somebody_listening() -> Iterator[None]:
    """Take the messages here, unless the environment says where they go."""
    names = ("SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL", "TEAMS_WEBHOOK_URL")
    if any(os.environ.get(name) for name in names):
        yield
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        os.environ["SLACK_WEBHOOK_URL"] = f"http://127.0.0.1:{server.server_port}/"
        yield
        server.shutdown()


def train(client: CloudApiClient, dataset: Union[Path, BlobDataset]) -> TrainingResult:
    trainer = create_trainer(
        name="support-triage",
        model="unsloth/gemma-4-E4B-it",
        dataset=dataset,
        max_steps=100,
        save_steps=Steps(50),
        callbacks=[
            SlackNotifier(os.environ.get("SLACK_WEBHOOK_URL", ""), **SETTINGS),
            DiscordNotifier(os.environ.get("DISCORD_WEBHOOK_URL", ""), **SETTINGS),
            TeamsNotifier(os.environ.get("TEAMS_WEBHOOK_URL", ""), **SETTINGS),
        ],
        client=client,
    )
    with trainer.follow() as run:  # also after Ctrl-C the notifiers get their time to finish
        return run.wait()


def main() -> int:
    with Emulator() as emulator, somebody_listening():
        client = emulator.client()
        good = train(client, DATA)
        bad = train(client, BlobDataset(DATA.with_name("no-such-file.jsonl").as_uri()))
    print(f"status: {good.status}, and then as expected: {bad.status}")
    return 0 if (good.status, bad.status) == ("completed", "failed") else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except ArkorError as error:
        sys.exit(f"error: {error}")
