"""`completion`: the scripts, in real shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from support.command_line import CommandLine
from support.waiting import PATIENCE


@pytest.fixture
def installed(nobody: CommandLine) -> CommandLine:
    """Return a user whose PATH has `arkor-sync`."""
    folder = nobody.home / "bin"
    folder.mkdir()
    script = folder / "arkor-sync"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom arkor_sync.cli import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    nobody.variables["PATH"] = f"{folder}:{nobody.environment({})['PATH']}"
    return nobody


def in_shell(user: CommandLine, *command: str) -> List[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed; its script is checked in another test")
    done = subprocess.run(
        command,
        capture_output=True,
        cwd=user.cwd,
        env=user.environment({}),
        timeout=PATIENCE,
        encoding="utf-8",
    )
    assert done.stderr == ""
    return done.stdout.split()


BASH = """
eval "$(arkor-sync completion bash)"
COMP_WORDS=(arkor-sync {words}); COMP_CWORD={number}
_arkor_sync_completion arkor-sync
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "number", "found"),
    [("jo", 1, ["jobs"]), ("completion z", 2, ["zsh"]), ("doctor --js", 2, ["--json"])],
    ids=["command", "argument", "option"],
)
def test_bash_completes(installed: CommandLine, words: str, number: int, found: List[str]) -> None:
    script = BASH.format(words=words, number=number)
    assert in_shell(installed, "bash", "--norc", "-c", script) == found


def test_fish_completes(installed: CommandLine) -> None:
    script = "arkor-sync completion fish | source; complete --do-complete 'arkor-sync jo'"
    assert in_shell(installed, "fish", "--no-config", "-c", script)[0] == "jobs"


def test_zsh_completes(installed: CommandLine) -> None:
    # compdef and _describe are those of zsh's own completion, which needs a line editor.
    script = """
    compdef() { print -r -- "compdef $@" }
    eval "$(arkor-sync completion zsh)"
    _describe() { print -r -- "${(P)3}" }
    _arkor_sync_setup() { :; }
    words=(arkor-sync jo); CURRENT=2; compadd() { print -r -- "$@" }
    _arkor_sync_completion
    """
    said = in_shell(installed, "zsh", "-f", "-c", script)
    assert said[:2] == ["compdef", "_arkor_sync_completion"]
    assert any(each.startswith("jobs:") for each in said)


@pytest.mark.parametrize(
    ("shell", "marks"),
    [("bash", "complete -o nosort"), ("zsh", "compdef"), ("fish", "complete --no-files")],
)
def test_the_script_is_printed(nobody: CommandLine, shell: str, marks: str) -> None:
    ended = nobody("completion", shell)
    assert marks in ended.stdout
    assert "_ARKOR_SYNC_COMPLETE" in ended.stdout
    assert ended.stderr == ""


def test_it_needs_no_shell_to_print_the_script(nobody: CommandLine, tmp_path: Path) -> None:
    assert nobody("completion", "bash", PATH=str(tmp_path)).stderr == ""


def test_another_shell_is_refused(nobody: CommandLine) -> None:
    ended = nobody("completion", "csh", code=2)
    assert "bash" in ended.stderr
    assert "csh" in ended.stderr
