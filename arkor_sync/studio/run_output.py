"""What a program prints, as lines that are safe to show, and not more than fits. Pure."""

from __future__ import annotations

import codecs
from collections import deque
from typing import Deque, List

from arkor_sync._common.text import safe_text

LONGEST = 4_000
"""Characters of a line; a longer one becomes several."""

KEPT = 256_000
"""Characters that are kept; then the oldest lines are dropped."""


class RunOutput:
    """The last lines of what a program prints.

    Escape sequences and control characters are removed. Of a line that the program has written over
    again and again, as a progress bar does, the last state is kept.

    Attributes:
        first: The number of the oldest line that is kept, from 0.
        open: The line that is not ended yet.
    """

    def __init__(self) -> None:
        self.first = 0
        self.open = ""
        self._rest = ""  # of the text: what `open` shows
        self._size = 0
        self._lines: Deque[str] = deque()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def next(self) -> int:
        """The number that the next line gets."""
        return self.first + len(self._lines)

    def lines(self, start: int, most: int) -> List[str]:
        """Return lines, from a number on.

        Args:
            start: The number of the first one; the oldest that is kept, if that comes later.
            most: How many.
        """
        begin = max(start, self.first) - self.first
        return [self._lines[each] for each in range(begin, min(begin + most, len(self._lines)))]

    def feed(self, data: bytes) -> List[str]:
        """Take what the program has printed, and return the lines that ended."""
        *whole, rest = (self._rest + self._decoder.decode(data)).split("\n")
        added = [each for line in whole for each in self._add(line)]
        ended = "\r" if rest.endswith("\r") else ""  # a newline may follow, and end that line
        rest = _last_state(rest)
        while len(rest) > LONGEST:
            added += self._add(rest[:LONGEST])
            rest = rest[LONGEST:]
        self._rest, self.open = rest + ended, _shown(rest)
        return added

    def end(self) -> List[str]:
        """End the last line, and return it, if there is one."""
        return self.feed(b"\n") if self._rest else []

    def _add(self, line: str) -> List[str]:
        line = _last_state(line)
        parts = [line[at : at + LONGEST] for at in range(0, len(line), LONGEST)] or [""]
        added = [_shown(each) for each in parts]
        self._lines.extend(added)
        self._size += sum(len(each) + 1 for each in added)
        while self._size > KEPT:
            self._size -= len(self._lines.popleft()) + 1
            self.first += 1
        return added


def _last_state(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]


def _shown(line: str) -> str:
    return safe_text(line).replace("\n", " ")  # of the characters that also end a line
