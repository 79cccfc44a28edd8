"""Logs metrics to TensorBoard's event files, with tensorboardX. Runs on a thread of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from arkor_sync._common.extras import import_extra
from arkor_sync._common.paths import file_name, make_directory, naming, readable_name
from arkor_sync.handlers.loggers.base import LibraryLogger, LogRow
from arkor_sync.render.text import parse_timestamp


class TensorBoardLogger(LibraryLogger):
    """Writes each run to `save_dir/name/version`: `tensorboard --logdir save_dir` shows them.

    The tags are `train/loss`, `train/learning_rate` and so on, and `eval/loss`; the hyperparameters
    are a text. For its threads see `MetricsLogger`. A process that continues a run adds to the
    run's directory what that does not have yet. It needs the extra `tensorboard`.

    Args:
        save_dir: The directory of all runs; it is made if it does not exist.
        name: The directory of runs that belong together; by default the job's name.
        version: The directory of one run; by default the job's id, so that several runs may share
            a logger. A number such as 0 means `version_0`.
        flush_timeout: Seconds that the end of a run waits for the disk.

    Raises:
        ArkorUsageError: tensorboardX is not installed.
    """

    def __init__(
        self,
        save_dir: Union[str, os.PathLike[str]],
        name: Optional[str] = None,
        version: Union[str, int, None] = None,
        *,
        flush_timeout: float = 10.0,
    ) -> None:
        super().__init__(flush_timeout=flush_timeout)
        self._summary = import_extra("tensorboardX.summary", "tensorboard", "TensorBoardLogger")
        self._save_dir = Path(save_dir)
        self._name = name
        self._version = f"version_{version}" if isinstance(version, int) else version
        self._writers: Dict[str, _EventFile] = {}

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Write a table of the hyperparameters."""
        rows = "".join(f"|{name}|{value}|\n" for name, value in params.items())
        table = self._summary.text("hyperparams", f"|parameter|value|\n|-|-|\n{rows}")
        self._write([(table, 0, time.time())])

    def finalize(self, status: str) -> None:  # noqa: ARG002
        """Close the run's file."""
        writer = self._writers.pop(self.job.id, None)
        if writer is not None:
            writer.close()

    def _log_rows(self, rows: List[LogRow]) -> None:
        self._write(
            (self._summary.scalar(_tag(name), value), row.step, parse_timestamp(row.timestamp))
            for row in rows
            for name, value in row.metrics.items()
        )

    def _write(self, summaries: Iterable[Tuple[Any, int, Optional[float]]]) -> None:
        """Write what the directory does not have yet. After an error, begin another file."""
        writer = self._writers.get(self.job.id)
        if writer is None:
            job = self.job
            name = readable_name(job.name if self._name is None else self._name)
            version = file_name(job.id) if self._version is None else readable_name(self._version)
            folder = self._save_dir / name / version
            writer = self._writers[job.id] = _EventFile(folder)
        try:
            for summary, step, wall_time in summaries:
                writer.write(summary, step, wall_time)
            writer.flush()
        except BaseException:
            del self._writers[self.job.id]
            with contextlib.suppress(OSError):
                writer.close()
            raise


class _EventFile:
    """One event file. The library's own writers are not used.

    One waits for ever if a disk fails; the other has a buffer, which a forked child would write a
    second time when it exits. Here what waits is written in one piece, and by `flush` alone.
    """

    def __init__(self, folder: Path) -> None:
        self._event = import_extra(
            "tensorboardX.proto.event_pb2", "tensorboard", "TensorBoardLogger"
        ).Event
        self._checksum = import_extra(
            "tensorboardX.record_writer", "tensorboard", "TensorBoardLogger"
        ).masked_crc32c
        make_directory(folder)
        with naming(folder, "cannot be read"):
            files = filter(Path.is_file, folder.glob("*.tfevents.*"))
            self._existing = {key for path in files for key in self._read_keys(path)}
        name = f"events.out.tfevents.{int(time.time())}.{os.getpid()}.{os.urandom(4).hex()}"
        self._path = folder / name
        # Others could write to the file if it were made without a mode and the umask allowed it.
        with naming(self._path, "cannot be made"):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115
        self._waiting = b""
        self._add(self._event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, summary: Any, step: int, wall_time: Optional[float]) -> None:
        key = (summary.value[0].tag, step)
        if key not in self._existing:
            when = time.time() if wall_time is None else wall_time
            self._add(self._event(wall_time=when, step=step, summary=summary))

    def flush(self) -> None:
        data, self._waiting = self._waiting, b""
        with naming(self._path, "cannot be written"):
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
            os.stat(self._path)  # raises if the file was removed; writing to it would not raise

    def close(self) -> None:
        self._file.close()

    def _add(self, event: Any) -> None:
        data = event.SerializeToString()
        size = struct.pack("<Q", len(data))
        checksums = (struct.pack("<I", self._checksum(each)) for each in (size, data))
        self._waiting += b"".join((size, next(checksums), data, next(checksums)))

    def _read_keys(self, path: Path) -> Iterator[Tuple[str, int]]:
        """Yield the tag and the step of each record of a file, up to an incomplete record."""
        data = path.read_bytes()
        start = 0
        while start + 12 <= len(data):
            (size,) = struct.unpack_from("<Q", data, start)
            start += 12 + size + 4  # the length and the record are each followed by a checksum
            if start > len(data):
                return
            try:
                event = self._event.FromString(data[start - 4 - size : start - 4])
            except Exception:  # an exception type of the library; the rest cannot be read
                return
            for value in event.summary.value:
                yield value.tag, event.step


def _tag(name: str) -> str:
    """Return `train/...`, or `eval/...` for a name such as `eval_loss` or `evalLoss`."""
    found = re.fullmatch(r"eval(?:_|(?=[A-Z]))(.+)", name)
    return f"eval/{found[1][0].lower()}{found[1][1:]}" if found else f"train/{name}"
