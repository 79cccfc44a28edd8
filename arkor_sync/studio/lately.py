"""A value that takes a while to be found, as it was a moment ago. Any thread."""

from __future__ import annotations

import threading
from typing import Any, Callable, Generic, Optional, TypeVar

from arkor_sync._common.threads import OwnThread

T = TypeVar("T")


class Lately(Generic[T]):
    """Finds a value on a thread of its own, so that a page need not wait until it is there.

    Args:
        find: Finds the value for a key; it raises nothing.
    """

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find = find
        self._condition = threading.Condition()
        self._busy = False
        self._key: Any = None
        self._value: Optional[T] = None

    def read(self, key: Any, patience: float) -> Optional[T]:
        """Return the value for a key; after some seconds that of the former key, or None.

        Args:
            key: Whenever it is another one, the value is found anew.
            patience: Seconds.
        """
        with self._condition:
            if key != self._key and not self._busy:
                self._busy = True
                OwnThread(lambda: self._look(key), "arkor-studio-look").start()
            self._condition.wait_for(lambda: key == self._key, patience)
            return self._value

    def _look(self, key: Any) -> None:
        value = self._find(key)
        with self._condition:
            self._busy, self._key, self._value = False, key, value
            self._condition.notify_all()
