"""The Python blocks of the READMEs, and how each is run as its reader runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import List, NamedTuple, Tuple

from support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TEXTS = [
    README,
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted(path for room in ("arkor_sync", "tests") for path in (ROOT / room).rglob("*.md")),
]

_BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_EXTRAS = re.compile(r"(?:arkor[-_]sync|\.whl|'\.)\[([\w,-]+)\]")
_KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR")

# Python imports this before anything else, also in the processes that a block starts.
_GUARD = """
import sys

def refuse_the_network(event, args):
    if event in ("socket.connect", "socket.sendto"):
        host = args[1][0] if isinstance(args[1], tuple) else "local"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0] or "local"
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if not host.startswith(("127.", "::1", "local")):
        raise RuntimeError(f"this program went to {host}")

sys.addaudithook(refuse_the_network)
"""


class Block(NamedTuple):
    """A block of Python.

    Attributes:
        place: The file and the line.
        code: The lines.
        extras: The extras that the paragraph before it names, as in `pip install '.[plot]'`.
    """

    place: str
    code: str
    extras: Tuple[str, ...] = ()


def blocks_in(name: str, text: str) -> List[Block]:
    found = []
    for match in _BLOCK.finditer(text):
        place = f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        before = text[: match.start()].rstrip().rpartition("\n\n")[2]
        extras = tuple(each for group in _EXTRAS.findall(before) for each in group.split(","))
        found.append(Block(place, textwrap.dedent(match[2]), extras))
    return found


BLOCKS = [
    block
    for path in TEXTS
    for block in blocks_in(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
]


def run(block: Block, folder: Path, *, strict: bool) -> None:
    """Run a block in an empty folder, without a network; it must succeed and not complain.

    A block with a test function goes to pytest, which tests the tests of a reader.

    Args:
        block: It is saved as a file and run.
        folder: Where it is made.
        strict: Whether warnings are errors.
    """
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(_GUARD)
    (folder / "here").mkdir()
    tests = re.search(r"^def test_", block.code, re.MULTILINE)
    script = folder / "here" / ("test_pasted.py" if tests else "pasted.py")
    script.write_text(block.code, "utf-8")
    paths = [str(folder / "guard"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [
            sys.executable,
            *(["-W", "error"] if strict else []),
            *(["-m", "pytest", "-p", "arkor_sync.testing"] if tests else []),
            script.name,
        ],
        cwd=script.parent,
        env={
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{block.place} exited with {done.returncode}:\n{done.stdout}"
    for bad in ("Traceback (most recent call last)", "this program went to"):
        assert bad not in done.stdout, f"{block.place}:\n{done.stdout}"
