"""Which events of a connection are older than all that is remembered. Pure."""

from __future__ import annotations

import enum
import hashlib
import json
import re
from typing import List, Optional, Sequence, Tuple

from arkor_sync.stream.events import TERMINAL, TrainingEvent

MAX_HELD_EVENTS = 10_000
MAX_HELD_BYTES = 8 << 20
_DIGITS = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"\.?[0-9]+")
_UNDECIDED = 16  # events whose ids tell nothing, after which a connection is taken for a new one

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


class _State(enum.Enum):
    """What is known of a connection."""

    UNKNOWN = "nothing yet"
    AGAIN = "it has begun with the job's first events: it sends the history again"
    LIKELY = "it has begun with an id below the anchor's: it may send the history again"
    BEHIND = "the anchor has come; behind it are events without ids that were done with"


class Replay:
    """Holds back what one connection sends again although it was done with long ago.

    A server goes on behind the id that it is asked for. One that ignores the id, or has forgotten
    it, sends the history from its start, or from where the history was trimmed. Most of that is no
    longer remembered. The rule:

    * A connection sends the history again if it begins with the job's first events. It is likely to
      if its first event with an id comes before the *anchor*: the last event that was read. Two ids
      are only compared if they differ in nothing but their numbers.
    * Then events are held until the anchor comes, or an event that is remembered. What was held is
      old, and is dropped.
    * If the anchor does not come, what was held is given back: it may come twice, but is not lost.
      The anchor does not come if the job has ended, or if the ids have risen above it. Where a
      replay is only likely, a pause of the stream and ids that fall are enough: a server may have
      begun to count anew.
    * Where no event had an id, there is no anchor, and events are counted. So are events without an
      id behind the anchor, where there are too many to remember.

    An event that cannot be delivered decides nothing: such frames need not come again, and there
    may be others.

    Attributes:
        over: Whether all that comes from now on is to be looked at as usual.
        missed: Whether it is over because the anchor did not come.
        lost: How many events cannot be given back, because too many were held.
    """

    def __init__(
        self, opening: Sequence[str], anchor: Optional[str], count: int, behind: int = 0
    ) -> None:
        """Begin with a connection.

        Args:
            opening: Fingerprints of the job's first events.
            anchor: Id of the last event that was read; None if none had an id.
            count: How many events to drop where there is no anchor.
            behind: How many events without an id to drop behind the anchor.
        """
        self.over = anchor is None and not opening
        self.missed = False
        self.lost = 0
        self._opening = opening
        self._anchor = anchor
        self._anchor_order = _order(anchor or "")
        self._count = count
        self._behind = behind
        self._state = _State.UNKNOWN
        self._seen = 0  # events of the history, from its start
        self._undecided = 0
        self._held: List[TrainingEvent] = []
        self._held_bytes = 0
        self._last: Optional[_Order] = None  # of the ids that can be compared with the anchor
        self._rising = True
        self._paused = False

    def pause(self) -> None:
        """Say that the stream has paused: a history is sent without pauses."""
        self._paused = True

    def take(self, event: TrainingEvent, known: bool) -> List[TrainingEvent]:
        """Look at the next event.

        Args:
            event: In the order of the stream.
            known: Whether it is remembered, from an earlier connection.

        Returns:
            What is to be looked at as usual now. Nothing if the event is held or dropped.
        """
        if event.id is not None and event.id == self._anchor:
            self._held = []
            self._state = _State.BEHIND
            self.over = self._behind == 0
            return [event]
        if event.problem is not None:
            return [event] if self._state is _State.BEHIND else self._hold(event)
        if event.type in TERMINAL:
            return self._end_of_job(event)
        counting = self._anchor is None and self._state is _State.AGAIN
        if known and not counting:
            return self._end(event)
        if self._state is _State.UNKNOWN:
            return self._begin(event)
        if self._state is _State.BEHIND:
            return self._drop_behind(event)
        return self._go_on(event)

    def _begin(self, event: TrainingEvent) -> List[TrainingEvent]:
        """Look at an event before it is known what the connection sends."""
        mark = fingerprint(event)
        # A server may also greet with the first event, and then go on.
        if self._opening and mark in (self._opening[0], self._opening[self._seen]):
            self._seen += mark == self._opening[self._seen]
            if self._seen == len(self._opening):
                self._state = _State.AGAIN
            self._compare(event)
            return self._end_if_counted()
        if self._anchor is None:
            return self._end(event)
        if event.id is None:
            return self._drop_behind(event) if self._behind else self._give_back(event)
        order = self._compare(event)
        if order is None:
            self._undecided += 1
            return self._end(event) if self._undecided > _UNDECIDED else self._give_back(event)
        if order > self._anchor_order:
            return self._end(event)
        self._state = _State.LIKELY
        return self._hold(event)

    def _go_on(self, event: TrainingEvent) -> List[TrainingEvent]:
        """Look at an event of a history that is sent again."""
        self._seen += 1
        order = self._compare(event)
        passed = self._rising and order is not None and order > self._anchor_order
        if self._state is _State.LIKELY:
            missed = passed or self._paused or not self._rising
        else:
            missed = passed and self._paused
        if missed:
            return self._miss(event)
        self._hold(event)
        return self._end_if_counted()

    def _drop_behind(self, event: TrainingEvent) -> List[TrainingEvent]:
        if event.id is not None:
            return self._end(event)
        self._behind -= 1
        self.over = self._behind == 0 and self._state is _State.BEHIND
        return []

    def _end_of_job(self, event: TrainingEvent) -> List[TrainingEvent]:
        again = self._state is _State.AGAIN and not event.is_from_record
        if again or self._state is _State.LIKELY:
            return self._miss(event)
        return self._end(event)

    def _compare(self, event: TrainingEvent) -> Optional[_Order]:
        """Return the order of an id; None if it cannot be compared with the anchor's."""
        order = _order(event.id or "")
        if self._anchor is None or event.id is None or order[0] != self._anchor_order[0]:
            return None
        self._rising = self._rising and (self._last is None or self._last <= order)
        self._last = order
        return order

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
        self.over = self.missed = True
        return self._give_back(event)

    def _end(self, event: TrainingEvent) -> List[TrainingEvent]:
        """Look at all as usual from now on. What is held is old, if the history came again."""
        self.over = True
        again = self._state in (_State.AGAIN, _State.LIKELY)
        return [event] if again else self._give_back(event)

    def _end_if_counted(self) -> List[TrainingEvent]:
        if self._state is _State.AGAIN and self._anchor is None and self._seen >= self._count:
            self.over = True
        return []


def _order(event_id: str) -> _Order:
    """Split an id into its shape and its numbers, without leading zeros.

    The length of a fraction belongs to the shape: ".5" is above ".25".
    """
    shape = _NUMBER.sub(
        lambda found: "0" if found[0][0] != "." else "." + "0" * (len(found[0]) - 1), event_id
    )
    numbers = (digits.lstrip("0") for digits in _DIGITS.findall(event_id))
    return shape, tuple((len(each), each) for each in numbers)
