"""Any HTTP endpoint, with a body of one's own. The callbacks run on the run's worker thread."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import math
import os
import re
import time
from typing import Any, Callable, Mapping, Optional, Union

from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.notifiers.http import HttpNotifier
from arkor_sync.handlers.notifiers.notification import Notification

_FIELDS = frozenset(field.name for field in dataclasses.fields(Notification))
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(repr=False, eq=False)
class WebhookNotifier(HttpNotifier):
    """Posts JSON to an endpoint of your own when something happens to a run.

    The URL is `ARKOR_WEBHOOK_URL` by default, the secret `ARKOR_WEBHOOK_SECRET`. For the other
    arguments see `Notifier` and `HttpNotifier`.

    Every request has the headers `webhook-id`, the same for every attempt and for a notification
    that another process sends again, and `webhook-timestamp`, in Unix seconds. With a secret there
    is a `webhook-signature`, `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, as
    Standard Webhooks has it, so that its libraries can verify it.

    Args:
        template: The body: a JSON value in whose texts `{title}`, `{step}` and any other field of
            a `Notification` are filled in. A text that is nothing but one placeholder becomes the
            value itself. Or a function that is given the `Notification` and returns the body. By
            default all fields.
        secret: Signs every request: `whsec_` and base64, or any other text.
        headers: Sent with every request.
    """

    template: Union[Mapping[str, Any], Callable[[Notification], Any], None] = None
    secret: dataclasses.InitVar[Optional[str]] = None
    headers: Optional[Mapping[str, str]] = None

    variable = "ARKOR_WEBHOOK_URL"

    def __post_init__(self, url: Optional[str], secret: Optional[str]) -> None:
        super().__post_init__(url)
        self._key = _key(secret or os.environ.get("ARKOR_WEBHOOK_SECRET") or "")
        if not callable(self.template):
            _check(self.template)

    def body(self, note: Notification) -> Any:
        """Return the filled template, or what the function returns."""
        if callable(self.template):
            return _json(self.template(note))
        fields = _json(dataclasses.asdict(note))
        return fields if self.template is None else _filled(self.template, fields)

    def _redacted(self, text: str) -> str:
        """Cut the headers of one's own as well: an endpoint may repeat a key that it refuses."""
        for value in (self.headers or {}).values():
            for piece in (str(value), *str(value).split()):
                if len(piece) > 5:
                    text = text.replace(piece, "[redacted]")
        return super()._redacted(text)

    def _headers(self, note: Notification, body: bytes) -> Mapping[str, str]:
        stamp = str(int(time.time()))
        message_id = f"msg_{note.id}"
        headers = {
            **(self.headers or {}),
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
        }
        if self._key:
            signed = b".".join((message_id.encode(), stamp.encode(), body))
            digest = hmac.new(self._key, signed, hashlib.sha256).digest()
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return headers


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret[len("whsec_") :], validate=True)
    except ValueError:
        pass  # raised below, so that no chain repeats the secret
    raise ArkorUsageError("secret: what follows whsec_ must be base64")


def _check(value: Any) -> None:
    """Refuse placeholders that would never be filled in."""
    for name in _PLACEHOLDER.findall(repr(value)):
        if name not in _FIELDS:
            raise ArkorUsageError(f"template: {{{name}}} is none of {', '.join(sorted(_FIELDS))}")


def _filled(value: Any, fields: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(each, fields) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(each, fields) for each in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    if whole:
        return fields[whole.group(1)]
    return _PLACEHOLDER.sub(lambda match: str(fields[match.group(1)]), value)


def _json(value: Any) -> Any:
    """Make numbers that JSON does not have null."""
    if isinstance(value, Mapping):
        return {key: _json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
