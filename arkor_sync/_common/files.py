"""Files that several processes read and write at the same time. Any thread.

The rules, for every file that the package reads or writes as a whole:

* A write replaces the content of the file that a path leads to, and nothing else: a link stays a
  link, a FIFO or a device is written to, and a file keeps its mode, owner, group and access list.
* What is made can never be written by others, whatever the umask is.
* The content is on the disk before it gets the name of the file (fsync(2)).
* No FIFO and no device is waited for without a limit.
* An error of the system names the file and says what was being done; see `paths.naming`.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import select
import stat
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, ContextManager, Iterator, Optional, Tuple, Union

from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync._common.paths import (
    find_target,
    make_directory,
    naming,
    reason_of,
    sync_directory,
)

try:  # now: a program that gives up its rights may not be able to read the module later
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:
    _fcntl = None  # on Windows

STALL_LIMIT = 10.0
"""Seconds that a FIFO or a device may let a write or a read wait before the next bytes."""

READ_LIMIT = 64 * 1024 * 1024
"""Bytes that a file may have which is read as a whole."""

# Flags that not every system has.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_BINARY = getattr(os, "O_BINARY", 0)

# A file can be writable although no other can take its place: it is mounted, or its directory is
# read-only or belongs to another user.
_NOT_REPLACEABLE = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS)

_MAX_PREFIX = 48  # characters of a file's name in the name of its temporary file

_logger = get_logger("arkor_sync.credentials")  # whose directory is locked

_LOCK_INTERVAL = 0.02  # seconds between two attempts to lock


def write_atomically(
    path: Path, content: Union[str, bytes], mode: int, durable: bool = True
) -> None:
    """Replace the content of a file: a reader sees all of the old content or all of the new.

    The content is written in place, which is not atomic, if the path does not lead to a regular
    file, and if the file can be written but not replaced: it is mounted into a container, or its
    directory is read-only. Another hard link of a replaced file keeps the old content.

    Args:
        path: The file. Its directory is made if it is missing.
        content: Text is written in UTF-8, and a lone surrogate in it as its JSON escape.
        mode: Permission bits of a new file, before the umask. An old file keeps its own; but if
            `mode` gives nothing to group and others, it loses what it gave them.
        durable: Whether the new content must be there after a power cut. Without it, all of the old
            or all of the new is, and temporary files of killed processes are not looked for.

    Raises:
        OSError: It could not be written. No temporary file is left, and the old file is unchanged
            unless it is written in place.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    with naming(path, "cannot be written"):
        _write(path, content, mode, durable)


def _write(path: Path, content: bytes, mode: int, durable: bool) -> None:
    private = not mode & 0o077
    target, is_open_file = find_target(path)
    old = _status(target)
    if is_open_file or (old is not None and not stat.S_ISREG(old.st_mode)):
        _write_in_place(target, content, private, 0)
        return
    try:
        try:
            _replace(target, content, mode, old)
        except FileNotFoundError:
            make_directory(target.parent, 0o700 if private else 0o755)
            _replace(target, content, mode, old)
    except OSError as error:
        if old is None or error.errno not in _NOT_REPLACEABLE:
            raise
        _write_in_place(target, content, private, _NO_LINK)
    if durable:
        sync_directory(target.parent)
        remove_leftovers(target)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed writers of a file have left.

    A writer holds a lock on its temporary file, and the system releases it when the process ends.
    """
    leftover = re.compile(re.escape(path.name[:_MAX_PREFIX]) + r"\.\d+\.[0-9a-f]{16}\.tmp")
    with suppress(OSError):
        for found in filter(leftover.fullmatch, os.listdir(path.parent)):
            with (
                suppress(OSError),
                _opened(path.parent / found, os.O_RDWR | _NO_LINK) as descriptor,
            ):
                if try_lock(descriptor):
                    os.unlink(path.parent / found)


def read_file(path: Path) -> bytes:
    """Read a file as a whole.

    Raises:
        OSError: It cannot be read, has more than `READ_LIMIT` bytes, or is a FIFO or a device that
            sends nothing.
    """
    content = bytearray()
    with naming(path, "cannot be read"), _opened(path, os.O_RDONLY) as descriptor:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        while len(content) <= READ_LIMIT:
            if not is_regular:
                # Until a writer has opened a FIFO, reading returns its end at once.
                _wait_for(descriptor, "POLLIN")
            piece = os.read(descriptor, 1024 * 1024)
            if not piece:
                return bytes(content)
            content += piece
        raise OSError(errno.EFBIG, f"it has more than {READ_LIMIT} bytes")


def read_text(path: Path) -> str:
    """Read a text as a whole: UTF-8, or what its byte order mark says.

    Editors on Windows write that mark, and PowerShell UTF-16.

    Raises:
        OSError: It cannot be read; see `read_file`.
        ValueError: It is not encoded like this.
    """
    content = read_file(path)
    return content.decode(json.detect_encoding(content))


def keep_copy(path: Path) -> Path:
    """Copy a file to `NAME.bak`, for this user alone, before another replaces it; return the copy.

    An older copy is not replaced: then it is `NAME.bak.2`, or the next number.

    Raises:
        OSError: There is no file, or it cannot be copied.
    """
    content, copy, number = read_file(path), path.with_name(f"{path.name}.bak"), 1
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.name}.bak.{number}")
    write_atomically(copy, content, 0o600)
    return copy


def is_special(path: Path) -> bool:
    """Whether a path leads to a FIFO, a device or a socket."""
    status = _status(path)
    return status is not None and not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def write_special(path: Path, content: bytes) -> None:
    """Write to a FIFO or a device.

    Raises:
        OSError: It could not be written; nothing reads the FIFO.
    """
    with naming(path, "cannot be written"):
        _write_in_place(path, content, False, 0)


def _replace(target: Path, content: bytes, mode: int, old: Optional[os.stat_result]) -> None:
    with ExitStack() as opened:
        temporary, descriptor = _create_temporary(target, mode if old is None else 0o600)
        opened.callback(os.close, descriptor)
        try:
            if old is not None:
                _keep_attributes(descriptor, target, old, private=not mode & 0o077)
            _write_all(descriptor, content)
            os.fsync(descriptor)
            if os.name == "nt":
                opened.close()  # Windows does not rename an open file
            os.replace(temporary, target)
        except BaseException:
            opened.close()
            temporary.unlink(missing_ok=True)
            raise


def _create_temporary(target: Path, mode: int) -> Tuple[Path, int]:
    """Create a temporary file beside the target, and lock it; see `remove_leftovers`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _BINARY
    while True:
        name = f"{target.name[:_MAX_PREFIX]}.{os.getpid()}.{os.urandom(8).hex()}.tmp"
        temporary = target.with_name(name)
        descriptor = os.open(temporary, flags, mode)
        try:
            # Another process may have taken it for a leftover before it was locked.
            if try_lock(descriptor) and temporary.exists():
                return temporary, descriptor
        except OSError:
            return temporary, descriptor  # without locks no process removes leftovers
        os.close(descriptor)


def _keep_attributes(descriptor: int, target: Path, old: os.stat_result, *, private: bool) -> None:
    """Give a new file what the old one has, as far as the system allows it."""
    if os.name == "nt":
        return
    kept = stat.S_IMODE(old.st_mode) & (0o700 if private else 0o777)
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.chown(descriptor, old.st_uid, old.st_gid)
        except OSError:
            try:
                os.chown(descriptor, -1, old.st_gid)
            except OSError:
                kept &= ~0o070  # it is another group, which the old file gave nothing
    if not private and hasattr(os, "listxattr"):
        with suppress(OSError):
            for name in os.listxattr(target):  # the access list is one of them
                with suppress(OSError):
                    os.setxattr(descriptor, name, os.getxattr(target, name))
    with suppress(OSError):  # not every file system has modes
        os.chmod(descriptor, kept)


def _write_in_place(path: Path, content: bytes, private: bool, flags: int) -> None:
    with _opened(path, os.O_WRONLY | flags) as descriptor:
        status = os.fstat(descriptor)
        is_regular = stat.S_ISREG(status.st_mode)
        if is_regular and private and os.name != "nt":
            with suppress(OSError):
                os.chmod(descriptor, stat.S_IMODE(status.st_mode) & 0o700)
        _write_all(descriptor, content)
        if is_regular:
            # Only now: a process that is killed in between leaves more of a file than an empty one.
            os.ftruncate(descriptor, len(content))
            os.fsync(descriptor)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Open an existing file. A FIFO without a reader is an error (ENXIO), and not waited for."""
    descriptor = os.open(path, flags | _NO_WAIT | _BINARY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            _wait_for(descriptor, "POLLOUT")


def _wait_for(descriptor: int, event: str) -> None:
    poll = select.poll()
    poll.register(descriptor, getattr(select, event))
    if not poll.poll(STALL_LIMIT * 1000):
        raise TimeoutError(errno.ETIMEDOUT, f"it was not ready for {STALL_LIMIT:g} s")


def _status(path: Path) -> Optional[os.stat_result]:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def open_lock_file(path: Path) -> int:
    """Open a file that holds nothing but the id of the process which locks it; make it if needed.

    Somebody may have put a link or another file in its place, so that its content is lost. So a
    link is not followed, and it must be a regular file with one name and no other content.

    Returns:
        A descriptor, at the beginning of the file.

    Raises:
        OSError: It cannot be opened, or is something else.
    """
    with naming(path, "cannot be opened"):
        make_directory(path.parent, 0o700)
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, which is not followed here")
        flags = os.O_RDWR | os.O_CREAT | _NO_LINK | _NO_WAIT
        descriptor = os.open(path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise OSError(errno.EINVAL, "it is no regular file with one name")
            if not re.fullmatch(rb"\d{0,20}\n?", os.read(descriptor, 64)):
                raise OSError(errno.EINVAL, "it is no lock file: it has other content")
            os.lseek(descriptor, 0, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def try_lock(descriptor: int) -> bool:
    """Lock an open file, without waiting, until its description is closed (flock(2)).

    Returns:
        Whether it is locked now; False if another description of the file has the lock.

    Raises:
        OSError: It cannot be locked: the file system or the system has no such locks.
    """
    try:
        return _flock(descriptor, "LOCK_EX", "LOCK_NB")
    except BlockingIOError:
        return False


def _flock(descriptor: int, *operations: str) -> bool:
    if _fcntl is None:
        raise OSError(errno.ENOTSUP, "this system has no flock")
    _fcntl.flock(descriptor, sum(getattr(_fcntl, name) for name in operations))
    return True


def locked(directory: Path, patience: float) -> ContextManager[None]:
    """Lock a directory, for one thread of one process at a time.

    The directory is created if it is missing. No lock file is needed. Where the file system or the
    system has no such locks, nobody is kept out, and a warning says so.

    Args:
        directory: What to lock, until the returned context ends.
        patience: Seconds to wait for whoever has locked it. When they have passed, entering the
            context raises `TimeoutError`.

    Raises:
        OSError: The directory cannot be made or opened.
    """
    make_directory(directory, 0o700)
    if os.name == "nt":
        return nullcontext()  # Windows does not open a directory
    with naming(directory, "the directory {} cannot be opened"):
        descriptor = os.open(directory, os.O_RDONLY)
    return _hold_lock(descriptor, directory, patience)


@contextmanager
def _hold_lock(descriptor: int, directory: Path, patience: float) -> Iterator[None]:
    pid = os.getpid()
    try:
        try:
            _wait_for_lock(descriptor, directory, patience)
        except TimeoutError:
            raise
        except OSError as error:
            _logger.warning("%s cannot be locked: %s", directory, reason_of(error))
        yield
    finally:
        if os.getpid() == pid:  # in a forked child the lock is the parent's
            with suppress(OSError):  # closing is not enough: a forked child may have it open
                _flock(descriptor, "LOCK_UN")
        os.close(descriptor)


def _wait_for_lock(descriptor: int, directory: Path, patience: float) -> None:
    """Lock a file. The system's own wait for a lock has no limit (flock(2)), so this asks again."""
    deadline = Clock.now() + patience
    while not try_lock(descriptor):
        if Clock.now() >= deadline:
            raise TimeoutError(f"{directory} has been locked by another program for {patience:g} s")
        time.sleep(_LOCK_INTERVAL)
