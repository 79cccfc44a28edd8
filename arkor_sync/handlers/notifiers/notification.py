"""What a notification says, before any service's format, and how to make a run's text fit. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import re
import uuid
from typing import Any, Callable, List, Mapping, Optional, Tuple

from arkor_sync.render.text import figure

FAILURES = frozenset({"failed", "error"})
LAST = frozenset({"completed", "cancelled"}) | FAILURES
"""What a run ends with: such a notification is never dropped."""

ZERO_WIDTH = "\u200b"
_MAX_TEXT = 20_000  # characters; no service shows more
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One prompt that a checkpoint was asked, and what it answered."""

    prompt: str
    answer: str


@dataclasses.dataclass(frozen=True)
class Notification:
    """What is to be told, as plain data. It may be kept, pickled and passed to other threads.

    Attributes:
        event: `started`, `progress`, `checkpoint`, `reconnect`, `completed`, `failed`, `cancelled`
            or `error` (the run ended with an exception); `message` of `notify`; or a word of your
            own.
        job_id: The job's id; empty for a `message`.
        job_name: The job's name, on one line.
        title: All of it in a few words, on one line.
        step: The step that it is about, or None.
        metrics: Numbers by name: `loss`, `eval_loss`, ... and `final_loss`, `total_steps` and
            `total_time` (seconds) of a completed training.
        text: Why: the failure's error, the reason of a stop, or what a lost connection died of.
        samples: What a checkpoint answered.
        timestamp: The event's own, ISO 8601, or None.
        urgent: Whether somebody should look now: a failure.
        id: The same for what is told again of the same event, by another process too.
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
        """Whether it tells of the end of a run."""
        return self.event in LAST

    @property
    def origin(self) -> str:
        """Which job it is about, for the eye; empty where it is about none."""
        return f"job {self.job_id}" if self.job_id else ""

    def facts(self) -> List[Tuple[str, str]]:
        """List the metrics as names and values for the eye."""
        return [(name.replace("_", " "), _shown(name, each)) for name, each in self.metrics.items()]


def notification(ctx: Any, event: str, what: str, **more: Any) -> Notification:
    """Build the notification of a callback's context.

    Args:
        ctx: The context.
        event: See `Notification`.
        what: The title after the job's name.
        more: Other fields; `text` is cleaned, metrics that are None are left out.
    """
    if event not in ("reconnect", "error"):  # of these there may be several
        about = repr((ctx.job.id, event, None if event in LAST else more.get("step")))
        more["id"] = hashlib.sha256(about.encode("utf-8", "replace")).hexdigest()[:32]
    name = " ".join(clean(ctx.job.name, 200).split()) or ctx.job.id
    metrics = {key: value for key, value in more.pop("metrics", {}).items() if value is not None}
    return Notification(
        event=event,
        job_id=ctx.job.id,
        job_name=name,
        title=f"{name}{what}",
        timestamp=ctx.event.timestamp,
        metrics=metrics,
        text=clean(more.pop("text", "")),
        **more,
    )


def message(text: object) -> Notification:
    """Build the notification of a plain text: its first line is the title."""
    lines = clean(text)
    title, _, more = lines.partition("\n")
    if len(title) > 200:
        title, more = fit(title, 200), lines
    return Notification("message", "", "", title, text=more)


def clean(text: object, limit: int = _MAX_TEXT) -> str:
    """Drop what no service can show: control characters, lone surrogates, and what is too long."""
    lines = str(text)[:limit].replace("\r\n", "\n").replace("\r", "\n")
    return _INVISIBLE.sub("", lines).encode("utf-8", "replace").decode().strip()


def fit(text: str, limit: int, escape: Callable[[str], str] = lambda text: text) -> str:
    """Clean a text, escape it, and cut it so that no escape is cut in two.

    Args:
        text: As it is.
        limit: The longest result, in UTF-16 units: no service counts more than these.
        escape: How the service wants it.
    """
    text = clean(text)
    if _units(escape(text[: limit + 1])) <= limit and len(text) <= limit:
        return escape(text)
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        if _units(escape(text[:middle])) < limit:
            low = middle
        else:
            high = middle - 1
    return escape(text[:low]) + "…"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _shown(name: str, value: float) -> str:
    if name == "total_time" and 0 <= value < 1e9:
        return str(datetime.timedelta(seconds=round(value)))
    return str(value) if isinstance(value, int) and abs(value) < 1e15 else figure(value)
