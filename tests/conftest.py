"""What every test may rely on: a home directory of its own, and no credentials of this machine."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A machine that stands still for a while is no fault of the example at hand. Developers draw new
# examples at each run; what CI says is about the change.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("patient")

pytest_plugins = ["pytester"]

# Whoever runs the suite in the background, or with nohup, may have SIGINT or SIGHUP ignored, and
# child processes inherit that. Tests that press Ctrl-C or close a terminal need the usual ones.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests: some collect all garbage, many times."""
    # A library that sets up logging when it is imported closes the handlers of pytest. On CPython
    # 3.9 the next record opens the file of one again, which would seem to be a leak of some test.
    logging.getLogger(__name__).warning("all tests are collected")
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def _own_home(_homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `mktemp` of pytest reads the names of all folders that it has made: 10 s for 3,000 tests.
    monkeypatch.setenv("HOME", tempfile.mkdtemp(dir=_homes))
    ours = ("ARKOR_CLOUD_API_URL", "ARKOR_TOKEN", "ARKOR_ORG", "ARKOR_PROJECT", "ARKOR_PROJECT_ID")
    for name in (*ours, "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Let nothing connect but to this machine: a test that needs more is wrong."""
    unguarded = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}

    def guard(name: str) -> None:
        def guarded(self: socket.socket, address: object) -> object:
            host = address[0] if isinstance(address, tuple) else "local"
            if isinstance(host, str) and not host.startswith(("127.", "::1", "local")):
                raise AssertionError(f"a test connected to {host}")
            return unguarded[name](self, address)

        setattr(socket.socket, name, guarded)

    for name in unguarded:
        guard(name)
    yield
    for name, method in unguarded.items():
        setattr(socket.socket, name, method)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """End each test with the threads it began with; the engine's are given a moment to go."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("arkor-"):
            thread.join(10)
            assert not thread.is_alive(), f"{thread.name} is still running"
