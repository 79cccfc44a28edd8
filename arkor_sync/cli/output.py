"""What a command prints: for people in a terminal, plain lines elsewhere, or JSON. Any thread.

Results go to standard output; notices, warnings and errors to standard error. In a terminal a list
is a table that fits its width; elsewhere it is a line for each row, its cells separated by tabs, so
that `cut`, `awk` and `grep` can read it. With `--json` one JSON document is printed, or one a line
where results come as a stream.

What the cloud, a model or a file says never acts on a terminal: control characters are removed, and
JSON is plain ASCII.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Iterable, Mapping, Sequence, TextIO

from arkor_sync._common.text import safe_line, safe_text

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
        """Print a value as JSON on one line."""
        self.write(json.dumps(value) + "\n")

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
        self.write(safe_text(text) + "\n", sys.stderr)

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
            self.line(f"{name + ':':{width}} {value}")

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
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for number, name in enumerate(columns):
            table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=8 * (not number))
        for row in rows:
            cells = [_cell(row.get(name)) for name in columns]
            styles = [
                _STYLES.get(cell, "") if name == "status" else ""
                for name, cell in zip(columns, cells)
            ]
            table.add_row(*(Text(cell, style) for cell, style in zip(cells, styles)))
        console().print(table)


def console(file: Any = None) -> Any:
    """Return a console of rich for a terminal; it obeys NO_COLOR, and interprets no markup."""
    from rich.console import Console

    return Console(
        file=sys.stdout if file is None else file, markup=False, highlight=False, emoji=False
    )


def close_output() -> None:
    """Let nothing more be written to standard output, whose reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def survive_encoding(stream: TextIO) -> None:
    """Have characters that a terminal cannot show replaced, and not raise."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return safe_line(value)
