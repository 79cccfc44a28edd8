"""A notification before it has the format of a service, and its texts. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import re
import uuid
from typing import Any, Callable, List, Literal, Mapping, Optional, Tuple, get_args

from arkor_sync._common.text import safe_text
from arkor_sync.render.text import format_number

NotifierEvent = Literal[
    "started", "checkpoint", "reconnect", "completed", "failed", "cancelled", "error"
]
"""What a notifier may be asked to notify about."""

EVENTS: Tuple[NotifierEvent, ...] = get_args(NotifierEvent)

LAST_EVENTS = frozenset({"completed", "cancelled", "failed", "error"})
"""The events that end a run. Their notifications are never dropped."""

ZERO_WIDTH_SPACE = "\u200b"
_MAX_TEXT = 20_000  # characters; no service shows more


@dataclasses.dataclass(frozen=True)
class Sample:
    """A prompt and the answer of a checkpoint, both as plain text."""

    prompt: str
    answer: str


@dataclasses.dataclass(frozen=True)
class Notification:
    """The content of one notification. It is plain data, which may be pickled and shared.

    Attributes:
        event: `started`, `progress`, `checkpoint`, `reconnect`, `completed`, `failed`, `cancelled`
            or `error` (the run, or a block of `watching()`, ended with an exception); `message` for
            a text given to `notify`; or a name of your own.
        job_id: The job's id; empty for a `message`, and for an `error` of a block.
        job_name: The job's name, on one line; empty where there is no `job_id`.
        title: A summary on one line.
        step: The optimiser step that it is about, or None.
        metrics: Numbers by name: `loss`, `eval_loss`, ...; for a completed training `final_loss`,
            `total_steps` and `total_time` (seconds).
        text: The details: the error of a failure, the reason of a stop, or the error that ended a
            connection.
        samples: The answers of a checkpoint.
        timestamp: The timestamp of the event, ISO 8601, or None.
        urgent: Whether somebody should act now, as after a failure.
        id: Identifies the event: the same if another process sends the notification again.
    """

    event: str
    job_id: str
    job_name: str
    title: str
    step: Optional[int] = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    text: str = ""
    samples: Tuple[Sample, ...] = ()
    timestamp: Optional[str] = None
    urgent: bool = False
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def last(self) -> bool:
        """Whether it is about the end of a run."""
        return self.event in LAST_EVENTS

    @property
    def origin(self) -> str:
        """The job that it is about, as a text for people; empty if it is about none."""
        return f"job {self.job_id}" if self.job_id else ""

    def facts(self) -> List[Tuple[str, str]]:
        """Return the metrics as pairs of a name and a value, both as texts for people."""
        return [
            (name.replace("_", " "), _format_metric(name, value))
            for name, value in self.metrics.items()
        ]


def build_notification(ctx: Any, event: str, summary: str, **fields: Any) -> Notification:
    """Build the notification for the context of a callback.

    Args:
        ctx: The context.
        event: See `Notification`.
        summary: The part of the title after the job's name.
        fields: Other fields; `text` is cleaned, and metrics that are None are left out.
    """
    if event not in ("reconnect", "error"):  # of these a job may have several
        key = repr((ctx.job.id, event, None if event in LAST_EVENTS else fields.get("step")))
        fields["id"] = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]
    name = " ".join(clean(ctx.job.name, 200).split()) or ctx.job.id
    metrics = {key: value for key, value in fields.pop("metrics", {}).items() if value is not None}
    return Notification(
        event=event,
        job_id=ctx.job.id,
        job_name=name,
        title=f"{name}{summary}",
        timestamp=ctx.event.timestamp,
        metrics=metrics,
        text=clean(fields.pop("text", "")),
        **fields,
    )


def build_message(text: object) -> Notification:
    """Build the notification for a plain text. The first line becomes the title."""
    lines = clean(text)
    title, _, more = lines.partition("\n")
    if len(title) > 200:
        title, more = fit(title, 200), lines
    return Notification("message", "", "", title, text=more)


def clean(text: object, limit: int = _MAX_TEXT) -> str:
    """Remove what could act on a reader, and cut the text at `limit` characters."""
    return safe_text(text)[:limit].strip()


def break_fences(text: str) -> str:
    """Make a text unable to leave a code block, or to begin one, in all kinds of Markdown.

    The rule: no two backticks stand side by side, also where the text meets the fence around it.
    """
    apart = re.sub("`(?=`)", f"`{ZERO_WIDTH_SPACE}", text)
    before = ZERO_WIDTH_SPACE if text[:1] == "`" else ""
    after = ZERO_WIDTH_SPACE if text[-1:] == "`" else ""
    return f"{before}{apart}{after}"


def fit(text: str, limit: int, escape: Callable[[str], str] = lambda text: text) -> str:
    """Clean a text, escape it, and shorten it without cutting through an escape sequence.

    Args:
        text: Any text.
        limit: The longest result, in UTF-16 units. Services count these units or fewer.
        escape: Escapes a text as the service requires.
    """
    text = clean(text)
    if _utf16_length(escape(text[: limit + 1])) <= limit and len(text) <= limit:
        return escape(text)
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        if _utf16_length(escape(text[:middle])) < limit:
            low = middle
        else:
            high = middle - 1
    return escape(text[:low]) + "…"


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _format_metric(name: str, value: float) -> str:
    if name == "total_time" and 0 <= value < 1e9:
        return str(datetime.timedelta(seconds=round(value)))
    return str(value) if isinstance(value, int) and abs(value) < 1e15 else format_number(value)
