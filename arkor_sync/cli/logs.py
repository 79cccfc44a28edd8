"""Shows what the library logs, as the command's own words. Any thread."""

from __future__ import annotations

import contextlib
import logging
from typing import Iterator

from arkor_sync._common.text import safe_text

PROGRAM = "arkor-sync"
_DEPRECATION = "arkor_sync.deprecation"  # told once, at the end


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Write the message, and no traceback: `--debug` shows that."""
        return f"{PROGRAM}: {safe_text(record.getMessage())}"


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


@contextlib.contextmanager
def without_lines_of_the_run() -> Iterator[None]:
    """Hide that a job goes on without its run: a command that only reads it need not say so."""
    logger = logging.getLogger("arkor_sync.run")
    logger.addFilter(_not_a_warning)
    try:
        yield
    finally:
        logger.removeFilter(_not_a_warning)


def _not_a_warning(record: logging.LogRecord) -> bool:
    return record.levelno != logging.WARNING
