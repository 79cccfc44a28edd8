"""The manifest of a project, and finding its trainer in a file."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from arkor_sync import Arkor, ArkorUsageError, CredentialsError, create_arkor, load_project
from arkor_sync.manifest import is_arkor

BOT = """
from arkor_sync import create_arkor, create_trainer

def make(name):
    return create_trainer(
        name=name,
        model="unsloth/gemma-4-E4B-it",
        dataset={"type": "huggingface", "name": "emulator/sample"},
    )
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file of a project below the working directory, and return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def file(text: str, name: str = "trainer.py") -> str:
        (tmp_path / name).write_text(text, "utf-8")
        return name

    yield file
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if str(tmp_path) in f"{getattr(module, '__file__', '')}{getattr(module, '__path__', '')}":
            del sys.modules[name]


def name_of(project: Arkor) -> str:
    assert project.trainer is not None
    return project.trainer.name


def test_a_manifest_is_frozen_and_tagged(write: Write) -> None:
    write(BOT + "trainer = make('bot')")
    trainer = load_project().trainer
    manifest = create_arkor(trainer=trainer)
    assert is_arkor(manifest)
    assert manifest.trainer is trainer
    assert manifest._kind == "arkor"
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.trainer = None  # type: ignore[misc]
    assert not is_arkor({"_kind": "arkor"})
    assert not is_arkor(trainer)
    assert create_arkor().trainer is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"deploy": {}}, "deploy: it is reserved for a later version; leave it out"),
        ({"eval": None}, "eval: it is reserved for a later version; leave it out"),
        ({"trainr": None}, "trainr: a manifest has no such part; give trainer="),
        ({"trainer": "bot"}, "trainer: got str 'bot'; give what create_trainer returned"),
    ],
)
def test_a_part_that_no_manifest_has_is_refused(given: Any, told: str) -> None:
    with pytest.raises(ArkorUsageError) as refused:
        create_arkor(**given)
    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("code", "source", "name"),
    [
        ("trainer = make('a')", None, "a"),
        ("arkor = make('a'); trainer = make('b')", None, "a"),
        ("arkor = create_arkor(trainer=make('a'))", None, "a"),
        ("arkor = 'a company'; trainer = make('b')", None, "b"),
        ("def trainer(): return make('a')", None, "a"),
        ("def arkor(size=3): return create_arkor(trainer=make(str(size)))", None, "3"),
        ("trainer = make('a'); other = make('b')", "trainer.py:other", "b"),
        ("first = lambda: make('a')", "./trainer.py:first", "a"),
    ],
)
def test_what_is_found(write: Write, code: str, source: Any, name: str) -> None:
    write(f"{BOT}\n{code}")
    assert name_of(load_project(source)) == name


def test_a_folder_of_its_own_a_path_and_a_relative_one(write: Write, tmp_path: Path) -> None:
    (tmp_path / "bots").mkdir()
    write(BOT + "trainer = make('bot')", "bots/night-bot.py")
    assert name_of(load_project("night-bot.py", cwd=tmp_path / "bots")) == "bot"
    assert name_of(load_project(tmp_path / "bots" / "night-bot.py")) == "bot"
    assert name_of(load_project("bots/night-bot.py:trainer")) == "bot"


def test_the_manifest_may_be_empty(write: Write) -> None:
    write(BOT + "arkor = create_arkor()")
    assert load_project().trainer is None


def test_the_file_runs_as_a_module_of_its_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("NAME = 'helped'")
    write(
        BOT
        + """
from __future__ import annotations
from dataclasses import dataclass
import helpers

@dataclass
class Settings:
    name: str = helpers.NAME

if __name__ == "__main__":
    raise RuntimeError("started as a program")
trainer = make(Settings().name)
""".replace("from __future__ import annotations\n", ""),
        "bot_file.py",
    )
    assert name_of(load_project("bot_file.py")) == "helped"
    settings = sys.modules["bot_file"].Settings("kept")
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert sys.path[0] == str(tmp_path.resolve())
    assert not (tmp_path / "__pycache__" / "bot_file").exists()


def test_an_edit_is_seen_at_once(write: Write, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(BOT + f"trainer = make('{name}')")
        assert name_of(load_project()) == name
    assert not list(tmp_path.glob("**/trainer*.pyc"))


def test_an_edit_of_a_module_that_it_imports_is_seen(write: Write) -> None:
    write(BOT + "import named\ntrainer = make(named.NAME)")
    for name in ("a", "bc", "def"):
        write(f"NAME = '{name}'", "named.py")
        assert name_of(load_project()) == name


def test_each_project_imports_the_modules_of_its_own_folder(write: Write, tmp_path: Path) -> None:
    for name in ("first", "second", "first"):
        (tmp_path / name / "parts").mkdir(parents=True, exist_ok=True)
        write(f"NAME = '{name}'", f"{name}/parts/named.py")
        write(BOT + "from parts.named import NAME\ntrainer = make(NAME)", f"{name}/trainer.py")
        assert name_of(load_project(f"{name}/trainer.py")) == name


def test_what_the_program_had_imported_before_stays(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("", "mine.py")
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("mine")
    write(BOT + "import mine, json\ntrainer = make(str(id(mine)))")
    for _ in range(2):
        assert name_of(load_project()) == str(id(mine))


def test_a_file_that_removes_its_own_module_has_its_own_error(write: Write) -> None:
    write("import sys\ndel sys.modules[__name__]\nraise KeyError('mine')")
    with pytest.raises(ArkorUsageError, match=r"trainer\.py, line 3: KeyError: 'mine'$"):
        load_project()


def test_a_file_does_not_take_the_place_of_a_library(write: Write) -> None:
    import json

    write(BOT + "import json\ntrainer = make(json.dumps('a'))", "json.py")
    assert name_of(load_project("json.py")) == '"a"'
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("code", "source", "told"),
    [
        ("x = 1", None, "trainer.py: it has no `arkor` and no `trainer`. Give that name to a"),
        ("bot = make('a')", None, "one of these; there is also trainer.py:bot"),
        ("bot = make('a')", "trainer.py:bott", "no `bott` (did you mean 'bot'?). Give that name"),
        ("trainer = {'a': 1}", None, "`trainer` is a dict with 'a'. Give that name to a trainer ("),
        ("trainer = None", None, "`trainer` is None."),
        ("def trainer(): return 3", None, "`trainer` is int 3."),
        ("trainer = make", None, "`trainer` is called without arguments: missing a required"),
        ("async def trainer(): pass", None, "`trainer` is an `async def`; make it a function"),
        ("x = 1", "trainer.py:a b", "NAME: got str 'a b'; give a name of Python after the colon"),
        ("x = (", None, "trainer.py, line 11: SyntaxError: "),
        ("1 / 0", None, "trainer.py, line 11: ZeroDivisionError: division by zero"),
        ("import nothing_like_it", None, "line 11: ModuleNotFoundError: No module named 'nothing"),
        ("make(3)", None, "trainer.py, line 5, in make: name: got int 3; give a text that names"),
        ("def trainer():\n    return [][1]", None, "trainer.py, line 12, in trainer: IndexError: "),
        ("import sys; sys.exit(0)", None, "line 11: the file calls sys.exit() while it is read;"),
        ("import argparse; argparse.ArgumentParser().parse_args(['-h'])", None, "calls sys.exit()"),
        ("x = '\0'", None, "trainer.py: "),
        ("# coding: nonsense", None, "trainer.py: SyntaxError: "),
    ],
)
def test_what_cannot_work_is_told_with_its_place(
    write: Write, code: str, source: Any, told: str
) -> None:
    start = "" if code.startswith("# coding") else BOT
    write(f"{start}\n{code}\n")
    with pytest.raises(ArkorUsageError) as refused:
        load_project(source)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_fails_leaves_nothing_behind(write: Write) -> None:
    write("raise RuntimeError")
    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(ArkorUsageError):
        load_project()
    assert (sys.path, set(sys.modules)) == (path, modules)


def test_an_error_in_another_file_of_the_project_names_that_file(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("x = 1\nraise KeyError('y')\n")
    write("import json\nimport broken\n")
    with pytest.raises(ArkorUsageError, match=r"broken\.py, line 2: KeyError: 'y'$") as refused:
        load_project()
    assert isinstance(refused.value.__cause__, KeyError)


def test_an_error_in_a_library_names_the_line_that_called_it(write: Write) -> None:
    write("import json\njson.loads('{')\n")
    with pytest.raises(ArkorUsageError, match=r"trainer\.py, line 2: JSONDecodeError: "):
        load_project()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, "trainer.py: no such file (trainer.py is the default); give FILE or FILE:NAME, or"),
        ("bot.py", "bot.py: no such file; give FILE or FILE:NAME"),
        ("bot.py:x", "bot.py: no such file; give FILE or FILE:NAME"),
        (".", "a directory; give FILE or FILE:NAME"),
        ("x" * 300, "x: File name too long; give FILE or FILE:NAME"),
        (f"{'x' * 300}:bot", "x: File name too long; give FILE or FILE:NAME"),
        ("/dev/null", "/dev/null: no regular file; give FILE or FILE:NAME"),
        ("night", "night: no such file (did you mean night.py?); give FILE or FILE:NAME"),
        ("night:x", "night: no such file (did you mean night.py?); give FILE or FILE:NAME"),
        ("pages", "pages: a directory (did you mean pages.py?); give FILE or FILE:NAME"),
        ("README.md", "README.md: not a Python file; give FILE.py"),
        ("README.md:x", "README.md: not a Python file; give FILE.py"),
        ("pages/data.jsonl", "data.jsonl: not a Python file; give FILE.py"),
        ("no_ending", "no_ending: not a Python file; give FILE.py"),
    ],
)
def test_a_file_that_is_not_there_or_no_python(
    write: Write, tmp_path: Path, source: Any, told: str
) -> None:
    (tmp_path / "pages").mkdir()
    for name in ("night.py", "pages.py", "README.md", "pages/data.jsonl", "no_ending"):
        write("", name)
    with pytest.raises(ArkorUsageError) as refused:
        load_project(source)
    assert told in str(refused.value)


@pytest.mark.parametrize("raised", ["KeyboardInterrupt()", "CredentialsError('sign in')"])
def test_a_sign_in_or_ctrl_c_stays_what_it_is(write: Write, raised: str) -> None:
    write(f"from arkor_sync import CredentialsError\nraise {raised}")
    with pytest.raises((KeyboardInterrupt, CredentialsError)):
        load_project()
