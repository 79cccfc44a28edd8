"""Metrics in plain files: CSV and JSON lines. The run's worker thread writes them.

A row is in the file before its event counts as delivered: a process that is killed loses none.
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

from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.loggers.base import MetricsLogger, Row
from arkor_sync.stream.events import METRICS

COLUMNS = ("job_id", "timestamp", *METRICS)
"""The columns of `CSVLogger`, in order."""

_METRICS = frozenset(METRICS) - {"step"}
_Mark = Tuple[int, FrozenSet[str]]  # tells the rows of a job apart


class _FileLogger(MetricsLogger):
    """What both files have in common.

    The file is opened for each row, so that it may be moved away at any time. A row is added as a
    whole or not at all; one that cannot be written is tried again with the next.
    """

    _direct = True
    _head = b""

    def __init__(self, filename: Union[str, os.PathLike[str]], append: bool) -> None:
        super().__init__()
        self._path = Path(filename)
        self._begun = append
        self._there: Dict[str, Set[_Mark]] = {}  # what the file had of a job when it came

    def finalize(self, status: str) -> None:  # noqa: ARG002
        """Forget the job; its rows are in the file."""
        self._there.pop(self.job.id, None)

    def state_dict(self) -> Dict[str, Any]:
        """Return what a process that carries on needs: that the file must not be replaced."""
        return {"begun": self._begun, "jobs": super().state_dict()}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take over what `state_dict` returned in an earlier process."""
        self._begun = self._begun or state["begun"]
        super().load_state_dict(state["jobs"])

    def _log_rows(self, rows: List[Row]) -> None:
        with self._following.lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._begun:
                self._path.write_bytes(b"")
                self._begun = True
            if self.job.id not in self._there:
                self._there[self.job.id] = self._repair_and_read()
            there = self._there[self.job.id]
            new = [row for row in rows if (row.step, self._names(row)) not in there]
            data = "".join(map(self._line, new)).encode(errors="replace")
            if data:
                self._append(data)

    def _append(self, data: bytes) -> None:
        with open(self._path, "ab", buffering=0) as file:
            size = file.tell()
            data = data if size else self._head + data
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise

    def _repair_and_read(self) -> Set[_Mark]:
        """Cut off a last line without an end, and return what there is of `self.job`."""
        job_id, end, lines = self.job.id, 0, []
        # Only lines with this in them are parsed: the file may be long, and the run waits.
        token = max(re.split(r"[^\w-]", job_id, flags=re.ASCII), key=len).encode()
        try:
            with open(self._path, "rb+") as file:
                if not self._head.startswith(file.read(len(self._head))):
                    raise ArkorUsageError(f"{self._path} is a file with other columns; it is kept")
                file.seek(0)
                for line in file:
                    if line.endswith(b"\n"):
                        end += len(line)
                        if token in line:
                            lines.append(line.decode("utf-8", "replace"))
                file.truncate(end)
        except FileNotFoundError:
            return set()
        return {(step, names) for other, step, names in self._rows(lines) if other == job_id}

    def _names(self, row: Row) -> FrozenSet[str]:
        """Return the names of the metrics that are written."""
        return frozenset(row.metrics)

    @abstractmethod
    def _line(self, row: Row) -> str:
        """Return a row of `self.job` as it is written, or nothing."""

    @abstractmethod
    def _rows(self, lines: Iterable[str]) -> Iterator[Tuple[Any, int, FrozenSet[str]]]:
        """Yield job, step and names of what was written."""


class CSVLogger(_FileLogger):
    r"""Writes a row for each log event to a CSV file: Keras' arguments, and fixed columns.

    The columns are `COLUMNS`: `job_id`, `timestamp`, `step` and the five metrics that are known,
    empty where the cloud did not send one. Several runs may share a logger, and so a file.

    The run's worker thread writes each row through to the system before the next event, so a
    killed process loses none, and a disk that hangs holds the run up. With a cursor store, the
    process that carries on adds to the file. An event that is delivered again is recognised by what
    the file has: the same job, step and metrics. A disk that is full, or a directory that is gone,
    does the run no harm: it is logged, and the row is tried again with the next.

    Args:
        filename: Made on demand, with its directory.
        separator: One character between the columns.
        append: Whether to add to a file that exists, and not to replace it.

    Raises:
        ArkorUsageError: The separator cannot be one.
    """

    def __init__(
        self,
        filename: Union[str, os.PathLike[str]],
        separator: str = ",",
        append: bool = False,
    ) -> None:
        super().__init__(filename, append)
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ArkorUsageError(f"separator must be one character, not {separator!r:.80}")
        self._separator = separator
        self._head = self._written(COLUMNS).encode()

    def _names(self, row: Row) -> FrozenSet[str]:
        return _METRICS.intersection(row.metrics)

    def _line(self, row: Row) -> str:
        if not self._names(row):
            return ""
        values = {
            **row.metrics,
            "job_id": self.job.id,
            "timestamp": row.timestamp,
            "step": row.step,
        }
        return self._written(values.get(name) for name in COLUMNS)

    def _rows(self, lines: Iterable[str]) -> Iterator[Tuple[Any, int, FrozenSet[str]]]:
        for row in csv.DictReader(lines, COLUMNS, delimiter=self._separator):
            if str(row["step"]).lstrip("-").isdecimal():
                names = frozenset(name for name in _METRICS if row[name])
                yield row["job_id"], int(row["step"] or 0), names

    def _written(self, values: Any) -> str:
        line = io.StringIO()
        csv.writer(line, delimiter=self._separator, lineterminator="\n").writerow(values)
        return line.getvalue()


class JSONLLogger(_FileLogger):
    """Writes a JSON object for each log event, one a line, with every number that the cloud sent.

    Each has `job_id`, `timestamp`, `step` and the metrics: the known ones by their names here, and
    others by the wire's. For the rest it is as `CSVLogger` is.

    Args:
        filename: Made on demand, with its directory.
        append: Whether to add to a file that exists, and not to replace it.
    """

    def __init__(self, filename: Union[str, os.PathLike[str]], append: bool = False) -> None:
        super().__init__(filename, append)

    def _line(self, row: Row) -> str:
        first = {"job_id": self.job.id, "timestamp": row.timestamp, "step": row.step}
        return json.dumps({**first, **row.metrics, **first}) + "\n"

    def _rows(self, lines: Iterable[str]) -> Iterator[Tuple[Any, int, FrozenSet[str]]]:
        for line in lines:
            try:
                row = json.loads(line)
                names = frozenset(row) - {"job_id", "timestamp", "step"}
                yield row["job_id"], row["step"], names
            except (ValueError, LookupError, TypeError):
                continue  # not ours
