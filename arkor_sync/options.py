"""How a run is followed: the settings that `create_trainer` and `follow` share. Pure."""

from __future__ import annotations

import dataclasses
import threading
from typing import Optional, Union

from arkor_sync._common.arguments import check, refusal, show
from arkor_sync._common.clock import Clock
from arkor_sync.callbacks import CallbacksInput, flatten, handler_table
from arkor_sync.cloud.sse import MAX_EVENT_BYTES
from arkor_sync.history import MAX_HISTORY_BYTES
from arkor_sync.stores import CursorStore, LeasedStore
from arkor_sync.stream.around import AroundFunction
from arkor_sync.stream.channel import MAX_BYTES, MAX_EVENTS
from arkor_sync.stream.error_policy import ErrorPolicy
from arkor_sync.stream.reconnect import ReconnectPolicy


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a run is followed. `create_trainer` and `follow` take these as arguments.

    It is checked on the thread that builds it, and shared by the run's threads.

    Args:
        callbacks: What to call; see `Callbacks` and `Callback`.
        error_policy: What a callback's exception does. By default it aborts the run.
        reconnect: When a lost stream is opened again.
        cursor_store: Where the acknowledged position is kept, so that another process can carry on.
        abort_event: Setting it aborts the run, within 100 ms.
        stale_after: Seconds with nothing but pings after which the job's record is read.
        abort_grace: Seconds that a running callback is waited for when the run is aborted.
        max_buffered_events: Events that may wait for the callbacks before reading stops.
        max_buffered_bytes: The same in characters of JSON.
        max_event_bytes: The largest event that is accepted; a larger one ends the run.
        max_history_bytes: How much memory `run.history` may take; it drops the oldest logs.
        around: Returns a context manager. The callbacks of one event and the saving of its
            position happen inside of it, anew for each attempt.
        lease_wait: Seconds to wait while another run has the job's lease.
        clock: Time, for tests.

    Raises:
        ArkorUsageError: A value that cannot work.
    """

    callbacks: CallbacksInput = None
    error_policy: Optional[ErrorPolicy] = None
    reconnect: Optional[ReconnectPolicy] = None
    cursor_store: Union[CursorStore, LeasedStore, None] = None
    abort_event: Optional[threading.Event] = None
    stale_after: float = 300.0
    abort_grace: float = 5.0
    max_buffered_events: int = MAX_EVENTS
    max_buffered_bytes: int = MAX_BYTES
    max_event_bytes: int = MAX_EVENT_BYTES
    max_history_bytes: int = MAX_HISTORY_BYTES
    around: Optional[AroundFunction] = None
    lease_wait: float = 0.0
    clock: Clock = dataclasses.field(default_factory=Clock)

    def __post_init__(self) -> None:
        object.__setattr__(self, "callbacks", flatten(self.callbacks))  # an iterator is used up
        handler_table(self.callbacks)
        _check_type("error_policy", self.error_policy, ErrorPolicy)
        _check_type("reconnect", self.reconnect, ReconnectPolicy)
        for method in ("load", "save", "lease"):
            if self.cursor_store is None or isinstance(self.cursor_store, LeasedStore):
                break
            if not hasattr(self.cursor_store, method):
                raise refusal(
                    "cursor_store",
                    self.cursor_store,
                    "a CursorStore such as FileCursorStore('cursors')",
                    got=f"{show(self.cursor_store)} without {method}()",
                )
        event = self.abort_event
        check("abort_event", event, event is None or hasattr(event, "is_set"), "a threading.Event")
        for name in ("stale_after", *(each for each in vars(self) if each.startswith("max_"))):
            value = getattr(self, name)
            check(name, value, _is_number(value) and value > 0, "a number above 0")
        for name in ("abort_grace", "lease_wait"):
            value = getattr(self, name)
            check(name, value, _is_number(value) and value >= 0, "seconds from 0")
        check(
            "around",
            self.around,
            self.around is None or callable(self.around),
            "a function that returns a context manager",
        )


def _is_number(value: object) -> bool:
    """Whether it is a number; infinity is one, and means that there is no limit."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_type(name: str, value: object, kind: type) -> None:
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    check(name, value, value is None or isinstance(value, kind), f"{article} {kind.__name__}")
