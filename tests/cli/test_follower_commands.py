"""`follower run` and `follower status`, as processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.command_line import CommandLine
from support.extras import need
from support.waiting import PATIENCE, until

JOBS = """
from pathlib import Path
from arkor_sync import Callbacks, Follower
from arkor_sync.stores.sql import SQLCursorStore

def say(text):
    with open("said.txt", "a") as file:
        file.write(text + "\\n")

def callbacks(job_id):
    return Callbacks(on_log=lambda ctx: say(f"{job_id} {ctx.step}"))

store = SQLCursorStore("sqlite:///jobs.db", ttl=3)
store.create_tables()
follower = Follower(Path("ids.txt").read_text().split, callbacks, store=store, poll=0.2)

def made():
    return follower

number = 7

def breaks():
    return 1 / 0
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=3, manual=True)) as emulator:
        yield emulator


@pytest.fixture
def user(cli: CommandLine) -> CommandLine:
    need("sqlalchemy")
    (cli.cwd / "jobs.py").write_text(JOBS)
    (cli.cwd / "ids.txt").write_text("")
    return cli


def name_jobs(user: CommandLine, emulator: Emulator, number: int) -> List[str]:
    ids = [emulator.create_job() for _ in range(number)]
    (user.cwd / "ids.txt").write_text(" ".join(ids))
    return ids


def said(user: CommandLine) -> List[str]:
    path = user.cwd / "said.txt"
    return path.read_text().splitlines() if path.exists() else []


def rows(user: CommandLine) -> Any:
    return user("follower", "status", "jobs:follower", "--json").json


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("words", [("follower",), ("follower", "run")], ids=["short", "long"])
def test_it_follows_until_a_signal_hands_over_and_exits_with_0(
    user: CommandLine, emulator: Emulator, number: signal.Signals, words: Any
) -> None:
    (job_id,) = name_jobs(user, emulator, 1)
    emulator.step(job_id, 3)
    process = user.start(*words, "jobs:made")
    until(lambda: said(user) == [f"{job_id} 1", f"{job_id} 2"])
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert stdout == ""
    lines = stderr.splitlines()
    begin = f"arkor-sync: following the jobs of jobs:made as process {process.pid} on "
    assert lines[0].startswith(begin)
    assert lines[1] == f"arkor-sync: job {job_id} is followed by this process now"
    handed = f"arkor-sync: job {job_id} is no longer followed by this process"
    assert lines[2:] == [handed, "arkor-sync: no jobs are followed any more"]


@pytest.mark.slow
def test_another_process_goes_on_after_a_kill_and_the_status_says_so(
    user: CommandLine, emulator: Emulator
) -> None:
    first, second = name_jobs(user, emulator, 2)
    for job_id in (first, second):
        emulator.step(job_id, 2)
    killed = user.start("follower", "run", "jobs:follower")
    until(lambda: len(said(user)) == 2)
    found = rows(user)
    name = found["members"][0]["name"]
    assert name.startswith(f"process {killed.pid} on ")
    assert found["members"][0]["jobs"] == 2
    assert found["notFollowed"] == []
    for row in found["jobs"]:
        assert (row["followedBy"], row["epoch"], row["finished"]) == (name, 1, False)
        assert 0 < row["leaseSeconds"] <= 3
        assert row["savedSecondsAgo"] >= 0
    killed.kill()
    killed.communicate(timeout=PATIENCE)
    heir = user.start("follower", "jobs:follower")
    for job_id in (first, second):
        emulator.step(job_id, 99)
    until(lambda: len(said(user)) == 6)
    until(lambda: all(row["finished"] for row in rows(user)["jobs"]))
    heir.send_signal(signal.SIGTERM)
    _, stderr = heir.communicate(timeout=PATIENCE)
    assert heir.returncode == 0, stderr
    assert sorted(said(user)) == sorted(
        f"{job} {step}" for job in (first, second) for step in "123"
    )
    assert [row["epoch"] for row in rows(user)["jobs"]] == [2, 2]


def test_the_status_is_a_list_and_says_what_nobody_follows(
    user: CommandLine, emulator: Emulator
) -> None:
    ids = name_jobs(user, emulator, 2)
    shown = user("follower", "status", "jobs:follower")
    assert shown.stdout.splitlines() == [f"{job_id}\t-\t0\t0\t-" for job_id in ids]
    assert shown.stderr == "2 of 2 jobs that are not finished are followed by nobody\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere:follower", "ModuleNotFoundError: No module named 'nowhere'"),
        ("jobs.py:follower", "No module named 'jobs.py'; 'jobs' is not a package"),
        ("jobs:folower", "the module has no `folower` (did you mean 'follower'?)"),
        ("jobs:number", "it is int 7; give that name to a Follower, or a function without"),
        ("jobs:breaks", "ZeroDivisionError: division by zero (JOBS, line 23, in breaks)"),
        ("broken", "SyntaxError"),
        ("raises", "KeyError: 'SECRET_KEY' (RAISES, line 2)"),
        ("a job:x", "give MODULE:NAME, such as myproject.jobs:follower"),
    ],
)
def test_what_names_no_follower_is_refused_in_a_line(
    user: CommandLine, source: str, says: str
) -> None:
    (user.cwd / "broken.py").write_text("def")
    (user.cwd / "raises.py").write_text("import os\nos.environ['SECRET_KEY']\n")
    for name in ("jobs", "raises"):
        says = says.replace(name.upper() + ",", f"{user.cwd.resolve()}/{name}.py,")
    for command in ("run", "status"):
        ended = user("follower", command, source, code=2)
        assert says in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert ended.stdout == ""
    assert os.listdir(Path(user.cwd)).count("said.txt") == 0


def test_what_a_cloud_that_is_away_makes_it_say(user: CommandLine, emulator: Emulator) -> None:
    (job_id,) = name_jobs(user, emulator, 1)
    process = user.start("follower", "jobs", ARKOR_CLOUD_API_URL="http://127.0.0.1:1")
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert lines[1].startswith(
        f"arkor-sync: job {job_id} cannot be followed yet; it is tried again"
    )
    assert "Connection refused" in lines[1]
