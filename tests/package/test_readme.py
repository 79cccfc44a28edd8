"""What the READMEs promise their reader: each block of Python runs as pasted, each link leads on.

Blocks that need an extra are run by tests/extras.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import List

import pytest

from support.readme_blocks import BLOCKS, README, ROOT, TEXTS, Block, blocks_in, run

ALONE = [block for block in BLOCKS if not block.extras]
LONGEST = 200  # lines of the README
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")

# Files whose text a user may read: documentation, docstrings and messages.
TOLD = [
    ROOT / "CHANGELOG.md",
    *TEXTS,
    *sorted(path for room in ("arkor_sync", "examples") for path in (ROOT / room).rglob("*.py")),
]

# The package is on no index. A name that pip would look up there may be registered by anybody.
FROM_AN_INDEX = re.compile(
    r"(?:pip|pipx|uv)[\w ]* (?:install|add|run)\b[^`;&|]{0,60}?"
    r"(?<![\w/@.])arkor[-_]sync(?![\w.*…-]*(?:\.whl|\.tar\.gz))"
)


def broken_links_of(path: Path) -> List[str]:
    """List the relative links of a text that lead nowhere."""
    broken = []
    for target, anchor in LINK.findall(without_blocks(path.read_text("utf-8"))):
        found = (path.parent / target).resolve() if target else path
        if not found.exists() or (anchor and anchor not in anchors_of(found)):
            broken.append(f"{target}#{anchor}" if anchor else target)
    return broken


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(path: Path) -> List[str]:
    """List the anchors that GitHub gives to the headings of a text."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(path.read_text("utf-8")), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def installs_from_an_index(text: str) -> List[str]:
    return FROM_AN_INDEX.findall(re.sub(r"\s+", " ", text))


@pytest.mark.parametrize("block", ALONE, ids=[block.place for block in ALONE])
def test_a_block_runs_as_pasted(block: Block, tmp_path: Path) -> None:
    run(block, tmp_path, strict=True)


def test_every_block_of_python_is_found() -> None:
    marked = sum(path.read_text("utf-8").count("```python") for path in TEXTS)
    assert len(BLOCKS) == marked
    assert any(block.place.startswith("README.md:") for block in BLOCKS)


def test_the_readme_can_be_read_at_a_sitting() -> None:
    assert len(README.read_text("utf-8").splitlines()) < LONGEST


def test_every_relative_link_leads_somewhere() -> None:
    broken = {path.relative_to(ROOT).as_posix(): broken_links_of(path) for path in TEXTS}
    assert {path: links for path, links in broken.items() if links} == {}


def test_nothing_is_installed_by_a_name_that_anybody_could_register() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): installs_from_an_index(path.read_text("utf-8"))
        for path in TOLD
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print(trainer)", "NameError"),
        ("import sys; sys.exit(3)", "exited with 3"),
        ("import warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning"),
        (
            "import logging\ntry: 1 / 0\nexcept ArithmeticError: logging.exception('x')",
            "ERROR:root:x",
        ),
        ("import requests; requests.get('http://192.0.2.1/')", "went to 192.0.2.1"),
        (
            "import socket\ntry: socket.getaddrinfo('a.example', 443)\nexcept OSError: pass",
            "went to",
        ),
        ("import os; print(os.environ['ARKOR_TOKEN'])", "KeyError"),
        ("open('metrics.csv')", "FileNotFoundError"),
        ("def test_it(): assert False", "1 failed"),
    ],
)
def test_a_block_that_does_not_run_is_found(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARKOR_TOKEN", "a token of this machine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics.csv").touch()
    with pytest.raises(AssertionError, match=told):
        run(Block("README.md:1", f"{code}\n"), tmp_path, strict=True)


def test_the_extras_of_a_block_are_those_of_the_paragraph_before_it() -> None:
    text = (
        "`pip install '.[wandb]'`\n\n```python\n1\n```\n\n"
        "First\n`pip install '.[plot,progress]'`:\n\n```python\n2\n```\n\n"
        "* `arkor_sync-0.2.0-py3-none-any.whl[database]`, [or](x):\n\n"
        "  ```python\n  if 3:\n      3\n  ```\n\n"
        "Alone:\n\n```python\n4\n```\n```sh\n5\n```\n"
    )
    found = blocks_in("README.md", text)
    assert [(block.code, block.extras) for block in found] == [
        ("1\n", ("wandb",)),
        ("2\n", ("plot", "progress")),
        ("if 3:\n    3\n", ("database",)),
        ("4\n", ()),
    ]
    assert found[0].place == "README.md:3"


@pytest.mark.parametrize(
    "text",
    [
        "pip install arkor-sync",
        "`pip install\n'arkor-sync[plot]'`",
        "python -m pip install --upgrade arkor_sync",
        "uv add arkor-sync",
        "pip install requests arkor-sync",
    ],
)
def test_a_name_of_an_index_is_found(text: str) -> None:
    assert installs_from_an_index(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install .",
        "pip install '.[plot]'",
        "pip install 'arkor_sync-0.2.0-py3-none-any.whl[plot]'",
        "pip install 'arkor_sync-….whl[plot]'",
        "pip install dist/arkor_sync-0.2.0-py3-none-any.whl",
        "pip install 'git+https://host/owner/arkor_sync'",
        "pip install 'SQLAlchemy>=2.0'",
        "pip install . && arkor-sync emulator",
        "the extra `plot` of arkor-sync",
    ],
)
def test_what_names_no_index_is_allowed(text: str) -> None:
    assert installs_from_an_index(text) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(
        "# A title, or two\n[a](b.md) [c](#a-title-or-two) [d](#e) [f](https://g/h)\n"
        "[i](README.md#a-title-or-two) [j](README.md#k)\n```sh\n# l\n[m](n)\n```\n[o](#l)\n"
    )
    assert broken_links_of(path) == ["b.md", "#e", "README.md#k", "#l"]
