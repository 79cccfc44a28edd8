"""Ask every checkpoint the same questions while the training goes on, and keep the best.

    python examples/mid_run_evaluation.py

A local Arkor trains a small model. Each checkpoint gets the same customer messages, several at a
time, and a score; the run stops as soon as one of them answers well enough.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from arkor_sync import (
    ArkorError,
    LoraConfig,
    Steps,
    create_trainer,
)
from arkor_sync.emulator import Emulator
from arkor_sync.handlers import CheckpointEvaluator

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
SYSTEM = "Triage the customer's message: category, priority, team, reply."
QUESTIONS = {
    "The lady in your chat was so patient with me. Please tell her thank you.": "feedback",
    "I was charged twice for the same order, please refund one of them.": "billing",
    "I cannot log in to my account, the password is not accepted.": "login",
    "My parcel has not arrived, the tracking has not changed for a week.": "delivery",
}


def right_category(answer: str, expected: str) -> float:
    """Score one answer: 1 for the right category, 0 for any other."""
    return float(answer.startswith(f"category: {expected}"))


def main() -> int:
    evaluator = CheckpointEvaluator(
        prompts=[
            [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
            for question in QUESTIONS
        ],
        expected=list(QUESTIONS.values()),
        scorer=right_category,
        max_concurrency=2,
        max_tokens=60,
        stop_when=1.0,
        notify=lambda text: print(text.splitlines()[0]),
    )
    with Emulator() as emulator:
        trainer = create_trainer(
            name="support-triage",
            model="unsloth/gemma-4-E4B-it",
            dataset=DATA,
            lora=LoraConfig(r=16, alpha=16),
            max_steps=400,
            batch_size=4,
            logging_steps=Steps(10),
            save_steps=Steps(20),
            callbacks=evaluator,
            client=emulator.client(),
        )
        result = trainer.wait()

    print(f"\n{evaluator.table_text()}\n")
    print(f"status: {result.status}: {result.stop_reason or 'it went to its end'}")
    print(f"best checkpoint: {evaluator.best_step}, score {evaluator.best_score}")
    path = Path(tempfile.mkdtemp(prefix="arkor-")) / "answers.csv"
    evaluator.to_csv(path)
    print(f"written: {path}")
    return 0 if evaluator.best_step is not None else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except ArkorError as error:
        sys.exit(f"error: {error}")
