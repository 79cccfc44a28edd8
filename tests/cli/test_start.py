"""`start`: finds the trainer, submits, follows, and its exit code says how the job ended."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any, Tuple

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.command_line import CommandLine
from support.projects import write_project
from support.waiting import PATIENCE, until


def job_of(emulator: Emulator) -> Any:
    (job,) = emulator.jobs.values()
    return job


def read_until(stream: Any, text: str) -> None:
    """Read the lines of a process until one holds a text."""
    assert any(text in line for line in iter(stream.readline, ""))


def test_a_job_that_completes(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=4)
    write_project(
        cli.cwd,
        """
trainer = create_trainer(**settings, max_steps=4)

@trainer.on_log
def log(ctx):
    print("mine", ctx.step)
""",
    )
    ended = cli("start")
    job = job_of(emulator)
    assert ended.stdout.splitlines() == [
        f"job {job.id} (bot) is submitted",
        *(f"mine {step}" for step in range(1, 5)),
        f"job {job.id} (bot) completed: final loss 2.547, 4 steps",
    ]
    first, last = ended.stderr.splitlines()
    assert first == "bot: step 0/4 (0%)"
    assert last.startswith("bot: completed at step 4/4 (100%), loss 2.547, took ")


def test_a_job_that_cannot_be_told_of_goes_on(cli: CommandLine, emulator: Emulator) -> None:
    """The line is printed before the job is followed: a full disk must not hide a paid job."""
    write_project(cli.cwd)
    command = ["sh", "-c", '"$@" >/dev/full', "sh", *cli.program, "start"]
    ended = subprocess.run(
        command, cwd=cli.cwd, env=cli.environment({}), capture_output=True, timeout=PATIENCE
    )
    assert ended.returncode == 1
    job = job_of(emulator)
    assert f"job {job.id} goes on; `arkor-sync jobs follow {job.id}`" in ended.stderr.decode()


def test_json_is_a_recording_and_nothing_else(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=2)
    write_project(
        cli.cwd,
        """
print("at the start")
trainer = create_trainer(**settings)
trainer.on_log(lambda ctx: print("mine", ctx.step))
""",
    )
    ended = cli("start", "--json")
    job = job_of(emulator)
    assert [line["event"] for line in ended.json_lines] == [
        "training.started",
        "training.log",
        "training.log",
        "training.completed",
    ]
    assert [json.loads(line["data"]) for line in ended.json_lines] == job.events
    assert ended.stderr.splitlines() == [
        "at the start",
        f"job {job.id} (bot) is submitted",
        "mine 1",
        "mine 2",
        f"job {job.id} (bot) completed: final loss 2.762, 2 steps",
    ]


def test_detach_prints_the_id_and_leaves(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    write_project(cli.cwd)
    ended = cli("start", "--detach")
    job = job_of(emulator)
    assert (ended.stdout, ended.stderr) == (f"{job.id}\n", "")
    assert cli("start", "--detach", "--json").json["name"] == "bot"
    assert "stream" not in [request.route for request in emulator.requests]


def test_a_manifest_a_factory_and_a_name(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=1)
    write_project(
        cli.cwd,
        """
def arkor():
    return create_arkor(trainer=create_trainer(**{**settings, "name": "made"}))
other = create_trainer(**{**settings, "name": "other"})
""",
    )
    cli("start")
    cli("start", "trainer.py:other")
    assert [job.name for job in emulator.jobs.values()] == ["made", "other"]


def test_a_progress_bar_of_the_trainer_is_not_doubled(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=1)
    write_project(
        cli.cwd,
        """
from arkor_sync.handlers import ProgressBar
trainer = create_trainer(**settings, callbacks=[ProgressBar()])
""",
    )
    assert cli("start").stderr.count("completed at step") == 1


def test_a_callback_that_raises(cli: CommandLine, emulator: Emulator) -> None:
    """The job goes on by the default policy; it is told once, with the line of the error."""
    emulator.engine = ScriptedEngine(silent_at=3)
    write_project(
        cli.cwd,
        """
trainer = create_trainer(**settings)

@trainer.on_log
def log(ctx):
    if ctx.step == 2:
        raise LookupError("no\\x1b[31m such \\n user")
""",
    )
    ended = cli("start", code=1)
    job = job_of(emulator)
    *_, goes_on, error = ended.stderr.splitlines()
    assert goes_on == (
        f"arkor-sync: job {job.id} goes on; `arkor-sync jobs follow {job.id}` attaches to it again "
        "(why this run ended: LookupError)"
    )
    place = cli.cwd.resolve() / "trainer.py"
    assert error == (
        f"arkor-sync: on_log raised at step 2: LookupError: no such user ({place}, line 16, in log)"
    )
    assert ended.stderr.count("attaches to it again") == 1
    assert job.status == "running"


def test_a_callback_that_raises_cancels_the_job(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=3)
    write_project(
        cli.cwd,
        """
from arkor_sync import Action
trainer = create_trainer(**settings, error_policy=ErrorPolicy(otherwise=Action.CANCEL))
trainer.on_log(lambda ctx: 1 / 0)
""",
    )
    ended = cli("start", code=1)
    assert ended.stderr.rstrip().endswith("in <lambda>); the job is being cancelled")
    assert "goes on" not in ended.stderr
    until(lambda: job_of(emulator).status == "cancelled")


@pytest.mark.parametrize("status", [0, 3])
def test_a_callback_that_exits_is_no_success(
    cli: CommandLine, emulator: Emulator, status: int
) -> None:
    emulator.engine = ScriptedEngine(silent_at=3)
    write_project(
        cli.cwd,
        f"""
import sys
trainer = create_trainer(**settings)
trainer.on_log(lambda ctx: sys.exit({status}))
""",
    )
    ended = cli("start", code=1)
    assert f"a callback raised: sys.exit({status}) (" in ended.stderr
    assert ended.stderr.count("attaches to it again") == 1


def test_a_callback_that_waits_too_long_for_another_run(
    cli: CommandLine, emulator: Emulator
) -> None:
    """Its exception is that of `--timeout`, which was not given."""
    emulator.engine = ScriptedEngine(silent_at=3)
    write_project(
        cli.cwd,
        """
from arkor_sync import WaitTimeout
trainer = create_trainer(**settings)

@trainer.on_log
def log(ctx):
    raise WaitTimeout("another")
""",
    )
    ended = cli("start", code=1)
    assert "on_log raised at step 1: WaitTimeout: another (" in ended.stderr


def test_debug_shows_the_whole_traceback(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    write_project(
        cli.cwd, "trainer = create_trainer(**settings)\ntrainer.on_log(lambda ctx: 1 / 0)\n"
    )
    with cli.start("start", "--debug") as process:
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert "Traceback (most recent call last)" in stderr
    assert "ZeroDivisionError: division by zero" in stderr


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("trainer = create_trainer(", r"trainer\.py, line 11: SyntaxError: "),
        ("1 / 0", r"trainer\.py, line 11: ZeroDivisionError: division by zero"),
        ("x = 1", r"it has no `arkor` and no `trainer`\. Give that name to a trainer"),
        ("arkor = create_arkor()", r"the manifest has no trainer; give create_arkor\(trainer="),
        ("arkor = create_arkor(deploy=1)", r"line 11: deploy: it is reserved for a later version"),
        ("trainer = create_trainer(**settings, max_steps=-1)", r"line 11: max_steps: got int -1"),
        ("import sys; sys.exit()", r"the file calls sys\.exit\(\) while it is read"),
    ],
)
def test_a_file_that_cannot_work(
    cli: CommandLine, emulator: Emulator, code: str, told: str
) -> None:
    write_project(cli.cwd, f"\n{code}\n")
    ended = cli("start", code=2)
    assert re.search(told, ended.stderr), ended.stderr
    assert ended.stdout == ""
    assert emulator.requests == []


def test_no_file(cli: CommandLine) -> None:
    ended = cli("start", code=2)
    assert "trainer.py: no such file (trainer.py is the default); give FILE" in ended.stderr


def test_a_timeout_that_is_no_number_of_seconds(cli: CommandLine) -> None:
    assert (
        "timeout: got float -1.0; give a number of seconds"
        in cli("start", "--timeout", "-1", code=2).stderr
    )


def test_the_timeout_counts_the_submission(cli: CommandLine, emulator: Emulator) -> None:
    emulator.faults.add(Fault("stall_before_headers", route="create_job"))
    write_project(cli.cwd)
    ended = cli("start", "--timeout", "0.5", code=5)
    assert "'bot' is still being submitted" in ended.stderr
    assert "may have been created nevertheless; `arkor-sync jobs list` shows it" in ended.stderr


def test_a_job_that_is_stopped_by_its_own_rule(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=3)
    write_project(
        cli.cwd,
        """
trainer = create_trainer(**settings)

@trainer.on_log
def log(ctx):
    raise StopTraining("good enough")
""",
    )
    ended = cli("start", code=3)
    assert ended.stdout.endswith("(bot) stopped: good enough\n")
    assert "goes on" not in ended.stderr


def test_sigterm_lets_the_callback_end(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    write_project(
        cli.cwd,
        """
import time
trainer = create_trainer(**settings)

@trainer.on_log
def log(ctx):
    print("the callback begins", flush=True)
    deadline = time.monotonic() + 60
    while not os.path.exists("go on") and time.monotonic() < deadline:
        time.sleep(0.01)
    print("the callback has ended", flush=True)
""",
    )
    with cli.start("start") as process:
        read_until(process.stdout, "the callback begins")
        process.send_signal(signal.SIGTERM)
        (cli.cwd / "go on").touch()
        stdout, stderr = process.communicate()
    assert process.returncode == 143
    assert "the callback has ended" in stdout
    assert stderr.count("attaches to it again") == 1


def test_a_callback_that_prints_to_nobody(cli: CommandLine, emulator: Emulator) -> None:
    """As in `| head -1`: that is no failure of the callback."""
    emulator.engine = ScriptedEngine(steps=2, manual=True)
    write_project(
        cli.cwd,
        """
trainer = create_trainer(**settings)
trainer.on_log(lambda ctx: print("step", ctx.step, flush=True))
""",
    )
    with cli.start("start") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        emulator.step(*emulator.jobs, 2)
        assert process.stderr is not None
        stderr = process.stderr.read()
    assert process.returncode == 141
    assert "raised" not in stderr
    assert stderr.count("attaches to it again") == 1


def test_ctrl_c_off_a_terminal_asks_nothing(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    write_project(
        cli.cwd,
        """
trainer = create_trainer(**settings)
trainer.on_log(lambda ctx: print("log", flush=True))
""",
    )
    with cli.start("start") as process:
        read_until(process.stdout, "log")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr.count("attaches to it again") == 1
    assert "Cancel job" not in stderr
    assert job_of(emulator).status == "running"


def test_the_reader_of_the_output_leaves(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=3, manual=True)
    write_project(cli.cwd)
    with cli.start("start", "--json") as process:
        until(lambda: emulator.jobs)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        emulator.step(job_of(emulator).id, 3)
        stderr = process.stderr.read()
    assert process.returncode == 141
    assert stderr.count("attaches to it again") == 1


PROJECT = {"ARKOR_ORG": "o", "ARKOR_PROJECT": "p"}
RECORD = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
HERE = "; to train here: `arkor-sync emulator exec -- arkor-sync start`\n"


def test_data_of_this_machine_can_be_trained_on_here(nobody: CommandLine) -> None:
    nobody.variables["ARKOR_CLOUD_API_URL"] = "https://arkor.invalid"
    (nobody.cwd / "train.jsonl").write_text(RECORD)
    settings = "{**settings, 'dataset': os.path.abspath('train.jsonl')}"
    write_project(nobody.cwd, f"trainer = create_trainer(**{settings})\n")
    ended = nobody("start", code=2)
    assert "train.jsonl on this machine, for a cloud that cannot read it" in ended.stderr
    assert ended.stderr.endswith(HERE)


def test_without_a_network_and_an_account_one_can_train_here(nobody: CommandLine) -> None:
    nobody.variables["ARKOR_CLOUD_API_URL"] = "http://127.0.0.1:1"
    write_project(nobody.cwd)
    ended = nobody("start", code=6)
    assert "nobody is signed in, and an anonymous account needs the network; to" in ended.stderr
    assert ended.stderr.endswith(HERE)
    assert "to train here" not in nobody("start", code=6, ARKOR_TOKEN="t", **PROJECT).stderr


@pytest.mark.parametrize("given", ["-1", "nan"])
def test_a_timeout_that_cannot_work_names_the_option(nobody: CommandLine, given: str) -> None:
    ended = nobody("start", "--timeout", given, code=2)
    number = float(given)
    assert f"--timeout: got float {number}; give a number of seconds from 0\n" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--local-model", "m"), "--local-model is for --rehearse"),
        (("--rehearse", "--detach"), "give it without --detach and --timeout"),
        (("--rehearse", "--timeout", "9"), "give it without --detach and --timeout"),
    ],
)
def test_what_a_rehearsal_cannot_do_is_refused(
    nobody: CommandLine, arguments: Tuple[str, ...], says: str
) -> None:
    ended = nobody("start", *arguments, code=2)
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_without_its_libraries_nothing_is_rehearsed(nobody: CommandLine) -> None:
    write_project(nobody.cwd)
    code = (
        "import sys; sys.modules['torch'] = None; from arkor_sync.cli import main; sys.exit(main())"
    )
    ended = replace(nobody, program=(sys.executable, "-c", code))("start", "--rehearse", code=2)
    first, last = ended.stderr.splitlines()
    assert first == "arkor-sync: bot is rehearsed here; nothing is submitted"
    assert "rehearse: LoraEngine needs " in last
    assert ended.stdout == ""
