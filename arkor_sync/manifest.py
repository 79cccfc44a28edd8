"""What a project offers, its trainer, and finding it in a file. Runs on the caller's thread."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import stat
import sys
import traceback
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, NoReturn, Optional, Set, Tuple, Union

from arkor_sync._common.arguments import did_you_mean, refusal, show
from arkor_sync._common.paths import reason_of
from arkor_sync.errors import ArkorError, ArkorUsageError, text_of
from arkor_sync.trainer import Trainer

DEFAULT_FILE = "trainer.py"
NAMES = ("arkor", "trainer")
"""The names that are looked for in a file, in this order."""

_imported: Dict[str, ModuleType] = {}  # by the last file, of its own folder
_KIND = "arkor"
_RESERVED = ("deploy", "eval")
_FORMS = (
    "a trainer (`create_trainer(...)`), a manifest (`create_arkor(trainer=...)`), or a function "
    "without arguments that returns one of these"
)


@dataclasses.dataclass(frozen=True)
class Arkor:
    """What a project offers. `create_arkor` makes it, and nothing changes it.

    Attributes:
        trainer: What `arkor-sync start` runs, or None.
    """

    trainer: Optional[Trainer] = None
    _kind: str = dataclasses.field(default=_KIND, init=False, repr=False)


def create_arkor(*, trainer: Optional[Trainer] = None, **reserved: NoReturn) -> Arkor:
    """Describe a project. Nothing is sent, read or started.

    Args:
        trainer: What `arkor-sync start` runs.
        reserved: `deploy` and `eval` are names of a later version, and are refused.

    Raises:
        ArkorUsageError: An argument cannot work. It is also a `ValueError`.
    """
    for name in reserved:
        if name in _RESERVED:
            raise ArkorUsageError(f"{name}: it is reserved for a later version; leave it out")
        raise ArkorUsageError(f"{name}: a manifest has no such part; give trainer=")
    if trainer is not None and not isinstance(trainer, Trainer):
        raise refusal("trainer", trainer, "what create_trainer returned")
    return Arkor(trainer)


def is_arkor(value: object) -> bool:
    """Whether a value is a manifest, which `create_arkor` made."""
    return isinstance(value, Arkor) and value._kind == _KIND


def load_project(
    source: Union[str, Path, None] = None, *, cwd: Union[str, Path, None] = None
) -> Arkor:
    """Run a file of the user, and return what the project offers.

    The file is read anew by each call, and so are the modules of its folder that it imports. It
    runs as a module of its own name: `__name__` is not `"__main__"`, and its folder is the first of
    `sys.path`, where it stays, because its callbacks may import later.

    Args:
        source: `FILE`, or `FILE:NAME`. The default is `trainer.py`. Without a name, `arkor` and
            then `trainer` is looked for. What is found is a manifest, a trainer, or a function
            without arguments that returns one of these, and is called.
        cwd: The folder that `source` is relative to; the current one by default.

    Returns:
        The manifest. A trainer that stands alone comes in one.

    Raises:
        ArkorUsageError: There is no such file or name, the file is no Python, or what it does
            raises an exception, which is then the `__cause__`. The text has the file and the line.
        ArkorError: The file asked the cloud for something, and this was the error.
    """
    file, name = _split(DEFAULT_FILE if source is None else str(source))
    path = (Path.cwd() if cwd is None else Path(cwd)) / file
    wrong = _wrong_with(path)
    if wrong:
        if path.name and not _wrong_with(path.with_name(f"{path.name}.py")):
            wrong += f" (did you mean {path.name}.py?)"
        looked = f" ({DEFAULT_FILE} is the default)" if source is None else ""
        raise ArkorUsageError(
            f"{path}: {wrong}{looked}; give FILE or FILE:NAME, or make a project with "
            "`arkor-sync init`"
        )
    if path.suffix != ".py":
        raise ArkorUsageError(f"{path}: not a Python file; give FILE.py")
    module = _run(path)
    return _find(module, path, name)


def place_of(error: BaseException, folder: Path) -> str:
    """Say where an exception was raised: the last line of code that is in this folder.

    Returns:
        Such as `/home/me/bot/trainer.py, line 12, in on_log`; empty if no line is in the folder.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_in(frame.filename, folder)]
    if not own:
        return ""
    inside = "" if own[-1].name == "<module>" else f", in {own[-1].name}"
    return f"{own[-1].filename}, line {own[-1].lineno}{inside}"


def _is_in(filename: str, folder: Path) -> bool:
    """Whether a file is in the folder, and not in a virtual environment there."""
    try:
        parts = Path(filename).relative_to(folder).parts
    except ValueError:
        return False
    return "site-packages" not in parts


def _wrong_with(path: Path) -> str:
    """Say why a path is no file that can be run; empty if it is one."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "no such file"
    except OSError as error:
        return reason_of(error)
    if stat.S_ISDIR(mode):
        return "a directory"
    return "" if stat.S_ISREG(mode) else "no regular file"


def _split(source: str) -> Tuple[str, Optional[str]]:
    file, colon, name = source.rpartition(":")
    if colon and file and name.isidentifier():
        return file, name
    if colon and file and not os.path.exists(source):
        raise refusal("NAME", name, "a name of Python after the colon, as in trainer.py:bot")
    return source, None


def _run(path: Path) -> ModuleType:
    """Run a file as a module."""
    path = path.resolve()
    name = path.stem
    other = sys.modules.get(name)
    if not name.isidentifier() or (
        other is not None and getattr(other, "__file__", None) != str(path)
    ):
        name = "arkor_project"  # it must not take the place of a library
    spec = spec_from_file_location(name, path)
    assert isinstance(spec, ModuleSpec)
    module = module_from_spec(spec)
    folder = str(path.parent)
    _forget_imports()
    former, former_path = sys.modules.get(name), list(sys.path)
    sys.modules[name] = module  # dataclasses and pickle look for it there
    before = set(sys.modules)
    sys.path[:] = [folder, *(each for each in sys.path if each != folder)]
    try:
        # Not the loader: it would write a file, and take that for the source after a quick change.
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        sys.path[:] = former_path
        sys.modules.pop(name, None)
        if former is not None:
            sys.modules[name] = former
        _raise_explained(error, path)
    finally:
        _note_imports(before, path.parent)
    return module


def _note_imports(before: Set[str], folder: Path) -> None:
    """Note which modules of its folder a file has imported."""
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        facts = getattr(module, "__dict__", {})  # not attributes: a lazy module would import
        # A package without an __init__.py has no file. What is compiled cannot be loaded twice.
        place = str(facts.get("__file__") or next(iter(facts.get("__path__") or ()), ""))
        is_ours = name.partition(".")[0] == __package__  # where the package is developed
        if _is_in(place, folder) and not is_ours and not place.endswith(tuple(EXTENSION_SUFFIXES)):
            _imported[name] = module


def _forget_imports() -> None:
    """Let the next file import anew: it may be of another project, with the same names."""
    for name, module in _imported.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]
    _imported.clear()
    importlib.invalidate_caches()  # a module may be younger than the list of its folder's files


def _raise_explained(error: BaseException, path: Path) -> NoReturn:
    """Raise an exception of the user's file again, with its place."""
    place = place_of(error, path.parent) or str(path)
    what = f"{type(error).__name__}: {text_of(error)}"
    if isinstance(error, SyntaxError):
        line = f", line {error.lineno}" if error.lineno else ""
        place, what = f"{error.filename or path}{line}", f"{type(error).__name__}: {error.msg}"
    elif isinstance(error, SystemExit) and not _is_signal(error):
        what = (
            "the file calls sys.exit() while it is read; put that below "
            '`if __name__ == "__main__":`'
        )
    elif isinstance(error, ArkorUsageError):
        what = str(error)
    elif isinstance(error, ArkorError) or not isinstance(error, Exception):
        raise error  # the network, the cloud, the sign-in; or Ctrl-C and SIGTERM
    raise ArkorUsageError(f"{place}: {what}") from error


def _is_signal(error: SystemExit) -> bool:
    """Whether a signal handler of this package has raised it, as that of `exit_on` does."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return _is_in(last.filename, Path(__file__).parent)


def _find(module: ModuleType, path: Path, name: Optional[str]) -> Arkor:
    there: Dict[str, Any] = vars(module)
    names = NAMES if name is None else (name,)
    found = [each for each in names if each in there]
    wrong = []
    for each in found:
        value = _called(there[each], each, path)
        if isinstance(value, Trainer):
            return Arkor(value)
        if isinstance(value, Arkor):
            return value
        wrong.append(f"`{each}` is {show(value)}")
    if not wrong:
        wrong.append(f"it has no {' and no '.join(f'`{each}`' for each in names)}")
        if name is not None:
            wrong[0] += did_you_mean(name, (each for each in there if not each.startswith("_")))
    others = [each for each, value in there.items() if isinstance(value, (Trainer, Arkor))]
    also = ", ".join(f"{path.name}:{each}" for each in others if each not in names)
    hint = f"; there is also {also}" if also else ""
    raise ArkorUsageError(f"{path}: {'; '.join(wrong)}. Give that name to {_FORMS}{hint}")


def _called(value: Any, name: str, path: Path) -> Any:
    """Call a function that makes what is looked for; return anything else as it is."""
    if not callable(value):
        return value
    place = f"{path}: `{name}`"
    if inspect.iscoroutinefunction(value):
        raise ArkorUsageError(f"{place} is an `async def`; make it a function of its own")
    try:
        inspect.signature(value).bind()
    except TypeError as error:
        raise ArkorUsageError(f"{place} is called without arguments: {error}") from None
    except ValueError:
        pass  # a function written in C may not tell its arguments
    try:
        return value()
    except BaseException as error:
        _raise_explained(error, path.resolve())
