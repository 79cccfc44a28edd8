"""A pytest plugin: a local Arkor for each test, and a check that nothing of it is left behind.

Everything here runs on the test's thread. pytest finds the plugin by itself where arkor_sync is
installed. It does nothing but register a mark until a test asks for one of its fixtures; only then
is the emulator loaded.

    @pytest.mark.arkor(scenario="diverges", faults=[Fault("cut_mid_event", event="7")])
    def test_the_bot_gives_up(arkor_client, arkor_emulator, arkor_no_leaks):
        early_stopping = EarlyStopping("loss", patience=3)
        create_trainer(..., client=arkor_client, callbacks=early_stopping).wait(timeout=10)
        assert early_stopping.stopped_step == 23
        arkor_emulator.assert_resumed_from("6")

* `arkor_emulator` is an `Emulator` of its own for each test, on a free port of the loopback, so
  tests may run in parallel processes. It is stopped after the test. What went wrong inside it, as
  opposed to the faults it was asked for, fails the test.
* `arkor_client` is a `CloudApiClient` that is signed in to it, in a project of its own. For code
  that makes its own client there is `arkor_emulator.environment()`.
* `arkor_no_leaks` fails the test if it leaves threads named `arkor-*`, open sockets or other
  file descriptors behind, and names them. The emulator's own are gone by then.
* `@pytest.mark.arkor` says what the emulator is like: `scenario`, the name of one of
  `arkor_sync.emulator.SCENARIOS`, or `engine`, an engine; `faults`, a list of `Fault`; and
  anything else that `Emulator` takes, such as `framing="close"` or `ping_interval=0.1`. The
  mark that is closest to the test counts alone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import stat
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Set, Tuple

import pytest

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.emulator import Emulator

LEAK_GRACE = 10.0
"""Seconds that threads and sockets get to go away after the test."""

_MARK = (
    "arkor(scenario=None, engine=None, faults=(), **settings): what the emulator of "
    "arkor_emulator is like; settings are those of arkor_sync.emulator.Emulator"
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, so that `--strict-markers` knows it."""
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def arkor_emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """Start a local Arkor for this test; see `@pytest.mark.arkor`."""
    if "arkor_no_leaks" in request.fixturenames:
        request.getfixturevalue("arkor_no_leaks")  # it looks before the start and after the stop
    with _emulator(request.node.get_closest_marker("arkor")) as emulator:
        yield emulator
    if emulator.errors:
        told = "\n".join(map(_traceback, emulator.errors))
        pytest.fail(f"errors inside the emulator: {len(emulator.errors)}\n{told}", pytrace=False)


@pytest.fixture
def arkor_client(arkor_emulator: Emulator) -> CloudApiClient:
    """Make a client that is signed in to this test's emulator."""
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.credentials import TokenCredentials
    from arkor_sync.cloud.project import ProjectState

    emulator = arkor_emulator
    scope = ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id)
    return CloudApiClient(emulator.url, TokenCredentials(emulator.token), scope=scope)


@pytest.fixture
def arkor_no_leaks() -> Iterator[None]:
    """Fail if the test leaves threads of arkor_sync, sockets or file descriptors behind."""
    threads, files = _threads(), _files()
    yield
    deadline = time.monotonic() + LEAK_GRACE
    left = _left(threads, files)
    while left and time.monotonic() < deadline:
        gc.collect()  # what only a cycle holds is closed by whoever breaks it
        time.sleep(0.01)
        left = _left(threads, files)
    if left:
        pytest.fail("left behind:\n" + "\n".join(f"  {name}" for name in left), pytrace=False)


def _emulator(mark: Optional[pytest.Mark]) -> Emulator:
    from arkor_sync.emulator import Emulator, Fault, scenario

    if mark is None:
        return Emulator()
    settings: Dict[str, Any] = dict(mark.kwargs)
    faults = settings.pop("faults", ())
    name = settings.pop("scenario", None)
    try:
        if mark.args:
            raise TypeError(f"it takes keywords only, not {mark.args[0]!r}")
        if name is not None:
            if settings.get("engine") is not None:
                raise TypeError("it takes a scenario or an engine, not both")
            settings["engine"] = scenario(name)
        for fault in faults:
            if not isinstance(fault, Fault):
                raise TypeError(f"faults is a list of Fault(...), not of {fault!r}")
        emulator = Emulator(**settings)
        emulator.faults.add(*faults)
    except (TypeError, ValueError) as error:
        pytest.fail(f"@pytest.mark.arkor: {error}", pytrace=False)
    return emulator


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _left(threads: Set[threading.Thread], files: Set[Tuple[int, str]]) -> List[str]:
    """Describe what is there now and was not there before."""
    names = [f"thread {thread.name}{_where(thread)}" for thread in _threads() - threads]
    names += [
        f"{_peers(number) or what} (descriptor {number})" for number, what in _files() - files
    ]
    return sorted(names)


def _threads() -> Set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("arkor-")}


def _where(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    return f", in {frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"


def _files() -> Set[Tuple[int, str]]:
    """Return the open descriptors and what they are; nothing where the system does not tell."""
    found = set()
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):  # the one that lists the folder is closed
                    found.add((int(name), _identity(folder, int(name))))
            break
    return found


def _identity(folder: str, number: int) -> str:
    """Say what a descriptor is, so that one whose number was used again is told apart."""
    status = os.fstat(number)
    try:
        return os.readlink(f"{folder}/{number}")
    except OSError:
        return f"file {status.st_dev}:{status.st_ino}"


def _peers(number: int) -> str:
    """Say which addresses a socket connects; nothing for what is no socket of the internet."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return ""
        with socket.socket(fileno=os.dup(number)) as twin:
            if twin.family not in (socket.AF_INET, socket.AF_INET6):
                return ""
            ends = ["{}:{}".format(*twin.getsockname()[:2])]
            with contextlib.suppress(OSError):
                ends.append("{}:{}".format(*twin.getpeername()[:2]))
            return f"socket {' to '.join(ends)}"
    except OSError:
        return ""  # closed meanwhile
