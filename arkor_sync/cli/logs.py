"""Shows what the library logs, as the command's own words. Any thread."""

from __future__ import annotations

import logging
import re

from arkor_sync._common.text import safe_text

PROGRAM = "arkor-sync"
_DEPRECATION = "arkor_sync.deprecation"  # told once, at the end


_IN_A_SHELL = [  # what the library tells a program to do, as a command
    (re.compile(r"\bfollow\('([\w.-]+)'\) attaches"), r"`arkor-sync jobs follow \1` attaches"),
    (re.compile(r"\bclient\.jobs\.list\(\) shows"), "`arkor-sync jobs list` shows"),
    (re.compile(r"; wait again\b"), ""),
    (re.compile(r"\(why this run ended: KeyboardInterrupt\)"), "(why this run ended: Ctrl-C)"),
    (re.compile(r"\(why this run ended: SystemExit\)"), "(why this run ended: SIGTERM)"),
]


def in_shell_words(text: str) -> str:
    """Return a message of the library for who uses the command line; safe to show."""
    text = safe_text(text)
    for pattern, words in _IN_A_SHELL:
        text = pattern.sub(words, text)
    return text


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Write the message, and no traceback: `--debug` shows that."""
        return f"{PROGRAM}: {in_shell_words(record.getMessage())}"


def log_to_standard_error() -> None:
    """Show what the library warns of."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    handler.addFilter(lambda record: record.name != _DEPRECATION)
    logging.basicConfig(handlers=[handler], force=True)


def log_more() -> None:
    """Show the life of a job, what the library does on the network, and tracebacks."""
    logging.getLogger("arkor_sync").setLevel(logging.DEBUG)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
