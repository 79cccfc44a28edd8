"""Small files that several processes read and write at the same time. Any thread."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ContextManager, Iterator, Union


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


def locked(directory: Path) -> ContextManager[None]:
    """Lock a directory, for one thread of one process at a time.

    The directory is created if it is missing. No lock file is needed. On a file system without
    locks nobody is kept out.

    Args:
        directory: What to lock, until the returned context ends.

    Raises:
        OSError: The directory cannot be made or opened.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return _hold_lock(os.open(directory, os.O_RDONLY))


@contextmanager
def _hold_lock(descriptor: int) -> Iterator[None]:
    pid = os.getpid()
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if os.getpid() == pid:  # in a forked child the lock is the parent's
            with suppress(OSError):  # closing is not enough: a forked child may have it open
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
