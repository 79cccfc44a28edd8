"""Trainings of a language model: by the engine, by a bare loop, by trl. Each runs in a process.

What is asked for is a `Task`, as JSON, because it goes to those processes.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, TypedDict

from arkor_sync.emulator import Emulator, LoraEngine, ScriptedEngine, Ticket
from arkor_sync.emulator.engine.sample import NAME, RECORDS

sys.path.append(str(Path(__file__).parents[1]))

BATCH = 4
SEED = 7
WORDS = 40  # of a record
PATIENCE = 600.0  # seconds; only ever waited out by a failure
WITHOUT_END = 1_000_000  # steps of a training that is ended from outside
TRL = ("trl", "datasets")
TEXT = (
    "the invoice is wrong and a customer asks for help because it came late we will send another "
    "one today please tell us your name or number then wait until somebody has looked at this"
)


class Task(TypedDict):
    """What is trained.

    Attributes:
        model: The engine's `model`.
        folder: The same model as a folder.
        data: JSON Lines of records of equal length.
        tokens: That length.
        threads: The threads of PyTorch.
        steps: The steps that count.
    """

    model: Optional[str]
    folder: str
    data: str
    tokens: int
    threads: int
    steps: int


class Trained(TypedDict):
    """What a training came to: the loss of each step, and when it ended, in seconds."""

    losses: List[float]
    ends: List[float]


def prepare(directory: str, tiny: bool, threads: int, steps: int) -> Task:
    """Find, or make, the model, and write the records."""
    from transformers import AutoTokenizer

    folder = Path(directory) / "tiny"
    if tiny:
        from support.tiny_model import make_tiny_model

        make_tiny_model(folder)
    else:
        from arkor_sync.emulator.engine.lora import base_model

        folder = base_model.find(None).folder
    records = equal_records()
    data = Path(directory) / "data.jsonl"
    data.write_text("".join(json.dumps({"messages": each}) + "\n" for each in records))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.apply_chat_template(each, tokenize=False) for each in records]
    (tokens,) = {len(each) for each in tokenizer(texts)["input_ids"]}
    return {
        "model": str(folder) if tiny else None,
        "folder": str(folder),
        "data": str(data),
        "tokens": tokens,
        "threads": threads,
        "steps": steps,
    }


def equal_records(count: int = 64) -> List[List[Dict[str, str]]]:
    """Make records of the same words in other orders, so that all have as many tokens."""
    words = (TEXT.split() * WORDS)[: WORDS // 2]
    draw = random.Random(SEED)

    def text() -> str:
        return " ".join(["Yes,", *draw.sample(words, len(words))])

    return [
        [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
        for _ in range(count)
    ]


class Watched(LoraEngine):
    """The engine, and when each of its events came."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            task["model"], device="cpu", dtype="float32", threads=task["threads"], seed=SEED
        )
        self.came: Dict[str, List[Tuple[float, Dict[str, Any]]]] = {}

    def events(self, ticket: Ticket) -> Iterator[Any]:
        came = self.came[ticket.job.id] = []
        for event in super().events(ticket):
            came.append((time.perf_counter(), event))
            yield event

    def logs(self, job_id: str) -> List[Tuple[float, Dict[str, Any]]]:
        """Return the log events so far, and when they came."""
        return [(at, e) for at, e in list(self.came.get(job_id, ())) if "loss" in e]

    @property
    def process(self) -> int:
        """The process id of its child."""
        assert self._child is not None
        return self._child.pid


def train(emulator: Emulator, **config: Any) -> str:
    """Train a job to its end; return its id."""
    job_id = emulator.create_job(config={"batchSize": BATCH, **config})
    job = emulator.jobs[job_id]
    emulator.wait_for(lambda: job.terminal, PATIENCE)
    assert job.status == "completed", job.error
    return job_id


@contextlib.contextmanager
def without_end(emulator: Emulator, engine: Watched, task: Task) -> Iterator[str]:
    """Begin a training, and wait for its first steps; it goes on until the emulator ends."""
    config = {**on_file(task), "batchSize": BATCH, "maxSteps": WITHOUT_END}
    job_id = emulator.create_job(engine, config)
    job = emulator.jobs[job_id]
    emulator.wait_for(lambda: len(engine.logs(job_id)) > 1 or job.terminal, PATIENCE)
    yield job_id
    assert job.status == "running", job.error


def on_file(task: Task) -> Dict[str, Any]:
    return {"datasetSource": {"type": "blob", "url": Path(task["data"]).as_uri()}}


# -- tokens a second: the first step does not count ------------------------------------------------


def by_the_engine(task: Task) -> Trained:
    engine = Watched(task)
    with Emulator(engine) as emulator:
        job_id = train(emulator, **on_file(task), maxSteps=task["steps"] + 1)
        logs = engine.logs(job_id)
    return {"losses": [event["loss"] for _, event in logs], "ends": [at for at, _ in logs]}


def by_a_bare_loop(task: Task) -> Trained:
    import torch

    from support import bare_loop

    torch.set_num_threads(task["threads"])
    steps = list(
        bare_loop.train(task["folder"], read(task), steps=task["steps"] + 1, batch=BATCH, seed=SEED)
    )
    return {"losses": [loss for loss, _ in steps], "ends": [end for _, end in steps]}


def by_trl(task: Task) -> Trained:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(task["threads"])
    ends: List[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    # It prints its logs, and the standard output is for what this function returns.
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(task["folder"], dtype=torch.float32),
            SFTConfig(
                directory,
                max_steps=task["steps"] + 1,
                per_device_train_batch_size=BATCH,
                learning_rate=2e-4,
                lr_scheduler_type="linear",
                optim="adamw_torch",
                bf16=False,
                use_cpu=True,
                gradient_checkpointing=False,
                dataloader_pin_memory=False,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=SEED,
            ),
            train_dataset=Dataset.from_list([{"messages": each} for each in read(task)]),
            processing_class=AutoTokenizer.from_pretrained(task["folder"]),
            peft_config=LoraConfig(
                r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[Clock()],
        )
        trainer.train()
    return {
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "ends": ends,
    }


def trl_is_missing() -> bool:
    return not all(map(find_spec, TRL))


def read(task: Task) -> List[List[Dict[str, str]]]:
    lines = Path(task["data"]).read_text().splitlines()
    return [json.loads(line)["messages"] for line in lines]


def tokens_a_second(task: Task, trained: Trained) -> float:
    """Return the speed of the steps that count."""
    ends = trained["ends"]
    return BATCH * task["tokens"] * (len(ends) - 1) / (ends[-1] - ends[0])


# -- starts, and losses of records of different lengths --------------------------------------------


def starts(task: Task, steps: int) -> Dict[str, Any]:
    """Train two jobs; return how soon each logs, what the first says of itself, and its losses."""
    engine = Watched(task)
    took: List[float] = []
    with Emulator(engine) as emulator:
        for _ in range(2):
            began = time.perf_counter()
            job_id = train(
                emulator,
                datasetSource={"type": "huggingface", "name": NAME},
                maxSteps=steps,
                trainOnResponsesOnly=True,
            )
            took.append(engine.logs(job_id)[0][0] - began)
        losses = [event["loss"] for _, event in engine.logs(job_id)]
        started = engine.came[job_id][0][1]["metadata"]
    return {"seconds": took, "losses": losses, "started": started}


def losses_of_a_bare_loop(task: Task, steps: int) -> List[float]:
    """Train as `starts` does."""
    import torch

    from support import bare_loop

    torch.set_num_threads(task["threads"])
    found = bare_loop.train(
        task["folder"], RECORDS, steps=steps, batch=BATCH, seed=SEED, responses_only=True
    )
    return [loss for loss, _ in found]


# -- what else goes on beside a training -----------------------------------------------------------


def requests_beside(task: Task, count: int, pause: float) -> List[float]:
    """Ask for the record of another job while a job trains; return the seconds of each request."""
    engine = Watched(task)
    took: List[float] = []
    with Emulator(ScriptedEngine()) as emulator:
        other = emulator.create_job()
        emulator.wait_for(lambda: emulator.jobs[other].terminal)
        client = emulator.client()
        client.jobs.get(other)  # it opens the connection
        with without_end(emulator, engine, task):
            for _ in range(count):
                threading.Event().wait(pause)
                began = time.perf_counter()
                client.jobs.get(other)
                took.append(time.perf_counter() - began)
    return took
