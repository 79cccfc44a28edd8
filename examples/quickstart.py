"""Train on the support triage set, watch the loss fall, and talk to each checkpoint.

    python examples/quickstart.py            # against a local Arkor: no account, no network
    python examples/quickstart.py --cloud    # the same script against Arkor

The local Arkor trains a small character n-gram model, for real, on the same file.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from pathlib import Path
from typing import Iterator

from arkor_sync import (
    ArkorError,
    Callbacks,
    CheckpointContext,
    CloudApiClient,
    CompletedContext,
    DatasetSplit,
    ErrorPolicy,
    FailedContext,
    HuggingFaceDataset,
    LogContext,
    LoraConfig,
    StartedContext,
    Steps,
    create_trainer,
)

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
PROMPT = [
    {
        "role": "system",
        "content": "Triage the customer's message: category, priority, team, reply.",
    },
    {
        "role": "user",
        "content": "The lady in your chat was so patient with me. Please tell her thank you.",
    },
]


def on_started(ctx: StartedContext) -> None:
    print(f"job {ctx.job.id} is running")


def on_log(ctx: LogContext) -> None:
    loss = "     -" if ctx.loss is None else f"{ctx.loss:6.3f}"
    held_out = "" if ctx.eval_loss is None else f"   held out {ctx.eval_loss:6.3f}"
    bar = "#" * round(10 * (ctx.loss or 0))
    print(f"  step {ctx.step:3d}   loss {loss}{held_out}   {bar}")


def on_checkpoint(ctx: CheckpointContext) -> None:
    answer = ctx.infer(PROMPT, temperature=0, max_tokens=160, stream=False)
    print(f"\n  checkpoint {ctx.step} is asked: {PROMPT[-1]['content']}")
    print(f"  it answers: {answer.content()}\n")


def on_completed(ctx: CompletedContext) -> None:
    print(f"completed: final loss {ctx.metrics.final_loss}, {ctx.metrics.total_steps} steps")


def on_failed(ctx: FailedContext) -> None:
    print(f"failed at step {ctx.step}: {ctx.error}", file=sys.stderr)


@contextlib.contextmanager
def local_arkor() -> Iterator[CloudApiClient]:
    """Start the emulator, and sign in to it."""
    from arkor_sync.emulator import Emulator

    with Emulator() as emulator:
        print(f"a local Arkor is at {emulator.url}")
        yield emulator.client()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cloud", action="store_true", help="train at Arkor instead of locally")
    cloud = parser.parse_args().cloud
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")

    with contextlib.nullcontext(CloudApiClient()) if cloud else local_arkor() as client:
        trainer = create_trainer(
            name="support-triage",
            model="unsloth/gemma-4-E4B-it",
            dataset=HuggingFaceDataset("arkorlab/triage-demo") if cloud else DATA,
            lora=LoraConfig(r=16, alpha=16),
            max_steps=100,
            batch_size=4,
            logging_steps=Steps(5),
            save_steps=Steps(25),
            eval_steps=Steps(25),
            dataset_split=DatasetSplit(test_size=0.1),
            callbacks=Callbacks(
                on_started=on_started,
                on_log=on_log,
                on_checkpoint=on_checkpoint,
                on_completed=on_completed,
                on_failed=on_failed,
            ),
            error_policy=ErrorPolicy.log(),
            client=client,
        )
        with trainer.follow() as run:  # on Ctrl-C a callback that runs may end before Arkor does
            result = run.wait()
    print(f"status: {result.status}, {len(result.artifacts)} artifact(s)")
    return 0 if result.status == "completed" else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except ArkorError as error:
        sys.exit(f"error: {error}")
