"""The settings that can be changed while the emulator runs. Any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

CANCEL_EMITS = ("failed", "end", "nothing")
FRAMINGS = ("chunked", "close")
SIGN_IN_ANSWERS = ("ask", "allow", "refuse")
REFRESH_TOKENS = ("rotate", "keep", "none")


@dataclass
class Settings:
    """The settings of an emulator. A change holds from the next request on.

    Args:
        ping_interval: Virtual seconds of silence before a stream gets a ping.
        framing: How a stream's body ends: `"chunked"` encoding, or `"close"`, with its connection.
        cancel_emits: What a stream carries after a cancel: `"failed"`: `training.failed` and
            `end`; `"end"`: only `end`; `"nothing"`: only pings.
        cancel_idempotent: Answer 200, not 409, when a job that has ended is cancelled.
        strict_steps: Reject step fields that are not exactly one of `steps` and `ratio`.
        supported_range: The npm range of client versions that are accepted; others get 426.
        deprecation: A deprecation notice that every response carries; None for none.
        sunset: The HTTP date of that notice, when the version stops working.
        anonymous_sign_in: Whether `/v1/auth/anonymous` gives tokens; otherwise it answers 403.
        account_sign_in: Whether the emulator offers the sign-in with an account, and plays the
            identity provider: see `routes/identity_provider.py`.
        sign_in_answer: What its page answers: `"ask"`: the user presses a button; `"allow"` and
            `"refuse"`: at once, without a page.
        token_lifetime: How long an access token of an account is valid, in virtual seconds.
        refresh_tokens: `"rotate"`: each refresh brings a new refresh token, and the old one is
            refused; `"keep"`: the first one stays; `"none"`: there is none.
        listed_jobs: How many jobs `GET /v1/jobs` lists at the most, the newest first, without a
            word about the others; None for all.
        tool_calling: Whether the tool choice `auto` is supported; otherwise the answer is 400.
        chat_end: What ends a streamed chat answer: `"done"`: `data: [DONE]`; `"end"`: `event: end`.
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
    account_sign_in: bool = False
    sign_in_answer: str = "ask"
    token_lifetime: float = 3600.0
    refresh_tokens: str = "rotate"
    listed_jobs: Optional[int] = None
    tool_calling: bool = False
    chat_end: str = "done"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("framing", self.framing, FRAMINGS),
            ("cancel_emits", self.cancel_emits, CANCEL_EMITS),
            ("sign_in_answer", self.sign_in_answer, SIGN_IN_ANSWERS),
            ("refresh_tokens", self.refresh_tokens, REFRESH_TOKENS),
            ("chat_end", self.chat_end, ("done", "end")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
        limit = self.listed_jobs
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"listed_jobs must be a whole number from 1, or None, not {limit!r}")
