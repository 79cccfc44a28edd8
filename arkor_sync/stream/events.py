"""Server-sent event frames to typed training events. Pure.

The JSON's `type` decides what an event is; the frame's event name is only looked at for `ping`
and `end`, which carry no JSON.
"""

import dataclasses
from typing import Any, ClassVar, Dict, List, NamedTuple, Optional, Tuple

from arkor_sync._common.json import decode_json
from arkor_sync.cloud.sse import Frame
from arkor_sync.errors import ArkorUsageError

STARTED = "training.started"
LOG = "training.log"
CHECKPOINT = "checkpoint.saved"
COMPLETED = "training.completed"
FAILED = "training.failed"
CANCELLED = "training.cancelled"  # never on the wire: built from the job's record
LOST = "stream.lost"  # never on the wire: see `StreamLost`
ENDED = "run.ended"  # never on the wire: see `RunEnded`

TERMINAL = frozenset({COMPLETED, FAILED, CANCELLED})
_WITH_STEP = frozenset({LOG, CHECKPOINT})

CALLBACK_NAMES: Dict[str, str] = {
    "on_started": STARTED,
    "on_log": LOG,
    "on_checkpoint": CHECKPOINT,
    "on_completed": COMPLETED,
    "on_failed": FAILED,
    "on_cancelled": CANCELLED,
    "on_reconnect": LOST,
    "on_end": ENDED,
}
"""The table of callbacks: each name, and the event type that it belongs to.

A new event is one entry here; its context and its typed names are in `arkor_sync.contexts`.
"""

KNOWN = frozenset(CALLBACK_NAMES.values()) - {LOST, ENDED}


def unknown_callback(name: object) -> ArkorUsageError:
    """Build the error for a callback name that does not exist, with the nearest that does."""
    import difflib  # here: only a misspelt name needs it

    near = difflib.get_close_matches(str(name), CALLBACK_NAMES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ArkorUsageError(
        f"there is no callback {name!r}; {hint}The callbacks are {', '.join(CALLBACK_NAMES)}"
    )


METRICS = {
    "step": "step",
    "loss": "loss",
    "eval_loss": "evalLoss",
    "learning_rate": "learningRate",
    "epoch": "epoch",
    "samples_per_second": "samplesPerSecond",
}
"""The metrics of a log: their names here, and on the wire."""


class TrainingEvent(NamedTuple):
    """One event of a job, as the cloud sent it.

    Attributes:
        type: The JSON's `type`; `""` where there is none.
        data: The JSON object; empty where the data is not one.
        id: The frame's id, or `None`. Opaque; it is what a stream is resumed after.
        problem: Why the event cannot be delivered, or `None`. It is then skipped and counted.
        synthesized: Whether it was built from the job's record because the stream had ended
            without a terminal event.
        key: Tells events apart within this process: equal for an event that is sent again. It is
            made of the id, and of the type, the step and the number of fields, because an id that
            is a time may be shared; of the whole text where there is no id or no type.
        size: Characters of JSON and of the id, for the bounds of the channel and of the history.
    """

    type: str
    data: Dict[str, Any]
    id: Optional[str] = None
    problem: Optional[str] = None
    synthesized: bool = False
    key: int = 0
    size: int = 0

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended with this event."""
        return self.type in TERMINAL and self.problem is None

    @property
    def is_from_record(self) -> bool:
        """Whether it is the end that the job's record told, and nothing that the stream sent."""
        return self.synthesized and self.size == 0

    @property
    def step(self) -> Optional[int]:
        """The JSON's `step`, or `None`."""
        return whole(self.data.get("step"))

    @property
    def timestamp(self) -> Optional[str]:
        """The JSON's `timestamp`, an ISO 8601 text, or `None`."""
        return text(self.data.get("timestamp"))

    def __hash__(self) -> int:
        return hash((self.type, self.id))

    def __repr__(self) -> str:
        known = {"step": self.step, "id": self.id, "problem": self.problem}
        shown = "".join(f" {name}={value!r}" for name, value in known.items() if value is not None)
        return f"<TrainingEvent {self.type or '?'}{shown}>"


class RunEvent:
    """What the run itself tells its callbacks. No event of the stream stands for it.

    It has what callers read of a `TrainingEvent`: no id, no step, no JSON.
    """

    type: ClassVar[str]
    id: ClassVar[None] = None
    step: ClassVar[None] = None
    timestamp: ClassVar[None] = None
    problem: ClassVar[None] = None
    synthesized: ClassVar[bool] = True
    is_terminal: ClassVar[bool] = False
    key: ClassVar[int] = 0

    @property
    def data(self) -> Dict[str, Any]:
        """An empty JSON object."""
        return {}


@dataclasses.dataclass(frozen=True)
class StreamLost(RunEvent):
    """The event stream was lost, and is opened again after a while.

    Attributes:
        error: What went wrong.
        failures: How many times in a row.
        delay: Seconds until the next attempt.
    """

    type: ClassVar[str] = LOST
    error: str
    failures: int
    delay: float


@dataclasses.dataclass(frozen=True)
class RunEnded(RunEvent):
    """The run is over.

    Attributes:
        result: What `wait()` returns, a `TrainingResult`; None where it raises.
        error: What `wait()` raises, or None.
    """

    type: ClassVar[str] = ENDED
    result: Any
    error: Optional[BaseException]


def event_key(event_id: str, kind: str, step: Any, fields: int) -> int:
    """Return the key of an event that has an id and a type."""
    return hash((event_id, kind, step, fields))


def decode(frame: Frame) -> TrainingEvent:
    """Read one data frame. It never raises: what cannot be read is an event with a `problem`.

    A terminal event is read generously, because losing one loses the run's result.

    Args:
        frame: A frame that is neither `ping` nor `end`.
    """
    raw = frame.data
    event_id = frame.id or None
    kind = ""
    data: Dict[str, Any] = {}
    problem = None
    try:
        decoded = decode_json(raw)
    except ValueError as error:
        problem = f"not JSON: {error}"
    else:
        if type(decoded) is dict:
            data = decoded
            kind, problem = _inspect(data)
        else:
            problem = f"not a JSON object: {type(decoded).__name__}"
    step = data.get("step") if kind in _WITH_STEP else None
    if event_id is not None and kind:
        key = event_key(event_id, kind, step, len(data))
    else:
        key = hash((event_id, raw))
    size = len(raw) if event_id is None else len(raw) + len(event_id)
    return TrainingEvent(kind, data, event_id, problem, False, key, size)


def _inspect(data: Dict[str, Any]) -> Tuple[str, Optional[str]]:
    """Tell an object's type, and why it cannot be delivered."""
    kind = data.get("type")
    if type(kind) is not str:
        return "", "no type"
    if kind in _WITH_STEP:
        step = data.get("step")
        if type(step) is not int:
            data["step"] = whole(step)
            if data["step"] is None:
                return kind, f"step is {step!r:.40}, not a whole number"
    elif kind not in KNOWN:
        return kind, f"unknown type {kind!r:.80}"
    return kind, None


def number(value: Any) -> Optional[float]:
    """Keep a number; anything else, absence included, is None."""
    return value if type(value) is float or type(value) is int else None


def whole(value: Any) -> Optional[int]:
    """Keep a whole number, also one written as 3.0; anything else is None."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def text(value: Any) -> Optional[str]:
    """Keep a string; anything else, absence included, is None."""
    return value if type(value) is str else None


def items(value: Any) -> List[Any]:
    """Keep a list; anything else, absence included, is an empty one."""
    return value if type(value) is list else []
