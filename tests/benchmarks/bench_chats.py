"""Chats with the checkpoints of a training: what they cost it, and what a form costs them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Dict, List

from bench_trainings import PATIENCE, Task, Watched, on_file, train, without_end

from arkor_sync.emulator import Emulator

CHECKPOINTS = 8
TOKENS = 16  # of an answer
PROMPT = "What do you tell a customer whose invoice is wrong?"
SCHEMA = {
    "type": "object",
    "properties": {
        "subject": {"type": "string"},
        "urgency": {"enum": ["low", "normal", "high"]},
        "amount": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "customer": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "since": {"type": "integer"}},
            "required": ["name", "since"],
        },
    },
    "required": ["subject", "urgency", "amount", "tags", "customer"],
    "additionalProperties": False,
}


def chats(task: Task, rounds: int) -> Dict[str, Any]:
    """Chat with eight checkpoints of a job while another job trains, and while it is alone.

    Returns:
        The bytes that each checkpoint takes; for each round the seconds of the counted steps,
        `alone` and `beside`, and how many answers the chats were given in them.
    """
    engine = Watched(task)
    alone: List[float] = []
    beside: List[float] = []
    answers: List[int] = []
    with Emulator(engine) as emulator:
        job = train(emulator, **on_file(task), batchSize=1, maxSteps=CHECKPOINTS, saveSteps=1)
        client = emulator.client()

        def ask(**whom: Any) -> None:
            client.chat(PROMPT, temperature=0, max_tokens=TOKENS, stream=False, **whom).content()

        engine.close()  # a training leaves free memory behind, which a checkpoint would fill
        ask(base_model="base")
        before = memory_of(engine.process)
        for step in range(1, CHECKPOINTS + 1):
            ask(job=job, step=step)
        each = (memory_of(engine.process) - before) / CHECKPOINTS

        with without_end(emulator, engine, task) as training:
            for _ in range(rounds):
                alone.append(seconds_of_steps(emulator, engine, training, task["steps"]))
                with Asking(ask, job) as asking:
                    given = asking.answers
                    beside.append(seconds_of_steps(emulator, engine, training, task["steps"]))
                    answers.append(asking.answers - given)
    return {"bytes": each, "alone": alone, "beside": beside, "answers": answers}


class Asking:
    """A thread for each checkpoint, which asks it again and again; entered with an answer."""

    def __init__(self, ask: Any, job: str) -> None:
        self.answers = 0
        self._answered = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._main, args=(ask, job, step), daemon=True)
            for step in range(1, CHECKPOINTS + 1)
        ]

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        self._answered.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _main(self, ask: Any, job: str, step: int) -> None:
        while not self._ended.is_set():
            ask(job=job, step=step)
            with self._lock:
                self.answers += 1
            self._answered.set()


def seconds_of_steps(emulator: Emulator, engine: Watched, job: str, steps: int) -> float:
    """Return how long the job takes for so many steps, from the end of the step that it is in."""
    first = len(engine.logs(job))
    emulator.wait_for(lambda: len(engine.logs(job)) > first + steps, PATIENCE)
    logs = engine.logs(job)
    return logs[first + steps][0] - logs[first][0]


def memory_of(process: int) -> int:
    """Return how many bytes of a process are in memory."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("a process has no VmRSS")


def schema(task: Task, tokens: int) -> Dict[str, float]:
    """Choose tokens of random logits, freely and as a JSON schema allows.

    Returns:
        The CPU seconds of a token, `free` and `bound`, and of making the constraint, the first time
        and again.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from arkor_sync.emulator.engine.lora.constraints import Constraints
    from arkor_sync.emulator.engine.lora.sampling import Sampler

    torch.set_num_threads(task["threads"])
    model = AutoModelForCausalLM.from_pretrained(task["folder"])
    tokenizer = AutoTokenizer.from_pretrained(task["folder"])
    size = model.config.vocab_size
    constraints = Constraints(tokenizer, [tokenizer.eos_token_id], size)
    request = {
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 1,
        "constraint": ["json", SCHEMA],
        "tool": None,
        "body": {},
    }
    made = []
    for _ in range(2):
        began = time.thread_time()
        constraint = constraints.of(request)
        made.append(time.thread_time() - began)
    assert constraint is not None
    prompt = tokenizer(PROMPT)["input_ids"]
    free, bound = (Sampler(model, request, prompt) for _ in range(2))
    random = torch.Generator().manual_seed(1)
    took = {"free": 0.0, "bound": 0.0}
    for _ in range(tokens):
        logits = torch.randn(size, generator=random)
        copy = logits.clone()
        began = time.thread_time()
        free.choose(copy, None)
        between = time.thread_time()
        complete = constraint.take(bound.choose(logits, constraint))
        took["bound"] += time.thread_time() - between
        took["free"] += between - began
        if complete:
            constraint = constraints.of(request)
            assert constraint is not None
    return {
        **{name: each / tokens for name, each in took.items()},
        "first": made[0],
        "again": made[1],
    }
