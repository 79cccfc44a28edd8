"""Every error of a file names the file, what was being done, and the system's reason."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from arkor_sync._common import files
from arkor_sync._common.files import (
    keep_copy,
    locked,
    open_lock_file,
    read_file,
    read_text,
    write_atomically,
    write_special,
)
from arkor_sync._common.paths import absolute, make_directory, naming, reason_of

CALLS: Dict[str, Callable[[Path], Any]] = {
    "written": lambda path: write_atomically(path, "x", 0o644),
    "read": read_file,
    "read as a text": read_text,
    "opened": open_lock_file,
}
LONG = "n" * 300


def failing(call: Callable[[], Any]) -> OSError:
    with pytest.raises(OSError, match=r"\[Errno \d+\] ") as caught:
        call()
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), reason_of(again)) == (str(error), reason_of(error))
    return error


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dict[str, Path]:
    monkeypatch.chdir(tmp_path)
    Path("directory").mkdir()
    Path("file").write_text("")
    return {
        "a directory": Path("directory"),
        "below a file": Path("file", "x"),
        "a long name": Path(LONG),
        "a link to itself": Path("link"),
    }


@pytest.mark.parametrize("done", CALLS)
@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("a directory", errno.EISDIR),
        ("below a file", errno.ENOTDIR),
        ("a long name", errno.ENAMETOOLONG),
        ("a link to itself", errno.ELOOP),
    ],
)
def test_what_is_in_the_way_is_named(
    places: Dict[str, Path], tmp_path: Path, place: str, number: int, done: str
) -> None:
    (tmp_path / "link").symlink_to("link")
    error = failing(lambda: CALLS[done](places[place]))
    assert error.errno in (number, errno.EEXIST)  # a file in the place of the lock's directory
    text = str(error)
    assert text.startswith(f"[Errno {error.errno}] cannot be {done.partition(' ')[0]}: ")
    assert text.endswith(f": '{tmp_path / places[place]}'")
    assert ".tmp" not in text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("step", ["write", "fsync", "replace", "open"])
def test_a_disk_that_cannot_take_it_is_told_with_the_file_and_not_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    def fail(*given: Any, **_: Any) -> Any:
        raise OSError(number, os.strerror(number), *map(str, given[:1]))

    path = tmp_path / "report.html"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(f"arkor_sync._common.files.os.{step}", fail)
        error = failing(lambda: write_atomically(path, "new", 0o644))
    assert str(error) == f"[Errno {number}] cannot be written: {os.strerror(number)}: '{path}'"
    assert reason_of(error) == os.strerror(number)
    assert (error.filename, error.filename2) == (str(path), None)
    assert path.read_text() == "old"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_directory_that_cannot_be_made_is_named_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Any, _: int) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("os.mkdir", refuse)
    path = tmp_path / "a" / "b" / "x.csv"
    error = failing(lambda: write_atomically(path, "x", 0o644))
    reason = f"the directory {path.parent} cannot be made: {os.strerror(number)}"
    assert str(error) == f"[Errno {number}] cannot be written: {reason}: '{path}'"
    assert reason_of(error) == reason


def test_the_directory_of_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "below"
    error = failing(lambda: locked(below, 1.0))
    assert f"the directory {below} cannot be made: Not a directory" in str(error)
    error = failing(lambda: locked(tmp_path / "file", 1.0))
    assert f"the directory {tmp_path / 'file'} cannot be made: File exists" in str(error)


def test_a_copy_and_a_special_file_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "credentials.json"
    assert str(failing(lambda: keep_copy(missing))).endswith(f"'{missing}'")
    error = failing(lambda: write_special(missing, b"x"))
    assert str(error) == f"[Errno 2] cannot be written: No such file or directory: '{missing}'"


def test_a_file_that_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "READ_LIMIT", 3)
    (tmp_path / "x").write_text("long")
    error = failing(lambda: read_file(tmp_path / "x"))
    assert str(error).endswith(f"it has more than 3 bytes: '{tmp_path / 'x'}'")


def test_the_type_and_the_object_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nothing")
    raised = PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(PermissionError) as caught, naming(tmp_path, "cannot be read"):
        raise raised
    assert caught.value is raised
    other = TimeoutError("locked by another program")
    with pytest.raises(TimeoutError, match=r"^locked by another program$"), naming(tmp_path, "x"):
        raise other


def test_what_is_named_twice_by_the_same_words_says_it_once(tmp_path: Path) -> None:
    raised = OSError(errno.ENOSPC, "No space left on device")
    outer, inner = naming(tmp_path, "cannot be written"), naming(tmp_path, "cannot be written")
    with pytest.raises(OSError, match="No space") as caught, outer, inner:
        raise raised
    assert str(caught.value).count("cannot be written") == 1


def test_a_directory_can_be_named_when_the_working_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert absolute("x") == "x"
    assert str(failing(lambda: make_directory(Path("x", "y")))).endswith(" directory: 'x'")
