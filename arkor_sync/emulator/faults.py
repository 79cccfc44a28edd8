"""Faults: their kinds, and the book that decides when one fires. Any thread."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union

from arkor_sync.emulator.config_file import load_data

# When a fault fires: before a request is answered, for a whole answer, or at one event of it.
REQUEST, ANSWER, EVENT = "request", "answer", "event"

# The fields that say where a fault fires. All others but `kind` say what it does.
SELECTORS = ("route", "job", "nth", "event", "index", "count", "probability")


@dataclass(frozen=True)
class Kind:
    """One kind of fault: when it fires, and which fields it takes, with their defaults."""

    when: str
    takes: Mapping[str, Any] = field(default_factory=dict)


KINDS: Dict[str, Kind] = {
    # Before the answer, or instead of it: http/dispatcher.py.
    "refuse": Kind(REQUEST),
    "accept_then_drop": Kind(REQUEST),
    "stall_before_headers": Kind(REQUEST, {"seconds": None}),
    "status": Kind(REQUEST, {"status": 503, "retry_after": None, "value": "fault"}),
    "wrong_content_type": Kind(REQUEST, {"value": "text/html"}),
    "redirect": Kind(REQUEST, {"status": 302, "value": "/_emulator/health"}),
    "expire_token": Kind(REQUEST),
    "replay_gone": Kind(REQUEST),
    # How a whole answer is sent: http/faulty_connection.py and http/stream_body.py.
    "replay_all": Kind(ANSWER),
    "trim": Kind(ANSWER, {"size": 1}),
    "slice": Kind(ANSWER, {"size": 1}),
    "slow_drip": Kind(ANSWER, {"size": 1, "seconds": 0.01}),
    "drip": Kind(ANSWER, {"size": 8, "seconds": 0.001}),
    "split_crlf": Kind(ANSWER),
    "mixed_newlines": Kind(ANSWER),
    "bom": Kind(ANSWER),
    "ids_on_ping": Kind(ANSWER),
    "hold_close": Kind(ANSWER),
    "slow_consumer_kick": Kind(ANSWER, {"seconds": 1.0, "size": 4096}),
    # The end of an answer, inside an event or after it: http/stream_body.py.
    "cut_mid_event": Kind(EVENT, {"byte": None}),
    "cut_clean": Kind(EVENT),
    "blackhole": Kind(EVENT, {"seconds": None}),
    "reset_peer": Kind(EVENT),
    # What is sent for an event: http/faulty_encoder.py.
    "bad_utf8": Kind(EVENT),
    "huge_event": Kind(EVENT, {"size": 1 << 20}),
    "duplicate": Kind(EVENT, {"times": 1}),
    "reorder": Kind(EVENT),
    "skip": Kind(EVENT),
    "repeat_id": Kind(EVENT),
    "garbage": Kind(EVENT, {"value": "malformed", "replace": False}),
    "unknown_event": Kind(EVENT, {"value": "training.progress"}),
    "extra_frame": Kind(EVENT, {"value": "keepalive", "times": 1}),
    "missing_field": Kind(EVENT, {"value": "type"}),
}
"""The kinds of faults: their names, when they fire, and which fields they take."""

_TYPES: Tuple[Tuple[Tuple[str, ...], Tuple[type, ...], str], ...] = (
    (("route", "job", "event", "value"), (str,), "a text"),
    (("nth", "index", "count", "byte", "size", "status", "times"), (int,), "a whole number"),
    (("probability", "seconds"), (int, float), "a number"),
    (("retry_after",), (int, float, str), "a number or a date"),
)

# The only kinds at an event that also fire for an answer that is not a stream.
ENDINGS = frozenset({"cut_mid_event", "cut_clean", "blackhole", "reset_peer"})


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and where.

    It fires where all the selectors that are given match (`route`, `job`, `nth`, `event`, `index`),
    and only once unless `count` says otherwise.

    Before the answer, or instead of it:

    * `refuse`: resets the connection without an answer. Without `route` and `job` it fires as a new
      connection is accepted; then `nth` counts connections.
    * `accept_then_drop`: reads the request and closes the connection.
    * `stall_before_headers`: waits `seconds` (for ever if left out), then answers.
    * `status`: answers with `status`, `Retry-After: retry_after` and the error `value`.
    * `wrong_content_type`: answers 200 with an HTML page, whose content type is `value`.
    * `redirect`: answers `status` with the location `value`.
    * `expire_token`: makes the request's token invalid. With `event` or `index` it does so after
      that event, and ends the stream.
    * `replay_gone`: answers 410 to a stream request that has a `Last-Event-ID`.

    How a whole answer is sent:

    * `replay_all`: ignores `Last-Event-ID`.
    * `trim`: has forgotten the first `size` events of the log, or as many as there are. A stream
      that would begin with one of them begins after them.
    * `slice`: sends the answer in pieces of `size` bytes.
    * `slow_drip`: does so, and waits `seconds` before each piece.
    * `drip`: cuts the body of a stream into pieces of 1 to `size` bytes, drawn at random: also
      inside a character, and between CR and LF. It waits `seconds` before each, and sends each as
      a chunk of its own.
    * `split_crlf`: ends lines with CRLF, and sends CR and LF separately.
    * `mixed_newlines`: ends lines with LF, CRLF and CR in turn.
    * `bom`: begins the stream with a byte order mark.
    * `ids_on_ping`: gives pings an id, from which a stream can be resumed.
    * `hold_close`: leaves the connection open after `end`.
    * `slow_consumer_kick`: resets the connection of a client that reads nothing for `seconds`. The
      send buffer has `size` bytes.

    The end of an answer. For an answer that is not a stream, the whole answer is the event, and
    `reset_peer` and `blackhole` act instead of it; the request has taken effect by then.

    * `cut_mid_event`: closes the connection after `byte` bytes of the event (half if left out).
    * `cut_clean`: ends the answer properly after the event.
    * `reset_peer`: resets the connection after the event.
    * `blackhole`: sends nothing after the event, and closes the connection `seconds` later (never
      if left out).

    What is sent for an event:

    * `bad_utf8`: puts invalid bytes into a text of the event.
    * `huge_event`: makes the event longer by `size` bytes.
    * `duplicate`: sends the event `times` times more.
    * `reorder`: sends the event after the next one.
    * `skip`: leaves the event out.
    * `repeat_id`: gives the event the id of the one before.
    * `garbage`: sends data that is not an event before it, or with `replace` in its place: `value`
      is `malformed`, `null`, `scalar`, `nan` or the data itself.
    * `unknown_event`: sends an event of the type `value` before it.
    * `extra_frame`: sends `times` frames without a name and an id before it, which no log holds;
      at index 0 as a greeting. `value` is `keepalive` (`{"type": "keepalive"}`), a value of
      `garbage`, or the data itself. With `nth` only one connection gets them.
    * `missing_field`: leaves out the field `value` of the event.

    Args:
        kind: One of `KINDS`.
        route: The route's name, such as `stream`, `chat` or `create_job`.
        job: The id of the job in the request's path.
        nth: Only the n-th request, from 1, of its route (and job, if its path has one).
        event: Only the event with this id or name. `ping` and `end` are names, too.
        index: Only the n-th event that this answer sends, from 1; 0 is before the first.
        count: How often it fires; None for always.
        probability: How likely it fires where everything else matches.
        seconds: Virtual seconds.
        byte: A number of bytes.
        size: A number of bytes.
        status: An HTTP status.
        retry_after: Seconds, or an HTTP date.
        times: A number of times.
        value: A text; see the kind.
        replace: See `garbage`.
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
            raise ValueError(f"probability must be from 0 to 1, not {self.probability!r}")
        if self.at_event and self.when != EVENT:
            raise ValueError(f"the fault {self.kind!r} takes no event and no index")

    @property
    def at_event(self) -> bool:
        """Whether it has a selector for an event."""
        return self.event is not None or self.index is not None

    @property
    def when(self) -> str:
        """When it fires: `request`, `answer` or `event`."""
        if self.kind == "expire_token" and self.at_event:
            return EVENT
        return KINDS[self.kind].when

    @classmethod
    def of(cls, data: Any) -> Fault:
        """Make a fault from a JSON object.

        Raises:
            ValueError: The object is not a fault.
        """
        if not isinstance(data, dict):
            raise ValueError(f"a fault must be an object, not {data!r}")
        if "kind" not in data:
            raise ValueError("a fault must have a 'kind'")
        unknown = sorted(set(data) - {item.name for item in fields(cls)})
        if unknown:
            raise ValueError(f"a fault has no field {unknown[0]!r}")
        if data.get("event") is not None:
            data = {**data, "event": str(data["event"])}
        return cls(**data)

    def wire(self) -> Dict[str, Any]:
        """Return the fault as a JSON object, without fields that are None."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class RequestTarget:
    """What the selectors are compared with: the n-th request of a route, or the n-th connection."""

    number: int
    route: Optional[str] = None
    job: Optional[str] = None


@dataclass
class _Entry:
    fault: Fault
    rng: random.Random
    fired: int = 0


class FaultBook:
    """The faults that are set.

    Args:
        routes: The names of the routes that exist.
        seed: Seeds the faults that have a probability, and where `drip` cuts.
    """

    def __init__(self, routes: FrozenSet[str], seed: int = 0) -> None:
        self.seed = seed
        self._routes = routes
        self._lock = threading.Lock()
        self._entries: List[_Entry] = []

    def add(self, *faults: Fault) -> None:
        """Set faults. If several match, they fire in the order in which they were set.

        Raises:
            ValueError: A route does not exist.
        """
        for fault in faults:
            if fault.route is not None and fault.route not in self._routes:
                raise ValueError(
                    f"unknown route {fault.route!r}; there are: {', '.join(sorted(self._routes))}"
                )
            with self._lock:
                rng = random.Random(f"{self.seed}:{len(self._entries)}")
                self._entries.append(_Entry(fault, rng))

    def load(self, path: Union[str, Path]) -> None:
        """Add the list `faults` of a JSON or TOML file.

        Raises:
            ValueError: The file has no such list, or a fault in it is wrong.
        """
        data = load_data(path)
        if not isinstance(data.get("faults"), list):
            raise ValueError(f"{path} has no list of faults")
        self.add(*map(Fault.of, data["faults"]))

    def clear(self) -> None:
        """Remove all faults. What they have done is not undone."""
        with self._lock:
            self._entries.clear()

    def tally(self) -> List[Tuple[Fault, int]]:
        """Return the faults that are set, and how often each has fired."""
        with self._lock:
            return [(entry.fault, entry.fired) for entry in self._entries]

    def fired(self, fault: Optional[Fault] = None) -> int:
        """Return how often a fault has fired, or all of them together."""
        return sum(fired for known, fired in self.tally() if fault in (None, known))


def fire_faults(
    book: FaultBook,
    when: str,
    target: RequestTarget,
    kinds: Iterable[str] = KINDS,
    *,
    index: Optional[int] = None,
    names: Iterable[Optional[str]] = (),
) -> List[Fault]:
    """Return the faults that match, and count them as fired.

    Args:
        book: The faults that are set.
        when: `request`, `answer` or `event`.
        target: The request that is being answered, or the connection that is being accepted.
        kinds: Only faults of these kinds.
        index: The event's index; None for an event that is not counted.
        names: The event's id and name.
    """
    matching = []
    with book._lock:
        for entry in book._entries:
            fault = entry.fault
            if (
                fault.when == when
                and fault.kind in kinds
                and fault.route in (None, target.route)
                and fault.job in (None, target.job)
                and fault.nth in (None, target.number)
                and (when != EVENT or _matches_event(fault, index, names))
                and (fault.count is None or entry.fired < fault.count)
                and entry.rng.random() < fault.probability
            ):
                entry.fired += 1
                matching.append(fault)
    return matching


def refuses_connection(book: FaultBook, number: int) -> bool:
    """Tell whether a fault refuses the n-th connection."""
    # A new connection has no route, so a fault with a route does not match here.
    return bool(fire_faults(book, REQUEST, RequestTarget(number), ("refuse",)))


def _matches_event(fault: Fault, index: Optional[int], names: Iterable[Optional[str]]) -> bool:
    if fault.event is not None and fault.event not in names:
        return False
    if fault.index is not None:
        return fault.index == index
    # Without a selector every counted event matches. Pings and `end` are not counted, and index 0
    # is before the first event, so these match only if they are asked for.
    return fault.event is not None or bool(index)
