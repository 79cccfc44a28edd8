"""What a job has logged: points, rows, facts and CSV, as a page gets them."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Dict

import pytest

from arkor_sync.emulator import Emulator, Frame, ScriptedEngine
from arkor_sync.studio.pages.series import LARGEST
from support.waiting import until

TIME = "2026-01-02T03:04:{:06.3f}Z"


def log(step: int, **fields: Any) -> Dict[str, Any]:
    return {"type": "training.log", "step": step, "timestamp": TIME.format(step / 4), **fields}


def ended(web: Any, job_id: str) -> None:
    until(lambda: web.get(f"/jobs/{job_id}/facts").json["connection"] == "ended")


def job_of(emulator: Emulator, *events: Any) -> str:
    end = {"type": "training.completed", "artifacts": [], "timestamp": TIME.format(50)}
    return emulator.create_job(ScriptedEngine(events=[*events, end]))


def test_points_byte_by_byte(emulator: Emulator, web: Any) -> None:
    job_id = job_of(
        emulator,
        {"type": "training.started"},
        log(1, loss=2.5, learningRate=0.001),
        log(2, loss=1.25, evalLoss=3, samplesPerSecond=8.5),
        {"type": "checkpoint.saved", "step": 2, "artifacts": []},
    )
    ended(web, job_id)
    answer = web.get(f"/jobs/{job_id}/points")
    tap = answer.json["tap"]
    assert answer.mimetype == "application/json"
    one = '"half_width":0.0,"std":0.0'
    assert answer.text == (
        f'{{"tap":"{tap}","next":5,"total":2,"x_range":[1,2],"series":{{'
        '"loss":[[1,2],[2.5,1.25]],"eval_loss":[[2],[3.0]],"learning_rate":[[1],[0.001]],'
        '"samples_per_second":[[2],[8.5]]},"checkpoints":[[2,2]],"statistics":{'
        '"loss":{"count":2,"mean":1.875,"half_width":7.94112,"std":0.8838834764831844,'
        '"p90":2.5,"p95":2.5,"last":1.25,"best":1.25,"best_step":2},'
        f'"eval_loss":{{"count":1,"mean":3.0,{one},"p90":3.0,"p95":3.0,"last":3.0,"best":3.0,'
        '"best_step":2},'
        f'"samples_per_second":{{"count":1,"mean":8.5,{one},"p90":8.5,"p95":8.5,"last":8.5,'
        '"best":8.5,"best_step":2}}}'
    ).replace("7.94112", repr(answer.json["statistics"]["loss"]["half_width"]))
    assert answer.json["statistics"]["loss"]["half_width"] == pytest.approx(7.941, rel=1e-3)
    by_time = web.get(f"/jobs/{job_id}/points?x=time").json
    assert by_time["series"]["loss"][0] == [0.0, 0.25]
    assert by_time["checkpoints"] == [[2, 0.25]]


def test_an_answer_is_never_larger_than_it_may_be_and_a_zoom_reaches_every_point(
    emulator: Emulator, web: Any
) -> None:
    losses = [1 / 3 + step / 7_000 for step in range(20_000)]
    logs = (
        json.dumps(
            {
                "type": "training.log",
                "step": step,
                "loss": loss,
                "evalLoss": loss + 1 / 9,
                "learningRate": loss / 1e4,
                "samplesPerSecond": loss * 7,
                "epoch": step / 6_001,
            }
        )
        for step, loss in enumerate(losses)
    )
    saved = ({"type": "checkpoint.saved", "step": step, "artifacts": []} for step in range(1000))
    job_id = job_of(emulator, *(Frame(text, None, "training.log") for text in logs), *saved)
    ended(web, job_id)
    for axis in ("step", "epoch", "time"):
        answer = web.get(f"/jobs/{job_id}/points?x={axis}&count=2000")
        assert LARGEST / 2 < len(answer.data) <= LARGEST
        assert len(answer.json["checkpoints"]) <= 200
    seen = {}
    for start in range(0, 20_000, 500):
        part = web.get(f"/jobs/{job_id}/points?from={start}&to={start + 499}&count=600").json
        assert len(json.dumps(part)) < LARGEST * 1.1
        seen.update(zip(*part["series"]["loss"]))
    assert seen == dict(enumerate(losses))


@pytest.mark.parametrize(
    "query", ["x=loss", "from=here", "to=nan", "count=many", "count=", "from=1e999x"]
)
def test_a_question_that_makes_no_sense_is_refused(
    emulator: Emulator, web: Any, query: str
) -> None:
    job_id = job_of(emulator, log(1, loss=1.0))
    assert web.get(f"/jobs/{job_id}/points?{query}").status_code == 400


def test_rows_and_their_filter(emulator: Emulator, web: Any) -> None:
    job_id = job_of(
        emulator,
        {"type": "training.started", "timestamp": TIME.format(0)},
        *(log(step, loss=step / 8, evalLoss=7.0) for step in range(1, 21)),
        {"type": "checkpoint.saved", "step": 20, "artifacts": [], "timestamp": TIME.format(6)},
    )
    ended(web, job_id)
    found = web.get(f"/jobs/{job_id}/rows?count=2").json
    assert (found["total"], found["matching"]) == (23, 23)
    assert found["rows"] == [
        {
            "index": 0,
            "type": "training.started",
            "step": None,
            "time": "2026-01-02T03:04:00.000Z",
            "text": "",
        },
        {
            "index": 1,
            "type": "training.log",
            "step": 1,
            "time": "2026-01-02T03:04:00.250Z",
            "text": "loss 0.1250, eval loss 7.0000",
        },
    ]

    def matching(text: str) -> Any:
        query = {"filter": text, "count": 500}
        found = web.get(f"/jobs/{job_id}/rows", query_string=query).json
        assert found["matching"] == len(found["rows"])
        return [row["index"] for row in found["rows"]]

    assert matching("Checkpoint") == [21]
    assert matching("training.log") == list(range(1, 21))
    assert matching("loss EVAL 12") == [1, 9, 12, 17]  # in 0.1250, 1.1250 and 2.1250; and a step
    assert matching("training.") == [*range(21), 22]
    assert matching("nothing of this kind") == []
    assert web.get(f"/jobs/{job_id}/rows?from=22").json["rows"][0]["type"] == "training.completed"
    assert web.get(f"/jobs/{job_id}/rows?from=99").json["rows"] == []
    assert web.get(f"/jobs/{job_id}/rows?from=inf&count=inf").json["rows"] == []
    assert len(web.get(f"/jobs/{job_id}/rows?count=5000").json["rows"]) == 23


def test_a_filter_reads_only_what_is_new(emulator: Emulator, web: Any) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=10, manual=True))
    emulator.step(job_id, 3)
    url = f"/jobs/{job_id}/rows?filter=training.log"
    until(lambda: web.get(url).json["matching"] == 2)
    emulator.step(job_id, 2)
    until(lambda: web.get(url).json["matching"] == 4)


def test_hostile_texts_are_data(emulator: Emulator, web: Any) -> None:
    evil = "<script>alert(1)</script>\x1b[2J\u202e"
    job_id = emulator.create_job(ScriptedEngine(fails_at=1, error=evil), name=evil)
    ended(web, job_id)
    facts = web.get(f"/jobs/{job_id}/facts")
    assert facts.mimetype == "application/json"
    assert (facts.json["status"], facts.json["name"]) == ("failed", evil)
    rows = web.get(f"/jobs/{job_id}/rows")
    assert rows.mimetype == "application/json"
    assert rows.json["rows"][-1]["text"] == "<script>alert(1)</script>"


def test_facts(emulator: Emulator, web: Any) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=3), {"maxSteps": 3}, name="first")
    ended(web, job_id)
    facts = web.get(f"/jobs/{job_id}/facts").json
    assert facts == {
        "tap": facts["tap"],
        "status": "completed",
        "error": None,
        "name": "first",
        "created_at": facts["created_at"],
        "started_at": facts["started_at"],
        "completed_at": facts["completed_at"],
        "step": 3,
        "total_steps": 3,
        "connection": "ended",
    }
    assert facts["created_at"] <= facts["started_at"] <= facts["completed_at"]


def test_csv_has_every_log(emulator: Emulator, web: Any) -> None:
    job_id = job_of(
        emulator, *(log(step, loss=1 / step, learningRate=-1e-5) for step in range(1, 151))
    )
    answer = web.get(f"/jobs/{job_id}/logs.csv")  # at once: it waits for the end of the job
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"] == f"attachment; filename={job_id}.csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [float(row["loss"]) for row in rows] == [1 / step for step in range(1, 151)]
    assert rows[0] == {
        "timestamp": "2026-01-02T03:04:00.250Z",
        "step": "1",
        "loss": "1.0",
        "eval_loss": "",
        "learning_rate": "-1e-05",
        "epoch": "",
        "samples_per_second": "",
    }


def test_csv_of_a_job_that_goes_on_ends_with_the_newest(emulator: Emulator, web: Any) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=9, manual=True))
    emulator.step(job_id, 5)
    assert len(web.get(f"/jobs/{job_id}/logs.csv").text.splitlines()) == 1 + 4


def test_no_such_job(web: Any) -> None:
    headers = {"Accept": "application/json"}
    for path in ("points", "rows", "facts", "logs.csv"):
        answer = web.get(f"/jobs/nothing/{path}", headers=headers)
        assert answer.status_code == 404
        assert "error" in answer.json
