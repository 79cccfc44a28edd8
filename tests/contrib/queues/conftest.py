"""The Valkey that is the queues' broker and keeps the positions."""

from __future__ import annotations

from support.valkey import valkey, valkey_server

__all__ = ["valkey", "valkey_server"]
