"""Which events of a connection are older than all that is remembered. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from typing import List, Optional, Sequence, Tuple

from arkor_sync.stream.events import TERMINAL, TrainingEvent

MAX_HELD_EVENTS = 10_000
MAX_HELD_BYTES = 8 << 20
_DIGITS = re.compile(r"[0-9]+")

_Order = Tuple[str, Tuple[Tuple[int, str], ...]]


def fingerprint(event: TrainingEvent) -> str:
    """Tell the first events of a job from others, in any process."""
    return _digest(f"{event.id!r} {event.type!r} {event.timestamp!r} {event.step!r}")


def lasting_key(event: TrainingEvent) -> str:
    """Return what `key` stands for, in a form that lasts longer than the process."""
    if event.id is not None and event.type:
        text = f"{event.id!r} {event.type!r} {event.step!r} {len(event.data)}"
    else:
        try:
            content = json.dumps(event.data, sort_keys=True)
        except RecursionError:  # it is nested too deeply to be told from its like
            content = f"{event.type!r} {event.timestamp!r} {event.step!r}"
        text = f"{event.id!r} {content}"
    return _digest(text)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


class Replay:
    """Holds back what one connection sends again although it was done with long ago.

    A server goes on behind the id that it is asked for. One that ignores the id, or has forgotten
    it, sends the history from its start, or from where the history was trimmed. Most of that is no
    longer remembered. The rule:

    * A connection sends the history again if it begins with the job's first events, or if its first
      event with an id comes before the *anchor*: the last event that was read. Two ids are only
      compared if they differ in nothing but their numbers.
    * From then on events are held, until the anchor comes or an event that is remembered. What was
      held is old, and is dropped.
    * If the anchor does not come, what was held is given back. The anchor does not come if the ids
      have risen above it, or if the job has ended.
    * Where no event had an id, there is no anchor, and events are counted instead.

    An event that cannot be delivered decides nothing: such frames need not come again, and there
    may be others.

    Attributes:
        over: Whether all that comes from now on is to be looked at as usual.
        missed: Whether it is over because the anchor did not come.
        lost: How many events cannot be given back, because too many were held.
    """

    def __init__(self, opening: Sequence[str], anchor: Optional[str], count: int) -> None:
        """Begin with a connection.

        Args:
            opening: Fingerprints of the job's first events.
            anchor: Id of the last event that was read; None if none had an id.
            count: How many events to drop where there is no anchor; 0 if all up to one that is
                remembered.
        """
        self.over = anchor is None and not opening
        self.missed = False
        self.lost = 0
        self._opening = opening
        self._anchor = anchor
        self._anchor_order = None if anchor is None else _order(anchor)
        self._count = count
        self._seen = 0  # events of the history, from its start
        self._again = False  # whether the history is sent again
        self._held: List[TrainingEvent] = []
        self._held_bytes = 0
        self._last: Optional[_Order] = None
        self._rising = True

    def take(self, event: TrainingEvent, known: bool) -> List[TrainingEvent]:
        """Look at the next event.

        Args:
            event: In the order of the stream.
            known: Whether it is remembered, from an earlier connection.

        Returns:
            What is to be looked at as usual now. Nothing if the event is held or dropped.
        """
        if event.id is not None and event.id == self._anchor:
            return self._end(event, self._again)
        if event.problem is not None:
            return self._hold(event)
        if event.type in TERMINAL and self._again and not event.synthesized:
            return self._miss(event)
        if known or event.type in TERMINAL:
            return self._end(event, self._again)
        passed = event.id is not None and self._is_above(_order(event.id))
        if not self._again:
            return self._begin(event)
        self._seen += 1
        if passed:
            return self._miss(event)
        self._hold(event)
        return self._end_if_counted()

    def _begin(self, event: TrainingEvent) -> List[TrainingEvent]:
        """Look at an event before it is known what the connection sends."""
        mark = fingerprint(event)
        if mark in self._opening:  # a server may also greet with the first one, and then go on
            self._seen += mark == self._opening[self._seen]
            self._again = self._seen == len(self._opening)
            return self._end_if_counted()
        if event.id is None and self._anchor is not None:
            return self._give_back(event)
        self._again = (
            self._anchor_order is not None
            and self._last is not None
            and self._last[0] == self._anchor_order[0]
            and self._last < self._anchor_order
        )
        return self._hold(event) if self._again else self._end(event, False)

    def _is_above(self, order: _Order) -> bool:
        """Whether the ids of this connection have risen, and this one is above the anchor's."""
        if self._last is not None:
            self._rising = self._rising and self._last[0] == order[0] and self._last < order
        self._last = order
        anchor = self._anchor_order
        return self._rising and anchor is not None and anchor[0] == order[0] and anchor < order

    def _hold(self, event: TrainingEvent) -> List[TrainingEvent]:
        if len(self._held) < MAX_HELD_EVENTS and self._held_bytes < MAX_HELD_BYTES:
            self._held.append(event)
            self._held_bytes += event.size
        else:
            self.lost += 1
        return []

    def _give_back(self, event: TrainingEvent) -> List[TrainingEvent]:
        events, self._held, self._held_bytes = [*self._held, event], [], 0
        return events

    def _miss(self, event: TrainingEvent) -> List[TrainingEvent]:
        self.missed = True
        return self._end(event, False)

    def _end(self, event: TrainingEvent, drop: bool) -> List[TrainingEvent]:
        self.over = True
        events = self._give_back(event)
        return [event] if drop else events

    def _end_if_counted(self) -> List[TrainingEvent]:
        if self._again and self._anchor is None and self._seen == self._count:
            self.over = True
            self._held = []
        return []


def _order(event_id: str) -> _Order:
    """Split an id into its shape and its numbers, without leading zeros."""
    numbers = (digits.lstrip("0") for digits in _DIGITS.findall(event_id))
    return _DIGITS.sub("0", event_id), tuple((len(each), each) for each in numbers)
