"""Notifies any HTTP endpoint, with JSON of your own choice. Runs on a thread of its own."""

import base64
import dataclasses
import hashlib
import hmac
import math
import re
import time
from typing import Any, Callable, Iterator, Mapping, Optional, Tuple, Union

from arkor_sync._common.arguments import refusal
from arkor_sync._common.environment import variable
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.notifiers.http import HttpNotifier
from arkor_sync.handlers.notifiers.notification import Notification

_FIELDS = frozenset(field.name for field in dataclasses.fields(Notification))
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\xa0-\xff]*")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(repr=False, eq=False)
class WebhookNotifier(HttpNotifier):
    """Posts notifications as JSON to an endpoint of your own.

    The URL is `ARKOR_WEBHOOK_URL` by default, the secret `ARKOR_WEBHOOK_SECRET`.

    Every request has the headers `webhook-id` and `webhook-timestamp` (Unix seconds). The id is the
    same for each attempt, and for a notification that another process sends again. With a secret
    there is also `webhook-signature`: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
    This is the format of Standard Webhooks, so its libraries can verify the requests.

    Args:
        template: The body: a JSON value. In its texts, `{title}`, `{step}` and the other fields of
            a `Notification` are replaced by their values; a text that is one placeholder and
            nothing else becomes the value itself. Or a function that gets the `Notification` and
            returns the body. By default the body has all fields.
        secret: The key that signs every request: `whsec_` and base64, or any other text.
        headers: More headers for every request.
    """

    template: Union[Mapping[str, Any], Callable[[Notification], Any], None] = None
    secret: dataclasses.InitVar[Optional[str]] = None
    headers: Optional[Mapping[str, str]] = None

    variable = "ARKOR_WEBHOOK_URL"

    def __post_init__(self, url: Optional[str], secret: Optional[str]) -> None:
        super().__post_init__(url)
        self.headers = dict(_checked_headers(self.headers or {}))
        self._key = _signing_key((secret or variable("ARKOR_WEBHOOK_SECRET") or "").strip())
        if not callable(self.template):
            _check_placeholders(self.template)

    def body(self, note: Notification) -> Any:
        """Return the filled template, or the value that the function returns."""
        if callable(self.template):
            return _replace_nan(self.template(note))
        fields = _replace_nan(dataclasses.asdict(note))
        return fields if self.template is None else _fill(self.template, fields)

    def _redact(self, text: str) -> str:
        """Remove the values of `headers` too: an endpoint may repeat a key that it refuses."""
        for value in (self.headers or {}).values():
            for piece in (str(value), *str(value).split()):
                if len(piece) > 5:
                    text = text.replace(piece, "[redacted]")
        return super()._redact(text)

    def _headers(self, note: Notification, body: bytes) -> Mapping[str, str]:
        timestamp = str(int(time.time()))
        message_id = f"msg_{note.id}"
        headers = {
            **(self.headers or {}),
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
        }
        if self._key:
            signed = b".".join((message_id.encode(), timestamp.encode(), body))
            digest = hmac.new(self._key, signed, hashlib.sha256).digest()
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return headers


def _checked_headers(headers: Mapping[str, str]) -> Iterator[Tuple[str, str]]:
    """Yield the headers without white space around their values; refuse what cannot be sent."""
    for name, value in headers.items():
        if not isinstance(value, str) or not _HEADER.fullmatch(f"{name}:{value.strip()}"):
            got = f"a value for {name!r:.60} that cannot be sent (it may be secret: not shown)"
            raise refusal("headers", value, "names and values that are texts of one line", got=got)
        yield name, value.strip()


def _signing_key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret[len("whsec_") :], validate=True)
    except ValueError:
        pass  # the error is raised below, so that it has no cause that contains the secret
    raise ArkorUsageError(
        "secret: got a text whose part after whsec_ is no base64; give whsec_ and base64, or any "
        "text without whsec_"
    )


def _check_placeholders(value: Any) -> None:
    """Refuse placeholders for which a notification has no field."""
    for name in _PLACEHOLDER.findall(repr(value)):
        if name not in _FIELDS:
            raise ArkorUsageError(
                f"template: got {{{name}}}; give only fields of Notification: "
                f"{', '.join(sorted(_FIELDS))}"
            )


def _fill(value: Any, fields: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _fill(each, fields) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fill(each, fields) for each in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    if whole:
        return fields[whole.group(1)]
    return _PLACEHOLDER.sub(lambda match: str(fields[match.group(1)]), value)


def _replace_nan(value: Any) -> Any:
    """Replace numbers that JSON cannot hold (NaN, infinity) with None."""
    if isinstance(value, Mapping):
        return {key: _replace_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
