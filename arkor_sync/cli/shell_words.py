"""What the library tells a program to do, told to who uses the command line. Pure."""

from __future__ import annotations

import re

_HERE = "; to train here: `arkor-sync emulator exec -- arkor-sync start`"

_WORDS = [
    (re.compile(r"\b(put the file behind a URL that the cloud can read)$"), rf"\1{_HERE}"),
    (
        re.compile(r"^(POST \S+/v1/auth/anonymous: .*)$"),
        rf"\1; nobody is signed in, and an anonymous account needs the network{_HERE}",
    ),
    (re.compile(r"\bfollow\('([\w.-]+)'\) attaches"), r"`arkor-sync jobs follow \1` attaches"),
    (re.compile(r"\bclient\.jobs\.list\(\) shows"), "`arkor-sync jobs list` shows"),
    (re.compile(r"; wait again\b"), ""),
    (re.compile(r"\(why this run ended: KeyboardInterrupt\)"), "(why this run ended: Ctrl-C)"),
    (re.compile(r"\(why this run ended: SystemExit\)"), "(why this run ended: SIGTERM)"),
]


def in_shell_words(text: str) -> str:
    """Return a message of the library, with commands in the place of calls."""
    for pattern, words in _WORDS:
        text = pattern.sub(words, text)
    return text
