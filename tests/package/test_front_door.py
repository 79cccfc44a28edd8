"""The names at the top of the package: each is imported from its module when it is first used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Dict

import pytest

import arkor_sync
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine

PUBLIC = arkor_sync.__all__
MODULE_OF: Dict[str, str] = vars(arkor_sync)["_MODULE_OF"]


def in_a_fresh_interpreter(code: str, *arguments: str) -> Any:
    """Run code, and return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def imports_for_type_checkers() -> Dict[str, str]:
    tree = ast.parse(Path(arkor_sync.__file__).read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    found: Dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, f"{alias.name} is not public without `as`"
            found[alias.name] = str(node.module)
    return found


def test_type_checkers_and_the_interpreter_find_the_same_names() -> None:
    for_the_interpreter = {name: f"arkor_sync.{module}" for name, module in MODULE_OF.items()}
    assert for_the_interpreter == imports_for_type_checkers()
    assert sorted(PUBLIC) == sorted(MODULE_OF)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_name_is_that_of_its_module(name: str) -> None:
    module = import_module(f"arkor_sync.{MODULE_OF[name]}")
    assert getattr(arkor_sync, name) is getattr(module, name)


def test_importing_the_package_imports_nothing_else() -> None:
    code = """
import json, sys
before = set(sys.modules)
import arkor_sync
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    assert in_a_fresh_interpreter(code) == ["arkor_sync"]


def test_dir_and_star_import_give_every_name() -> None:
    code = """
import json
import arkor_sync
listed = dir(arkor_sync)
from arkor_sync import *
print(json.dumps([listed, sorted(set(arkor_sync.__all__) - set(globals()))]))
"""
    listed, missing = in_a_fresh_interpreter(code)
    assert set(arkor_sync.__all__) <= set(listed)
    assert missing == []


def test_a_module_is_imported_when_it_is_first_used() -> None:
    code = """
import json
import arkor_sync
print(json.dumps([arkor_sync.errors.__name__, arkor_sync.handlers.__name__]))
"""
    assert in_a_fresh_interpreter(code) == ["arkor_sync.errors", "arkor_sync.handlers"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Calbacks", "module 'arkor_sync' has no attribute 'Calbacks'; did you mean 'Callbacks'?"),
        ("zzzzz", "module 'arkor_sync' has no attribute 'zzzzz'"),
        ("_private", "module 'arkor_sync' has no attribute '_private'"),
    ],
)
def test_a_wrong_name_is_an_attribute_error(name: str, text: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(arkor_sync, name)
    assert str(caught.value) == text


def test_what_a_module_lacks_is_not_a_wrong_name() -> None:
    """`arkor_sync.testing` needs pytest; where that is missing, the error says so."""
    code = """
import json, sys
sys.modules["pytest"] = None
import arkor_sync
try:
    arkor_sync.testing
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert "pytest" in in_a_fresh_interpreter(code)


FOLLOW = """
import json, sys, threading
from arkor_sync import CloudApiClient, ProjectState, ReconnectPolicy, TokenCredentials
from arkor_sync import create_trainer

url, token, *scope = sys.argv[1:]
imported, lost, answers = [], [], []

def audit(event, args):
    name = threading.current_thread().name
    if event == "import" and name.startswith("arkor-"):
        imported.append([name, args[0]])

sys.addaudithook(audit)
trainer = create_trainer(
    name="n",
    model="unsloth/gemma-4-E4B-it",
    dataset={"type": "huggingface", "name": "arkorlab/triage-demo"},
    client=CloudApiClient(url, TokenCredentials(token), scope=ProjectState(*scope)),
    reconnect=ReconnectPolicy(base=0.01, cap=0.01),
)

@trainer.on_checkpoint
def ask(ctx):
    for stream in (True, False):
        answers.append(ctx.infer([{"role": "user", "content": "a"}], stream=stream).text())

trainer.on_reconnect(lost.append)
status = trainer.wait(60).status
print(json.dumps([status, len(lost), len(answers), imported]))
"""


def test_the_threads_of_a_run_import_nothing() -> None:
    """All is imported before they start.

    A Ctrl-C in the middle of an import can leave a lock of the interpreter taken for good. And the
    first recovery would be slower than the others.
    """
    with Emulator(ScriptedEngine(steps=4, checkpoints=[2])) as emulator:
        emulator.faults.add(Fault("reset_peer", route="stream", event="2"))
        scope = (emulator.org_slug, emulator.project_slug, emulator.project_id)
        status, lost, answers, imported = in_a_fresh_interpreter(
            FOLLOW, emulator.url, emulator.token, *scope
        )
    assert (status, lost) == ("completed", 1)
    assert answers == 2
    assert imported == []
