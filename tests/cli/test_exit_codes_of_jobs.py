"""The exit codes of the commands that follow a job, as one table."""

from __future__ import annotations

import signal
from typing import Dict, Optional, Tuple

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.command_line import CommandLine
from support.projects import write_project
from support.waiting import until

SILENT = ScriptedEngine(silent_at=1)
LOG_FAILS = "trainer = create_trainer(**settings)\ntrainer.on_log(lambda ctx: 1 / 0)\n"

# What happens: the engine, a fault, more of the environment; and the exit code.
TABLE: Dict[str, Tuple[int, ScriptedEngine, Optional[Fault], Dict[str, str]]] = {
    "completed": (0, ScriptedEngine(steps=1), None, {}),
    "failed": (1, ScriptedEngine(fails_at=1), None, {}),
    "usage": (2, SILENT, None, {"ARKOR_CLOUD_API_URL": "no url"}),
    "cancelled": (3, SILENT, None, {}),
    "sign-in": (4, SILENT, None, {"ARKOR_TOKEN": "wrong"}),
    "timeout": (5, SILENT, None, {}),
    "refused": (6, SILENT, Fault("status", route="stream", status=403, count=None), {}),
    "no network": (6, SILENT, None, {"ARKOR_CLOUD_API_URL": "http://127.0.0.1:1"}),
    "interrupted": (130, SILENT, None, {}),
    "terminated": (143, SILENT, None, {}),
    "hung up": (129, SILENT, None, {}),
}
SIGNALS = {
    "interrupted": signal.SIGINT,
    "terminated": signal.SIGTERM,
    "hung up": signal.SIGHUP,
}


@pytest.mark.parametrize("command", ["start", "follow"])
@pytest.mark.parametrize("row", TABLE)
def test_the_table(cli: CommandLine, emulator: Emulator, row: str, command: str) -> None:
    code, engine, fault, environment = TABLE[row]
    emulator.engine = engine
    if fault is not None:
        emulator.faults.add(fault)
    arguments = ["start"]
    if command == "start":
        write_project(cli.cwd)
    else:
        arguments = ["jobs", "follow", emulator.create_job()]
    if row == "timeout":
        arguments += ["--timeout", "0.5"]
    with cli.start(*arguments, **environment) as process:
        if row in SIGNALS or row == "cancelled":
            until(lambda: any(each.sent for each in emulator.connections()))
        if row in SIGNALS:
            process.send_signal(SIGNALS[row])
        elif row == "cancelled":
            emulator.client().jobs.cancel(*emulator.jobs)
        _, stderr = process.communicate()
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert stderr


@pytest.mark.parametrize(("code", "exit_code"), [(LOG_FAILS, 1), ("1 / 0", 2), ("trainer = 3", 2)])
def test_the_users_own_errors(
    cli: CommandLine, emulator: Emulator, code: str, exit_code: int
) -> None:
    emulator.engine = ScriptedEngine(steps=2)
    write_project(cli.cwd, code)
    cli("start", code=exit_code)
