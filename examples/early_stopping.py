"""Stop paying for a training that gets no better: early stopping, and two more guards.

    python examples/early_stopping.py

A local Arkor trains a small model for up to 1,000 steps. It has learnt what there is to learn
after 80; from then on it learns the training records by heart, and the loss on the held-out ones
rises. The best checkpoint then answers a question.
"""

from __future__ import annotations

import sys
from pathlib import Path

from arkor_sync import (
    ArkorError,
    BlobDataset,
    Callbacks,
    CloudApiClient,
    LogContext,
    LoraConfig,
    ProjectState,
    Steps,
    TokenCredentials,
    create_trainer,
)
from arkor_sync.emulator import Emulator
from arkor_sync.handlers import EarlyStopping, TerminateOnNaN, Timer

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
MAX_STEPS = 1000
QUESTION = [{"role": "user", "content": "I was charged twice this month."}]


def on_log(ctx: LogContext) -> None:
    if ctx.eval_loss is not None:
        print(f"  step {ctx.step:4d}   held out {ctx.eval_loss:.3f}")


def main() -> int:
    early_stopping = EarlyStopping(monitor="eval_loss", min_delta=0.002, patience=2)
    with Emulator() as emulator:
        scope = ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id)
        trainer = create_trainer(
            name="support-triage",
            model="unsloth/gemma-4-E4B-it",
            dataset=BlobDataset(DATA.as_uri()),
            lora=LoraConfig(r=16, alpha=16),
            max_steps=MAX_STEPS,
            batch_size=4,
            logging_steps=Steps(5),
            save_steps=Steps(20),
            eval_steps=Steps(20),
            dataset_split={"enabled": True, "testSize": 0.1, "seed": 42},
            callbacks=[
                Callbacks(on_log=on_log),
                early_stopping,
                TerminateOnNaN(),  # a loss that is no number never comes back
                Timer("00:00:10:00"),  # ten minutes, also if the job falls silent
            ],
            client=CloudApiClient(emulator.url, TokenCredentials(emulator.token), scope=scope),
        )
        result = trainer.wait()
        best = result.history.best("eval_loss")
        if best is None:
            return 1
        answer = result.infer(QUESTION, step=best.checkpoint, temperature=0, stream=False)

    print(f"status: {result.status}: {result.stop_reason}")
    print(f"why:    {early_stopping.stopping_reason.value}")
    print(f"best:   the checkpoint of step {best.checkpoint}, {best.value:.3f}")
    print(f"        it answers: {answer.content()}")
    if early_stopping.stopped_step is None:
        return 1
    print(f"saved:  {MAX_STEPS - early_stopping.stopped_step} of {MAX_STEPS} steps")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except ArkorError as error:
        sys.exit(f"error: {error}")
