"""Writes event streams to files, without secrets, and reads them again. Any thread."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Union

from arkor_sync.emulator.http.messages import decode_json
from arkor_sync.emulator.models import Frame, Item, LogEntry

REDACTED = "[redacted]"

# What looks like a secret: the value of a field or query parameter with such a name, and texts of
# such a form.
_NAMED = re.compile(
    r'("[^"]*(?:token|secret|password|api_?key|authorization)"\s*:\s*)"[^"]*"', re.IGNORECASE
)
_QUERY = re.compile(r"([?&][\w.-]*(?:token|signature|sig|key|credential)=)[^&\s\"]+", re.IGNORECASE)
_SHAPED = re.compile(
    r"(?:(?<=Bearer )\S+|\bark_live_\w+|\bhf_\w{8,}|\banon\.[\w-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*)"
)


def scrub(text: str) -> str:
    """Return a text in which everything that looks like a secret is replaced."""
    text = _NAMED.sub(rf'\1"{REDACTED}"', text)
    text = _QUERY.sub(rf"\1{REDACTED}", text)
    return _SHAPED.sub(REDACTED, text)


def recorded_line(frame: Frame) -> str:
    """Return the line of a recording for an event, without its secrets."""
    return json.dumps({"id": frame.id, "event": frame.name, "data": scrub(frame.data)})


def save_recording(path: Union[str, Path], log: Iterable[LogEntry]) -> None:
    """Write the entries of a job's log, one JSON object a line, without their secrets."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            for entry in log:
                file.write(_line(entry) + "\n")
    except OSError as error:
        error.filename = os.path.abspath(path)  # that of a full disk names no file
        raise


def record_sse(path: Union[str, Path], body: Iterable[bytes]) -> int:
    """Record an event stream of any server, while it is read.

    Pings, `end` and comments are left out: the emulator sends its own when it plays the recording.

    Args:
        path: The file.
        body: The body's bytes, in pieces of any size.

    Returns:
        How many events were recorded.
    """
    count = 0

    def log() -> Iterator[LogEntry]:
        nonlocal count
        for frame in _frames(body):
            if frame.name not in ("ping", "end"):
                count += 1
                yield LogEntry(frame)

    save_recording(path, log())
    return count


def load_recording(path: Union[str, Path]) -> List[Item]:
    """Read a recording, for `ScriptedEngine(events=...)`.

    An event `training.cancelled`, which no stream carries, stands for the end of a cancelled job:
    when it is played, the stream says that the job failed, and the job's record that it was
    cancelled.

    Raises:
        ValueError: It is not a recording; the text names the line.
    """
    items = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), start=1):
        try:
            items.append(_item(decode_json(line)))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{path}: line {number} is not a recorded event") from None
    return items


def _line(entry: LogEntry) -> str:
    if entry.frame is None:
        return json.dumps({"raw": scrub(entry.raw.decode("latin-1"))})
    return recorded_line(entry.frame)


def _item(line: Dict[str, Any]) -> Item:
    if "raw" in line:
        raw: str = line["raw"]
        return raw.encode("latin-1")
    frame = Frame(line["data"], line["id"], line["event"])
    try:
        event = decode_json(frame.data)
    except ValueError:
        return frame
    # An ordinary event also has to update the job's record when it is played.
    plain = isinstance(event, dict) and event.get("type") == frame.name is not None
    return (event, frame.id) if plain else frame


def _frames(body: Iterable[bytes]) -> Iterator[Frame]:
    """Parse an event stream. An unfinished event at its end is dropped."""
    data: List[str] = []
    name: Optional[str] = None
    event_id: Optional[str] = None
    for line in _lines(body):
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value or None
        elif field == "id":
            event_id = value or None
        elif not line:
            if data:
                yield Frame("\n".join(data), event_id, name)
            data, name, event_id = [], None, None


def _lines(body: Iterable[bytes]) -> Iterator[str]:
    buffer = b""
    for piece in body:
        buffer += piece
        # A CR at the end may be the first half of a CRLF.
        *lines, buffer = re.split(rb"\r\n|\n|\r(?=[^\n])", buffer)
        for line in lines:
            yield line.decode("utf-8", "replace").lstrip("\ufeff")
    for line in buffer.split(b"\r")[:-1]:
        yield line.decode("utf-8", "replace")
