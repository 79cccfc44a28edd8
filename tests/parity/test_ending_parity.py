"""Cancelling and aborting: what is asked of the cloud, and what is not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Callable, Dict, List

import pytest

from arkor_sync import Callbacks, ConflictError, RunAborted, create_trainer, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.waiting import PATIENCE

Make = Callable[..., Any]


def trainer_on(client: Any, **more: Any) -> Any:
    arguments: Dict[str, Any] = {
        "name": "a run",
        "model": "unsloth/gemma-4-E4B-it",
        "dataset": {"type": "huggingface", "name": "owner/repo"},
        "client": client,
        **more,
    }
    return create_trainer(**arguments)


def cancels(emulator: Emulator) -> List[str]:
    return [r.path for r in emulator.requests if r.path.endswith("/cancel")]


def test_a_job_that_is_not_followed_can_be_cancelled(make_emulator: Make, client_of: Make) -> None:
    emulator = make_emulator(ScriptedEngine(manual=True))
    trainer = trainer_on(client_of(emulator))
    job = trainer.start()
    trainer.cancel()
    assert cancels(emulator) == [f"/v1/jobs/{job.id}/cancel"]
    assert emulator.jobs[job.id].status == "cancelled"
    assert trainer.run is None


def test_a_cancel_after_the_end_is_still_asked_for_and_changes_no_result(
    emulator: Emulator, client_of: Make
) -> None:
    trainer = trainer_on(client_of(emulator))
    result = trainer.wait(PATIENCE)
    with pytest.raises(ConflictError):
        trainer.cancel()
    assert len(cancels(emulator)) == 1
    assert trainer.wait(PATIENCE) is result
    assert result.status == "completed"


def test_an_abort_leaves_the_job_alone_and_a_cancel_after_it_stops_it(
    make_emulator: Make, client_of: Make
) -> None:
    emulator = make_emulator(ScriptedEngine(manual=True))
    trainer = trainer_on(client_of(emulator))
    run = trainer.follow()
    run.abort("enough")
    with pytest.raises(RunAborted, match="enough"):
        run.wait(PATIENCE)
    assert cancels(emulator) == []
    assert emulator.jobs[run.job.id].status != "cancelled"
    trainer.cancel()
    assert emulator.jobs[run.job.id].status == "cancelled"
    run.close()


def test_an_aborted_run_can_be_followed_anew(make_emulator: Make, client_of: Make) -> None:
    emulator = make_emulator(ScriptedEngine(steps=2, manual=True))
    steps: List[int] = []
    run = trainer_on(client_of(emulator)).follow()
    run.close()
    job_id = run.job.id
    emulator.step(job_id, 99)
    callbacks = Callbacks(on_log=lambda ctx: steps.append(ctx.step))
    with follow(job_id, client=client_of(emulator), callbacks=callbacks) as again:
        assert again.wait(PATIENCE).status == "completed"
    assert steps == [1, 2]


SCRIPT = """
import signal, sys, threading
from arkor_sync import CloudApiClient, ProjectState, TokenCredentials, create_trainer, follow
from arkor_sync._common import process
process.EXIT_GRACE = 20.0  # seconds: whatever holds it up is not the machine
before = [signal.getsignal(number) for number in signal.valid_signals()]
url, token, org, project, project_id, job_id = sys.argv[1:]
client = CloudApiClient(url, TokenCredentials(token), scope=ProjectState(org, project, project_id))
run = follow(job_id, client=client, abort_event=threading.Event())
assert [signal.getsignal(number) for number in signal.valid_signals()] == before
print("following", flush=True)
"""


def test_an_unfinished_run_does_not_keep_the_process_alive_and_handles_no_signal(
    make_emulator: Make, client_of: Make
) -> None:
    emulator = make_emulator()
    job_id = emulator.create_job(ScriptedEngine(manual=True))
    where = [emulator.url, emulator.token, emulator.org_slug, emulator.project_slug]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, *where, emulator.project_id, job_id],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "following\n")
    assert done.stderr.startswith(f"job {job_id} goes on; follow('{job_id}') attaches to it again")
    assert done.stderr.count("\n") == 1
    assert cancels(emulator) == []
