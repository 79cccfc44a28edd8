"""The emulator's switches. Read by every connection's thread at the next request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

CANCEL_EMITS = ("failed", "end", "nothing")
FRAMINGS = ("chunked", "close")


@dataclass
class Settings:
    """What may be switched while the emulator runs.

    Args:
        ping_interval: Virtual seconds of silence before a stream gets a ping.
        framing: ``"chunked"``, or ``"close"``: a stream's body ends with its connection.
        cancel_emits: What a stream tells of a cancel: ``"failed"`` is ``training.failed`` and
            ``end``, ``"end"`` is ``end`` alone, ``"nothing"`` is silence.
        cancel_idempotent: Answer 200, not 409, to the cancel of a job that is over.
        strict_steps: Reject step fields that are not exactly one of ``steps`` and ``ratio``.
        supported_range: The npm range of client versions that pass; others get 426.
        deprecation: A notice that every answer carries, None for none.
        sunset: The HTTP date of that notice.
        anonymous_sign_in: Whether ``/v1/auth/anonymous`` mints tokens; 403 otherwise.
        tool_calling: Whether the tool choice ``auto`` is configured; 400 otherwise.
        chat_end: A streamed answer ends with ``"done"`` (``[DONE]``) or ``"end"`` (``event: end``).
    """

    ping_interval: float = 15.0
    framing: str = "chunked"
    cancel_emits: str = "failed"
    cancel_idempotent: bool = False
    strict_steps: bool = True
    supported_range: str = "*"
    deprecation: Optional[str] = None
    sunset: Optional[str] = None
    anonymous_sign_in: bool = True
    tool_calling: bool = False
    chat_end: str = "done"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("framing", self.framing, FRAMINGS),
            ("cancel_emits", self.cancel_emits, CANCEL_EMITS),
            ("chat_end", self.chat_end, ("done", "end")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
