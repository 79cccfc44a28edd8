"""Shows what the library logs, as the command's own words. Any thread."""

from __future__ import annotations

import logging

from arkor_sync._common.text import safe_line, safe_text
from arkor_sync.cli.output import PROGRAM
from arkor_sync.cli.shell_words import in_shell_words

_DEPRECATION = "arkor_sync.deprecation"  # told once, at the end
_NOBODY_WAITED = "ended with an error, and nothing waited for it"
_LONGEST = 2000  # characters of a line


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Write the message on a line, and no traceback: `--debug` shows that."""
        return safe_line(f"{PROGRAM}: {in_shell_words(record.getMessage())}", _LONGEST)


class _All(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Write all that is known, and the traceback."""
        return safe_text(super().format(record))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a command does not tell this itself, at its end.

    A command waits for each of its runs, perhaps a moment after the run has ended, and tells its
    error. For that moment the library says that nobody has waited.
    """
    return record.name != _DEPRECATION and not record.getMessage().endswith(_NOBODY_WAITED)


def log_to_standard_error(debug: bool = False) -> None:
    """Show what the library warns of.

    Args:
        debug: Show the life of a job, what the library does on the network, and tracebacks too.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(
        _All("%(asctime)s %(name)s %(levelname)s %(message)s") if debug else _Lines()
    )
    handler.addFilter(_is_news)
    logging.basicConfig(handlers=[handler], force=True)
    logging.raiseExceptions = False  # as when standard error was closed
    if debug:
        logging.getLogger("arkor_sync").setLevel(logging.DEBUG)


def tell_news_of(name: str) -> None:
    """Show also what a logger of the library says when nothing is wrong."""
    logger = logging.getLogger(name)
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
