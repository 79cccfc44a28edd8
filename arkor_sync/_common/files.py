"""Small files that other processes may read or write at the same time. The caller's thread."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ContextManager, Iterator, Union


def write_atomically(
    path: Path, content: Union[str, bytes], mode: int, durable: bool = True
) -> None:
    """Replace a file by way of a temporary one, so that readers see the old or the new whole.

    Args:
        path: The file. Its directory is created on demand.
        content: Text is written as UTF-8, a lone surrogate in it as its JSON escape.
        mode: Permission bits of the file, before the umask.
        durable: Whether it must survive a power cut, and not only the end of the process.

    Raises:
        OSError: Nothing was replaced, and no temporary file is left.
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
    """Open a directory, made on demand, as a lock for one thread of one process at a time.

    No lock file is left behind. Where the file system has no locks, everybody gets in.

    Raises:
        OSError: The directory cannot be made or opened.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return _held(os.open(directory, os.O_RDONLY))


@contextmanager
def _held(descriptor: int) -> Iterator[None]:
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile holds it open
        os.close(descriptor)
