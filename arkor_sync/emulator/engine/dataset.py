"""Reads a job's data set: JSON Lines of chat messages. Runs in the job's thread."""

from __future__ import annotations

import codecs
import http.client
import logging
import random
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.sample import NAME, RECORDS
from arkor_sync.emulator.http.messages import decode_json
from arkor_sync.emulator.models import Job

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
FETCH_TIMEOUT = 5.0

_logger = logging.getLogger("arkor_sync.emulator")

T = TypeVar("T")

Record = List[Dict[str, str]]
"""One record: its messages, each with a `role` and a `content`."""


def load(source: Dict[str, Any]) -> List[Record]:
    """Return the records of a `datasetSource`.

    A `blob` is read from `file://` or from `http://` on the loopback. A `huggingface` name
    is never downloaded: the records are a small bundled sample. See `note`.

    Raises:
        TrainingFailed: The data set cannot be read, or is not JSON Lines of chat messages.
    """
    if source.get("type") == "huggingface":
        return [list(record) for record in RECORDS]
    url = source["url"]
    try:
        return parse(_fetch(url, source.get("token")))
    except TrainingFailed as error:
        raise TrainingFailed(f"{error}: {shown(url)}") from None


def note(job: Job) -> Optional[str]:
    """Tell, and log as a warning, that a job asks for a data set of the Hub, but gets the sample.

    Returns:
        The text, which the job's first event carries too. None if the job gets what it asks for.
    """
    source = job.config["datasetSource"]
    if source.get("type") != "huggingface" or source["name"] == NAME:
        return None
    # The name is written with its escapes, and cut: it may be any text of the client's.
    text = (
        f"the local Arkor does not download {source['name']!r:.100} from the Hugging Face Hub: it "
        f"trains on its own sample of {len(RECORDS)} records instead; to train on your data, give "
        "a JSON Lines file as the data set"
    )
    _logger.warning("job %.100r: %s", job.name, text)
    return text


def split(records: List[T], config: Dict[str, Any]) -> Tuple[List[T], List[T]]:
    """Split records, or their numbers, into those to learn from and those for the evaluation.

    Raises:
        TrainingFailed: No record is left to learn from.
    """
    options = config.get("datasetSplit") or {}
    if not options.get("enabled"):
        return records, []
    shuffled = list(records)
    random.Random(options.get("seed", 42)).shuffle(shuffled)
    held_out = max(1, round(len(records) * options.get("testSize", 0.1)))
    if held_out >= len(records):
        raise TrainingFailed("the data set split leaves no record to learn from")
    return shuffled[held_out:], shuffled[:held_out]


def parse(data: bytes) -> List[Record]:
    """Decode JSON Lines. Blank lines are ignored.

    Raises:
        TrainingFailed: There is no record, or a line is not a record; the text names the line.
    """
    records = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            records.append(record_of(number, line))
    if not records:
        raise TrainingFailed("the data set is empty")
    return records


def record_of(number: int, line: bytes) -> Record:
    """Decode one line, and check that it is a conversation.

    Raises:
        TrainingFailed: It is not; the text names the line.
    """
    try:
        value = decode_json(line.removeprefix(codecs.BOM_UTF8).decode())
    except ValueError:
        raise TrainingFailed(f"the data set's line {number} is not valid JSON") from None
    messages = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(messages, list) or not messages:
        raise TrainingFailed(f"the data set's line {number} has no list of messages")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise TrainingFailed(f"the data set's line {number} has a message without a role")
        if not isinstance(message.get("content"), str):
            raise TrainingFailed(f"the data set's line {number} has a message without content")
    return messages


def _fetch(url: str, token: Any) -> bytes:
    try:
        parts = urlsplit(url)
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            return Path(url2pathname(parts.path)).read_bytes()
        if parts.scheme == "http" and parts.hostname in LOOPBACK:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            # No proxy and no redirect, so that no request leaves this machine.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
            request = urllib.request.Request(url, headers=headers)
            with opener.open(request, timeout=FETCH_TIMEOUT) as response:
                data: bytes = response.read()
                return data
    except urllib.error.HTTPError as error:
        error.close()
        raise TrainingFailed(f"the data set could not be read: HTTP {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", None)  # of a URLError
        cause = cause if isinstance(cause, OSError) else error
        reason = getattr(cause, "strerror", None) or type(cause).__name__
        raise TrainingFailed(f"the data set could not be read: {reason}") from None
    raise TrainingFailed(
        "the emulator works offline: it reads file:// and http://127.0.0.1 data sets only"
    )


def shown(url: str) -> str:
    """Return the path of a file, or a URL without its user name and its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return url2pathname(parts.path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Refuse to follow."""
