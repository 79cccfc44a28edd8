"""The vocabulary of faults, and the book that decides when one strikes. Any thread."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union

from arkor_sync.emulator.config_file import load_data

# When a fault strikes: as a request came in, for a whole answer, or at one event of it.
REQUEST, ANSWER, EVENT = "request", "answer", "event"

# The selectors say where a fault strikes; every other field says how.
SELECTORS = ("route", "job", "nth", "event", "index", "count", "probability")


@dataclass(frozen=True)
class Kind:
    """One word of the vocabulary: when it strikes, and the fields it takes with their defaults."""

    when: str
    takes: Mapping[str, Any] = field(default_factory=dict)


KINDS: Dict[str, Kind] = {
    # Instead of an answer, or before it.
    "refuse": Kind(REQUEST),
    "accept_then_drop": Kind(REQUEST),
    "stall_before_headers": Kind(REQUEST, {"seconds": None}),
    "status": Kind(REQUEST, {"status": 503, "retry_after": None, "value": "fault"}),
    "wrong_content_type": Kind(REQUEST, {"value": "text/html"}),
    "redirect": Kind(REQUEST, {"status": 302, "value": "/_emulator/health"}),
    "expire_token": Kind(REQUEST),
    "replay_gone": Kind(REQUEST),
    # How a whole answer is written.
    "replay_all": Kind(ANSWER),
    "slice": Kind(ANSWER, {"size": 1}),
    "slow_drip": Kind(ANSWER, {"size": 1, "seconds": 0.01}),
    "split_crlf": Kind(ANSWER),
    "mixed_newlines": Kind(ANSWER),
    "bom": Kind(ANSWER),
    "ids_on_ping": Kind(ANSWER),
    "hold_close": Kind(ANSWER),
    "slow_consumer_kick": Kind(ANSWER, {"seconds": 1.0, "size": 4096}),
    # Inside an event, or right after it.
    "cut_mid_event": Kind(EVENT, {"byte": None}),
    "cut_clean": Kind(EVENT),
    "blackhole": Kind(EVENT, {"seconds": None}),
    "reset_peer": Kind(EVENT),
    # What becomes of an event.
    "bad_utf8": Kind(EVENT),
    "huge_event": Kind(EVENT, {"size": 1 << 20}),
    "duplicate": Kind(EVENT, {"times": 1}),
    "reorder": Kind(EVENT),
    "skip": Kind(EVENT),
    "repeat_id": Kind(EVENT),
    "garbage": Kind(EVENT, {"value": "malformed", "replace": False}),
    "unknown_event": Kind(EVENT, {"value": "training.progress"}),
    "missing_field": Kind(EVENT, {"value": "type"}),
}

_TYPES: Tuple[Tuple[Tuple[str, ...], Tuple[type, ...], str], ...] = (
    (("route", "job", "event", "value"), (str,), "a text"),
    (("nth", "index", "count", "byte", "size", "status", "times"), (int,), "a whole number"),
    (("probability", "seconds"), (int, float), "a number"),
    (("retry_after",), (int, float, str), "a number or a date"),
)

# The only ones that mean something for an answer that is no stream.
ENDINGS = frozenset({"cut_mid_event", "cut_clean", "blackhole", "reset_peer"})


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and where.

    Where: all given selectors have to fit. It strikes once unless ``count`` says otherwise.

    What the kinds do:

    * ``refuse`` resets the connection without an answer. Without ``route`` and ``job`` it strikes
      new connections as they are accepted; then ``nth`` counts connections.
    * ``accept_then_drop`` reads the request and closes the connection.
    * ``stall_before_headers`` waits ``seconds`` (for ever if left out), then answers.
    * ``status`` answers with ``status``, ``Retry-After: retry_after`` and the error ``value``.
    * ``wrong_content_type`` answers 200 with a page of the type ``value``.
    * ``redirect`` answers ``status`` with the location ``value``.
    * ``expire_token`` ends the validity of the request's token. With ``event`` or ``index`` it
      does so after that event, and ends the stream.
    * ``replay_gone`` answers 410 to a stream request that wants to resume.
    * ``replay_all`` ignores ``Last-Event-ID``.
    * ``slice`` sends the answer in pieces of ``size`` bytes; ``slow_drip`` waits ``seconds``
      before each.
    * ``split_crlf`` ends lines with CRLF, CR and LF in two writes; ``mixed_newlines`` uses LF, CRLF
      and CR in turn; ``bom`` begins with a byte order mark.
    * ``ids_on_ping`` gives pings an id, from which a stream can be resumed.
    * ``hold_close`` leaves the connection open after ``end``.
    * ``slow_consumer_kick`` resets a client that reads nothing for ``seconds``, with a send buffer
      of ``size`` bytes.
    * ``cut_mid_event`` ends the connection after ``byte`` bytes of the event (half of it if left
      out). ``cut_clean`` ends the answer properly after the event. ``reset_peer`` resets the
      connection after it, and ``blackhole`` falls silent after it and drops the connection
      ``seconds`` later (never if left out). For an answer that is no stream the whole answer is the
      event, which ``reset_peer`` and ``blackhole`` hold back; the request has been obeyed by then.
    * ``bad_utf8`` puts invalid bytes into a text of the event, ``huge_event`` pads it with ``size``
      bytes, ``repeat_id`` gives it the id of the one before, ``missing_field`` takes the field
      ``value`` away.
    * ``duplicate`` sends it ``times`` times more, ``skip`` leaves it out, ``reorder`` sends it
      after the next one.
    * ``garbage`` sends data that is no event before it, or with ``replace`` in its place: ``value``
      is ``malformed``, ``null``, ``scalar``, ``nan`` or the data itself. ``unknown_event`` sends an
      event of the type ``value`` before it.

    Args:
        kind: One of :data:`KINDS`.
        route: The route's name, such as ``stream``, ``chat`` or ``create_job``.
        job: The job's id, as it is in the path.
        nth: Only the n-th request, from 1, of that route (and of that job, where it has one).
        event: Only the event with this id or this name; ``ping`` and ``end`` have names, too.
        index: Only the n-th event, from 1, that this answer sends; 0 is before the first.
        count: How often it strikes; None for always.
        probability: How likely it is to strike where everything else fits.
        seconds: Virtual seconds.
        byte: A number of bytes.
        size: A number of bytes.
        status: An HTTP status.
        retry_after: Seconds, or an HTTP date.
        times: A number of times.
        value: A text; see the kind.
        replace: See ``garbage``.
    """

    kind: str
    route: Optional[str] = None
    job: Optional[str] = None
    nth: Optional[int] = None
    event: Optional[str] = None
    index: Optional[int] = None
    count: Optional[int] = 1
    probability: float = 1.0
    seconds: Optional[float] = None
    byte: Optional[int] = None
    size: Optional[int] = None
    status: Optional[int] = None
    retry_after: Union[int, float, str, None] = None
    times: Optional[int] = None
    value: Optional[str] = None
    replace: Optional[bool] = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; there are: {', '.join(sorted(KINDS))}")
        for names, types, wanted in _TYPES:
            for name in names:
                value = getattr(self, name)
                if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
                    raise ValueError(f"{name} must be {wanted}, not {value!r}")
        takes = KINDS[self.kind].takes
        for item in fields(self):
            if item.name in ("kind", *SELECTORS):
                continue
            if item.name in takes:
                if getattr(self, item.name) is None:
                    object.__setattr__(self, item.name, takes[item.name])
            elif getattr(self, item.name) is not None:
                raise ValueError(f"the fault {self.kind!r} takes no {item.name!r}")
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be from 0 to 1")
        if self.at_event and self.when != EVENT:
            raise ValueError(f"the fault {self.kind!r} does not strike at an event")

    @property
    def at_event(self) -> bool:
        """Whether it names an event."""
        return self.event is not None or self.index is not None

    @property
    def when(self) -> str:
        """When it strikes: ``request``, ``answer`` or ``event``."""
        if self.kind == "expire_token" and self.at_event:
            return EVENT
        return KINDS[self.kind].when

    @classmethod
    def of(cls, data: Any) -> Fault:
        """Build one from a JSON object.

        Raises:
            ValueError: It is not a fault.
        """
        if not isinstance(data, dict):
            raise ValueError("a fault is an object with a 'kind'")
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown or "kind" not in data:
            raise ValueError(f"a fault has a 'kind', and no {unknown}")
        if data.get("event") is not None:
            data = {**data, "event": str(data["event"])}
        return cls(**data)

    def wire(self) -> Dict[str, Any]:
        """Return the JSON object, without what is left out."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Place:
    """Where the emulator is at: the n-th request of a route, or a new connection (no route)."""

    number: int
    route: Optional[str] = None
    job: Optional[str] = None


@dataclass
class _Armed:
    fault: Fault
    rng: random.Random
    fired: int = 0


class FaultBook:
    """The faults that are set.

    Args:
        routes: The names of the routes there are.
        seed: Seeds the draws of faults with a probability.
    """

    def __init__(self, routes: FrozenSet[str], seed: int = 0) -> None:
        self._routes = routes
        self._seed = seed
        self._lock = threading.Lock()
        self._armed: List[_Armed] = []

    def add(self, *faults: Fault) -> None:
        """Set faults; where several fit, they strike in the order in which they were set.

        Raises:
            ValueError: A route does not exist.
        """
        for fault in faults:
            if fault.route is not None and fault.route not in self._routes:
                raise ValueError(
                    f"unknown route {fault.route!r}: {', '.join(sorted(self._routes))}"
                )
            with self._lock:
                rng = random.Random(f"{self._seed}:{len(self._armed)}")
                self._armed.append(_Armed(fault, rng))

    def load(self, path: Union[str, Path]) -> None:
        """Add the list ``faults`` of a JSON or TOML file.

        Raises:
            ValueError: The file has none, or one that is wrong.
        """
        data = load_data(path)
        if not isinstance(data.get("faults"), list):
            raise ValueError(f"{path} has no list of faults")
        self.add(*map(Fault.of, data["faults"]))

    def clear(self) -> None:
        """Take all faults back. What they have done is not undone."""
        with self._lock:
            self._armed.clear()

    def tally(self) -> List[Tuple[Fault, int]]:
        """Return the faults that are set, and how often each has struck."""
        with self._lock:
            return [(armed.fault, armed.fired) for armed in self._armed]

    def fired(self, fault: Optional[Fault] = None) -> int:
        """Return how often a fault has struck, or all of them together."""
        return sum(fired for known, fired in self.tally() if fault in (None, known))

    def strike(
        self,
        when: str,
        place: Place,
        kinds: Iterable[str] = KINDS,
        *,
        index: Optional[int] = None,
        names: Iterable[Optional[str]] = (),
    ) -> List[Fault]:
        """Return the faults that strike here and now, and count them.

        Args:
            when: ``request``, ``answer`` or ``event``.
            place: Where.
            kinds: Only these.
            index: The event's index; None for an event that is not counted.
            names: The event's id and name.
        """
        struck = []
        with self._lock:
            for armed in self._armed:
                fault = armed.fault
                if (
                    fault.when == when
                    and fault.kind in kinds
                    and fault.route in (None, place.route)
                    and fault.job in (None, place.job)
                    and fault.nth in (None, place.number)
                    and (when != EVENT or _fits_event(fault, index, names))
                    and (fault.count is None or armed.fired < fault.count)
                    and armed.rng.random() < fault.probability
                ):
                    armed.fired += 1
                    struck.append(fault)
        return struck

    def refuses(self, number: int) -> bool:
        """Tell whether the n-th connection is refused as it is accepted."""
        # Such a fault knows no route, so that one which names a route cannot strike here.
        return bool(self.strike(REQUEST, Place(number), ("refuse",)))


def _fits_event(fault: Fault, index: Optional[int], names: Iterable[Optional[str]]) -> bool:
    if fault.event is not None and fault.event not in names:
        return False
    if fault.index is not None:
        return fault.index == index
    # Pings and ends are not counted, and nothing has an index of 0: they have to be asked for.
    return fault.event is not None or bool(index)
