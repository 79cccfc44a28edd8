"""The base class of engines. Runs in the job's thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Generator,
    Iterable,
    Iterator,
    List,
    Optional,
    Tuple,
    Union,
)

from arkor_sync.emulator.models import Item, Job
from arkor_sync.emulator.store import Store

Piece = Union[str, Dict[str, Any]]
"""A piece of a chat answer: text, or a tool call as the protocol writes it."""


class TrainingFailed(Exception):
    """Ends a job with the event `training.failed` and the text of the exception."""


class CheckpointNotFound(LookupError):
    """The checkpoint that a chat request names does not exist."""


class Ticket:
    """A job, as its engine sees it. The emulator makes it.

    Args:
        job: The job's record.
        store: The emulator's state.
        manual: Whether `emu.step(job_id)` publishes the events; `sleep` then returns at once.
        resumed: Whether the job was running when an earlier emulator ended.

    Attributes:
        job: The job's record. Its `events` and `saved_steps` tell what has been published.
        config: The job's config.
        resumed: Whether the engine carries on from what it has saved in `job.directory`. It yields
            again what may not have been published, from the events of the saved step on: those
            that have been are left out.
    """

    def __init__(self, job: Job, store: Store, *, manual: bool, resumed: bool = False) -> None:
        self.job = job
        self.config = job.config
        self.resumed = resumed
        self._store = store
        self._manual = manual

    @property
    def stopping(self) -> bool:
        """Whether the job has ended, by a cancel for example, or the emulator stops."""
        return self.job.terminal or self._store.stopping

    @property
    def branched_from(self) -> Optional[Tuple[Path, int]]:
        """The directory of another job, and the step of its checkpoint that this one starts from.

        None for a job that starts from the base model.
        """
        if self.job.branched_from is None:
            return None
        job_id, step = self.job.branched_from
        return self._store.directory / job_id, step

    def sleep(self, seconds: float) -> None:
        """Wait so many virtual seconds, or until `stopping` is true."""
        if seconds <= 0 or self._manual:
            return
        deadline = self._store.clock.now() + seconds
        with self._store.condition:
            while not self.stopping and self._store.clock.now() < deadline:
                self._store.wait(lambda: self.stopping, deadline, 1.0)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready()` or `stopping` is true.

        Args:
            ready: It only reads, since the emulator's lock is held. Who changes what it reads
                calls `wake` afterwards.
        """
        with self._store.condition:
            while not self.stopping and not ready():
                self._store.condition.wait()

    def wake(self) -> None:
        """Let `wait_until` ask again. Any thread may call it."""
        with self._store.condition:
            self._store.notify()


@dataclass(frozen=True)
class ChatRequest:
    """A chat request that has been checked.

    Args:
        messages: The messages, as they were sent.
        temperature: 0 takes the likeliest token each time; None leaves it to the engine.
        top_p: Sample from the likeliest tokens that together have this probability.
        max_tokens: The greatest length of the answer. In the emulator a character is a token.
        seed: Seeds the sampling; None leaves it to the engine.
        constraint: The form that the answer must have: `("choice", [text, ...])`,
            `("json", schema)`, `("regex", text)` or `("grammar", text)`.
        tool: The name of the tool to call, and the JSON schema of its arguments.
        body: The whole request body.
    """

    messages: List[Dict[str, Any]]
    temperature: Optional[float] = None
    top_p: float = 1.0
    max_tokens: int = 256
    seed: Optional[int] = None
    constraint: Optional[Tuple[str, Any]] = None
    tool: Optional[Tuple[str, Dict[str, Any]]] = None
    body: Dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def prompt(self) -> str:
        """The text of the last user message."""
        texts = [str(m.get("content")) for m in self.messages if m.get("role") == "user"]
        return texts[-1] if texts else ""


class Answer(ABC):
    """The pieces of a chat answer whose tokens the engine counts itself.

    The attributes are read when the pieces have ended, or when their generator has been closed: by
    a stop text or by a client that goes away.

    Attributes:
        finish_reason: Why the pieces ended by themselves: `stop`, `length` or `tool_calls`.
        prompt_tokens: The number of tokens of the prompt.
        completion_tokens: The number of tokens of the answer.
    """

    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @abstractmethod
    def __iter__(self) -> Generator[Piece, None, None]:
        """Yield the pieces, and count."""

    @abstractmethod
    def close(self) -> None:
        """Stop answering, also if nobody has asked for a piece. It may be called twice."""


class Engine(ABC):
    """Base class of engines.

    Args:
        manual: The job gets no thread. `emu.step(job_id)` publishes its events.

    Attributes:
        resumes: Whether it carries on with a job that was running when an emulator ended: see
            `Ticket.resumed`. The job of an engine that does not fails.
        branches: Whether a job can start from a checkpoint of another: see `Ticket.branched_from`.
    """

    resumes = False
    branches = False

    def __init__(self, *, manual: bool = False) -> None:
        self.manual = manual

    @abstractmethod
    def events(self, ticket: Ticket) -> Iterator[Item]:
        """Train, and yield the events of the stream. Runs in the job's thread.

        Raises:
            TrainingFailed: The job fails. The exception's text is the reason.
        """

    @abstractmethod
    def reply(self, job: Optional[Job], step: Optional[int], chat: ChatRequest) -> Iterable[Piece]:
        """Answer a chat request. Runs in a connection's thread.

        Args:
            job: The job whose adapter answers; None for the base model.
            step: The checkpoint's step; None for the final adapter.
            chat: The request.

        Returns:
            The pieces of the answer; an `Answer` if the engine counts its tokens and ends it at
            `max_tokens`. Otherwise a character is a token.

        Raises:
            CheckpointNotFound: There is no such checkpoint.
        """

    def close(self) -> None:  # noqa: B027  most engines hold nothing
        """Let go of what outlives a job, such as a process.

        An emulator that stops calls it twice: while jobs may still wait (`Ticket.stopping` is
        true), and after the last request, which may have used the engine again. Another emulator
        can use the engine afterwards.
        """
