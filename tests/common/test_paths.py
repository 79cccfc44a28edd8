"""Names that are made of ids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync._common.paths import file_name, make_directory, readable_name

ODD = [
    "../../victim",
    "/etc/passwd",
    "..",
    ".",
    "",
    "%",
    "a/b",
    "a_b",
    "a%2Fb",
    "a\\b",
    "C:\\x",
    "nul\0",
    "line\nbreak",
    "lone \ud800",
    "\udcff",
    "é" * 300,
    "x" * 300,
    "x" * 301,
    "x" * 200,
    "x" * 201,
    ".hidden",
    "\u202e",
]
EVERY_TEXT = st.text(st.characters() | st.sampled_from("./\\%\0\ud800\udcff"))


@pytest.mark.parametrize(
    "name", ["0192f3c4-7a5b-7c1d-9e2f-3a4b5c6d7e8f", "job_1", "a.b-c~d", "J" * 200]
)
def test_an_ordinary_id_is_its_own_name(name: str) -> None:
    assert file_name(name) == name


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_any_id_is_the_name_of_one_file(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{file_name(text)}.json").write_text("")
    (found,) = tmp_path.iterdir()
    assert found.name == f"{file_name(text)}.json"
    assert not found.name.startswith(".")


def test_other_ids_have_other_names() -> None:
    assert len(set(map(file_name, ODD))) == len(ODD)


@given(EVERY_TEXT, EVERY_TEXT)
def test_a_name_is_one_component_and_stands_for_one_id(one: str, other: str) -> None:
    for text in (one, other):
        name = file_name(text)
        assert name == os.path.basename(name) not in ("", ".", "..")
        assert len(name.encode("ascii")) <= 200
    assert (file_name(one) == file_name(other)) == (one == other)


@given(EVERY_TEXT)
def test_a_readable_name_is_one_component(text: str) -> None:
    name = readable_name(text)
    assert name == os.path.basename(name) not in ("", ".", "..")
    assert "\\" not in name
    assert "\0" not in name
    assert len(name.encode()) <= 200


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_directory(tmp_path / "file" / "below")
