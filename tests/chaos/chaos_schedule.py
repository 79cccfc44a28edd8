"""One random schedule: what the job tells, what breaks on the way, and what the callbacks do.

Everything is drawn from the seed and nothing else, so a seed is all that it takes to repeat one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple, Type

from arkor_sync import Action, ErrorPolicy, ReconnectPolicy
from arkor_sync.emulator import Fault

IDLE = 0.15  # seconds of silence after which a connection is dead

OK, SKIP, AGAIN, STOP, EXIT, ABORT_RUN = "ok", "skip", "again", "stop", "exit", "abort the run"
ERRORS: Dict[str, Type[Exception]] = {"value": ValueError, "key": KeyError, "os": OSError}
SAVE = "cursor_store"  # the name by which the policy knows a failed save, and its outcome
STYLES = ("plain", "plain", "done future", "late future", "coroutine", "awaitable")
NAMES = {
    "training.started": "on_started",
    "training.log": "on_log",
    "checkpoint.saved": "on_checkpoint",
}

Key = Any  # the number of an event, END for the last one, None for what is no event
END = "end"


@dataclass(frozen=True)
class Row:
    """One rule of an error policy, as data that the oracle reads, too."""

    errors: Tuple[str, ...]
    callbacks: Tuple[str, ...]
    do: Action
    attempts: int
    then: Action


@dataclass(frozen=True)
class Schedule:
    """What is drawn from one seed.

    Attributes:
        mode: ``safe``: every event arrives, in order, once. ``fatal``: the same, up to an error
            that may end the run. ``lossy``: the server itself drops, repeats or reorders events.
        items: The job's log, as the scripted engine takes it.
        ending: How the job ends: with an event (``completed``, ``failed``), with nothing but an
            ``end`` (``record``), or without a word (``silence``). The last two have a status.
        pace: ``burst``: the whole log is there at once. ``live``: event after event.
        unreadable: Numbers of events that arrive, but cannot be delivered.
        action: What the main thread does, and after how many calls. ``kill`` is what kill -9
            leaves: nothing that happens later is saved.
        phases: How many runs follow the job one after the other, with one cursor store.
        failing_saves: Which saves of that store fail, counted over all runs.
        remembered: How many old events the cursor remembers, None for its own choice.
    """

    seed: int
    mode: str
    items: Tuple[Any, ...]
    ending: str
    status: str
    pace: str
    framing: str
    cancel_emits: str
    faults: Tuple[Fault, ...]
    unreadable: frozenset[int]
    fresh_tokens: bool
    rows: Tuple[Row, ...]
    otherwise: Action
    budget: Optional[int]
    handlers: int
    trouble: float
    max_events: int
    max_bytes: int
    max_event_bytes: int
    max_attempts: Optional[int]
    stale_after: float
    switch_interval: float
    action: Tuple[str, int]
    phases: int
    failing_saves: frozenset[int]
    remembered: Optional[int]
    tls: bool
    lethal: Tuple[str, ...]

    @property
    def may_end_in_silence(self) -> bool:
        """Whether it can be that nothing but the job's record tells of its end."""
        return self.ending == "silence" or self.cancel_emits == "nothing"

    def outcome(self, handler: int, key: Key, attempt: int) -> str:
        """Return what a callback does when it is called for an event for the n-th time."""
        rng = random.Random(f"{self.seed}/{handler}/{key}")
        if rng.random() >= self.trouble:
            return OK
        times = rng.choice((1, 1, 1, 2, 3, 9))
        words = [*ERRORS, *ERRORS, *ERRORS, SKIP, AGAIN, AGAIN, *self.lethal]
        word = rng.choice(words)
        return word if attempt <= times else OK

    def style(self, handler: int, key: Key, attempt: int) -> str:
        """Return how it does that."""
        return random.Random(f"{self.seed}/{handler}/{key}/{attempt}").choice(STYLES)

    def dawdles(self, handler: int, key: Key) -> bool:
        """Tell whether a callback waits until the queue behind it is full."""
        return random.Random(f"{self.seed}/{handler}/{key}/dawdle").random() < 0.1

    def policy(self, dead_letter: Any, *passing: Type[Exception]) -> ErrorPolicy:
        """Build the error policy. Before its rules, errors that pass are tried again."""
        policy = ErrorPolicy(otherwise=self.otherwise, budget=self.budget, dead_letter=dead_letter)
        if passing:
            policy = policy.on(*passing, do=Action.RETRY, attempts=9, base=0.001, cap=0.002)
        for row in self.rows:
            policy = policy.on(
                *(ERRORS[word] for word in row.errors),
                do=row.do,
                callbacks=row.callbacks,
                attempts=row.attempts,
                base=0.001,
                cap=0.002,
                then=row.then,
            )
        return policy

    def reconnect(self) -> ReconnectPolicy:
        """Build the reconnect policy: as usual, but quick."""
        return ReconnectPolicy(
            base=0.002, cap=0.01, max_attempts=self.max_attempts, idle_timeout=IDLE
        )

    def decide(self, word: str, callback: str, attempt: int, given_up: int) -> Action:
        """Answer for the error policy, written down a second time."""
        action = self.otherwise
        for row in self.rows:
            if (not row.errors or word in row.errors) and callback in (
                row.callbacks or (callback,)
            ):
                repeats = row.do in (Action.RETRY, Action.RECONNECT)
                action = row.then if repeats and attempt >= row.attempts else row.do
                break
        if action is Action.LOG and self.budget is not None and given_up >= self.budget:
            return Action.ABORT
        return action


def draw(seed: int) -> Schedule:
    """Draw a schedule."""
    rng = random.Random(seed)
    mode = rng.choices(("safe", "fatal", "lossy"), (70, 12, 18))[0]
    count = rng.choice((rng.randint(3, 35), rng.randint(3, 35), rng.randint(50, 90)))
    ids = rng.choices(("numbers", "texts", "some", "none"), (50, 20, 15, 15))[0]
    ending = rng.choices(("completed", "failed", "record", "silence"), (60, 20, 17, 3))[0]
    action = rng.choices(
        ("none", "abort", "close", "abort event", "cancel", "stop", "kill"),
        (65, 6, 5, 3, 6, 5, 10),
    )[0]
    pace = rng.choices(("burst", "live"), (75, 25))[0]
    phases = 4 if mode == "safe" and (action == "kill" or rng.random() < 0.3) else 1
    items, known = _items(rng, count, ids, ending)
    faults, unreadable = _faults(rng, mode, known, pace)
    # Half of what is remembered must have room for the frames that only one connection brings.
    remembered = rng.choice((None, None, 24)) if mode != "lossy" else None
    lethal = rng.choices(((), (EXIT,), (ABORT_RUN,), (STOP,)), (85, 5, 5, 5))[0]
    rows, otherwise = _policy(rng)
    return Schedule(
        seed=seed,
        mode=mode,
        items=items,
        ending=ending,
        status=ending if ending in ("completed", "failed") else rng.choice(ENDS),
        pace=pace,
        framing=rng.choice(("chunked", "close")),
        cancel_emits=rng.choice(("failed", "end", "nothing")),
        faults=faults,
        unreadable=unreadable,
        fresh_tokens=mode != "fatal",
        rows=rows,
        otherwise=otherwise,
        budget=rng.choice((None, None, 100, 2)),
        handlers=rng.randint(1, 3),
        trouble=rng.choice((0.0, 0.05, 0.2, 0.5)),
        max_events=rng.choice((1, 2, 3, 8, 1024)),
        max_bytes=rng.choice((1, 300, 8 << 20)),
        max_event_bytes=2000,
        max_attempts=rng.choice((0, 1, 2)) if mode == "fatal" and rng.random() < 0.3 else None,
        stale_after=0.6 if ending == "silence" else 60.0,
        switch_interval=rng.choice((0.005, 0.0005, 0.00001)),
        action=(action, rng.randint(0, count)),
        phases=phases,
        failing_saves=frozenset(rng.sample(range(1, 40), rng.choice((0, 0, 1, 3)))),
        remembered=remembered,
        tls=rng.random() < 0.1,
        lethal=lethal,
    )


EXTRA = ("keepalive", "malformed", "null", "scalar")  # in no log: they need not come again
ENDS = ("completed", "failed", "cancelled")
RAW = (
    b": a comment\n\n",
    b"event: ping\ndata: {}\n\n",
    b"retry: 3\n\n",
    b"data: no JSON\n\n",
    b"data: [1, 2]\nid: garbage-%d\n\n",
    b"id: only-an-id-%d\n\n",
)


def _items(
    rng: random.Random, count: int, ids: str, ending: str
) -> Tuple[Tuple[Any, ...], List[Tuple[int, str]]]:
    """Draw the log; return the numbers and ids of the events that have one, too."""
    items: List[Any] = []
    known = []
    noise = rng.choice((0.0, 0.0, 0.1))
    for number in range(count):
        kind = "training.log" if rng.random() < 0.85 else "checkpoint.saved"
        kind = "training.started" if number == 0 else kind
        event: Dict[str, Any] = {"type": kind, "seq": number, "step": number}
        event["timestamp"] = f"t{number}"
        event["loss"] = rng.random()
        event_id = _event_id(rng, ids, number)
        if event_id is not None:
            known.append((number, event_id))
        items.append((event, event_id))
        if rng.random() < noise:
            raw = rng.choice(RAW)
            items.append(raw % number if b"%d" in raw else raw)
    if ending in ("completed", "failed"):
        event = {"type": f"training.{ending}", "timestamp": "t-end", "error": "CUDA out of memory"}
        items.append((event, _event_id(rng, ids, count)))
    return tuple(items), known


def _event_id(rng: random.Random, ids: str, number: int) -> Optional[str]:
    if ids == "none" or (ids == "some" and rng.random() < 0.5):
        return None
    return str(number + 1) if ids == "numbers" else f"event/{number} ü"


def _policy(rng: random.Random) -> Tuple[Tuple[Row, ...], Action]:
    rows = []
    for _ in range(rng.randint(0, 3)):
        do = rng.choice(
            (Action.LOG, Action.RETRY, Action.RECONNECT, Action.RECONNECT, Action.ABORT)
        )
        repeats = do in (Action.RETRY, Action.RECONNECT)
        then = rng.choice((Action.LOG, Action.LOG, Action.ABORT, Action.CANCEL))
        errors = tuple(word for word in ERRORS if rng.random() < 0.5)
        names = rng.choice(((), (), ("on_log",), ("on_started", "on_checkpoint")))
        rows.append(Row(errors, names, do, rng.randint(2, 4) if repeats else 1, then))
    ends = (Action.LOG, Action.LOG, Action.LOG, Action.ABORT, Action.CANCEL)
    return tuple(rows), rng.choice(ends)


# What goes wrong


def _faults(
    rng: random.Random, mode: str, known: List[Tuple[int, str]], pace: str
) -> Tuple[Tuple[Fault, ...], frozenset[int]]:
    faults = [_safe(rng, known) for _ in range(rng.choice((0, 1, 2, 3, 4, 6, 9)))]
    if mode == "fatal":
        faults.insert(rng.randint(0, len(faults)), _fatal(rng, known))
    if mode == "lossy":
        faults += [_lossy(rng, known) for _ in range(rng.randint(1, 3))]
    unreadable = set()
    for number, event_id in known:
        # The same wherever and however often the event is sent: it stays one event.
        if rng.random() < 0.02:
            kind, value = rng.choice(_LASTING)
            faults.append(Fault(kind, route="stream", event=event_id, count=None, **value))
            if value.get("value") in ("type", "step") and (value["value"], number) != ("step", 0):
                unreadable.add(number)
    if pace == "live" and rng.random() < 0.3:
        faults.append(Fault("replay_gone", route="stream", count=rng.randint(1, 2)))
    return tuple(faults), frozenset(unreadable)


_LASTING: Tuple[Tuple[str, Dict[str, Any]], ...] = (
    ("bad_utf8", {}),
    ("huge_event", {"size": 1500}),
    ("missing_field", {"value": "loss"}),
    ("missing_field", {"value": "step"}),
    ("missing_field", {"value": "type"}),
)


def _safe(rng: random.Random, known: List[Tuple[int, str]]) -> Fault:
    stall = rng.choice((0.001, 0.02, None))
    request: List[Tuple[str, Dict[str, Any]]] = [
        ("refuse", {}),
        ("accept_then_drop", {}),
        ("stall_before_headers", {"seconds": stall}),
        (
            "status",
            {
                "status": rng.choice((400, 404, 408, 409, 422, 429, 500, 502, 503, 504)),
                "retry_after": rng.choice((None, 0, 0.01)),
            },
        ),
        ("redirect", {"status": rng.choice((301, 302, 307)), "value": "http://127.0.0.1:9/"}),
    ]
    answer: List[Tuple[str, Dict[str, Any]]] = [
        ("replay_all", {}),
        ("slice", {"size": rng.randint(1, 9)}),
        ("slow_drip", {"size": rng.randint(50, 400), "seconds": 0.001}),
        ("drip", {"size": rng.randint(1, 40), "seconds": 0.0002}),
        ("split_crlf", {}),
        ("mixed_newlines", {}),
        ("bom", {}),
        ("ids_on_ping", {}),
        ("hold_close", {}),
        ("slow_consumer_kick", {"seconds": 0.02, "size": 4096}),
    ]
    event: List[Tuple[str, Dict[str, Any]]] = [
        ("cut_mid_event", {"byte": rng.choice((None, 0, 1, 5, 20, 60, 100, 130))}),
        ("cut_mid_event", {"byte": rng.choice((None, 0, 1, 5, 20, 60, 100, 130))}),
        ("cut_clean", {}),
        ("reset_peer", {}),
        ("blackhole", {"seconds": stall}),
        ("duplicate", {"times": rng.randint(1, 3)}),
        ("garbage", {"value": rng.choice(("malformed", "null", "scalar", "nan", "odd\ndata"))}),
        ("unknown_event", {}),
        ("extra_frame", {"value": rng.choice(EXTRA), "times": rng.randint(1, 3)}),
        ("extra_frame", {"value": rng.choice(EXTRA), "times": rng.randint(1, 3)}),
        ("expire_token", {}),
    ]
    record: List[Tuple[str, Dict[str, Any]]] = [
        ("refuse", {}),
        ("accept_then_drop", {}),
        ("status", {"status": 503, "retry_after": 0}),
        ("cut_mid_event", {"index": 1}),
        ("reset_peer", {"index": 1}),
    ]
    draw = rng.random()
    if draw < 0.2:
        kind, more = rng.choice(request)
        return Fault(kind, route="stream", **more, **_when(rng))
    if draw < 0.35:
        kind, more = rng.choice(answer)
        return Fault(kind, route="stream", **more, **{**_when(rng), "count": None})
    if draw < 0.42:
        kind, more = rng.choice(record)
        return Fault(kind, route="get_job", **more, count=rng.randint(1, 2))
    kind, more = rng.choice(event)
    where = _where(rng, known)
    if kind == "duplicate":
        # Only an id tells one event that comes twice from two events that are equal.
        where = {"event": rng.choice(known)[1] if known else "end"}
    if kind == "extra_frame" and rng.random() < 0.5:
        where = {"index": 0, "nth": rng.choice((None, 1, 2, 3))}  # a greeting
    return Fault(kind, route="stream", **more, **where)


def _fatal(rng: random.Random, known: List[Tuple[int, str]]) -> Fault:
    draw = rng.random()
    if draw < 0.4:
        kind, more = rng.choice(
            (
                ("status", {"status": 401}),
                ("status", {"status": 403}),
                ("status", {"status": 426}),
                ("expire_token", {}),
                ("wrong_content_type", {}),
            )
        )
        return Fault(kind, route="stream", nth=rng.randint(1, 3), **more)  # type: ignore[arg-type]
    if draw < 0.5:
        return Fault("wrong_content_type", route="get_job", nth=2)
    kind, more = rng.choice((("expire_token", {}), ("huge_event", {"size": 4000})))
    return Fault(kind, route="stream", **more, **_where(rng, known))


def _lossy(rng: random.Random, known: List[Tuple[int, str]]) -> Fault:
    kinds: List[Tuple[str, Dict[str, Any]]] = [
        ("skip", {}),
        ("skip", {}),
        ("reorder", {}),
        ("reorder", {}),
        ("repeat_id", {}),
        ("repeat_id", {}),
        ("bad_utf8", {}),
        ("missing_field", {"value": rng.choice(("type", "step"))}),
        ("garbage", {"replace": True}),
    ]
    if rng.random() < 0.2:
        return Fault("replay_gone", route="stream", count=rng.randint(1, 3))
    kind, more = rng.choice(kinds)
    return Fault(kind, route="stream", **more, **_where(rng, known))


def _when(rng: random.Random) -> Dict[str, Any]:
    """Draw which requests a fault strikes."""
    if rng.random() < 0.6:
        return {"nth": rng.randint(1, 4)}
    return {"probability": rng.choice((0.3, 1.0)), "count": rng.randint(1, 3)}


def _where(rng: random.Random, known: List[Tuple[int, str]]) -> Dict[str, Any]:
    """Draw which events a fault strikes."""
    draw = rng.random()
    if draw < 0.35 and known:
        return {"event": rng.choice(known)[1], "count": rng.randint(1, 2)}
    if draw < 0.65:
        return {"index": rng.randint(0, 12), "nth": rng.choice((None, 1, 2, 3))}
    if draw < 0.8:
        names = ("ping", "end", "training.completed", "training.failed", "training.started")
        return {"event": rng.choice(names)}
    return {"event": "training.log", "probability": 0.2, "count": rng.randint(1, 4)}
