"""Writes a starter project from the files in `cli/templates`. Runs on the caller's thread."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Callable, Dict, List

from arkor_sync._common.files import read_file, write_atomically
from arkor_sync._common.paths import file_and_reason, naming
from arkor_sync.errors import ArkorError, ArkorUsageError

_NAME = re.compile(r"\w[\w.-]{0,59}")
_WANTED = "a name of at most 60 letters, digits, `.`, `-` and `_`, which begins with no `.` or `-`"
TRAINER = "trainer.py"
_IGNORE_FILE = ".gitignore"
_IGNORED = b".arkor/"
_IGNORE_ALL = b".arkor/\n__pycache__/\n.pytest_cache/\n"
_IGNORES = re.compile(rb"(\*\*)?/?\.arkor/?(\*\*?)?")  # lines that ignore the folder already


def project_name(directory: Path, given: str) -> str:
    """Return the name of a project: what was given, else one made of its folder's name.

    Raises:
        ArkorUsageError: It cannot be a name.
    """
    if given:
        if not _NAME.fullmatch(given):
            raise ArkorUsageError(f"name: got {given!r}; give {_WANTED}")
        return given
    made = re.sub(r"[^\w.-]+", "-", directory.resolve().name).strip("-.")[:60]
    return made or "my-project"


def write_project(directory: Path, template: str, task: str, name: str) -> List[Dict[str, str]]:
    """Write what a project lacks, and nothing over what it has.

    The other files of the template belong to its trainer: they are not written to a folder that has
    another `trainer.py`.

    Args:
        directory: The folder. It is made if it is missing, with those above it.
        template: Its name.
        task: What its model does.
        name: The name of its job.

    Returns:
        What was done with each path, which is relative to the folder: `created`, `changed`,
        `kept`, or `skipped`: it is not there and was not written.

    Raises:
        ArkorUsageError: It cannot be written there; nothing was written.
        ArkorError: Something could not be written; what was written before it was removed again.
    """
    files = _files(template, task, name)
    skipped = set()
    if has_another_trainer(directory, template, task, name):
        skipped = {path for path in files if not os.path.lexists(directory / path)}
    for folder in {
        directory,
        *((directory / path).parent for path in files if path not in skipped),
    }:
        _check_folder(folder)
    done: List[Dict[str, str]] = []
    undo: List[Callable[[], None]] = []
    try:
        for path, content in files.items():
            action = "skipped" if path in skipped else _create(directory / path, content, undo)
            done.append({"action": action, "path": path})
        done.append({"action": _ignore(directory / _IGNORE_FILE, undo), "path": _IGNORE_FILE})
    except OSError as error:
        raise ArkorError(f"{file_and_reason(error)}; {_undo(undo)}") from error
    except BaseException:
        _undo(undo)
        raise
    return done


def _files(template: str, task: str, name: str) -> Dict[str, bytes]:
    from importlib.resources import files

    folder = files("arkor_sync.cli") / "templates"
    data = (folder / f"{template}.jsonl").read_bytes()
    system, message, *_ = json.loads(data.splitlines()[0])["messages"]
    words = {  # TASK is a part of those before it
        b"QUESTIONS_OF_THE_TASK": (folder / f"{template}.py.txt").read_bytes().strip(),
        b"SYSTEM_OF_THE_TASK": system["content"].encode(),
        b"MESSAGE_OF_THE_TASK": message["content"].encode(),
        b"TASK": task.encode(),
        b"PROJECT_NAME": name.encode(),
    }

    def filled(file: str) -> bytes:
        text = (folder / file).read_bytes()
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        return text

    return {
        TRAINER: filled("trainer.py.txt"),
        "test_trainer.py": filled("test_trainer.py.txt"),
        "data/train.jsonl": data,
        "README.md": filled("README.md.txt"),
    }


def has_another_trainer(directory: Path, template: str, task: str, name: str) -> bool:
    """Whether a folder has a `trainer.py` that is not the template's."""
    path = directory / TRAINER
    try:
        return os.path.lexists(path) and read_file(path) != _files(template, task, name)[TRAINER]
    except OSError:
        return True  # a directory, or nobody may read it


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be one: itself, or what it is in, is something else."""
    for each in (folder, *folder.parents):
        if each.is_dir():
            return
        if os.path.lexists(each):
            raise ArkorUsageError(f"{each} is no directory; give another one")


def _create(path: Path, content: bytes, undo: List[Callable[[], None]]) -> str:
    _make_folder(path.parent, undo)
    with naming(path, "cannot be written"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return "kept"
        undo.append(path.unlink)
        with open(descriptor, "wb") as file:
            file.write(content)
    return "created"


def _make_folder(folder: Path, undo: List[Callable[[], None]]) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent, undo)
        with naming(folder, "cannot be made"):
            folder.mkdir(0o755)
        undo.append(folder.rmdir)


def _ignore(path: Path, undo: List[Callable[[], None]]) -> str:
    """Have git ignore `.arkor/`; whatever else the file says stays."""
    if not os.path.lexists(path):
        return _create(path, _IGNORE_ALL, undo)
    content = read_file(path)
    if any(_IGNORES.fullmatch(line.strip()) for line in content.splitlines()):
        return "kept"
    newline = b"\r\n" if b"\r\n" in content else b"\n"
    before = newline if content and not content.endswith((b"\n", b"\r")) else b""
    write_atomically(path, content + before + _IGNORED + newline, 0o644)
    return "changed"


def _undo(undo: List[Callable[[], None]]) -> str:
    """Remove what was written, and say whether something is left."""
    left = []
    while undo:
        try:
            undo.pop()()
        except OSError as error:
            left.append(file_and_reason(error))
    return "; ".join(["what was written before it was removed again", *left])
