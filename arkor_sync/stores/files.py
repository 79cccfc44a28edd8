"""Keeps cursors in files of one directory, for the processes of one machine. Any thread."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Optional, Union
from urllib.parse import quote

from arkor_sync._common import process
from arkor_sync._common.files import write_atomically
from arkor_sync.errors import CursorStoreError, LeaseHeldError
from arkor_sync.stores.base import SavedCursor, decode_cursor, encode_cursor


class FileCursorStore:
    """Keeps each job in a small JSON file, readable by its owner only.

    The file is replaced after every event. A process that is killed, at whatever moment, leaves the
    position of the last event that its callbacks finished with. After a power cut the position may
    be an older one, and events are delivered again.

    Args:
        directory: Where the files are; made when it is needed. It must be on a local disk.
    """

    def __init__(self, directory: Union[str, os.PathLike[str]]) -> None:
        self._directory = Path(directory)

    def __repr__(self) -> str:
        return f"FileCursorStore({str(self._directory)!r})"

    def load(self, job_id: str) -> SavedCursor:
        """Return what was saved last, or an empty `SavedCursor`.

        Raises:
            CursorStoreError: The file cannot be read, or is not a saved cursor. It is not changed.
        """
        path = self._path(job_id, "json")
        try:
            return decode_cursor(path.read_bytes())
        except FileNotFoundError:
            return SavedCursor()
        except OSError as error:
            raise CursorStoreError(f"{path} cannot be read: {error.strerror}") from error
        except CursorStoreError as error:
            raise CursorStoreError(f"{path} cannot be used: {error}") from None
        except ValueError as error:
            raise CursorStoreError(
                f"{path} is not a saved cursor ({error}); move it away to follow from the start"
            ) from error

    def save(self, job_id: str, saved: SavedCursor) -> None:
        """Replace the file.

        Raises:
            CursorStoreError: It could not be written, or a callback's state is not JSON; the old
                file is not changed.
        """
        path = self._path(job_id, "json")
        text = encode_cursor(job_id, saved)
        try:
            write_atomically(path, text, 0o600, durable=saved.finished)
        except OSError as error:
            raise CursorStoreError(
                f"{path} cannot be written: {error.strerror}; the events after "
                f"{saved.acknowledged_id!r} will be delivered again"
            ) from error

    def lease(self, job_id: str) -> Callable[[], None]:
        """Lock the job's lock file until the returned function is called or the process ends.

        Raises:
            LeaseHeldError: It is locked; the message names the process.
            CursorStoreError: The file cannot be opened or written.
        """
        path = self._path(job_id, "lock")
        with ExitStack() as stack:
            lock_file = stack.enter_context(_LockFile())
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                descriptor = lock_file.open(path)
            except OSError as error:
                raise CursorStoreError(f"{path} cannot be opened: {error.strerror}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(descriptor, 64).decode("ascii", "replace").strip() or "unknown"
                raise LeaseHeldError(
                    f"job {job_id} is followed already, by process {holder} ({path})"
                ) from error
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"%d\n" % os.getpid())
            except OSError as error:
                raise CursorStoreError(f"{path} cannot be written: {error.strerror}") from error
            return stack.pop_all().close  # a second call does nothing

    def _path(self, job_id: str, suffix: str) -> Path:
        return self._directory / f"{quote(job_id, safe='')}.{suffix}"


class _LockFile:
    """An open file whose lock is held until it is closed, in every process that has it open.

    So a forked child closes its copy at once. It does not unlock the file: that would end the lock
    of its parent.
    """

    def __init__(self) -> None:
        self._descriptor: Optional[int] = None
        process.register_hooks(self)

    def open(self, path: Path) -> int:
        self._descriptor = descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        return descriptor

    def __enter__(self) -> _LockFile:
        return self

    def __exit__(self, *_: object) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    after_fork = __exit__

    def at_exit(self, timeout: float) -> None:
        """Do nothing: the end of the process closes it."""
