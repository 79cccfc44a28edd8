"""Encodes events, with the faults that change what is sent for one. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import cycle
from typing import Any, Dict, List, Optional

from arkor_sync.emulator.faults import Fault
from arkor_sync.emulator.http.messages import decode_json
from arkor_sync.emulator.http.sse import encode
from arkor_sync.emulator.models import Frame, LogEntry

DATA = {
    "keepalive": '{"type": "keepalive"}',
    "malformed": '{"type": "training.log", "step": ',
    "null": "null",
    "scalar": "42",
    "nan": '{"type": "training.log", "step": 1, "loss": NaN}',
}

# A placeholder: it is replaced by bytes that are not UTF-8 once the event is encoded.
_BAD = "@bad-utf8@"


class FaultyEncoder:
    """Encodes the entries of one answer, in their order."""

    def __init__(self) -> None:
        self._last_id: Optional[str] = None
        self._delayed: List[bytes] = []

    def encode(self, entry: LogEntry, faults: List[Fault]) -> List[bytes]:
        """Return what is sent for an entry: no frame, one or several."""
        frame, data = entry.frame, entry.raw
        if frame is not None:
            for fault in faults:
                frame = self._change(frame, fault)
            self._last_id = frame.id or self._last_id
            data = encode(frame).replace(_BAD.encode(), b"\xff\xfe")
        by_kind = {fault.kind: fault for fault in faults}
        sent = [] if "skip" in by_kind else [data]
        if "duplicate" in by_kind:
            sent *= 1 + (by_kind["duplicate"].times or 0)
        sent = frames_before(faults) + sent
        if "reorder" in by_kind:
            self._delayed += sent
            return []
        return sent + self.flush()

    def flush(self) -> List[bytes]:
        """Return the frames that `reorder` delayed."""
        delayed, self._delayed = self._delayed, []
        return delayed

    def _change(self, frame: Frame, fault: Fault) -> Frame:
        if fault.kind == "repeat_id":
            return replace(frame, id=self._last_id or frame.id)
        if fault.kind == "garbage" and fault.replace:
            return replace(frame, data=_data(fault))
        if fault.kind == "bad_utf8":
            return _with(frame, {"note": _BAD})
        if fault.kind == "huge_event":
            return _with(frame, {"padding": "x" * (fault.size or 0)})
        if fault.kind == "missing_field":
            return _with(frame, {}, without=fault.value)
        return frame


def _with(frame: Frame, extra: Dict[str, Any], without: Optional[str] = None) -> Frame:
    """Add fields to the JSON object of a frame, or remove one. Other data is not changed."""
    try:
        event = decode_json(frame.data)
    except ValueError:
        return frame
    if not isinstance(event, dict):
        return frame
    kept = {name: value for name, value in event.items() if name != without}
    text = json.dumps({**kept, **extra}, ensure_ascii=False, separators=(",", ":"))
    return replace(frame, data=text)


def frames_before(faults: List[Fault]) -> List[bytes]:
    """Return the frames without an id that are sent before an event, and are in no log."""
    frames: List[bytes] = []
    for fault in faults:
        if fault.kind == "garbage" and not fault.replace:
            frames.append(encode(Frame(_data(fault), name="training.log")))
        elif fault.kind == "unknown_event":
            frames.append(encode(Frame(json.dumps({"type": fault.value}), name=fault.value)))
        elif fault.kind == "extra_frame":
            frames += [encode(Frame(_data(fault)))] * (fault.times or 0)
    return frames


def _data(fault: Fault) -> str:
    value = str(fault.value)
    return DATA.get(value, value)


def mix_newlines(data: bytes) -> bytes:
    """End lines with LF, CRLF and CR in turn, so that the meaning stays the same."""
    endings = cycle((b"\n", b"\r\n", b"\r"))
    mixed, last = b"", b""
    for line in data.split(b"\n")[:-1]:
        # After a CR an empty line has to end with CR, too: CR and LF together are one line end.
        last = b"\r" if not line and last == b"\r" else next(endings)
        mixed += line + last
    return mixed + data[data.rfind(b"\n") + 1 :]
