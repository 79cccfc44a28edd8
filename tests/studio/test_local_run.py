"""The run that a page starts, with real processes: its output, its stop, and that nothing stays."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.studio.local_run import LocalRun, RunView
from arkor_sync.studio.trainer_facts import start_reading, told_by
from support.projects import write_project
from support.waiting import PATIENCE, until

PRINTS = """
trainer = create_trainer(**settings)

@trainer.on_log
def log(ctx):
    print("mine", ctx.step)
"""

HANGS = """
import signal, subprocess, sys, threading

held = os.open("held", os.O_WRONLY)
os.set_inheritable(held, True)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('stubborn'); "
subprocess.Popen([sys.executable, "-c", stubborn + "time.sleep(600)"], close_fds=False)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("hangs")
threading.Event().wait(600)
"""


@pytest.fixture
def local(project: Path) -> Iterator[LocalRun]:
    """Return what starts the project's file."""
    run = LocalRun(Path("trainer.py"))
    yield run
    run.close()
    until(lambda: not [each for each in threading.enumerate() if "arkor-studio" in each.name])


def view(local: LocalRun, most: int = 500) -> RunView:
    found = local.view(0, most)
    assert found is not None
    return found


def until_printed(local: LocalRun, line: str) -> None:
    until(lambda: line in view(local).lines)


def until_ended(local: LocalRun) -> RunView:
    until(lambda: not view(local).running)
    return view(local)


class Pipe:
    """A pipe that the processes of HANGS hold open, until all of them have ended."""

    def __init__(self, folder: Path) -> None:
        os.mkfifo(folder / "held")
        self._reading = os.open(folder / "held", os.O_RDONLY | os.O_NONBLOCK)

    def is_held(self) -> bool:
        try:
            return os.read(self._reading, 1) != b""
        except BlockingIOError:
            return True

    def close(self) -> None:
        os.close(self._reading)


@pytest.fixture
def pipe(project: Path) -> Iterator[Pipe]:
    """Make the pipe, in the project."""
    pipe = Pipe(project)
    yield pipe
    pipe.close()


def test_the_output_comes_while_it_runs(local: LocalRun, project: Path, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=4, manual=True)
    write_project(project, PRINTS)
    assert local.view() is None
    assert local.start()
    job = until(lambda: view(local).job_id)
    emulator.step(job, 2)  # it starts, and logs
    until_printed(local, "mine 1")
    assert view(local).running
    assert not local.start()  # one at a time
    emulator.step(job, 4)
    ended = until_ended(local)
    assert (ended.number, ended.code, ended.leaving) == (1, 0, False)
    assert any(line.startswith(f"job {job} (bot) completed") for line in ended.lines)
    assert emulator.jobs[job].status == "completed"
    last = local.view(most=2)
    assert last is not None
    assert last.lines == ended.lines[-2:]
    assert last.start == len(ended.lines) - 2
    assert local.start()
    assert view(local).number == 2
    assert view(local).job_id != job


def test_stop_following_leaves_the_job(local: LocalRun, project: Path, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    write_project(project, PRINTS)
    local.start()
    until_printed(local, "mine 1")
    local.leave()
    ended = until_ended(local)
    assert (ended.code, ended.leaving) == (143, True)
    assert any(f"job {ended.job_id} goes on" in line for line in ended.lines)
    assert emulator.jobs[str(ended.job_id)].status == "running"
    local.leave()  # it has ended: nothing


def test_a_cancelled_job_ends_the_run(local: LocalRun, project: Path, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    local.start()
    job = until(lambda: view(local).job_id)
    emulator.client().jobs.cancel(job)
    assert until_ended(local).code == 3


def test_the_second_stop_ends_a_callback_that_hangs(
    local: LocalRun, project: Path, emulator: Emulator
) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    code = PRINTS + "    import threading\n    threading.Event().wait(600)\n"
    write_project(project, code)
    local.start()
    until_printed(local, "mine 1")
    local.leave()
    local.leave()
    assert until_ended(local).code == -9


def test_what_the_file_has_started_ends_with_it(local: LocalRun, project: Path, pipe: Pipe) -> None:
    code = "import time\nwhile not os.path.exists('go on'): time.sleep(0.01)\nos._exit(7)"
    write_project(project, HANGS.replace("threading.Event().wait(600)", code))
    local.start()
    until_printed(local, "stubborn")
    assert pipe.is_held()
    (project / "go on").touch()
    assert until_ended(local).code == 7
    until(lambda: not pipe.is_held())


def test_the_end_of_the_server_ends_everything(local: LocalRun, project: Path, pipe: Pipe) -> None:
    write_project(project, HANGS)
    local.start()
    until_printed(local, "hangs")
    until_printed(local, "stubborn")
    assert pipe.is_held()
    local.close()
    until(lambda: not pipe.is_held())
    assert not local.start()


def test_the_end_of_the_server_ends_the_reading_of_a_file(
    local: LocalRun, project: Path, pipe: Pipe
) -> None:
    write_project(project, HANGS)
    assert local.trainer(0.0) is None
    until(pipe.is_held)
    local.close()
    until(lambda: not pipe.is_held())


def test_hostile_output_is_text(local: LocalRun, project: Path) -> None:
    write_project(
        project,
        r"""
import sys
os.write(1, b"\x1b]0;title\x07\x1b[2J<b>bold</b>\xff\n")
sys.stderr.write("from standard error\n")
os.write(1, b"10%\r20%\r\n" + b"x" * 5000)
raise SystemExit
""",
    )
    local.start()
    ended = until_ended(local)
    assert ended.lines[:5] == [
        "<b>bold</b>\ufffd",
        "from standard error",
        "20%",
        "x" * 4000,
        ended.lines[4],
    ]
    assert ended.lines[4].startswith("x" * 1000)
    assert ended.code == 2
    assert ended.job_id is None


@pytest.mark.parametrize("place", ["missing", "outside", "folder", "text"])
def test_only_a_python_file_of_the_directory_is_started(
    project: Path, tmp_path_factory: Any, place: str
) -> None:
    file = project / "other.py"
    if place == "outside":
        target = tmp_path_factory.mktemp("elsewhere") / "trainer.py"
        target.write_text("print('it ran')")
        file.symlink_to(target)
        assert LocalRun(target).file() is None
    elif place == "folder":
        file.mkdir()
    elif place == "text":
        file = project / "other.txt"
        file.write_text("print('it ran')")
    local = LocalRun(file)
    assert local.file() is None
    assert local.trainer(PATIENCE) is None
    assert not local.start()
    assert local.view() is None


def test_a_file_may_be_made_later(project: Path) -> None:
    local = LocalRun(Path("later.py"))
    assert local.file() is None
    (project / "later.py").symlink_to(project / "trainer.py")
    assert local.file() == (project / "trainer.py").resolve()


# -- what the file trains -------------------------------------------------------------------------


def test_what_it_trains_is_told_and_again_when_the_file_has_changed(
    local: LocalRun, project: Path
) -> None:
    facts = local.trainer(PATIENCE)
    assert facts is not None
    assert (facts.name, facts.model, facts.problem) == ("bot", "unsloth/gemma-4-E4B-it", "")
    write_project(project, 'settings["name"] = "the other"\ntrainer = create_trainer(**settings)')
    facts = local.trainer(PATIENCE)
    assert facts is not None
    assert facts.name == "the other"


def test_the_file_is_run_by_another_process_and_once(local: LocalRun, project: Path) -> None:
    code = "trainer = create_trainer(**settings)\nopen('ran', 'a').write(f'{os.getpid()}\\n')"
    write_project(project, code)
    for _ in range(3):
        assert local.trainer(PATIENCE)
    (ran,) = (project / "ran").read_text().splitlines()
    assert int(ran) != os.getpid()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("1 / 0", "trainer.py, line 10: ZeroDivisionError: division by zero"),
        ("trainer = create_arkor()", "the manifest has no trainer"),
        ("raise SystemExit", "the file calls sys.exit() while it is read"),
        ("os._exit(4)", "the process that read the file ended with exit code 4"),
        ("trainer = create_trainer(**settings)\ntrainer.start()", "asks the cloud"),
        ("create_trainer(**settings).wait()", "asks the cloud"),
    ],
)
def test_what_cannot_be_told_is_said(
    local: LocalRun, project: Path, emulator: Emulator, code: str, problem: str
) -> None:
    write_project(project, code)
    facts = local.trainer(PATIENCE)
    assert facts is not None
    assert problem in facts.problem
    assert facts.name == ""
    assert not emulator.jobs  # also of a file that trains while it is read
    assert not emulator.requests


def test_what_the_file_prints_is_no_answer(local: LocalRun, project: Path) -> None:
    code = (
        "trainer = create_trainer(**settings)\nprint('{}')\nos.write(1, b'[')\nos.system('echo 1')"
    )
    write_project(project, code)
    facts = local.trainer(PATIENCE)
    assert facts is not None
    assert facts.name == "bot"


def test_a_file_that_is_never_read_to_its_end_is_given_up(project: Path, pipe: Pipe) -> None:
    write_project(project, HANGS)
    child = start_reading(project / "trainer.py", project)
    until(pipe.is_held)
    assert told_by(child, 0.05).problem == "the file was not read within 0.05 s"
    until(lambda: not pipe.is_held())
