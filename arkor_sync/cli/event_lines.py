"""Prints the events of a run, one a line. Runs on the worker thread."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional, TextIO

from arkor_sync._common.secret import redact
from arkor_sync._common.text import safe_line
from arkor_sync.cli.output import Output
from arkor_sync.contexts import Callback, Context
from arkor_sync.stream.events import CHECKPOINT, COMPLETED, FAILED, LOG, METRICS


class EventLines(Callback):
    """Prints each event: with `--json` as a line of a recording, else for people.

    A recording can be played by the emulator. It has what the stream brought, each event once and
    without secrets, however often the connection broke. Events that cannot be read, and those of an
    unknown type, are not in it; the log says so.

    A line that cannot be written ends the run, whatever its error policy says of exceptions.

    Args:
        output: Prints them.
        file: Where to; standard output by default.

    Attributes:
        error: Why a line could not be written, or None.
    """

    def __init__(self, output: Output, file: Optional[TextIO] = None) -> None:
        self.error: Optional[OSError] = None
        self._output = output
        self._file = file

    def _print(self, ctx: Context) -> None:
        try:
            line = _recorded(ctx) if self._output.as_json else safe_line(_line(ctx))
            self._output.write(line + "\n", self._file)
        except OSError as error:
            self.error = error
            ctx.run.abort("the output was closed")

    on_started = on_log = on_checkpoint = on_completed = on_failed = on_cancelled = _print


def _recorded(ctx: Context) -> str:
    from arkor_sync.emulator import Frame
    from arkor_sync.emulator.recording import recorded_line

    event = ctx.event
    data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
    return recorded_line(Frame(data, event.id, event.type))


def _line(ctx: Context) -> str:
    """Return the time, the type and what belongs to it: `... training.log step=5 loss=1.25`."""
    event = ctx.event
    data = event.data
    shown: Dict[str, Any] = {}
    if event.type == LOG:
        shown = {name: data.get(name) for name in METRICS.values()}
    elif event.type in (CHECKPOINT, FAILED):
        shown = {name: data.get(name) for name in ("step", "error")}
    elif event.type == COMPLETED and isinstance(data.get("metrics"), dict):
        shown = data["metrics"]
    pairs = (
        f"{safe_line(name)}={_value(shown[name])}" for name in shown if shown[name] is not None
    )
    return " ".join([safe_line(event.timestamp or "-"), event.type, *pairs])


def _value(value: Any) -> str:
    return json.dumps(redact(safe_line(value)) if isinstance(value, str) else value)
