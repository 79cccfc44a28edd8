"""Cursors in files of one directory, for the processes of one machine.

`load` and `lease` run on the thread that begins to follow, `save` on the run's worker thread.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, Callable, Union
from urllib.parse import quote

from arkor_sync._common.files import write_atomically
from arkor_sync._common.json import dump_json, parse_json
from arkor_sync.errors import CursorStoreError, LeaseHeldError
from arkor_sync.stores.base import SavedCursor


class FileCursorStore:
    """Keeps each job in a small JSON file, readable by its owner only.

    A file is replaced after every event, so a process that is killed at any moment leaves the
    position of the last event that its callbacks were done with. After a power cut it may be an
    older one, and events come again.

    Args:
        directory: Where the files are; made on demand. It must be on a local disk.
    """

    def __init__(self, directory: Union[str, os.PathLike[str]]) -> None:
        self._directory = Path(directory)

    def __repr__(self) -> str:
        return f"FileCursorStore({str(self._directory)!r})"

    def load(self, job_id: str) -> SavedCursor:
        """Return what was saved last, or an empty `SavedCursor`.

        Raises:
            CursorStoreError: The file cannot be read, or is not one of ours. It is left as it is.
        """
        path = self._path(job_id, "json")
        try:
            saved = parse_json(path.read_bytes())
            cursor = SavedCursor(
                acknowledged_id=_expect(saved["acknowledgedId"], str, type(None)),
                delivered=_expect(saved["delivered"], int),
                opening=_expect(saved["opening"], list),
                finished=_expect(saved["finished"], bool),
                state=_expect(saved["state"], dict),
            )
        except FileNotFoundError:
            return SavedCursor()
        except OSError as error:
            raise CursorStoreError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CursorStoreError(
                f"{path} is not a saved cursor ({error}); move it away to follow from the start"
            ) from error
        return cursor

    def save(self, job_id: str, saved: SavedCursor) -> None:
        """Replace the file.

        Raises:
            CursorStoreError: It could not be written; the old one is untouched.
        """
        path = self._path(job_id, "json")
        document = {
            "jobId": job_id,
            "acknowledgedId": saved.acknowledged_id,
            "delivered": saved.delivered,
            "opening": list(saved.opening),
            "finished": saved.finished,
            "state": saved.state,
        }
        try:
            text = dump_json(document)
        except (TypeError, ValueError) as error:
            raise CursorStoreError(f"a callback's state_dict() is not JSON: {error}") from error
        try:
            write_atomically(path, text, 0o600, durable=saved.finished)
        except OSError as error:
            raise CursorStoreError(
                f"{path} cannot be written: {error.strerror}; the events after "
                f"{saved.acknowledged_id!r} will come again"
            ) from error

    def lease(self, job_id: str) -> Callable[[], None]:
        """Lock the job's lock file until the returned function is called or the process ends.

        Raises:
            LeaseHeldError: It is locked; the message names the process.
            CursorStoreError: The file cannot be opened or written.
        """
        path = self._path(job_id, "lock")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CursorStoreError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise LeaseHeldError(
                f"job {job_id} is followed already, by process {holder} ({path})"
            ) from error
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        except OSError as error:
            os.close(descriptor)
            raise CursorStoreError(f"{path} cannot be written: {error.strerror}") from error
        return _Once(lambda: os.close(descriptor))

    def _path(self, job_id: str, suffix: str) -> Path:
        return self._directory / f"{quote(job_id, safe='')}.{suffix}"


class _Once:
    """Calls a function the first time it is called itself."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._functions = [function]

    def __call__(self) -> None:
        while self._functions:
            self._functions.pop()()


def _expect(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"{value!r:.40} in place of {kinds[0].__name__}")
    return value
