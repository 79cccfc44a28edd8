"""What the disk holds, for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from arkor_sync.studio import disk


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (123_456, "123 kB"),
        (5_000_000, "5.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (7_000_000_000_000, "7.0 TB"),
    ],
)
def test_a_size_for_people(size: int, text: str) -> None:
    assert disk.size_text(size) == text


def test_what_folders_hold_without_what_links_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "one").write_bytes(b"x" * 700)
    (folder / "below" / "two").write_bytes(b"x" * 800)
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    (folder / "below" / "link").symlink_to(tmp_path)
    facts = dict(disk.disk_facts([("here", folder), ("there", tmp_path / "there")]))
    assert facts["here"] == "1.5 kB"
    assert facts["there"] == "nothing there"
    assert "B" in facts["Free disk"]
    monkeypatch.setattr(disk, "_MOST", 1)
    assert disk.disk_facts([("here", folder)])[0][1] == "more than 700 B"
