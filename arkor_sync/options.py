"""How a run is followed: the settings that `create_trainer` and `follow` share. Pure."""

from __future__ import annotations

import dataclasses
import threading
from typing import Optional

from arkor_sync._common.clock import Clock
from arkor_sync.callbacks import CallbacksInput, flatten, handler_table
from arkor_sync.cloud.sse import MAX_EVENT_BYTES
from arkor_sync.errors import ArkorUsageError
from arkor_sync.stores import CursorStore
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
        clock: Time, for tests.

    Raises:
        ArkorUsageError: A value that cannot work.
    """

    callbacks: CallbacksInput = None
    error_policy: Optional[ErrorPolicy] = None
    reconnect: Optional[ReconnectPolicy] = None
    cursor_store: Optional[CursorStore] = None
    abort_event: Optional[threading.Event] = None
    stale_after: float = 300.0
    abort_grace: float = 5.0
    max_buffered_events: int = MAX_EVENTS
    max_buffered_bytes: int = MAX_BYTES
    max_event_bytes: int = MAX_EVENT_BYTES
    clock: Clock = dataclasses.field(default_factory=Clock)

    def __post_init__(self) -> None:
        object.__setattr__(self, "callbacks", flatten(self.callbacks))  # an iterator is used up
        handler_table(self.callbacks)
        _check_type("error_policy", self.error_policy, ErrorPolicy)
        _check_type("reconnect", self.reconnect, ReconnectPolicy)
        for method in ("load", "save", "lease"):
            if self.cursor_store is not None and not hasattr(self.cursor_store, method):
                raise ArkorUsageError(
                    "cursor_store must be a CursorStore such as FileCursorStore('cursors'), not "
                    f"{self.cursor_store!r:.80}: it has no {method}()"
                )
        if self.abort_event is not None and not hasattr(self.abort_event, "is_set"):
            raise ArkorUsageError(f"abort_event must be a threading.Event: {self.abort_event!r}")
        for name in ("stale_after", "max_buffered_events", "max_buffered_bytes", "max_event_bytes"):
            value = getattr(self, name)
            if not (_is_number(value) and value > 0):
                raise ArkorUsageError(f"{name} must be above 0, not {value!r:.80}")
        if not (_is_number(self.abort_grace) and self.abort_grace >= 0):
            raise ArkorUsageError(
                f"abort_grace must be seconds from 0, not {self.abort_grace!r:.80}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_type(name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise ArkorUsageError(f"{name} must be {article} {kind.__name__}, not {value!r:.80}")
