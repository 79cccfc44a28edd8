"""Have a checkpoint answer in a given shape: one of a few texts, a dataclass, or a tool call.

    python examples/structured_outputs.py

A local Arkor trains a small model. It really chooses among texts; but it knows no JSON, so into
the shape of a tool's arguments or of a dataclass it puts the beginning of its answer, and it calls
a tool only where it must (`required`).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Dict, List

from arkor_sync import (
    ArkorError,
    Callbacks,
    CheckpointContext,
    LoraConfig,
    Steps,
    create_trainer,
)
from arkor_sync.emulator import Emulator
from arkor_sync.handlers import CheckpointEvaluator

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
QUESTION: List[Dict[str, Any]] = [
    {
        "role": "system",
        "content": "Triage the customer's message: category, priority, team, reply.",
    },
    {"role": "user", "content": "I was charged twice for the same order, please refund one."},
]
STOCK = [
    "category: billing | priority: low | team: payments | reply: The second line is a hold by "
    "your bank, not a charge. It goes away in a few days.",
    "category: delivery | priority: medium | team: logistics | reply: Sorry about the tracking. "
    "The courier updates it today and we watch your parcel.",
    "category: bug | priority: low | team: engineering | reply: Sorry about the button. The bug is "
    "known and the fix comes with the next update.",
]
TOOL: Dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "file_ticket",
        "description": "File a ticket for the team that deals with it.",
        "parameters": {
            "type": "object",
            "properties": {"triage": {"type": "string"}},
            "required": ["triage"],
        },
    },
}


@dataclasses.dataclass
class Triage:
    """What the evaluator asks for: it makes the JSON schema, and parses the answers."""

    summary: str
    escalate: bool


def on_checkpoint(ctx: CheckpointContext) -> None:
    print(f"\ncheckpoint {ctx.step} is asked: {QUESTION[-1]['content']}")

    answer = ctx.infer(QUESTION, stream=False, structured_outputs={"choice": STOCK})
    print(f"  a stock reply:  {answer.content()}")

    answer = ctx.infer(QUESTION, stream=False, temperature=0, tools=[TOOL], tool_choice="required")
    (call,) = answer.tool_calls()
    arguments = json.loads(call["function"]["arguments"])
    print(f"  a tool call:    {call['function']['name']}({arguments})")

    done = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": '{"ticket": 4711}'},
    ]
    answer = ctx.infer(done, stream=False, temperature=0, max_tokens=60)
    print(f"  after the tool: {answer.content()}")


def main() -> int:
    evaluator = CheckpointEvaluator([QUESTION], schema=Triage, max_tokens=200)
    with Emulator() as emulator:
        trainer = create_trainer(
            name="support-triage",
            model="unsloth/gemma-4-E4B-it",
            dataset=DATA,
            lora=LoraConfig(r=16, alpha=16),
            max_steps=60,
            batch_size=4,
            save_steps=Steps(30),
            callbacks=[Callbacks(on_checkpoint=on_checkpoint), evaluator],
            client=emulator.client(),
        )
        result = trainer.wait()

    print("\nas a dataclass:")
    for row in evaluator.table:
        print(f"  step {row.step}: {row.error or row.parsed}")
    print(f"status: {result.status}")
    return 0 if result.status == "completed" else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except ArkorError as error:
        sys.exit(f"error: {error}")
