"""The exit codes: one table, and each of them seen from a real process."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Callable, List, NamedTuple

import pytest

from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.emulator import Emulator, Fault
from support.command_line import REPOSITORY, CommandLine
from support.waiting import PATIENCE, until


def run(*arguments: str, **variables: str) -> Callable[[CommandLine, Emulator], int]:
    """Run a command to its end."""
    return lambda cli, _: cli(*arguments, code=None, **variables).code


def raises(error: str) -> Callable[[CommandLine, Emulator], int]:
    """Run a command that ends with an exception of the library."""
    lines = ("from arkor_sync import *", "from arkor_sync.errors import *", f"raise {error}")
    program = "\n".join(lines)
    return lambda cli, _: cli.probe(f"exec({program!r})")(code=None).code


def stopped_by(number: signal.Signals) -> Callable[[CommandLine, Emulator], int]:
    """Send a signal to a command that waits for the cloud."""

    def ended(cli: CommandLine, emulator: Emulator) -> int:
        emulator.faults.add(Fault("stall_before_headers", route="cli_config"))
        process = cli.start("doctor")
        until(lambda: emulator.requests)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
        return process.returncode

    return ended


def into(path: str, *arguments: str) -> Callable[[CommandLine, Emulator], int]:
    """Run a command whose output goes to a file."""

    def ended(cli: CommandLine, _: Emulator) -> int:
        with open(path, "w") as file:
            done = subprocess.run(
                [*cli.program, *arguments],
                stdout=file,
                stderr=subprocess.PIPE,
                env=cli.environment({}),
                timeout=PATIENCE,
            )
        return done.returncode

    return ended


def unread(*arguments: str) -> Callable[[CommandLine, Emulator], int]:
    """Run a command whose output nobody reads."""

    def ended(cli: CommandLine, _: Emulator) -> int:
        process = cli.start(*arguments)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.read()
        process.stderr.close()
        assert process.stdin is not None
        process.stdin.close()
        return process.wait(PATIENCE)

    return ended


class Case(NamedTuple):
    code: ExitCode
    what: str
    ended: Callable[[CommandLine, Emulator], int]


CASES: List[Case] = [
    Case(ExitCode.COMPLETED, "all is well", run("doctor")),
    Case(ExitCode.COMPLETED, "help", run("--help")),
    Case(ExitCode.FAILED, "a full disk", into("/dev/full", "completion", "bash")),
    Case(ExitCode.FAILED, "the training failed", raises("TrainingFailedError('x', None)")),
    Case(ExitCode.FAILED, "an exception", raises("RuntimeError('x')")),
    Case(ExitCode.USAGE, "no such command", run("nope")),
    Case(ExitCode.USAGE, "a wrong argument", raises("ArkorUsageError('x')")),
    Case(ExitCode.USAGE, "no project", raises("ProjectStateError('x')")),
    Case(ExitCode.USAGE, "a wrong address", run("doctor", ARKOR_CLOUD_API_URL="nowhere")),
    Case(ExitCode.CANCELLED, "the job is cancelled", raises("TrainingCancelledError('x', None)")),
    Case(ExitCode.SIGN_IN, "a refused token", run("doctor", ARKOR_TOKEN="refused")),
    Case(ExitCode.SIGN_IN, "no credentials", raises("CredentialsError('x')")),
    Case(ExitCode.TIMEOUT, "the time is over", raises("WaitTimeout('x')")),
    Case(ExitCode.CLOUD, "no network", run("doctor", ARKOR_CLOUD_API_URL="http://127.0.0.1:1")),
    Case(ExitCode.CLOUD, "a refused request", raises("CloudApiError(404, 'x')")),
    Case(ExitCode.CLOUD, "a wrong answer", raises("ResponseError('x')")),
    Case(ExitCode.INTERRUPTED, "Ctrl-C", stopped_by(signal.SIGINT)),
    Case(ExitCode.OUTPUT_CLOSED, "nobody reads", unread("doctor")),
    Case(ExitCode.TERMINATED, "SIGTERM", stopped_by(signal.SIGTERM)),
    Case(ExitCode.HUNG_UP, "SIGHUP", stopped_by(signal.SIGHUP)),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.code:d}, {case.what}" for case in CASES])
def test_a_command_ends_with_its_code(case: Case, cli: CommandLine, emulator: Emulator) -> None:
    assert case.ended(cli, emulator) == case.code


def test_each_code_is_in_the_table() -> None:
    assert {case.code for case in CASES} == set(ExitCode)


def test_each_code_is_documented() -> None:
    readme = Path(REPOSITORY, "arkor_sync", "cli", "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| ([a-z -]+) \|", readme, re.MULTILINE)
    documented = {
        int(code): name.replace("-", "_").replace(" ", "_").upper() for code, name in rows
    }
    assert documented == {int(code): code.name for code in ExitCode}
