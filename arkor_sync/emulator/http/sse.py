"""Encodes server-sent events. Pure."""

from __future__ import annotations

from arkor_sync.emulator.models import Frame

PING = Frame("{}", name="ping")
END = Frame("{}", name="end")


def encode(frame: Frame) -> bytes:
    """Return the bytes of one frame, with the blank line after it."""
    lines = [f"id: {frame.id}"] if frame.id is not None else []
    lines += [f"event: {frame.name}"] if frame.name else []
    lines += [f"data: {line}" for line in frame.data.split("\n")]
    # JSON text may contain lone surrogates, which "surrogatepass" encodes.
    return ("\n".join(lines) + "\n\n").encode("utf-8", "surrogatepass")
