"""A job that starts from a checkpoint of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest

from arkor_sync.emulator import Emulator, NgramEngine, ScriptedEngine
from support.counting_engine import CountingEngine, expected, told
from support.emulator_client import CONFIG, Client


def trained(emu: Emulator, **config: Any) -> str:
    job_id = emu.create_job(config={"learningRate": 2e-4, "maxSteps": 12, **config}, name="first")
    emu.wait_for(lambda: emu.jobs[job_id].terminal)
    return job_id


def test_a_branch_is_a_job_that_starts_from_a_checkpoint_of_another() -> None:
    engine = CountingEngine()
    with Emulator(engine) as emu, Client(emu) as client:
        first = trained(emu, batchSize=4)
        branch = emu.branch(
            first, 8, learning_rate=1e-4, save_steps=2, eval_steps={"ratio": 0.5}, batch_size=None
        )
        emu.wait_for(lambda: emu.jobs[branch].terminal)
        record = client.get(f"/v1/jobs/{branch}").json()["job"]
        other = client.get(f"/v1/jobs/{first}").json()["job"]
        expected_config = {
            **other["config"],
            "learningRate": 1e-4,
            "saveSteps": {"steps": 2},
            "evalSteps": {"ratio": 0.5},
            "branchedFrom": {"jobId": first, "step": 8},
        }
        del expected_config["batchSize"]
        assert record["config"] == expected_config
        assert (record["name"], record["projectId"]) == ("first", other["projectId"])
        assert engine.tickets[1].branched_from == (emu.jobs[first].directory, 8)
        assert engine.tickets[0].branched_from is None
        assert emu.jobs[branch].branched_from == (first, 8)
        assert told(emu.jobs[branch]) == expected(12, first=8)
        assert emu.errors == []


def test_a_branch_of_a_branch_names_the_nearest() -> None:
    with Emulator(CountingEngine()) as emu:
        first = trained(emu)
        second = emu.branch(first, 4, name="second")
        emu.wait_for(lambda: emu.jobs[second].terminal)
        third = emu.branch(second, 8)
        assert (emu.jobs[third].branched_from, emu.jobs[third].name) == ((second, 8), "second")


def test_a_branch_is_kept_across_a_restart_and_can_be_made_after_one(tmp_path: Path) -> None:
    with Emulator(CountingEngine(), state_dir=tmp_path) as emu:
        first = trained(emu)
        assert isinstance(emu.engine, CountingEngine)
        emu.engine.allow(9)
        branch = emu.branch(first, 8)
        emu.wait_for(lambda: emu.jobs[branch].step == 9)
    engine = CountingEngine()
    with Emulator(engine, state_dir=tmp_path) as emu:
        assert emu.jobs[branch].branched_from == (first, 8)
        emu.wait_for(lambda: emu.jobs[branch].terminal)
        (resumed,) = engine.tickets
        assert resumed.resumed
        assert resumed.branched_from == (tmp_path / first, 8)
        after = emu.branch(first, 12)
        emu.wait_for(lambda: emu.jobs[after].status == "completed")


def test_a_branch_stays_in_the_project_of_the_other_job() -> None:
    with Emulator(CountingEngine()) as emu, Client(emu) as client:
        other = client.post("/v1/projects", {"name": "Other", "slug": "other"}).json()["project"]
        with Client(emu, orgSlug=emu.org_slug, projectSlug="other") as inside:
            job_id = inside.submit()
        emu.wait_for(lambda: emu.jobs[job_id].terminal)
        branch = emu.branch(job_id, 4)
        assert emu.jobs[branch].project_id == other["id"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rat": 1}, "learning_rat cannot be changed; these can: max_steps, "),
        ({"model": "x"}, "model cannot be changed"),
        ({"lora": {"r": 8}}, "lora cannot be changed"),
        ({"branched_from": None}, "branched_from cannot be changed"),
        ({"learning_rate": "fast"}, "config.learningRate: expected a number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a JSON value, not nan"),
        ({"dataset": object}, "dataset must be a JSON value"),
        ({"dataset": {"type": "file"}}, "config.datasetSource.type: expected"),
        ({"save_steps": -1}, "config.saveSteps.steps: expected a whole number"),
        ({"name": ""}, "name: expected a non-empty string"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_changed_is_said(changes: Dict[str, Any], says: str) -> None:
    with Emulator(CountingEngine()) as emu:
        first = trained(emu)
        with pytest.raises(ValueError, match=f"^{says}"):
            emu.branch(first, 8, **changes)
        assert list(emu.jobs) == [first]


def test_what_cannot_be_branched_is_said(tmp_path: Path) -> None:
    with Emulator(CountingEngine(), state_dir=tmp_path) as emu:
        first = trained(emu)
        with pytest.raises(KeyError, match="there is no job 'unknown'"):
            emu.branch("unknown", 8)
        with pytest.raises(ValueError, match=r"no checkpoint at step 9; there are: 4, 8, 12$"):
            emu.branch(first, 9)
        fixed = emu.create_job(ScriptedEngine(checkpoints=[2]))
        emu.wait_for(lambda: emu.jobs[fixed].terminal)
        with pytest.raises(ValueError, match="ScriptedEngine cannot start a job from a checkpoint"):
            emu.branch(fixed, 2)
    with (
        Emulator(NgramEngine(), state_dir=tmp_path) as emu,
        pytest.raises(ValueError, match="NgramEngine cannot start a job from a checkpoint"),
    ):
        emu.branch(first, 8)

    class Other(CountingEngine):
        pass

    with (
        Emulator(Other(), state_dir=tmp_path) as emu,
        pytest.raises(
            ValueError, match="are those of a CountingEngine, and its engine is a Other now"
        ),
    ):
        emu.branch(first, 8)


def test_a_client_cannot_say_that_its_job_is_a_branch(client: Client) -> None:
    config = {**CONFIG, "branchedFrom": {"jobId": "x", "step": 1}}
    answer = client.post("/v1/jobs", {"name": "run", "config": config})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("config.branchedFrom: ")
