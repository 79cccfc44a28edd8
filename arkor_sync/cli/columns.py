"""Two texts side by side, in rows that are complete as soon as both texts allow it. Pure."""

from __future__ import annotations

from itertools import accumulate, takewhile
from typing import Iterator, List, Optional, Sequence, Tuple

from arkor_sync.render.text import display_width, one_line

LEAST_WIDTH = 60
"""Columns of a terminal; in a narrower one, two texts are shown one below the other."""

_BETWEEN = " | "
_TAB = "    "


class Columns:
    """Lines up texts that come in pieces.

    A row is complete when each text has a line for it that can no longer grow. A line ends at a
    newline, or between the last two words that fit; a word that is longer than a column is cut.
    The texts have to be harmless already.

    Args:
        names: What stands above the texts.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._texts = ["" for _ in names]
        self._ended = [False for _ in names]

    def heading(self, width: int) -> List[str]:
        """Return the rows above the texts.

        Args:
            width: The columns of the terminal.
        """
        columns = self._columns(width)
        names = [one_line(name, columns) for name in self._names]
        return [_join(names, columns), _join(["-" * columns for _ in names], columns)]

    def feed(self, number: int, piece: str) -> None:
        """Add a piece to one of the texts."""
        self._texts[number] += piece.replace("\t", _TAB)

    def end(self, number: int) -> None:
        """Let one of the texts end."""
        self._ended[number] = True

    def rows(self, width: int) -> Iterator[str]:
        """Yield the rows that have become complete.

        Args:
            width: The columns of the terminal now: the next row fits it.
        """
        columns = self._columns(width)
        while not all(ended and not text for ended, text in zip(self._ended, self._texts)):
            taken = [
                ("", "") if ended and not text else _take_line(text, columns, ended)
                for ended, text in zip(self._ended, self._texts)
            ]
            complete = [each for each in taken if each is not None]
            if len(complete) < len(taken):
                return
            self._texts = [rest for _, rest in complete]
            yield _join([line for line, _ in complete], columns)

    def _columns(self, width: int) -> int:
        between = len(_BETWEEN) * (len(self._names) - 1)
        return max(1, (width - between) // len(self._names))


def _join(lines: Sequence[str], columns: int) -> str:
    padded = (line + " " * (columns - display_width(line)) for line in lines)
    return _BETWEEN.join(padded).rstrip()


def _take_line(text: str, columns: int, whole: bool) -> Optional[Tuple[str, str]]:
    """Take the first line from a text.

    Returns:
        The line and the rest of the text; None if what follows may still belong to the line.
    """
    line, newline, rest = text.partition("\n")
    words = line.rstrip(" ")
    # A mark that is written above a character takes no column, and stays with it.
    widths = accumulate(map(display_width, words))
    fits = max(1, sum(1 for _ in takewhile(lambda width: width <= columns, widths)))
    if fits >= len(words):
        return (words, rest) if newline or whole else None
    cut = words.rfind(" ", 0, fits + 1)
    if not words[: max(cut, 0)].strip():  # one word, and what it is indented by
        cut = fits
    return words[:cut].rstrip(), text[cut:].lstrip(" ")
