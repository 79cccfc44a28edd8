"""The servers that the tests of the stores use."""

from __future__ import annotations

from support.valkey import valkey, valkey_server

__all__ = ["valkey", "valkey_server"]
