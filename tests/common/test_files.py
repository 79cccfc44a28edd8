"""Files that are replaced as a whole: what they lead to, and what they keep."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple, Union

import pytest

from arkor_sync._common import files, paths
from arkor_sync._common.files import (
    READ_LIMIT,
    is_special,
    keep_copy,
    locked,
    read_file,
    read_text,
    remove_leftovers,
    write_atomically,
)
from support.waiting import PATIENCE, Background, until


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refuse(number: int) -> Callable[..., None]:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def open_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ("Größe\n", "Größe\n".encode()),
        ("lone \ud800", b"lone \\ud800"),
        (b"\x89PNG\r\n\x00", b"\x89PNG\r\n\x00"),
        (b"", b""),
    ],
)
def test_text_and_bytes_are_written_as_they_are(
    tmp_path: Path, content: Union[str, bytes], written: bytes
) -> None:
    path = tmp_path / "made" / "file"
    for _ in range(2):
        write_atomically(path, content, 0o600)
        assert path.read_bytes() == written
    assert mode_of(path) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old", 0o600)
    monkeypatch.setattr("os.fsync", refuse(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new", 0o600)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [1, 100, 250, 255])
@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600"])
def test_a_name_may_be_as_long_as_the_file_system_allows(
    tmp_path: Path, length: int, letter: str
) -> None:
    path = tmp_path / (letter * max(1, length // len(letter.encode())))
    write_atomically(path, "new", 0o600)
    assert path.read_text() == "new"


# What a path leads to.


def test_a_link_stays_a_link_and_its_target_gets_the_content(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles" / "credentials.json"
    target.parent.mkdir()
    target.write_text("old")
    link = tmp_path / "home" / "credentials.json"
    link.parent.mkdir()
    link.symlink_to("../dotfiles/hop")
    (target.parent / "hop").symlink_to(target)
    write_atomically(link, "new", 0o600)
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert sorted(each.name for each in target.parent.iterdir()) == ["credentials.json", "hop"]
    assert list(link.parent.iterdir()) == [link]


def test_what_a_link_leads_to_is_made_if_it_is_missing(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("made/on/demand")
    write_atomically(link, "new", 0o644)
    assert link.is_symlink()
    assert (tmp_path / "made" / "on" / "demand").read_text() == "new"


def test_links_that_lead_to_each_other_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        write_atomically(tmp_path / "a", "new", 0o600)


ME, OTHER, THIRD = 1000, 2000, 3000


@pytest.mark.parametrize(
    ("link", "directory", "target", "followed"),
    [
        (ME, 0, 0, True),
        (ME, OTHER, OTHER, True),
        (0, 0, ME, True),
        (OTHER, OTHER, OTHER, True),  # a home directory in which root writes
        (OTHER, OTHER, ME, False),
        (OTHER, OTHER, 0, False),
        (OTHER, 0, OTHER, False),  # /tmp
        (OTHER, 0, ME, False),
        (OTHER, ME, OTHER, False),
        (OTHER, THIRD, OTHER, False),
    ],
)
def test_a_link_of_another_user_is_followed_only_to_a_file_of_that_user(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    link: int,
    directory: int,
    target: int,
    followed: bool,
) -> None:
    def owner_of(path: Path, *, follow_symlinks: bool = True) -> int:
        return directory if path == tmp_path else target if follow_symlinks else link

    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    monkeypatch.setattr(paths, "owner_of", owner_of)
    monkeypatch.setattr(paths, "_user_id", lambda: ME)
    if followed:
        write_atomically(tmp_path / "link", "new", 0o600)
    else:
        with pytest.raises(PermissionError, match="a link that another user made"):
            write_atomically(tmp_path / "link", "new", 0o600)
    assert (tmp_path / "target").read_text() == ("new" if followed else "old")
    assert (tmp_path / "link").is_symlink()


def test_a_fifo_is_written_to(fifo: Path) -> None:
    content = b"x" * 300_000  # more than a pipe holds
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    writer = Background(lambda: write_atomically(fifo, content, 0o644))
    with os.fdopen(reader, "rb") as file:
        until(lambda: is_readable(reader))
        assert file.read() == content
    writer.result()
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert list(fifo.parent.iterdir()) == [fifo]


def is_readable(descriptor: int) -> bool:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def test_a_fifo_that_nobody_reads_is_an_error_and_not_waited_for(fifo: Path) -> None:
    began = time.monotonic()
    with pytest.raises(OSError) as caught:
        write_atomically(fifo, "new", 0o644)
    assert caught.value.errno == errno.ENXIO
    assert time.monotonic() - began < files.STALL_LIMIT / 2
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_fifo_whose_reader_stands_still_is_given_up(
    fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "STALL_LIMIT", 0.05)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(TimeoutError, match=r"not ready for 0\.05 s"):
            write_atomically(fifo, b"x" * 300_000, 0o644)
    finally:
        os.close(reader)


def test_a_device_is_written_to(tmp_path: Path) -> None:
    terminal, device = os.openpty()
    try:
        link = tmp_path / "link"
        link.symlink_to(os.ttyname(device))
        write_atomically(link, "new\n", 0o600)
        assert os.read(terminal, 100) == b"new\r\n"
        assert is_special(link)
    finally:
        os.close(terminal)
        os.close(device)


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_the_standard_output_is_written_to(tmp_path: Path, kind: str) -> None:
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from arkor_sync._common.files import write_atomically\n"
        "write_atomically(Path(sys.argv[1]), 'new', 0o644)\n"
        "os.write(1, b'' if os.fstat(1).st_nlink else b'replaced')"
    )
    output = tmp_path / "output"
    with open(output, "wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "link")],
            stdout=file if kind == "file" else subprocess.PIPE,
            check=True,
            timeout=PATIENCE,
        )
    assert (output.read_bytes() if kind == "file" else done.stdout) == b"new"
    assert (tmp_path / "link").is_symlink()


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "directory", "new", 0o644)
    assert [each.name for each in tmp_path.iterdir()] == ["directory"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EPERM])
@pytest.mark.parametrize("content", ["new", "a longer one than before"])
def test_a_file_that_is_mounted_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, content: str
) -> None:
    path = tmp_path / "mounted"
    path.write_text("the old content")
    path.chmod(0o644)
    inode = path.stat().st_ino
    monkeypatch.setattr("os.replace", refuse(number))
    write_atomically(path, content, 0o600)
    assert path.read_text() == content
    assert path.stat().st_ino == inode
    assert mode_of(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_file_in_a_directory_that_is_read_only_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    open_file = os.open

    def no_new_file(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            refuse(number)()
        return open_file(path, flags, mode)

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr("os.open", no_new_file)
    write_atomically(path, "new", 0o600)
    assert path.read_text() == "new"
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomically(tmp_path / "another", "new", 0o600)


def test_what_takes_the_place_of_a_file_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "victim").write_text("precious")
    path = tmp_path / "file"
    path.write_text("old")

    def planted(*_: Any) -> None:
        path.unlink()
        path.symlink_to("victim")
        refuse(errno.EBUSY)()

    monkeypatch.setattr("os.replace", planted)
    with pytest.raises(OSError, match="Too many levels"):
        write_atomically(path, "new", 0o600)
    assert (tmp_path / "victim").read_text() == "precious"


def test_another_hard_link_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    os.link(tmp_path / "victim", tmp_path / "file")
    write_atomically(tmp_path / "file", "new", 0o644)
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "file").read_text() == "new"


# What a file keeps, and what is made.


@pytest.mark.parametrize(
    ("old", "given", "new"),
    [
        (0o600, 0o644, 0o600),
        (0o664, 0o644, 0o664),
        (0o440, 0o644, 0o440),
        (0o666, 0o644, 0o666),
        (0o600, 0o600, 0o600),
        (0o644, 0o600, 0o600),
        (0o400, 0o600, 0o400),
        (0o4755, 0o644, 0o755),
    ],
)
def test_a_file_keeps_its_mode_and_a_private_one_is_closed_again(
    tmp_path: Path, old: int, given: int, new: int
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(old)
    write_atomically(path, "new", given)
    assert (path.read_text(), oct(mode_of(path))) == ("new", oct(new))


@pytest.mark.parametrize(
    ("refused", "mode"), [([], 0o664), ([(1, 2)], 0o664), ([(1, 2), (-1, 2)], 0o604)]
)
def test_a_file_keeps_its_owner_and_its_group_where_that_is_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: List[Tuple[int, int]],
    mode: int,
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o664)
    given: List[Tuple[int, int]] = []

    def chown(descriptor: int, user: int, group: int) -> None:
        given.append((user, group))
        if (user, group) in refused:
            refuse(errno.EPERM)()

    def status(path: Path) -> os.stat_result:
        fields = list(os.stat(path))
        fields[4:6] = 1, 2
        return os.stat_result(fields)

    monkeypatch.setattr(files, "_status", status)
    monkeypatch.setattr("os.chown", chown)
    write_atomically(path, "new", 0o644)
    assert given == [(1, 2), (-1, 2)][: len(refused) + 1]
    assert oct(mode_of(path)) == oct(mode)


def test_a_file_keeps_its_access_list_and_a_private_one_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    given: List[Tuple[str, bytes]] = []
    monkeypatch.setattr("os.listxattr", lambda _: ["system.posix_acl_access"], raising=False)
    monkeypatch.setattr("os.getxattr", lambda *_: b"list", raising=False)
    monkeypatch.setattr("os.setxattr", lambda _, *pair: given.append(pair), raising=False)
    write_atomically(path, "new", 0o600)
    assert given == []
    write_atomically(path, "new", 0o644)
    assert given == [("system.posix_acl_access", b"list")]


@pytest.mark.parametrize(
    ("mode", "directory", "above"), [(0o600, 0o700, 0o755), (0o644, 0o755, 0o755)]
)
def test_what_is_made_cannot_be_written_by_others_whatever_the_umask_is(
    tmp_path: Path, open_umask: None, mode: int, directory: int, above: int
) -> None:
    path = tmp_path / "above" / "directory" / "file"
    write_atomically(path, "new", mode)
    made = (path, path.parent, path.parent.parent)
    assert [oct(mode_of(each)) for each in made] == [oct(mode), oct(directory), oct(above)]


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    write_atomically(tmp_path / "file", "new", 0o600)
    assert oct(mode_of(tmp_path)) == oct(0o775)


@pytest.mark.parametrize("durable", [True, False])
def test_the_content_is_on_the_disk_before_it_gets_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    steps: List[str] = []
    replace = os.replace

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        size = "directory" if stat.S_ISDIR(status.st_mode) else status.st_size
        steps.append(f"sync {size}")

    def replaced(*names: Any) -> None:
        steps.append("replace")
        replace(*names)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.replace", replaced)
    write_atomically(tmp_path / "file", "four", 0o600, durable)
    assert steps == ["sync 4", "replace", "sync directory"][: 3 if durable else 2]
    steps.clear()
    write_atomically(tmp_path / "a" / "b" / "file", "four", 0o600, durable)
    made = ["sync directory"] * 2  # the names of a and b
    assert steps[:4] == [*made, "sync 4", "replace"]


# What killed processes leave.

DIES = """
import os, signal, sys
from pathlib import Path
from arkor_sync._common.files import write_atomically

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, sys.argv[2], die)
write_atomically(Path(sys.argv[1]), "from the dead", 0o600)
"""

WAITS = """
import os, sys
from pathlib import Path
from arkor_sync._common.files import write_atomically
fsync = os.fsync

def wait(descriptor):
    print("written", flush=True)
    sys.stdin.readline()
    fsync(descriptor)

os.fsync = wait
write_atomically(Path(sys.argv[1]), "from the living", 0o600, durable=False)
"""


def leftovers(folder: Path) -> List[str]:
    return [each.name for each in folder.iterdir() if each.name.endswith(".tmp")]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "file"
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", DIES, str(path), moment], timeout=PATIENCE)
        assert died.returncode == -signal.SIGKILL
    strangers = ["file.tmp", "file.12.0123456789abcdef-0.tmp", "another.1.0123456789abcdef.tmp"]
    for stranger in strangers:
        (tmp_path / stranger).write_text("not ours")
    assert len(leftovers(tmp_path)) == 2 + len(strangers)
    write_atomically(path, "new", 0o600)
    assert sorted(leftovers(tmp_path)) == sorted(strangers)
    assert path.read_text() == "new"


def test_what_a_living_writer_has_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with subprocess.Popen(
        [sys.executable, "-c", WAITS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        write_atomically(path, "new", 0o600)
        remove_leftovers(path)
        assert path.read_text() == "new"
        assert len(leftovers(tmp_path)) == 1
        writer.communicate("go on\n", timeout=PATIENCE)
    assert writer.returncode == 0
    assert path.read_text() == "from the living"
    assert leftovers(tmp_path) == []


def test_a_temporary_file_that_was_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    lock, taken = files.try_lock, []

    def remove_first(descriptor: int) -> bool:
        if not taken:
            taken.append(leftovers(tmp_path)[0])
            (tmp_path / taken[0]).unlink()
        return lock(descriptor)

    monkeypatch.setattr(files, "try_lock", remove_first)
    write_atomically(path, "new", 0o600)
    assert len(taken) == 1
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_in_many_threads_do_not_take_each_others_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [str(number) * 1000 for number in range(4)]
    barrier = threading.Barrier(len(contents))

    def write(content: str) -> None:
        barrier.wait(PATIENCE)
        for _ in range(25):
            write_atomically(path, content, 0o600)
            assert path.read_text() in contents

    writers = [Background(write, content) for content in contents]
    for writer in writers:
        writer.result()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("fcntl.flock", refuse(number))
    write_atomically(tmp_path / "file", "new", 0o600)
    assert (tmp_path / "file").read_text() == "new"


# Reading.


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"\xfe\xff\x00{\x00}",
        "{}".encode("utf-32"),
        b"{}",
    ],
)
def test_a_byte_order_mark_says_how_a_text_is_encoded(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_text(tmp_path / "file") == "{}"


def test_a_fifo_is_read_to_its_end(fifo: Path) -> None:
    content = b"x" * 300_000
    writer = Background(lambda: fifo.write_bytes(content))
    assert read_file(fifo) == content
    writer.result()


def test_a_fifo_that_nobody_writes_to_is_given_up(
    fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "STALL_LIMIT", 0.05)
    with pytest.raises(TimeoutError, match="not ready"):
        read_file(fifo)


def test_no_file_is_read_without_a_limit(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"more than {READ_LIMIT} bytes"):
        read_file(Path("/dev/zero"))
    with open(tmp_path / "file", "wb") as file:
        file.truncate(READ_LIMIT)
    assert len(read_file(tmp_path / "file")) == READ_LIMIT


def test_a_file_that_cannot_be_used_is_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"\xff{")
    copy = keep_copy(path)
    assert copy == tmp_path / "state.json.bak"
    assert (copy.read_bytes(), oct(mode_of(copy))) == (b"\xff{", oct(0o600))
    path.write_bytes(b"second")
    assert keep_copy(path) == tmp_path / "state.json.bak.2"
    path.write_bytes(b"third")
    assert keep_copy(path) == tmp_path / "state.json.bak.3"
    kept = [each.read_bytes() for each in sorted(tmp_path.glob("state.json.bak*"))]
    assert kept == [b"\xff{", b"second", b"third"]


# Locks of directories.


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EIO])
def test_a_directory_that_cannot_be_locked_says_why_and_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr("fcntl.flock", refuse(number))
    with locked(tmp_path, 1.0):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path} cannot be locked: {os.strerror(number)}"
    ]


def test_a_directory_that_is_locked_is_made_for_its_owner(tmp_path: Path, open_umask: None) -> None:
    with locked(tmp_path / "made", 1.0):
        assert oct(mode_of(tmp_path / "made")) == oct(0o700)
