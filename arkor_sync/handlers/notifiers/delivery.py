"""Sends a notifier's notifications in order, and tries again. Runs on a thread of its own."""

import abc
import logging
import threading
from typing import Any, Dict, List, Optional, Set, Tuple

from arkor_sync._common.clock import Clock
from arkor_sync._common.environment import variable
from arkor_sync._common.log import get_logger
from arkor_sync._common.secret import Secret
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers.notifiers.notification import Notification
from arkor_sync.stream.reconnect import ReconnectPolicy

logger = get_logger("arkor_sync.handlers")

MAX_WAITING = 100
"""Notifications that may wait to be sent."""

# The class and the variable of each notifier of which the log says already that it is off.
_reported_as_off: Set[Tuple[type, str]] = set()

_NEVER_SET = threading.Event()
_MAX_DELAY = 60.0  # seconds before the next attempt, even if the service asks for more
_MAX_NAMED = 5  # notifications that a log line names


class Undelivered(Exception):
    """The service refused a notification, and another attempt would not help."""


class Unavailable(Undelivered):
    """The service did not accept a notification now; a later attempt may succeed."""


class Delivery(abc.ABC):
    """The part of a notifier that sends.

    Attributes:
        enabled: Whether there is a URL to send to.
        attempts: How often one notification is tried.
        clock: The clock for the delays between the attempts.
    """

    enabled: bool
    attempts: int
    clock: Clock

    variable = ""
    """The environment variable that holds the URL by default."""

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_not_before": 0.0}  # the clock of this process

    def send(self, note: Notification) -> None:
        """Queue a notification of your own. Never blocks and never raises. Any thread."""
        if self.enabled:
            self._outbox.put(note, droppable=not note.last)

    @abc.abstractmethod
    def _connect(self, url: str) -> None:
        """Prepare for sending to the URL. Runs on the caller's thread, in the constructor.

        Raises:
            ArkorUsageError: The URL cannot work. The message must not contain it.
        """

    @abc.abstractmethod
    def _attempt(self, note: Notification) -> None:
        """Send a notification once. Runs on the notifier's own thread.

        Raises:
            Unavailable: The service may accept it later.
            Undelivered: The service will not accept it.
        """

    def _redact(self, text: str) -> str:
        """Remove the notifier's own secrets from a text."""
        return text

    def _prepare_delivery(self, url: Optional[str]) -> None:
        url = Secret(self._url_of_variable() if url is None else url.strip())
        self._not_before = 0.0  # on the clock; the service asked to get nothing before
        self._outbox: Outbox[Notification] = Outbox(
            type(self).__name__,
            self._deliver,
            limit=MAX_WAITING,
            describe=describe_notifications,
            busy="still being sent",
        )
        self.enabled = bool(url)
        if url:
            self._connect(url)

    def _url_of_variable(self) -> str:
        url = variable(self.variable) or ""
        kind = type(self), self.variable
        if not url and self.variable and kind not in _reported_as_off:
            _reported_as_off.add(kind)
            off = "%s is off: %s is not set; set it, or give url='' if nobody is to be notified"
            logger.warning(off, type(self).__name__, self.variable)
        return url

    def _deliver(self, batch: List[Notification]) -> None:
        for note in batch:
            try:
                self._send_with_retries(note)
            except Undelivered as error:
                self._log_undelivered(note, str(error))
            except BaseException as error:  # its text may contain the URL
                self._log_undelivered(note, type(error).__name__)

    def _log_undelivered(self, note: Notification, reason: str) -> None:
        level = logging.INFO if self._outbox.was_late() else logging.WARNING  # one warning for each
        what = "%s: %s was not delivered: %s"
        logger.log(level, what, type(self).__name__, _subject(note), reason)

    def _send_with_retries(self, note: Notification) -> None:
        delays = ReconnectPolicy(cap=_MAX_DELAY).delays()
        delay, reason = 0.0, ""
        for attempt in range(1, self.attempts + 1):
            if not self._wait(note, max(delay, self._not_before - self.clock.now())):
                given_up = "a notification about the end of a run had to be sent first"
                raise Undelivered(f"{reason}; {given_up}" if reason else given_up)
            try:
                self._attempt(note)
                break
            except Unavailable as error:
                if attempt == self.attempts:
                    raise
                reason = self._outbox.last_failure = str(error)
                delay = next(delays) * (0.5 + self.clock.random() / 2)

    def _pause(self, seconds: Optional[float]) -> None:
        """Send nothing for a while, because the service asked for it."""
        if seconds:
            self._not_before = self.clock.now() + min(seconds, _MAX_DELAY)

    def _wait(self, note: Notification, seconds: float) -> bool:
        """Wait before an attempt; return False if a notification about an end of a run waits.

        A notification that is itself about the end of a run always waits the whole time.
        """
        interrupt = _NEVER_SET if note.last else self._outbox.undroppable_waiting
        return seconds <= 0 or not self.clock.wait(interrupt, seconds)


def describe_notifications(notes: List[Notification]) -> str:
    """Name notifications for a log line: their number, events and jobs. Those of an end first."""
    names = list(dict.fromkeys(map(_subject, sorted(notes, key=lambda note: not note.last))))
    if len(names) > _MAX_NAMED:
        names[_MAX_NAMED:] = [f"{len(names) - _MAX_NAMED} more"]
    noun = "notification" if len(notes) == 1 else "notifications"
    return f"{len(notes)} {noun} ({', '.join(names)})"


def _subject(note: Notification) -> str:
    return f"{note.event} of {note.origin}" if note.origin else note.event
