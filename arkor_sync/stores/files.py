"""Keeps cursors in files of one directory, for the processes of one machine. Any thread."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Optional, Union

from arkor_sync._common import process
from arkor_sync._common.files import (
    READ_LIMIT,
    open_lock_file,
    read_file,
    remove_leftovers,
    try_lock,
    write_atomically,
)
from arkor_sync._common.paths import absolute, file_name, reason_of
from arkor_sync.errors import CursorStoreError, LeaseHeldError
from arkor_sync.stores.base import SavedCursor, decode_cursor, encode_cursor


class FileCursorStore:
    """Keeps each job in a small JSON file, readable by its owner only.

    The file is replaced after every event. A process that is killed, at whatever moment, leaves the
    position of the last event that its callbacks finished with. After a power cut the position may
    be an older one, and events are delivered again.

    Args:
        directory: Where the files are; made when it is needed, for this user only. It must be on a
            local disk of a system that has flock(2), which Windows does not have.
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
            return decode_cursor(read_file(path))
        except FileNotFoundError:
            return SavedCursor()
        except OSError as error:
            raise _cannot_be("read", path, error) from error
        except CursorStoreError as error:
            raise CursorStoreError(f"{absolute(path)} cannot be used: {error}") from None
        except ValueError as error:
            raise CursorStoreError(
                f"{absolute(path)} is not a saved cursor ({error}); move it away to follow from "
                "the start"
            ) from error

    def save(self, job_id: str, saved: SavedCursor) -> None:
        """Replace the file.

        Raises:
            CursorStoreError: It could not be written, or a callback's state is not JSON; the old
                file is not changed.
        """
        path = self._path(job_id, "json")
        text = encode_cursor(job_id, saved)
        if len(text) > READ_LIMIT:
            raise CursorStoreError(
                f"the state of the callbacks of job {job_id} has {len(text):,} characters; at most "
                f"{READ_LIMIT:,} can be read again"
            )
        try:
            write_atomically(path, text, 0o600, durable=saved.finished)
        except OSError as error:
            lost = f"; the position after event {saved.acknowledged_id!r} is not saved"
            raise _cannot_be("written", path, error, lost) from error

    def lease(self, job_id: str) -> Callable[[], None]:
        """Lock the job's lock file until the returned function is called or the process ends.

        Raises:
            LeaseHeldError: It is locked; the message names the process.
            CursorStoreError: The file cannot be opened, locked or written; it is a link, or holds
                something else than the id of a process.
        """
        path = self._path(job_id, "lock")
        with ExitStack() as stack:
            lock_file = stack.enter_context(_LockFile())
            try:
                descriptor = lock_file.open(path)
            except (OSError, ValueError) as error:
                raise _cannot_be("opened", path, error) from error
            try:
                is_free = try_lock(descriptor)
            except OSError as error:
                advice = "; give a directory on a local disk, and on a system that has flock, "
                raise _cannot_be("locked", path, error, f"{advice}such as Linux") from error
            if not is_free:
                raise LeaseHeldError(
                    f"job {job_id} is followed already, by process {_holder(descriptor)} "
                    f"({absolute(path)}); end that one, or follow with a store of another directory"
                )
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"%d\n" % os.getpid())
            except OSError as error:
                raise _cannot_be("written", path, error) from error
            remove_leftovers(self._path(job_id, "json"))
            return stack.pop_all().close  # a second call does nothing

    def _path(self, job_id: str, suffix: str) -> Path:
        return self._directory / f"{file_name(job_id)}.{suffix}"


def _cannot_be(done: str, path: Path, error: Exception, more: str = "") -> CursorStoreError:
    return CursorStoreError(f"{absolute(path)} cannot be {done}: {reason_of(error)}{more}")


def _holder(descriptor: int) -> str:
    """Say which process has locked a lock file, and since when: it then writes its id."""
    pid = os.read(descriptor, 64).decode("ascii", "replace").strip() or "unknown"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(os.fstat(descriptor).st_mtime))
    return f"{pid} since {since}"


class _LockFile:
    """An open file whose lock is held until it is closed, in every process that has it open.

    So a forked child closes its copy at once. It does not unlock the file: that would end the lock
    of its parent.
    """

    def __init__(self) -> None:
        self._descriptor: Optional[int] = None
        process.register_hooks(self)

    def open(self, path: Path) -> int:
        self._descriptor = descriptor = open_lock_file(path)
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
