"""Files that are replaced as a whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Union

import pytest

from arkor_sync._common.files import write_atomically


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
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    write_atomically(path, "old", 0o600)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new", 0o600)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
