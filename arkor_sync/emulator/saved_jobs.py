"""The directory in which an emulator keeps its jobs when it ends. Any thread.

* `emulator.json`: the ids of the user, the orgs and the projects
* `emulator.lock`: locked while an emulator uses the directory
* `<job id>/job.json`: the job's record
* `<job id>/events.jsonl`: the job's log, a line for each entry, in the format of a recording

What the job's engine saves is beside the two.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Tuple

from arkor_sync.emulator.http.messages import decode_json
from arkor_sync.emulator.models import Frame, LogEntry, Project, StoredJob

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:
    _fcntl = None  # on Windows, where two emulators are not kept apart

FORMAT = 1
"""The version of the format, which each JSON file names. A file of a newer one is refused."""

IDS = ("user", "org", "secondOrg")
"""What the ids in `emulator.json` are of."""


class SavedJobs:
    """The files of one directory. All are made for the user alone (0600).

    Args:
        directory: It is created if there is none, and locked until `close`.
        report_error: Called with the error when a record cannot be written. What the events tell
            is then not lost: the record is made up from them when it is read.

    Raises:
        ValueError: Another emulator uses the directory, or a file in it is malformed or was
            written by a newer version. No file has been changed.
        OSError: The directory cannot be created, or a file cannot be read.

    Attributes:
        jobs: The jobs that an earlier emulator left, the oldest first, without an engine. Their
            records may lag behind their logs.
    """

    def __init__(self, directory: Path, report_error: Callable[[BaseException], None]) -> None:
        self._directory = directory
        self._report_error = report_error
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(directory)
        try:
            self._ids, self._projects = _read_identity(directory / "emulator.json")
            read = [_read_job(path.parent) for path in directory.glob("*/job.json")]
        except BaseException:
            self.close()
            raise
        for job, size in read:
            if size is not None:
                os.truncate(_events(job), size)
        self.jobs = sorted((job for job, _ in read), key=lambda job: job.created_at)

    def close(self) -> None:
        """Unlock the directory. Nothing is written afterwards."""
        self._lock.close()

    def identity(
        self, ids: Dict[str, str], projects: List[Project]
    ) -> Tuple[Dict[str, str], List[Project]]:
        """Return the ids and the projects that are kept; those given, if there are none yet.

        Raises:
            OSError: There are none yet, and they cannot be written.
        """
        if not self._ids:
            self._ids, self._projects = ids, projects
            _write(self._directory / "emulator.json", self._emulator(projects))
        return self._ids, self._projects

    def keep_projects(self, projects: List[Project]) -> None:
        """Keep these projects instead of those that are kept."""
        self._try_to_write(self._directory / "emulator.json", self._emulator(projects))

    def add(self, job: StoredJob) -> None:
        """Keep a new job.

        Raises:
            OSError: It cannot be written. Nothing is left of it.
        """
        try:
            job.directory.mkdir(mode=0o700)
            _write(job.directory / "job.json", _record(job))
        except BaseException:
            shutil.rmtree(job.directory, ignore_errors=True)
            raise

    def update(self, job: StoredJob) -> None:
        """Keep a job's record as it is now."""
        self._try_to_write(job.directory / "job.json", _record(job))

    def append(self, job: StoredJob, entry: LogEntry) -> None:
        """Keep one more entry of a job's log.

        Raises:
            OSError: It cannot be written. The file is as it was before.
        """
        if self._lock.closed:
            return
        line = json.dumps(_line_of(entry)).encode() + b"\n"
        path = _events(job)
        try:
            with open(path, "ab", buffering=0, opener=_private) as file:
                size = file.tell()
                try:
                    while line:  # a disk that gets full takes a part, and then says why
                        line = line[file.write(line) :]
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(size)
                    raise
        except OSError as error:
            error.filename = error.filename or str(path)  # that of a full disk names no file
            raise

    def delete(self, job: StoredJob) -> None:
        """Delete a job and what its engine has saved."""
        try:
            # First, since a job without it is none, whatever else is left.
            (job.directory / "job.json").unlink(missing_ok=True)
        except OSError as error:
            self._report_error(error)
        shutil.rmtree(job.directory, ignore_errors=True)

    def _emulator(self, projects: List[Project]) -> Dict[str, Any]:
        return {"ids": self._ids, "projects": [asdict(project) for project in projects]}

    def _try_to_write(self, path: Path, content: Dict[str, Any]) -> None:
        if self._lock.closed:
            return
        try:
            _write(path, content)
        except OSError as error:
            self._report_error(error)


def _locked(directory: Path) -> BinaryIO:
    file: BinaryIO = open(  # noqa: SIM115  it stays open
        directory / "emulator.lock", "ab", opener=_private
    )
    try:
        if _fcntl is not None:
            _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(
            f"another emulator uses the state directory {directory}: stop it, or give another one"
        ) from None
    except OSError:
        file.close()
        raise
    return file


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _events(job: StoredJob) -> Path:
    return job.directory / "events.jsonl"


def _record(job: StoredJob) -> Dict[str, Any]:
    return {
        **job.wire(),
        "engine": job.trained_by,
        "savedSteps": sorted(job.saved_steps),
        "streamEnded": job.ended,
    }


def _write(path: Path, content: Dict[str, Any]) -> None:
    """Replace a JSON file as a whole."""
    unfinished = path.with_suffix(".tmp")
    try:
        with open(unfinished, "w", encoding="utf-8", opener=_private) as file:
            json.dump({"format": FORMAT, **content}, file, indent=2)
        os.replace(unfinished, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _read(path: Path) -> Dict[str, Any]:
    try:
        content = decode_json(path.read_bytes())
        version = content["format"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a file of a local Arkor's state") from None
    if version != FORMAT:
        raise ValueError(
            f"{path} has the format {version!r}, and this version of arkor_sync reads {FORMAT}: "
            "use the version that wrote it, or another state directory"
        )
    assert isinstance(content, dict)
    return content


def _read_identity(path: Path) -> Tuple[Dict[str, str], List[Project]]:
    if not path.exists():
        return {}, []
    content = _read(path)
    try:
        first, *others = [Project(**each) for each in content["projects"]]
        return {name: content["ids"][name] for name in IDS}, [first, *others]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} does not tell the ids of a local Arkor") from None


def _read_job(directory: Path) -> Tuple[StoredJob, Optional[int]]:
    """Read a job and its log.

    Returns:
        The job; and where the last line of its log begins, if it was not written to its end.
    """
    path = directory / "job.json"
    record = _read(path)
    try:
        if record["id"] != directory.name:  # a copy
            raise ValueError(f"its id is {record['id']!r}")
        job = StoredJob(
            id=record["id"],
            org_id=record["orgId"],
            project_id=record["projectId"],
            name=record["name"],
            config=record["config"],
            created_at=record["createdAt"],
            directory=directory,
            status=record["status"],
            error=record["error"],
            started_at=record["startedAt"],
            completed_at=record["completedAt"],
            saved_steps=set(record["savedSteps"]),
            trained_by=record["engine"],
            ended=record["streamEnded"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the record of the job {directory.name}: {error}") from None
    log = _events(job)
    *lines, torn = log.read_bytes().split(b"\n") if log.exists() else [b""]
    for number, line in enumerate(lines, start=1):
        try:
            job.log.append(_entry_of(decode_json(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{log}: line {number} is not an entry of a log") from None
    return job, sum(len(line) + 1 for line in lines) if torn else None


def _line_of(entry: LogEntry) -> Dict[str, Any]:
    if entry.frame is None:
        return {"raw": entry.raw.decode("latin-1")}
    return {"id": entry.frame.id, "event": entry.frame.name, "data": entry.frame.data}


def _entry_of(line: Dict[str, Any]) -> LogEntry:
    if "raw" in line:
        return LogEntry(raw=line["raw"].encode("latin-1"))
    return LogEntry(Frame(line["data"], line["id"], line["event"]))
