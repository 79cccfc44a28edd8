"""Makes a text harmless that comes in pieces, such as a model's answer. Pure."""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Pattern

from arkor_sync._common.text import safe_text

# The start, at the end of a text, of what `safe_text` removes or replaces as a whole: an escape
# sequence that carries a text, another one, and a CR that a LF may follow.
_UNFINISHED = re.compile(
    "(?P<carrier>(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90-\x9f]*)(?P<closing>\x1b)?\\Z"
    "|(?P<code>(?:\x1b\\[|\x9b)[0-?]*[ -/]*|\x1b[ -/]*)\\Z"
    "|\r\\Z"
)
# The pieces that can only make such a start longer. They are not looked at again until another
# piece comes, so that a long sequence in small pieces takes no quadratic time.
_LONGER: Dict[Optional[str], Pattern[str]] = {
    "carrier": re.compile("[^\x07\x1b\x90-\x9f]*"),
    "code": re.compile("[ -?]*"),
}


class SafeStream:
    """Does to pieces what `safe_text` does to a whole text, however the text was split.

    A piece that ends within an escape sequence is held back from there, until the sequence is
    complete or cannot become one.
    """

    def __init__(self) -> None:
        self._held: List[str] = []
        self._longer: Optional[Pattern[str]] = None

    def feed(self, piece: str) -> str:
        """Take the next piece, and return what can be shown now. It may be empty."""
        self._held.append(piece)
        if self._longer is not None and self._longer.fullmatch(piece):
            return ""
        text = "".join(self._held)
        start = _UNFINISHED.search(text)
        cut = len(text) if start is None else start.start()
        self._held = [text[cut:]]
        self._longer = None if start is None else _LONGER.get(start.lastgroup)
        return safe_text(text[:cut])

    def end(self) -> str:
        """Return what was held back: the text has ended."""
        rest = safe_text("".join(self._held))
        self._held, self._longer = [], None
        return rest
