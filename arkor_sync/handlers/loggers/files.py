"""Logs metrics to files: CSV and JSON lines. Runs on the worker thread.

A row is in the file before its event counts as delivered, so a process that is killed loses none.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
from abc import abstractmethod
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Set, Tuple, Union

from arkor_sync._common.arguments import check
from arkor_sync._common.files import is_special, write_special
from arkor_sync._common.paths import find_target, make_directory, naming
from arkor_sync._common.text import safe_cell
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.loggers.base import LogRow, MetricsLogger
from arkor_sync.stream.events import METRICS

COLUMNS = ("job_id", "timestamp", *METRICS)
"""The columns of `CSVLogger`, in order."""

_METRICS = frozenset(METRICS) - {"step"}
_Key = Tuple[int, FrozenSet[str]]  # step and metric names: they identify a row of a job


class _FileLogger(MetricsLogger):
    """Base class of the loggers that write to a file.

    The file is opened for each row, so it may be moved away at any time. A row is added as a whole
    or not at all; a row that cannot be written is tried again with the next one.
    """

    _synchronous = True
    _header = b""

    def __init__(self, filename: Union[str, os.PathLike[str]], append: bool) -> None:
        super().__init__()
        self._path = Path(filename)
        self._keep_file = append  # False only until the file is replaced by an empty one
        self._existing: Dict[str, Set[_Key]] = {}  # by job: the rows that the file had before

    def finalize(self, status: str) -> None:  # noqa: ARG002
        """Remove what is stored of the job; its rows are in the file."""
        self._existing.pop(self.job.id, None)

    def state_dict(self) -> Dict[str, Any]:
        """Return what a process needs that continues, such as whether to keep the file."""
        return {"begun": self._keep_file, "jobs": super().state_dict()}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore what `state_dict` returned in an earlier process."""
        known = isinstance(state, dict) and {"begun", "jobs"} <= set(state)
        # A state of another shape shows an earlier process too, whose rows are kept.
        self._keep_file = self._keep_file or not known or bool(state["begun"])
        super().load_state_dict(state["jobs"] if known else state)

    def _log_rows(self, rows: List[LogRow]) -> None:
        with self._states.lock, naming(self._path, "cannot be written"):
            make_directory(self._path.parent)
            special = is_special(self._path)
            if not self._keep_file:
                if special:
                    write_special(self._path, self._header)
                else:
                    self._open("wb").close()
                self._keep_file = True
            if self.job.id not in self._existing:
                self._existing[self.job.id] = set() if special else self._repair_and_read()
            existing = self._existing[self.job.id]
            new = [row for row in rows if (row.step, self._names(row)) not in existing]
            data = "".join(map(self._format_row, new)).encode(errors="replace")
            if data:
                if special:
                    write_special(self._path, data)
                else:
                    self._append(data)

    def _find(self) -> Path:
        """Follow the links of the path; see `find_target`."""
        return find_target(self._path)[0]

    def _open(self, mode: str) -> io.FileIO:
        """Open the file; others can never write to one that is made."""
        return io.FileIO(self._find(), mode, opener=lambda path, flags: os.open(path, flags, 0o644))

    def _append(self, data: bytes) -> None:
        with self._open("ab") as file:
            size = file.tell()
            data = data if size else self._header + data
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise

    def _repair_and_read(self) -> Set[_Key]:
        """Remove an incomplete last line, and return the keys of the rows of `self.job`."""
        job_id, end, lines = self.job.id, 0, []
        # Only lines that contain this part of the job's id are parsed, because the file may be long
        # and the run waits.
        token = max(re.split(r"[^\w-]", job_id, flags=re.ASCII), key=len).encode()
        try:
            with open(self._find(), "rb+") as file:
                if not self._header.startswith(file.read(len(self._header))):
                    raise ArkorUsageError(
                        f"filename: got {self._path}, which is a file with other columns; give a "
                        "new file, or one that was written with the same separator"
                    )
                file.seek(0)
                for line in file:
                    if line.endswith(b"\n"):
                        end += len(line)
                        if token in line:
                            lines.append(line.decode("utf-8", "replace"))
                file.truncate(end)
        except FileNotFoundError:
            return set()
        return {(step, names) for other, step, names in self._parse_rows(lines) if other == job_id}

    def _names(self, row: LogRow) -> FrozenSet[str]:
        """Return the names of the metrics of a row that the file has."""
        return frozenset(row.metrics)

    @abstractmethod
    def _format_row(self, row: LogRow) -> str:
        """Return a row of `self.job` as a line of the file; empty if the row is left out."""

    @abstractmethod
    def _parse_rows(self, lines: Iterable[str]) -> Iterator[Tuple[Any, int, FrozenSet[str]]]:
        """Yield the job id, the step and the metric names of lines of the file."""


class CSVLogger(_FileLogger):
    r"""Writes a row for each log event to a CSV file, with the arguments of Keras' `CSVLogger`.

    The columns are always `COLUMNS`: `job_id`, `timestamp`, `step` and the five known metrics, each
    empty if the cloud did not send it. Several runs may share a logger and so a file.

    The run's worker thread writes each row before the next event is delivered. So a killed process
    loses no row; but if the disk does not answer, the run waits. With a cursor store, a process
    that continues a run adds to the file. An event that is delivered again is recognised by the
    rows of the file: the same job, step and metrics. If the disk is full or the directory is
    missing, that is logged, the run goes on, and the row is tried again with the next one.

    Args:
        filename: The file; it and its directory are made if they do not exist.
        separator: One character between the columns.
        append: Whether to add to an existing file; by default it is replaced.

    Raises:
        ArkorUsageError: The separator is not one character that can separate columns.
    """

    def __init__(
        self,
        filename: Union[str, os.PathLike[str]],
        separator: str = ",",
        append: bool = False,
    ) -> None:
        super().__init__(filename, append)
        fits = isinstance(separator, str) and len(separator) == 1 and separator not in '"\r\n'
        check("separator", separator, fits, "one character that is no quote and no line break")
        self._separator = separator
        self._header = self._to_csv(COLUMNS).encode()

    def _names(self, row: LogRow) -> FrozenSet[str]:
        return _METRICS.intersection(row.metrics)

    def _format_row(self, row: LogRow) -> str:
        if not self._names(row):
            return ""
        values = {
            **row.metrics,
            "job_id": self.job.id,
            "timestamp": row.timestamp,
            "step": row.step,
        }
        return self._to_csv(values.get(name) for name in COLUMNS)

    def _parse_rows(self, lines: Iterable[str]) -> Iterator[Tuple[Any, int, FrozenSet[str]]]:
        job_id = safe_cell(self.job.id)
        for line in lines:
            try:
                (row,) = csv.DictReader([line], COLUMNS, delimiter=self._separator)
                step = int(row["step"])
            except (csv.Error, ValueError, TypeError):
                continue  # this line was written by something else, or was damaged
            names = frozenset(name for name in _METRICS if row[name])
            yield self.job.id if row["job_id"] == job_id else row["job_id"], step, names

    def _to_csv(self, values: Any) -> str:
        line = io.StringIO()
        csv.writer(line, delimiter=self._separator, lineterminator="\n").writerow(
            map(safe_cell, values)
        )
        return line.getvalue()


class JSONLLogger(_FileLogger):
    """Writes a line with a JSON object for each log event, with every number that the cloud sent.

    Each object has `job_id`, `timestamp`, `step` and the metrics: the known ones by their names in
    this package, and others by the wire's names. In all other respects it works like `CSVLogger`.

    Args:
        filename: The file; it and its directory are made if they do not exist.
        append: Whether to add to an existing file; by default it is replaced.
    """

    def __init__(self, filename: Union[str, os.PathLike[str]], append: bool = False) -> None:
        super().__init__(filename, append)

    def _format_row(self, row: LogRow) -> str:
        first = {"job_id": self.job.id, "timestamp": row.timestamp, "step": row.step}
        return json.dumps({**first, **row.metrics, **first}) + "\n"

    def _parse_rows(self, lines: Iterable[str]) -> Iterator[Tuple[Any, int, FrozenSet[str]]]:
        for line in lines:
            try:
                row = json.loads(line)
                job_id, step = row["job_id"], int(row["step"])
            except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
                continue  # this line was written by something else, or was damaged
            yield job_id, step, frozenset(row) - {"job_id", "timestamp", "step"}
