"""Paths of files: names made of ids, links, and directories that are made on demand. Any thread."""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Iterator, Tuple, Union
from urllib.parse import quote

_MAX_NAME = 200  # bytes of a name; file systems allow 255, and a suffix must fit too
_MAX_LINKS = 40  # as Linux


def file_name(text: str) -> str:
    """Convert an id, which may be any text, to a name for a file or a directory.

    The name is one component of a path and never `.`, `..` or hidden. Other texts have other names.
    An id of ASCII letters, digits, `-`, `_`, `~` and inner dots is its own name.
    """
    name = quote(text, safe="", errors="surrogatepass")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > _MAX_NAME:
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        name = f"{name[: _MAX_NAME - 33]}-{digest}"
    return name or "%"  # no other name ends in a bare percent sign


def readable_name(text: str) -> str:
    """Convert a text to a name for a file that people can read. Other texts may have the same."""
    name = re.sub(r"[^\w.-]+", "_", text).lstrip(".") or "_"
    return name.encode()[:_MAX_NAME].decode(errors="ignore")


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory and those above it, if they are missing. The others are not changed.

    Args:
        path: The directory.
        mode: Permission bits of this directory, before the umask. Those above it get 0755. Neither
            is ever writable by others, whatever the umask is.

    Raises:
        OSError: It cannot be made, or is no directory.
    """
    try:
        _make_one(path, mode)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_directory(path.parent)
        _make_one(path, mode)


def _make_one(path: Path, mode: int) -> None:
    try:
        with naming(path, "the directory {} cannot be made"):
            os.mkdir(path, mode)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Write the names in a directory to the disk, where the system can do that (fsync(2))."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def find_target(path: Path) -> Tuple[Path, bool]:
    """Follow the links of the last component of a path.

    A link that this user or root made is followed. A link of another user is followed if its
    directory and the file belong to that user too: it may not lead to a file of anybody else, and
    nobody may put one into a directory that all may write to (`protected_symlinks` in proc(5)).

    Returns:
        The path that the links lead to, which may not exist; and whether it leads through a link
        of `/proc` to an open file, such as `/dev/stdout`. No path of such a file is known.

    Raises:
        OSError: A link of another user, or links that lead to each other.
    """
    for _ in range(_MAX_LINKS):
        if not path.is_symlink():
            return path, False
        if os.path.realpath(path.parent).startswith("/proc/"):
            return path, True
        owner = owner_of(path, follow_symlinks=False)
        if owner not in (0, _user_id()) and {owner} != {owner_of(path.parent), owner_of(path)}:
            raise PermissionError(errno.EACCES, "it is a link that another user made", str(path))
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def owner_of(path: Path, *, follow_symlinks: bool = True) -> int:
    """Return the id of the user whom a file or a directory belongs to; on Windows always 0."""
    return os.stat(path, follow_symlinks=follow_symlinks).st_uid


def _user_id() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


@contextmanager
def naming(path: Path, problem: str) -> Iterator[None]:
    """Have every error of the system that is raised here name the file and what was being done.

    The error stays the same object, of the same type. Its text becomes
    `[Errno 28] cannot be written: No space left on device: '/data/report.html'`.

    Args:
        path: The file, as the program knows it: not the temporary file or what a link leads to.
        problem: What could not be done, such as "cannot be written"; `{}` in it is the file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and not str(error.strerror).startswith(f"{problem}: "):
            name = absolute(path)
            error.bare_reason = error.strerror  # type: ignore[attr-defined]
            error.strerror = f"{problem.replace('{}', name)}: {error.strerror}"
            error.args = (error.errno, error.strerror)  # what pickle keeps
            error.filename = name
            del error.filename2
        raise


def absolute(path: Union[str, os.PathLike[str]]) -> str:
    """Return an absolute path for a message, also where the working directory was removed."""
    try:
        return os.path.abspath(path)
    except OSError:
        return str(path)


def reason_of(error: Exception) -> str:
    """Return why a file could not be read or written, without its path and what was being done."""
    reason = getattr(error, "bare_reason", None) or getattr(error, "strerror", None)
    return reason or str(error) or type(error).__name__


def file_and_reason(error: Exception) -> str:
    """Return the text of an error for people: the number of an error of the system helps nobody."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
