"""The pytest plugin, as a user's suite sees it: small suites that run inside these tests."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path
from typing import Callable

import pytest

import arkor_sync
import arkor_sync.testing

ROOT = Path(__file__).resolve().parents[2]
Suite = Callable[..., pytest.RunResult]

HEAD = """
import os, socket, sys, threading
import pytest
from arkor_sync import ReconnectPolicy, follow
from arkor_sync.emulator import Fault, ScriptedEngine

QUICK = ReconnectPolicy(base=0.001)

def steps_of(client, emulator, engine=None):
    steps = []
    job_id = emulator.create_job(engine)
    with follow(job_id, client=client, reconnect=QUICK,
                callbacks={"on_log": lambda ctx: steps.append(ctx.step)}) as run:
        run.wait(20)
    return steps
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    # Installed or not, the plugin is loaded once, and no other is.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(arkor_sync.testing, "LEAK_GRACE", 30.0)

    def run(body: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + body)
        return pytester.runpytest_inprocess("-p", "arkor_sync.testing", "--strict-markers")

    return run


@pytest.fixture
def leaks_are_told_soon(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arkor_sync.testing, "LEAK_GRACE", 0.1)


def failure_of(result: pytest.RunResult, **outcomes: int) -> str:
    result.assert_outcomes(**outcomes)
    return "\n".join(result.outlines)


def test_a_test_follows_a_run_on_an_emulator_of_its_own(suite: Suite) -> None:
    result = suite("""
seen = []

@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.arkor(engine=ScriptedEngine(steps=3))
def test_run(arkor_client, arkor_emulator, arkor_no_leaks, n):
    assert arkor_emulator.jobs == {}
    assert steps_of(arkor_client, arkor_emulator) == [1, 2, 3]
    seen.append(arkor_emulator)

def test_each_was_another_one_and_all_are_stopped():
    assert len(set(map(id, seen))) == 2
    for emulator in seen:
        assert repr(emulator) == "<Emulator stopped>"
    assert not [t for t in threading.enumerate() if t.name.startswith("arkor-")]
""")
    result.assert_outcomes(passed=3)


def test_the_client_is_signed_in_and_has_a_project(suite: Suite) -> None:
    result = suite("""
def test_me(arkor_client, arkor_emulator):
    assert arkor_client.me().orgs[0].slug == arkor_emulator.org_slug
    assert arkor_client.jobs.list() == []
""")
    result.assert_outcomes(passed=1)


def test_the_mark_says_what_the_emulator_is_like(suite: Suite) -> None:
    result = suite("""
@pytest.mark.arkor(scenario="fails_at")
def test_scenario(arkor_emulator):
    job_id = arkor_emulator.create_job()
    arkor_emulator.wait_for(lambda: arkor_emulator.jobs[job_id].terminal, timeout=30)
    assert arkor_emulator.jobs[job_id].status == "failed"

@pytest.mark.arkor(engine=ScriptedEngine(steps=5), faults=[Fault("cut_mid_event", event="4")])
def test_faults(arkor_client, arkor_emulator):
    assert steps_of(arkor_client, arkor_emulator) == [1, 2, 3, 4, 5]
    arkor_emulator.assert_resumed_from("3")

@pytest.mark.arkor(framing="close", token="another", speed=10.0)
def test_settings(arkor_emulator):
    assert arkor_emulator.settings.framing == "close"
    assert arkor_emulator.token == "another"
    assert arkor_emulator.clock.speed == 10.0

@pytest.mark.arkor(token="of the class")
class TestClass:
    def test_its_own(self, arkor_emulator):
        assert arkor_emulator.token == "of the class"

    @pytest.mark.arkor(framing="close")
    def test_the_closest_counts_alone(self, arkor_emulator):
        assert arkor_emulator.token == "emulator-token"
""")
    result.assert_outcomes(passed=5)


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("'diverges'", "it takes keywords only, not 'diverges'"),
        ("scenario='divergse'", "unknown scenario 'divergse'; there are: *diverges*"),
        ("scenario='diverges', engine=ScriptedEngine()", "a scenario or an engine, not both"),
        ("framing='chunky'", "framing must be one of chunked, close, not 'chunky'"),
        ("colour='red'", "*unexpected keyword argument 'colour'"),
        ("faults=['cut_clean']", "faults is a list of Fault(...), not of 'cut_clean'"),
        ("faults=[Fault('refuse', route='steam')]", "unknown route 'steam'*stream*"),
    ],
)
def test_a_wrong_mark_is_told_in_one_line(suite: Suite, mark: str, says: str) -> None:
    result = suite(f"""
@pytest.mark.arkor({mark})
def test_it(arkor_emulator):
    pass
""")
    result.assert_outcomes(errors=1)
    pattern = f"@pytest.mark.arkor: *{says}*".replace("[", "[[]")
    result.stdout.fnmatch_lines([pattern])
    assert "Traceback" not in "\n".join(result.outlines)


def test_what_goes_wrong_inside_the_emulator_fails_the_test(suite: Suite) -> None:
    result = suite("""
class Broken(ScriptedEngine):
    def events(self, ticket):
        yield {"type": "training.started"}
        raise KeyError("the engine is broken")

@pytest.mark.arkor(engine=Broken())
def test_it(arkor_client, arkor_emulator):
    assert steps_of(arkor_client, arkor_emulator) == []
""")
    said = failure_of(result, passed=1, errors=1)
    assert "errors inside the emulator: 1" in said
    assert "KeyError: 'the engine is broken'" in said


@pytest.mark.usefixtures("leaks_are_told_soon")
def test_threads_sockets_and_files_that_are_left_are_named(suite: Suite) -> None:
    result = suite("""
kept = []

def test_leaks(arkor_no_leaks, tmp_path):
    stop = threading.Lock()
    stop.acquire()
    def wait_for_ever():
        stop.acquire()
    thread = threading.Thread(target=wait_for_ever, name="arkor-reader-7", daemon=True)
    thread.start()
    while sys._current_frames()[thread.ident].f_code is not wait_for_ever.__code__:
        threading.Event().wait(0.001)
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    kept.extend([stop, thread, server, client, open(tmp_path / "a file.txt", "w")])

def test_tidy_up():
    stop, thread, *files = kept
    stop.release()
    thread.join()
    for each in files:
        each.close()
""")
    said = failure_of(result, passed=2, errors=1)
    assert "left behind:" in said
    assert "thread arkor-reader-7, in wait_for_ever" in said
    assert re.search(r"a file\.txt \(descriptor \d+\)", said)
    assert re.search(r"socket 127\.0\.0\.1:\d+ \(descriptor \d+\)", said)
    assert re.search(r"socket 127\.0\.0\.1:\d+ to 127\.0\.0\.1:\d+ \(descriptor \d+\)", said)


@pytest.mark.usefixtures("leaks_are_told_soon")
def test_a_run_that_is_still_followed_is_a_leak(suite: Suite) -> None:
    result = suite("""
runs = []

@pytest.mark.arkor(engine=ScriptedEngine(silent_at=1))
def test_leaks(arkor_no_leaks, arkor_client, arkor_emulator):
    waits = ReconnectPolicy(base=60)  # for the emulator, which stops
    runs.append(follow(arkor_emulator.create_job(), client=arkor_client, reconnect=waits))

def test_tidy_up():
    runs[0].close()
""")
    said = failure_of(result, passed=2, errors=1)
    assert "thread arkor-reader-" in said
    assert "thread arkor-worker-" in said


def test_what_was_there_before_or_goes_soon_is_no_leak(suite: Suite) -> None:
    result = suite("""
@pytest.fixture(scope="module")
def older():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="arkor-older", daemon=True)
    thread.start()
    with socket.socket():
        yield
    stop.set()
    thread.join()

def test_it(older, arkor_no_leaks):
    here, there = socket.socketpair()
    def wait_for_the_end():
        here.recv(1)
        here.close()
    threading.Thread(target=wait_for_the_end, name="arkor-late", daemon=True).start()
    threading.Timer(0.05, there.close).start()

class Closer:
    def __init__(self):
        self.me = self  # only the collector can free it
        self.files = os.pipe()

    def __del__(self):
        for file in self.files:
            os.close(file)

def test_what_a_cycle_holds_is_collected(arkor_no_leaks):
    Closer()
""")
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "order", ["arkor_emulator, arkor_no_leaks", "arkor_no_leaks, arkor_client"]
)
def test_the_emulator_itself_is_no_leak(suite: Suite, order: str) -> None:
    result = suite(f"""
@pytest.mark.arkor(engine=ScriptedEngine(steps=2))
def test_it({order}, request):
    emulator = request.getfixturevalue("arkor_emulator")
    client = request.getfixturevalue("arkor_client")
    socket.create_connection(("127.0.0.1", emulator.port)).close()
    assert steps_of(client, emulator) == [1, 2]
    emulator.create_job(ScriptedEngine(silent_at=1))
""")
    result.assert_outcomes(passed=1)


def test_a_suite_that_does_not_use_it_runs_as_before(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real start of pytest: every warning an error, and the plugin where pytest looks for it."""
    info = pytester.mkdir("site") / "fake-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\narkor_sync = arkor_sync.testing\n")
    monkeypatch.setenv("PYTHONPATH", f"{info.parent}{os.pathsep}{ROOT}")
    pytester.makepyfile("""
import sys, threading
import pytest

def test_nothing_runs_and_nothing_is_loaded(request):
    assert request.config.pluginmanager.hasplugin("arkor_sync")
    assert "arkor_sync.emulator" not in sys.modules
    assert threading.active_count() == 1

@pytest.mark.arkor(scenario="plateau")
def test_the_mark_is_known():
    assert True
""")
    result = pytester.runpytest_subprocess("-W", "error", "--strict-markers")
    result.assert_outcomes(passed=2)


def test_pytest_finds_the_plugin_by_itself() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    declared = setup["options.entry_points"]["pytest11"].split()
    assert declared == ["arkor_sync", "=", "arkor_sync.testing"]
