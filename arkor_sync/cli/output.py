"""What a command prints: for people in a terminal, plain lines elsewhere, or JSON. Any thread.

Results go to standard output; notices, warnings and errors to standard error. In a terminal a list
is a table that fits its width; elsewhere it is a line for each row, its cells separated by tabs, so
that `cut`, `awk` and `grep` can read it. With `--json` one JSON document is printed, or one a line
where results come as a stream.

What the cloud, a model or a file says never acts on a terminal: control characters are removed, and
JSON is plain ASCII.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, Iterable, Mapping, Sequence, TextIO

from arkor_sync._common.environment import variable
from arkor_sync._common.text import safe_line, safe_text

PROGRAM = "arkor-sync"
_NARROWEST = 8  # columns of a terminal that a cell of a table gets, where it needs as many
_GAP = 2  # between the columns of a table
_STYLES = {  # of a job's status
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "queued": "cyan",
}


class Output:
    """Prints what one command has to say.

    Args:
        as_json: Whether results are printed as JSON.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads the results: standard output is a terminal, and no JSON."""
        return not self.as_json and sys.stdout.isatty()

    def json(self, value: Any) -> None:
        """Print a value as JSON on one line; see `in_json`."""
        self.write(in_json(value))

    def line(self, text: object = "") -> None:
        """Print a line of the result, or several."""
        self.write(safe_text(text) + "\n")

    def write(self, text: str, file: Any = None) -> None:
        """Print a text as it is, at once. It has to be harmless already."""
        file = sys.stdout if file is None else file
        file.write(text)
        file.flush()

    def note(self, text: object) -> None:
        """Tell something that is no result: on standard error."""
        _write_to_standard_error(safe_text(text) + "\n")

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Print one thing, as `name: value` lines or as a JSON object; None is left out of lines.

        Args:
            facts: Values by their names on the wire.
        """
        if self.as_json:
            self.json(facts)
            return
        shown = {name: _cell(value) for name, value in facts.items() if value is not None}
        width = max(map(len, shown), default=0) + 1 if self.is_terminal else 0
        for name, value in shown.items():
            self.line(f"{(name + ':').ljust(width)} {value}")

    def table(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Print a list.

        Args:
            rows: What is in the list, as JSON objects; with `--json` they are printed whole.
            columns: The names of the values that are shown to people, the first one whole.
        """
        rows = list(rows)
        if self.as_json:
            self.json(rows)
        elif self.is_terminal:
            self._draw(rows, columns)
        else:
            for row in rows:
                self.line("\t".join(_cell(row.get(name)) for name in columns))

    def _draw(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        terminal = console()
        cells = {name: [_cell(row.get(name)) for row in rows] for name in columns}
        widths = {name: max(map(cell_len, [name, *cells[name]])) for name in columns}
        space = terminal.width - _GAP * (len(columns) - 1)
        while sum(widths.values()) > space:  # the widest one gets narrower, but not the first
            widest = max(columns[1:], key=widths.__getitem__, default="")
            if not widest or widths[widest] <= _NARROWEST:
                break
            widths[widest] -= 1
        if rows and sum(widths.values()) > space:
            for row in rows:  # a table does not fit: a block of lines for each row
                self.facts({name: row.get(name) for name in columns})
                self.line()
            return
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
        for name in columns:
            table.add_column(name, no_wrap=True, overflow="ellipsis", width=widths[name])
        for number in range(len(rows)):
            texts = []
            for name in columns:
                cell = cells[name][number]
                texts.append(Text(cell, _STYLES.get(cell, "") if name == "status" else ""))
            table.add_row(*texts)
        terminal.print(table)


def in_json(value: Any) -> str:
    """Write a value as a line of JSON. A number that JSON has not, such as NaN, is null."""
    import json  # here, as help needs none

    try:
        return json.dumps(value, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False) + "\n"


def tell(text: str, *, prefix: str = f"{PROGRAM}: ", below_keys: bool = False) -> None:
    """Write a line of the program itself to standard error; what fails there is not told of.

    Args:
        text: The line, which has to be harmless already.
        prefix: What stands before it.
        below_keys: Whether a terminal shows on this line the keys that were pressed, as ^C.
    """
    ahead = "\n" if below_keys and sys.stderr.isatty() else ""
    _write_to_standard_error(f"{ahead}{prefix}{text}\n")


def colours_wanted(stream: TextIO) -> bool:
    """Whether a stream is a terminal that is to show colours: see NO_COLOR and TERM=dumb."""
    dumb = variable("TERM") in ("dumb", "unknown")
    return stream.isatty() and variable("NO_COLOR") is None and not dumb


def console(file: Any = None) -> Any:
    """Return a console of rich for a terminal; it obeys NO_COLOR, and interprets no markup."""
    from rich.console import Console

    file = sys.stdout if file is None else file
    colours = colours_wanted(file)
    return Console(
        file=file,
        markup=False,
        highlight=False,
        emoji=False,
        color_system="auto" if colours else None,
        no_color=not colours,  # rich 13.0 takes an empty NO_COLOR for one that is set
    )


def open_streams() -> None:
    """Open the standard streams that were closed, as with `>&-`, so that they hold nothing.

    The number of a closed one would be given to the next file or socket.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def close_stream(stream: TextIO) -> None:
    """Let nothing more be written to a stream that fails; the interpreter would try at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def survive_encoding(stream: TextIO) -> None:
    """Have characters that a terminal cannot show replaced, and not raise."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _write_to_standard_error(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        with suppress(OSError):
            close_stream(sys.stderr)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:  # not finite
        return None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (dict, list)):
        return in_json(value).rstrip()
    return safe_line(value)
