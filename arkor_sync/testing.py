"""A pytest plugin: a local Arkor for each test, and a check for leaks. Runs on the caller's thread.

pytest loads the plugin by itself if arkor_sync is installed. It only registers a mark; the emulator
is imported when a test uses one of the fixtures.

    @pytest.mark.arkor(scenario="diverges", faults=[Fault("cut_mid_event", event="7")])
    def test_the_bot_gives_up(arkor_client, arkor_emulator, arkor_no_leaks):
        early_stopping = EarlyStopping("loss", patience=3)
        create_trainer(..., client=arkor_client, callbacks=early_stopping).wait(timeout=10)
        assert early_stopping.stopped_step == 23
        arkor_emulator.assert_resumed_from("6")

* `arkor_emulator` is a new `Emulator` for each test, on a free port, so that tests can run in
  parallel. It is stopped after the test. The test fails if the emulator itself had an error; the
  faults that the test set are no errors.
* `arkor_client` is a `CloudApiClient` that is signed in to the emulator, with a project. For code
  that makes its own client there is `arkor_emulator.environment()`.
* `arkor_django` has a Django site use the test's emulator. Its value is the emulator, so it stands
  in the place of `arkor_emulator`; `arkor_sync.contrib.django.follow_now(run)` follows a run inside
  of the test's transaction. It needs no pytest-django, and works with it.
* `arkor_no_leaks` fails the test if it leaves threads named `arkor-*`, sockets or other file
  descriptors open, and names them. It checks after the emulator has stopped.
* `@pytest.mark.arkor` configures the emulator: `scenario`, the name of one of
  `arkor_sync.emulator.SCENARIOS`, or `engine`, an engine; `faults`, a list of `Fault`; and any
  other argument of `Emulator`, such as `framing="close"` or `ping_interval=0.1`. If a test has
  several marks, only the closest counts.
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
"""Seconds in which threads must end and sockets must be closed after the test."""

_MARK = (
    "arkor(scenario=None, engine=None, faults=(), **options): configures the emulator of "
    "arkor_emulator; options are arguments of arkor_sync.emulator.Emulator"
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, so that `--strict-markers` accepts it."""
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def arkor_emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """Start an emulator for this test; `@pytest.mark.arkor` configures it."""
    if "arkor_no_leaks" in request.fixturenames:
        # The check has to begin before the emulator starts, and to end after it has stopped.
        request.getfixturevalue("arkor_no_leaks")
    with _emulator(request.node.get_closest_marker("arkor")) as emulator:
        yield emulator
    if emulator.errors:
        tracebacks = "\n".join(map(_traceback, emulator.errors))
        pytest.fail(
            f"errors inside the emulator: {len(emulator.errors)}\n{tracebacks}", pytrace=False
        )


@pytest.fixture
def arkor_client(arkor_emulator: Emulator) -> CloudApiClient:
    """Make a client of this test's emulator."""
    return arkor_emulator.client()


@pytest.fixture
def arkor_django(arkor_emulator: Emulator) -> Iterator[Emulator]:
    """Have the Django site of this process use this test's emulator."""
    from arkor_sync.contrib.django import using_arkor

    with using_arkor(arkor_emulator):
        yield arkor_emulator


@pytest.fixture
def arkor_no_leaks() -> Iterator[None]:
    """Fail if the test leaves threads of arkor_sync, sockets or other file descriptors open."""
    from arkor_sync._common.clock import Clock  # a frozen clock would not end the wait below

    threads, files = _threads(), _files()
    yield
    deadline = Clock.now() + LEAK_GRACE
    left = _left(threads, files)
    while left and Clock.now() < deadline:
        gc.collect()  # closes what only a reference cycle keeps open
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
    """Return the names of threads and descriptors that did not exist before the test."""
    names = [f"thread {thread.name}{_position(thread)}" for thread in _threads() - threads]
    names += [
        f"{_addresses(number) or target} (descriptor {number})"
        for number, target in _files() - files
    ]
    return sorted(names)


def _threads() -> Set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("arkor-")}


def _position(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    return f", in {frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"


def _files() -> Set[Tuple[int, str]]:
    """Return the open descriptors and their targets; nothing if the system has no such list."""
    found = set()
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                with contextlib.suppress(
                    OSError
                ):  # the descriptor of the folder itself is closed by now
                    found.add((int(name), _target(folder, int(name))))
            break
    return found


def _target(folder: str, number: int) -> str:
    """Return the target of a descriptor, to tell apart two that used the same number."""
    status = os.fstat(number)
    try:
        return os.readlink(f"{folder}/{number}")
    except OSError:
        return f"file {status.st_dev}:{status.st_ino}"


def _addresses(number: int) -> str:
    """Return the addresses of an internet socket; an empty text for other descriptors."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return ""
        with socket.socket(fileno=os.dup(number)) as copy:
            if copy.family not in (socket.AF_INET, socket.AF_INET6):
                return ""
            ends = ["{}:{}".format(*copy.getsockname()[:2])]
            with contextlib.suppress(OSError):
                ends.append("{}:{}".format(*copy.getpeername()[:2]))
            return f"socket {' to '.join(ends)}"
    except OSError:
        return ""  # closed in the meantime
