"""The rules of the house: which module may import which, how long one may be, what it says first.

Each rule is a function from sources to complaints. One test holds the package against it; another
plants a violation, and sees that the rule finds it.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Set, Tuple

import pytest

PACKAGE = Path(__file__).parents[2] / "arkor_sync"

# From the top to the bottom. A module imports from the floors below its own, or from its own.
FLOORS: List[Set[str]] = [
    {"__init__", "__main__"},
    {"cli"},
    {"client", "contrib", "credentials", "manifest", "project", "signals", "studio", "testing"},
    {"follower", "submitting"},
    {"_follower_loop", "_submission_row"},
    {"_follower_jobs", "_follower_starters", "_follower_troubles", "_submission_search"},
    {"_follower_shares"},
    {"handlers"},
    {"_follow", "trainer"},
    {"rehearsal", "run"},
    {"_notebook_cell", "_preload", "_run_control", "_run_health", "_run_record", "_settlement"},
    {"callbacks", "comparison", "contexts", "history", "options", "result"},
    {"_inference", "_log_context"},
    {"render"},
    {"stream"},
    {"stores"},
    {"cloud"},
    {"_common"},
    {"errors"},
    {"_version"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# The one import that may go up, and close a circle: a context's annotation of its `run`.
ANNOTATION_OF_RUN = ("contexts", "run")

# The one module of the emulator that may import from the rest: `Emulator.client` makes a client.
EMULATORS_CLIENT = ("emulator.emulator", {"cloud.client", "cloud.credentials", "cloud.project"})

LONGEST = 400  # lines
THREADS = (
    "Pure",
    "Runs on the caller's thread",
    "Runs on the reader thread",
    "Runs on the worker thread",
    "Any thread",
    "Runs on a thread of its own",
    "Runs in the connection's thread",
    "Runs in the job's thread",
)
FIRST_LINE = re.compile(rf"\S.*\. ({'|'.join(THREADS)})\.")

# By the name of a module below arkor_sync; a package is named as its folder, the top `__init__`.
Sources = Dict[str, str]
Rule = Callable[[Sources], List[str]]


def read_sources() -> Sources:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name] = path.read_text()
    return {re.sub(r"\.__init__$", "", name): source for name, source in found.items()}


SOURCES = read_sources()


@functools.cache
def nodes_of(source: str) -> List[Tuple[ast.AST, str]]:
    """List the nodes of a module, and where each stands; see `Import.place`."""
    return list(walk(ast.parse(source), "module"))


@functools.cache
def import_statements_of(source: str) -> List[Tuple[ast.AST, str]]:
    kinds = (ast.Import, ast.ImportFrom)
    return [(node, place) for node, place in nodes_of(source) if isinstance(node, kinds)]


@functools.cache
def first_line_of(source: str) -> str:
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def is_package(name: str) -> bool:
    return name == "__init__" or (PACKAGE / name.replace(".", "/")).is_dir()


class Import(NamedTuple):
    """One import of a module of the package.

    Attributes:
        importer: The module that imports.
        imported: The module that is imported.
        place: Where: `module`, `function`, or `annotation` for what is under `TYPE_CHECKING`.
    """

    importer: str
    imported: str
    place: str


def imports_of(sources: Sources) -> Iterator[Import]:
    """List every import of the package's own modules, wherever it stands."""
    for importer, source in sources.items():
        for node, place in import_statements_of(source):
            for name in imported_names(node, importer):
                if name.split(".")[0] == "arkor_sync":
                    yield Import(importer, module_of(name, sources), place)


def walk(node: ast.AST, place: str) -> Iterator[Tuple[ast.AST, str]]:
    """Walk over a tree as `ast.walk` does, and say of each node where it stands."""
    yield node, place
    guarded: Set[int] = set()
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        place = "function"
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        guarded = {id(child) for child in node.body}
    for child in ast.iter_child_nodes(node):
        yield from walk(child, "annotation" if id(child) in guarded else place)


def imported_names(node: ast.AST, importer: str) -> Iterator[str]:
    """List what a statement imports, by its whole name, relative imports too."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = ["arkor_sync", *(importer.split(".") if importer != "__init__" else [])]
            up = node.level - is_package(importer)
            base = ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def module_of(name: str, sources: Sources) -> str:
    """Return the module that holds a name, which may be a module itself."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in sources:
        parts.pop()
    return ".".join(parts) or "__init__"


# The rules.


def imports_go_down(sources: Sources) -> List[str]:
    complaints = []
    for importer, imported, place in imports_of(sources):
        rooms = importer.split(".")[0], imported.split(".")[0]
        if "emulator" in rooms:
            continue  # it stands apart, and has a rule of its own
        if (importer, imported) == ANNOTATION_OF_RUN and place == "annotation":
            continue
        missing = [room for room in rooms if room not in FLOOR]
        if missing:
            complaints.append(f"{missing[0]} is on no floor")
        elif FLOOR[rooms[1]] < FLOOR[rooms[0]]:
            complaints.append(f"{importer} imports {imported}, which is above it ({place})")
    return complaints


def imports_make_no_circle(sources: Sources) -> List[str]:
    below: Dict[str, Set[str]] = {name: set() for name in sources}
    for importer, imported, place in imports_of(sources):
        if (importer, imported) != ANNOTATION_OF_RUN or place != "annotation":
            below[importer].add(imported)
    # What imports nothing that is left cannot be part of a circle.
    while True:
        done = {name for name, imported in below.items() if not imported}
        if not done:
            break
        below = {name: below[name] - done for name in below if name not in done}
    if not below:
        return []
    path = [min(below)]
    while path.count(path[-1]) == 1:
        path.append(min(below[path[-1]]))
    return [" imports ".join(path[path.index(path[-1]) :])]


def the_emulator_stands_apart(sources: Sources) -> List[str]:
    complaints = []
    for importer, imported, place in imports_of(sources):
        inside = [name.split(".")[0] == "emulator" for name in (importer, imported)]
        if inside == [True, False]:
            allowed = importer == EMULATORS_CLIENT[0] and imported in EMULATORS_CLIENT[1]
            if allowed and place != "module":
                continue
            complaints.append(f"{importer} imports {imported}, which is no part of the emulator")
        elif inside == [False, True] and (not uses_emulator(importer) or place == "module"):
            complaints.append(f"{importer} imports {imported} ({place})")
    return complaints


def uses_emulator(importer: str) -> bool:
    return importer.split(".")[0] in ("cli", "rehearsal", "testing")


def errors_import_nothing_of_ours(sources: Sources) -> List[str]:
    return [f"errors imports {each.imported}" for each in imports_of({"errors": sources["errors"]})]


def log_lines_are_safe(sources: Sources) -> List[str]:
    """Loggers of the package come from `_common.log`, which makes the texts in a line safe.

    The emulator, which may not import that, has one module that logs; the command line sets what
    is shown of all loggers.
    """
    allowed = ("_common.log", "cli.logs", "emulator.engine.dataset")
    own = ('logging.getLogger("arkor', "logging.getLogger(__name__")
    return [
        f"{name} makes a logger of its own"
        for name, source in sources.items()
        if name not in allowed and any(each in source for each in own)
    ]


def one_clock(sources: Sources) -> List[str]:
    """Waits go by the clocks that no library can stop: `time.monotonic` is asked for there only."""
    return [
        f"{name} asks time.monotonic"
        for name, source in sources.items()
        if name not in ("_common.clock", "emulator.clock") and "time.monotonic" in source
    ]


def no_module_is_too_long(sources: Sources) -> List[str]:
    lengths = {name: len(source.splitlines()) for name, source in sources.items()}
    return [f"{name}: {length} lines" for name, length in lengths.items() if length > LONGEST]


def one_check_for_log_batches(sources: Sources) -> List[str]:
    """At most one module asks whether something is a `LogBatch`, and it asks once."""
    places = []
    for name, source in sources.items():
        if "LogBatch" not in source:
            continue
        nodes = [node for node, _ in nodes_of(source)]
        if any(isinstance(node, ast.ClassDef) and node.name == "LogBatch" for node in nodes):
            continue
        places += [f"{name}:{node.lineno}" for node in nodes if asks_for_log_batch(node)]
    return places if len(places) > 1 else []


def asks_for_log_batch(node: ast.AST) -> bool:
    """Tell whether this is `isinstance(x, LogBatch)` or `type(x) is LogBatch`, or alike."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        asked: List[ast.expr] = (
            node.args[1:] if node.func.id in ("isinstance", "issubclass") else []
        )
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        types = [each for each in sides if ast.unparse(each).startswith("type(")]
        types += [each for each in sides if ast.unparse(each).endswith(".__class__")]
        asked = sides if types else []
    else:
        return False
    names = [name for each in asked for name in ast.walk(each)]
    return any(
        (isinstance(name, ast.Name) and name.id == "LogBatch")
        or (isinstance(name, ast.Attribute) and name.attr == "LogBatch")
        for name in names
    )


def modules_say_what_they_are(sources: Sources) -> List[str]:
    """The first line of a module says what it is and which thread runs it.

    A folder's `__init__.py` speaks for the folder, which no thread runs.
    """
    complaints = []
    for name, source in sources.items():
        if is_package(name):
            continue
        if not FIRST_LINE.fullmatch(first_line_of(source)):
            complaints.append(f"{name}: {first_line_of(source)}")
    return complaints


def pure_modules_do_no_io(sources: Sources) -> List[str]:
    """What calls itself pure in these rooms holds no I/O, no threads and no clock."""
    impure = {"asyncio", "os", "queue", "random", "socket", "threading", "time"}
    complaints = []
    for name, source in sources.items():
        if name.split(".")[0] not in ("cloud", "errors", "render", "stores", "stream"):
            continue
        if not first_line_of(source).endswith(" Pure."):
            continue
        for node, _ in import_statements_of(source):
            found = {each.split(".")[0] for each in imported_names(node, name)} & impure
            complaints += [f"{name} is pure, and imports {each}" for each in found]
    return complaints


def one_module_imports(library: str, module: str) -> Rule:
    """One private module stands between the package and a library that may have to be replaced."""

    def rule(sources: Sources) -> List[str]:
        found = sorted(
            {
                name
                for name, source in sources.items()
                for node, _ in import_statements_of(source)
                for each in imported_names(node, name)
                if each.split(".")[0] == library
            }
        )
        return [] if found == [module] else [f"{library} is imported by {found}"]

    rule.__name__ = f"one_module_imports_{library}"
    return rule


def the_environment_is_read_in_one_place(sources: Sources) -> List[str]:
    """White space around the value of a variable is removed there. A request's is another one."""
    return [
        f"{name}:{node.lineno} reads the environment"
        for name, source in sources.items()
        if name != "_common.environment" and name.split(".")[0] != "emulator"
        if "environ" in source or "getenv" in source
        for node, _ in nodes_of(source)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
        if ast.unparse(node.value) != "request"  # that of WSGI is another one
    ]


PURE = '"""Rows of numbers. Pure."""\n'
CHECK = "def f(x): return {}\n"

RULES: List[Tuple[Rule, List[Sources]]] = [
    (
        imports_go_down,
        [
            {"stores.base": "from arkor_sync.stream import cursor"},
            {"cloud.jobs": "def f():\n    import arkor_sync.run"},
            {"render.chart": "if TYPE_CHECKING:\n    from arkor_sync.handlers import LossPlot"},
            {"stream.reader": "from ..run import Run"},
            {"errors": "from arkor_sync import Run"},
            {"contexts": "from arkor_sync.run import Run"},
            {"attic": "from arkor_sync.run import Run"},
        ],
    ),
    (
        imports_make_no_circle,
        [
            {
                "cloud.a": "from .b import x",
                "cloud.b": "def f():\n    from arkor_sync.cloud import a",
            },
            {
                "stream.a": "from arkor_sync import stream",
                "stream": "from arkor_sync.stream.a import x",
            },
            {"result": "if TYPE_CHECKING:\n    from arkor_sync.result import x"},
            {
                "a": "from arkor_sync.b import x",
                "b": "from arkor_sync.c import x",
                "c": "if TYPE_CHECKING:\n    from arkor_sync.a import x",
            },
        ],
    ),
    (
        the_emulator_stands_apart,
        [
            {"emulator.chat": "def f():\n    from arkor_sync.errors import ArkorError"},
            {"emulator.chat": "if TYPE_CHECKING:\n    from ..cloud import models"},
            {"emulator.chat": "def f():\n    from arkor_sync.cloud.client import CloudApiClient"},
            {"emulator.emulator": "from arkor_sync.cloud.client import CloudApiClient"},
            {"emulator.emulator": "def f():\n    from arkor_sync.cloud import jobs"},
            {"trainer": "def f():\n    import arkor_sync.emulator"},
            {"testing": "from arkor_sync.emulator import Emulator"},
        ],
    ),
    (
        errors_import_nothing_of_ours,
        [{"errors": "if TYPE_CHECKING:\n    from arkor_sync._version import __version__"}],
    ),
    (
        log_lines_are_safe,
        [
            {"run": 'logger = logging.getLogger("arkor_sync.run")'},
            {"run": "logger = logging.getLogger(__name__)"},
            {"emulator.store": 'logger = logging.getLogger("arkor_sync.emulator")'},
        ],
    ),
    (one_clock, [{"cloud.transport": "began = time.monotonic()"}]),
    (no_module_is_too_long, [{"run": "pass\n" * (LONGEST + 1)}]),
    (
        one_check_for_log_batches,
        [
            {"a": CHECK.format(first), "b": CHECK.format(second)}
            for first, second in [
                ("isinstance(x, LogBatch)", "type(x) is LogBatch"),
                ("isinstance(x, (list, batches.LogBatch))", "LogBatch == type(x)"),
                ("issubclass(type(x), LogBatch)", "x.__class__ is not LogBatch"),
            ]
        ],
    ),
    (
        modules_say_what_they_are,
        [
            {"run": source}
            for source in (
                "",
                '"""A run."""',
                '"""Pure."""',
                '"""A run. Runs on any thread."""',
                '"""A run, and more\n\nof it. Any thread."""',
            )
        ],
    ),
    (
        pure_modules_do_no_io,
        [
            {"render.rows": PURE + "import time"},
            {"render.rows": PURE + "def f():\n    import os.path"},
        ],
    ),
    (
        the_environment_is_read_in_one_place,
        [
            {"run": 'import os\ndef f(): return os.environ.get("ARKOR_TOKEN")'},
            {"handlers.x": 'import os\ndef f(): return os.getenv("SLACK_WEBHOOK_URL")'},
        ],
    ),
    *(
        (
            one_module_imports(library, module),
            [{"result": f"def f():\n    import {library}"}, {module: ""}],
        )
        for library, module in [
            ("dataclasses_json", "_common.camel_case"),
            ("backoff", "_common.doubling"),
            ("sseclient", "cloud.sse"),
        ]
    ),
]


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES], ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert rule(SOURCES) == []


@pytest.mark.parametrize(
    ("rule", "planted"),
    [
        pytest.param(rule, planted, id=f"{rule.__name__}-{number}")
        for rule, violations in RULES
        for number, planted in enumerate(violations)
    ],
)
def test_the_rule_finds_a_planted_violation(rule: Rule, planted: Sources) -> None:
    assert set(rule({**SOURCES, **planted})) - set(rule(SOURCES))


def test_what_is_allowed_is_not_found() -> None:
    annotation = {"contexts": "if TYPE_CHECKING:\n    from arkor_sync.run import Run"}
    down = {"handlers.guards.timer": "from arkor_sync.handlers import x\nfrom ..errors import y"}
    assert imports_go_down({**SOURCES, **annotation, **down}) == imports_go_down(SOURCES)
    in_functions = {
        "testing": "def f():\n    from arkor_sync.emulator import Emulator",
        "emulator.emulator": "def f():\n    from arkor_sync.cloud.client import CloudApiClient",
    }
    assert the_emulator_stands_apart({**SOURCES, **in_functions}) == []
    assert one_check_for_log_batches({"stream.reader": CHECK.format("type(x) is LogBatch")}) == []
    assert modules_say_what_they_are({"run": '"""A run. Any thread.\n\nMore."""'}) == []


@pytest.mark.parametrize(
    "name", ["cloud.sse", "stream.events", "stream.error_policy", "stream.reconnect", "errors"]
)
def test_what_must_be_pure_says_so(name: str) -> None:
    assert first_line_of(SOURCES[name]).endswith(" Pure.")


def folders_without_a_readme(package: Path) -> List[str]:
    """Each folder says what lives in it, the way through it, and how to add to it."""
    folders = [path for path in sorted(package.rglob("*")) if path.is_dir()]
    return [
        str(path.relative_to(package))
        for path in folders
        if path.name != "__pycache__" and not (path / "README.md").is_file()
    ]


def test_each_folder_of_the_package_has_a_readme() -> None:
    assert folders_without_a_readme(PACKAGE) == []


def test_a_folder_without_a_readme_is_found(tmp_path: Path) -> None:
    (tmp_path / "cloud" / "inner").mkdir(parents=True)
    (tmp_path / "cloud" / "README.md").write_text("The cloud.")
    assert folders_without_a_readme(tmp_path) == ["cloud/inner"]
