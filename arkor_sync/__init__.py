"""Follow Arkor fine-tuning runs from Python programs without an event loop."""

from arkor_sync._version import __version__

__all__ = ["__version__"]
