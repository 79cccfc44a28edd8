"""`jobs follow` and `jobs logs`: what they print, through cuts too, and that it can be replayed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, List

import pytest

from arkor_sync.cli.app import run as run_command
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine, load_recording
from arkor_sync.stream.reconnect import ReconnectPolicy
from support.command_line import CommandLine
from support.waiting import until

SECRET = "hf_0123456789abcdef"
STEPS = 120
RETRY = b"retry: 100\n\n"  # a tenth of a second, and no whole one, until the stream is opened again


def test_a_job_is_followed_by_its_name(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=3), name="night")
    ended = cli("jobs", "follow", "night")
    assert ended.stdout.splitlines() == [
        f"following job {job} (night)",
        f"job {job} (night) completed: final loss 2.652, 3 steps",
    ]
    assert "night: completed at step 3" in ended.stderr


def test_logs_are_a_line_for_each_event(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(
        ScriptedEngine(
            events=[
                {"type": "training.started", "timestamp": "2026-01-01T00:00:00Z"},
                {"type": "training.log", "timestamp": "t1", "step": 1, "loss": 2.5, "evalLoss": 3},
                {"type": "checkpoint.saved", "timestamp": "t2", "step": 1},
                {
                    "type": "training.failed",
                    "timestamp": "\x1b[31mt3\n\x07",
                    "error": f"no\x1b]0;title\x07 access\nwith {SECRET}abc",
                    "step": 1,
                },
            ]
        )
    )
    ended = cli("jobs", "logs", job)
    assert ended.stdout.splitlines() == [
        "2026-01-01T00:00:00Z training.started",
        "t1 training.log step=1 loss=2.5 evalLoss=3",
        "t2 checkpoint.saved step=1",
        't3 training.failed step=1 error="no access with [hidden]"',
    ]
    assert ended.stderr == ""
    assert cli("jobs", "logs", job, "--follow", code=1).stdout == ended.stdout


def test_logs_of_a_job_that_runs_end(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(silent_at=2))
    until(lambda: len(emulator.jobs[job].log) == 3)
    ended = cli("jobs", "logs", job)
    assert [line.split()[1] for line in ended.stdout.splitlines()] == [
        "training.started",
        "training.log",
        "training.log",
    ]
    assert ended.stderr == (
        f"arkor-sync: job {job} goes on; `arkor-sync jobs follow {job}` attaches to it again "
        "(why this run ended: these were its events so far)\n"
    )


def test_logs_give_up_where_there_is_no_stream(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(silent_at=2))
    emulator.faults.add(Fault("status", route="stream", status=503, retry_after=0, count=None))
    ended = cli("jobs", "logs", job, "--timeout", "1", code=5)
    assert ended.stdout == ""
    assert f"job {job} is still " in ended.stderr


def failing_job(*first: bytes) -> ScriptedEngine:
    """Make an engine whose job fails, after a stream with much that can be lost."""
    events: List[Any] = [
        *first,
        {"type": "training.started", "metadata": {"token": SECRET, "text": "ü \u2028 \ud83d"}},
    ]
    for step in range(1, STEPS + 1):
        event = {"type": "training.log", "step": step, "loss": 1 / step, "extra": [{"a": None}]}
        events.append((event, None) if step % 10 == 0 else event)
        if step % 40 == 0:
            events.append({"type": "checkpoint.saved", "step": step, "artifacts": [{"path": "é"}]})
    events.append({"type": "training.failed", "error": "CUDA out of memory", "step": STEPS})
    return ScriptedEngine(events=events)


def streams_of(emulator: Emulator, job: str) -> int:
    return len([each for each in emulator.requests if (each.route, each.job_id) == ("stream", job)])


def add_cuts(emulator: Emulator, job: str, cuts: int) -> None:
    """Cut the stream at so many events, in the middle of one and between two in turn."""
    emulator.faults.add(
        *(
            Fault(("cut_mid_event", "cut_clean", "reset_peer")[n % 3], job=job, event=str(2 + n))
            for n in range(cuts)
        )
    )


def test_json_through_cuts_is_the_same_and_is_replayed(
    cli: CommandLine, emulator: Emulator, tmp_path: Path
) -> None:
    """What a failed run printed is a scenario: the same events, and the same end."""
    job = emulator.create_job(failing_job(RETRY))
    whole = cli("jobs", "follow", job, "--json", code=1)
    assert len(whole.stdout.splitlines()) == STEPS + 5
    assert SECRET not in whole.stdout
    add_cuts(emulator, job, 3)
    cut = cli("jobs", "follow", job, "--json", code=1)
    assert cut.stdout == whole.stdout
    assert "resume" not in cut.stderr
    assert streams_of(emulator, job) == 5

    path = tmp_path / "run.jsonl"
    path.write_text(whole.stdout, "ascii")
    replayed = emulator.create_job(ScriptedEngine(events=load_recording(path)))
    again = cli("jobs", "follow", replayed, "--json", code=1)
    assert again.stdout == whole.stdout
    assert emulator.jobs[replayed].error == "CUDA out of memory"


@pytest.mark.slow
def test_json_through_a_hundred_cuts(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(failing_job(RETRY))
    whole = cli("jobs", "logs", job, "--json")
    add_cuts(emulator, job, 100)
    cut = cli("jobs", "follow", job, "--json", code=1)
    assert cut.stdout == whole.stdout
    assert "resume" not in cut.stderr
    assert streams_of(emulator, job) == 102


def test_a_hundred_cuts_in_this_process(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("arkor_sync.run.ReconnectPolicy", lambda: ReconnectPolicy(base=0.001))
    job = emulator.create_job(failing_job())
    printed = []
    for cuts in (0, 100):
        add_cuts(emulator, job, cuts)
        assert run_command(["jobs", "follow", job, "--json"]) == 1
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == STEPS + 5
    assert streams_of(emulator, job) == 102


@pytest.mark.parametrize("emits", ["failed", "end", "nothing"])
def test_a_cancelled_job_is_replayed_as_cancelled(
    cli: CommandLine, emulator: Emulator, tmp_path: Path, emits: str
) -> None:
    emulator.settings.cancel_emits = emits
    job = emulator.create_job(ScriptedEngine(silent_at=2))
    until(lambda: len(emulator.jobs[job].log) == 3)
    emulator.client().jobs.cancel(job)
    recorded = cli("jobs", "follow", job, "--json", code=3)
    path = tmp_path / "run.jsonl"
    path.write_text(recorded.stdout, "ascii")
    replayed = emulator.create_job(ScriptedEngine(events=load_recording(path)))
    again = cli("jobs", "follow", replayed, "--json", code=3)
    # The last event is built from the job's record, which is that of the job that is replayed.
    assert again.stdout.replace(replayed, job) == recorded.stdout
    assert emulator.jobs[replayed].status == "cancelled"


def test_follow_ends_with_the_timeout(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(silent_at=1))
    ended = cli("jobs", "follow", job, "--timeout", "0.2", code=5)
    assert f"job {job} is still running" in ended.stderr
    assert ended.stderr.count("attaches to it again (why this run ended: --timeout has") == 1


@pytest.mark.parametrize("command", ["follow", "logs"])
def test_a_job_that_is_not_there(cli: CommandLine, command: str) -> None:
    ended = cli("jobs", command, "night", code=2)
    assert "no job of this project has the id or the name 'night'" in ended.stderr


def test_logs_leave_at_ctrl_c_without_a_question(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(silent_at=1))
    with cli.start("jobs", "logs", job, "-f") as process:
        assert process.stdout is not None
        assert "training.started" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr.count("attaches to it again") == 1


def test_sigterm_ends_follow(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(silent_at=1))
    with cli.start("jobs", "follow", job, "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate()
    assert process.returncode == 143
    assert stderr.count("attaches to it again") == 1


def test_the_reader_of_the_lines_leaves(cli: CommandLine, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=3, manual=True))
    with cli.start("jobs", "logs", job, "--follow") as process:
        emulator.step(job)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        emulator.step(job, 2)
        stderr = process.stderr.read()
    assert process.returncode == 141
    assert stderr.count("attaches to it again") == 1
