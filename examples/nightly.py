"""Train every night, from cron: log lines, an exit code, one at a time, and a limit.

    python examples/nightly.py            # against a local Arkor: no account, no network
    python examples/nightly.py --cloud    # against Arkor

As a line of a crontab (`crontab -e`), at 2:30 every night:

    30 2 * * *  cd /srv/bot && .venv/bin/python examples/nightly.py --cloud >>nightly.log 2>&1

It exits with 0 if the training completed; with 1 if it did not (it failed, or was cancelled because
the time was over); with 2 if nobody knows (it could not be submitted or followed), or if another
nightly.py is still at work. With SLACK_WEBHOOK_URL set, Slack hears how it ended, whatever happens.

At SIGTERM (`kill`, `docker stop`, systemd) it exits with 143, at Ctrl-C with 130. The job goes on
then; a line of the log has its id, with which `follow(id)` attaches to it again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import signal
import sys
from pathlib import Path
from typing import Iterator

from arkor_sync import (
    ArkorError,
    Callbacks,
    CloudApiClient,
    HuggingFaceDataset,
    LogContext,
    WaitTimeout,
    create_trainer,
    exit_on,
)
from arkor_sync.handlers import SlackNotifier

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
COMPLETED, NOT_COMPLETED, UNKNOWN = 0, 1, 2
log = logging.getLogger("nightly")


def on_log(ctx: LogContext) -> None:
    log.info("step %d, loss %s", ctx.step, ctx.loss)


@contextlib.contextmanager
def local_arkor() -> Iterator[CloudApiClient]:
    """Start the emulator, and sign in to it."""
    from arkor_sync.emulator import Emulator

    with Emulator() as emulator:
        yield emulator.client()


def train(cloud: bool, limit: float, slack: SlackNotifier) -> int:
    with contextlib.nullcontext(CloudApiClient()) if cloud else local_arkor() as client:
        trainer = create_trainer(
            name="nightly-triage",
            model="unsloth/gemma-4-E4B-it",
            dataset=HuggingFaceDataset("arkorlab/triage-demo") if cloud else DATA,
            max_steps=60,
            batch_size=4,
            logging_steps=20,
            callbacks=[Callbacks(on_log=on_log), slack],
            client=client,
        )
        with exit_on(signal.SIGTERM), trainer.follow() as run:
            try:
                result = run.wait(limit)
            except WaitTimeout:
                run.stop(f"not done after {limit:g} s")  # or it would run on, and cost
                result = run.wait(60)
    if result.status == "completed":
        return COMPLETED
    why = result.stop_reason or result.job.error
    log.error("job %s %s: %s", result.job.id, result.status, why)
    return NOT_COMPLETED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cloud", action="store_true", help="train at Arkor instead of locally")
    parser.add_argument("--limit", type=float, default=4 * 3600, help="seconds that it may take")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    with open(__file__) as script:  # locks itself: there is no file to be left behind
        try:
            fcntl.flock(script, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.error("the last one is still at work; nothing was submitted")
            return UNKNOWN
        try:
            slack = SlackNotifier()
            with slack.watching():  # also if nothing could be submitted
                return train(arguments.cloud, arguments.limit, slack)
        except ArkorError as error:
            log.error("no result: %s", error)
        except Exception:
            log.exception("no result")
        return UNKNOWN


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
