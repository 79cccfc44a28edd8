"""Text of others, made safe and short before it is shown. Pure.

The rule: what a server, a model or a file says may be read, and must not act. Whoever puts such a
text into a log line, an error, a report, a message or a terminal takes it from here. Removed are

* the escape sequences of terminals (ECMA-48), with what they carry;
* control characters, C0 and C1, but for the tab and the newline;
* the marks that turn the direction of writing (Unicode, UAX 9), which can make a text read as
  another one;
* what is no character: halves of surrogate pairs, of which each becomes a `?`, and others that no
  XML file can hold.

All other characters stay, so Arabic, Hebrew and emoji can be read.
"""

from __future__ import annotations

import re
from typing import Any, Optional

LINE = 500
"""Characters of a text that is shown on one line: of an error page, for instance."""

_NEWLINE = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# CSI with its parameters; OSC, DCS, SOS, PM and APC with their text; and the two-character codes.
_ESCAPE_CODE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90-\x9f]*(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*[0-~]"
)
_UNSAFE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff0-\ufffb\ufffe\uffff]"
)
_FORMULA = frozenset(
    "=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def safe_text(text: object, limit: Optional[int] = None) -> str:
    """Return a text without what could act on its reader. Newlines, unified, and tabs stay.

    Args:
        text: Any text, or an object that is shown as `str` shows it.
        limit: The most characters of the result; the last is then `…`. None for no limit.
    """
    safe = str(text)
    if not safe.isprintable():
        safe = _ESCAPE_CODE.sub("", _NEWLINE.sub("\n", safe))
        safe = _SURROGATE.sub("?", _UNSAFE.sub("", safe))
    return safe if limit is None else shorten(safe, limit)


def safe_line(text: object, limit: int = LINE) -> str:
    """Return a text on one line, without what could act on its reader, and shortened."""
    return shorten(" ".join(safe_text(text).split()), limit)


def counted(number: int, what: str) -> str:
    """Say how many there are of something: `1 log`, `2 logs`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def safe_cell(value: Any) -> Any:
    """Return a cell for a CSV file; a text that a spreadsheet would run gets a quote before it.

    The rule is that of OWASP ("CSV Injection"). A number is no text, so `-0.5` stays a number.
    """
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value


def shorten(text: str, limit: int) -> str:
    """Cut a text that is too long; `…` then stands at its end."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
