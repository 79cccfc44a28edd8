"""Shows what the library logs, as the command's own words. Any thread."""

from __future__ import annotations

import logging

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
