"""Small files that several processes read and write at the same time. Any thread."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ContextManager, Iterator, Union

_LOCK_INTERVAL = 0.02  # seconds between two attempts to lock


def write_atomically(
    path: Path, content: Union[str, bytes], mode: int, durable: bool = True
) -> None:
    """Replace a file atomically: a reader sees all of the old content or all of the new.

    Args:
        path: The file. Its directory is created if it is missing.
        content: Text is written in UTF-8, and a lone surrogate in it as its JSON escape.
        mode: Permission bits of the file, before the umask.
        durable: Whether the new content must survive a power cut. It always survives the end of
            the process.

    Raises:
        OSError: It could not be written. The old file is unchanged, and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(8).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def locked(directory: Path, patience: float) -> ContextManager[None]:
    """Lock a directory, for one thread of one process at a time.

    The directory is created if it is missing. No lock file is needed. On a file system without
    locks nobody is kept out.

    Args:
        directory: What to lock, until the returned context ends.
        patience: Seconds to wait for whoever has locked it. When they have passed, entering the
            context raises `TimeoutError`.

    Raises:
        OSError: The directory cannot be made or opened.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return _hold_lock(os.open(directory, os.O_RDONLY), directory, patience)


@contextmanager
def _hold_lock(descriptor: int, directory: Path, patience: float) -> Iterator[None]:
    try:
        _wait_for_lock(descriptor, directory, patience)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(
                descriptor, fcntl.LOCK_UN
            )  # closing is not enough: a forked child may have it open
        os.close(descriptor)


def _wait_for_lock(descriptor: int, directory: Path, patience: float) -> None:
    """Lock a file. The system's own wait for a lock has no limit (flock(2)), so this asks again."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"{directory} has been locked by another program for {patience:g} s"
                ) from None
            time.sleep(_LOCK_INTERVAL)
        except OSError:
            return  # this file system has no locks
        else:
            return
