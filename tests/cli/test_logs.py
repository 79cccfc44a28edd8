"""What the library logs, as a command shows it."""

from __future__ import annotations

import pytest

from arkor_sync import Callbacks, follow
from arkor_sync.cli.logs import log_to_standard_error
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.waiting import until


def test_the_error_of_a_run_that_is_about_to_be_waited_for_is_told_once(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(ctx: object) -> None:
        raise LookupError("no such user")

    log_to_standard_error()
    job = emulator.create_job(ScriptedEngine(silent_at=3))
    run = follow(job, callbacks=Callbacks(on_log=fail), client=emulator.client())
    until(run.done)
    with pytest.raises(LookupError):
        run.wait()
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "nothing waited" in line] == []
    assert len([line for line in told if f"job {job} goes on" in line]) == 1
