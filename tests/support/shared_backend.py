"""A `MemoryBackend` whose state is in a file, so that several processes share it. Any thread."""

from __future__ import annotations

import fcntl
import os
import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Union

from support.memory_backend import MemoryBackend

STATE = ("ahead", "leases", "positions", "_members", "_submissions")


class SharedBackend(MemoryBackend):
    """Reads and writes the file in each call, with a lock that ends with the process.

    Args:
        path: The file. A second one beside it is the lock.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        super().__init__()
        self._path = str(path)

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with open(f"{self._path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(self._path):
                with open(self._path, "rb") as file:
                    vars(self).update(pickle.load(file))
            with super()._call(name):
                yield
            with open(f"{self._path}.new", "wb") as file:
                pickle.dump({each: getattr(self, each) for each in STATE}, file)
            os.replace(f"{self._path}.new", self._path)

    def advance(self, seconds: float) -> None:
        """Move the clock of all processes that share the file."""
        with self._call("advance"):
            self.ahead += seconds
