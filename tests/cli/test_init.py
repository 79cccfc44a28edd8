"""`init`: what a new project holds, and what is kept of an old one."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest

from arkor_sync.cli import scaffold
from arkor_sync.cli.commands.init import TEMPLATES
from arkor_sync.errors import ArkorError, ArkorUsageError
from support.command_line import COMMAND, REPOSITORY, CommandLine

FILES = ["trainer.py", "test_trainer.py", "data/train.jsonl", "README.md", ".gitignore"]


def content_of(folder: Path) -> Dict[str, bytes]:
    """Read all files below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def write(folder: Path, template: str = "triage", name: str = "bot") -> Dict[str, str]:
    """Write a project, and return what was done with each path."""
    done = scaffold.write_project(folder, template, TEMPLATES[template], name)
    return {each["path"]: each["action"] for each in done}


def test_a_project_in_a_folder_that_is_made(nobody: CommandLine) -> None:
    ended = nobody("init", "new folder/my bot", "--template", "redaction")
    assert ended.stdout == "".join(f"created\t{path}\n" for path in FILES)
    assert ended.stderr == (
        "next: cd 'new folder/my bot' && arkor-sync emulator exec -- arkor-sync start\n"
    )
    folder = nobody.cwd / "new folder" / "my bot"
    assert sorted(content_of(folder)) == sorted(FILES)
    assert 'name="my-bot"' in (folder / "trainer.py").read_text("utf-8")
    assert (folder / ".gitignore").read_text().splitlines()[0] == ".arkor/"


def test_nothing_is_overwritten(nobody: CommandLine) -> None:
    (nobody.cwd / "data").mkdir()
    (nobody.cwd / "data" / "train.jsonl").write_text("mine")
    (nobody.cwd / "README.md").symlink_to("nowhere")
    (nobody.cwd / ".gitignore").write_text("*.pyc")
    ended = nobody("init", "--json")
    assert {each["path"]: each["action"] for each in ended.json} == {
        "trainer.py": "created",
        "test_trainer.py": "created",
        "data/train.jsonl": "kept",
        "README.md": "kept",
        ".gitignore": "changed",
    }
    assert (nobody.cwd / "data" / "train.jsonl").read_text() == "mine"
    assert not (nobody.cwd / "nowhere").exists()
    before = content_of(nobody.cwd)
    again = nobody("init")
    assert again.stdout == "".join(f"kept\t{path}\n" for path in FILES)
    assert again.stderr == "next: arkor-sync emulator exec -- arkor-sync start\n"
    other = nobody("init", "--template", "translate", code=2)
    assert other.stdout == again.stdout
    assert "is kept: it is what `arkor-sync start` runs, and not the trainer of" in other.stderr
    assert "next:" not in other.stderr
    assert content_of(nobody.cwd) == before


def test_what_belongs_to_the_trainer_of_the_template_is_not_put_beside_another(
    nobody: CommandLine,
) -> None:
    (nobody.cwd / "trainer.py").write_text("mine")
    (nobody.cwd / "data").write_text("no directory")
    (nobody.cwd / "README.md").write_text("mine")
    ended = nobody("init")
    assert ended.stdout.splitlines() == [
        "kept\ttrainer.py",
        "skipped\ttest_trainer.py",
        "skipped\tdata/train.jsonl",
        "kept\tREADME.md",
        "created\t.gitignore",
    ]
    assert ended.stderr == (
        "arkor-sync: trainer.py was here already and is kept: it is what `arkor-sync start` runs, "
        "and not the trainer of the template. Not written, as made for that one: test_trainer.py, "
        "data/train.jsonl. Give another DIRECTORY for a new project\n"
    )
    assert not (nobody.cwd / "test_trainer.py").exists()
    assert nobody("init", "--json", code=2).json[1]["action"] == "skipped"


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_trainer_that_cannot_be_read_is_another(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "trainer.py"
    path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    assert write(tmp_path)["test_trainer.py"] == "skipped"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--template", "poetry"], "'triage', 'translate', 'redaction'"),
        (["--name", "a b"], "name: got 'a b'; give a name of at most 60"),
        (["--name", '"]); import os'], "name: got"),
        (["file"], "file is no directory"),
        (["file/below"], "file is no directory"),
        (["link"], "link is no directory"),
        (["busy"], "busy/data is no directory"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    nobody: CommandLine, arguments: List[str], told: str
) -> None:
    (nobody.cwd / "file").write_text("mine")
    (nobody.cwd / "link").symlink_to("nowhere")
    (nobody.cwd / "busy").mkdir()
    (nobody.cwd / "busy" / "data").write_text("mine")
    before = content_of(nobody.cwd)
    ended = nobody("init", *arguments, code=2)
    assert ended.stdout == ""
    assert told in " ".join(ended.stderr.split())
    assert content_of(nobody.cwd) == before


def test_a_full_disk_leaves_nothing(nobody: CommandLine) -> None:
    """The shell limits the size of a file to 6 KiB, which the data do not fit in."""
    (nobody.cwd / ".gitignore").write_text("*.pyc")
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 6; exec "$@"', "bash", *COMMAND, "init", "new/bot"],
        capture_output=True,
        cwd=nobody.cwd,
        env=nobody.environment({"PYTHONDONTWRITEBYTECODE": "1"}),
        encoding="utf-8",
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "train.jsonl" in done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert "Errno" not in done.stderr
    assert "what was written before it was removed again" in done.stderr
    assert [path.name for path in nobody.cwd.iterdir()] == [".gitignore"]


def test_an_ignore_file_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").mkdir()
    with pytest.raises(ArkorError, match="removed again"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]


def test_what_cannot_be_removed_again_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    (tmp_path / ".gitignore").mkdir()
    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(ArkorError, match=r"/trainer\.py: Input/output error"):
        write(tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b".arkor/\n"),
        (b"*.pyc\n", b"*.pyc\n.arkor/\n"),
        (b"*.pyc", b"*.pyc\n.arkor/\n"),
        (b"a\r\nb", b"a\r\nb\r\n.arkor/\r\n"),
        (b"\xff\xfe\n", b"\xff\xfe\n.arkor/\n"),
        (b"!.arkor/\n", b"!.arkor/\n.arkor/\n"),
        (b"# .arkor/\n", b"# .arkor/\n.arkor/\n"),
        (b".arkor/", None),
        (b"/.arkor\r\n", None),
        (b"a\n  .arkor/ \nb\n", None),
        (b"**/.arkor/**\n", None),
    ],
)
def test_an_ignore_file_gains_one_line(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / ".gitignore"
    path.write_bytes(before)
    path.chmod(0o600)
    assert write(tmp_path)[".gitignore"] == ("kept" if after is None else "changed")
    assert path.read_bytes() == (before if after is None else after)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nobody_else_may_write_what_is_made(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write(tmp_path / "a" / "b")
    finally:
        os.umask(old)
    for path in (tmp_path / "a").rglob("*"):
        assert not path.stat().st_mode & 0o022, path


@pytest.mark.parametrize(
    ("folder", "given", "name"),
    [
        ("my bot", "", "my-bot"),
        ("-.a'b\"c.-", "", "a-b-c"),
        ("über_1.2", "", "über_1.2"),
        ("x" * 90, "", "x" * 60),
        ("...", "", "my-project"),
        ("anything", "v1.bot_2", "v1.bot_2"),
    ],
)
def test_a_project_has_the_name_of_its_folder(
    tmp_path: Path, folder: str, given: str, name: str
) -> None:
    assert scaffold.project_name(tmp_path / folder, given) == name


@pytest.mark.parametrize("name", ["-x", ".x", "a/b", "a\n", "x" * 61, "\x1b[31m"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArkorUsageError, match="name: got"):
        scaffold.project_name(tmp_path, name)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_complete(tmp_path: Path, template: str) -> None:
    write(tmp_path, template, "the-name")
    files = content_of(tmp_path)
    for path in ("trainer.py", "test_trainer.py"):
        ast.parse(files[path])
    records = [json.loads(line) for line in files["data/train.jsonl"].splitlines()]
    assert len(records) >= 40
    asked = {record["messages"][1]["content"] for record in records}
    assert len(asked) == len(records)
    text = "".join(content.decode("utf-8") for content in files.values())
    assert f"Trains a model that {TEMPLATES[template]}." in text
    assert 'name="the-name"' in text
    assert not re.search(r"TASK\b|PROJECT_NAME", text)
    assert "pip install pytest && python -m pytest" in text


@pytest.mark.parametrize("template", TEMPLATES)
def test_its_page_asks_the_model_as_a_record_does(tmp_path: Path, template: str) -> None:
    write(tmp_path, template, "the-name")
    page = (tmp_path / "README.md").read_text("utf-8")
    first = (tmp_path / "data" / "train.jsonl").read_text("utf-8").splitlines()[0]
    system, question, _ = (each["content"] for each in json.loads(first)["messages"])
    (chat,) = [line for line in page.splitlines() if line.startswith("arkor-sync chat")]
    assert shlex.split(chat) == ["arkor-sync", "chat", "the-name", "--system", system, question]


def test_the_templates_are_in_the_package_and_in_its_sources() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", "utf-8")
    patterns = setup["options.package_data"]["arkor_sync.cli"].split(", ")
    package = REPOSITORY / "arkor_sync" / "cli"
    found = [path for path in (package / "templates").iterdir() if path.name != "README.md"]
    assert len(found) == 3 + 2 * len(TEMPLATES)
    for path in found:
        assert any(path.match(pattern) for pattern in patterns), path
    assert "graft arkor_sync/cli/templates" in (REPOSITORY / "MANIFEST.in").read_text()
