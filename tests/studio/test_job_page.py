"""The page of a job: what the server says of it, also to a browser without scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from typing import Any, Dict

import pytest

from arkor_sync.emulator import ScriptedEngine

HOSTILE = "</title></script><script>alert(1)</script>\u202e\"'><img src=x onerror=alert(2)>"


@pytest.fixture
def finished(emulator: Any) -> str:
    """Return the id of a job that has completed, with two checkpoints."""
    job_id: str = emulator.create_job(
        ScriptedEngine(steps=40, checkpoints=[20, 40], eval_loss=lambda step: 3 / step),
        {"learningRate": 0.25},
        name="first",
    )
    _ended(emulator, job_id)
    return job_id


def _ended(emulator: Any, job_id: str) -> None:
    emulator.wait_for(lambda: emulator.jobs[job_id].status in ("completed", "failed"))


def _text(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    text: str = answer.text
    return text


def test_it_shows_facts_settings_and_the_ways_on(web: Any, finished: str) -> None:
    text = _text(web.get(f"/jobs/{finished}"))
    for shown in ("first", finished, "completed", "unsloth/gemma-4-E4B-it", "learningRate", "0.25"):
        assert shown in text
    links = [unescape(link) for link in re.findall(r'(?:href|src)="([^"]+)"', text)]
    for path in ("", "/why", "/logs.csv", "/saved.html", "/report.html", "/chart.svg"):
        assert not path or f"/jobs/{finished}{path}" in links
    assert f"/playground?job={finished}" in links
    assert f"/prompts?job={finished}" in links
    assert "style=" not in text


def test_a_checkpoint_leads_to_the_playground(web: Any, finished: str) -> None:
    _text(web.get(f"/jobs/{finished}/chart.svg"))  # it has waited for the events
    text = _text(web.get(f"/jobs/{finished}"))
    assert f"/playground?job={finished}&step=20" in unescape(text)
    assert "final" in text  # the artifact


def test_a_job_that_there_is_not(web: Any) -> None:
    for path in ("", "/chart.svg", "/report.html", "/saved.html"):
        assert web.get(f"/jobs/no-such-job{path}").status_code == 404


def test_a_hostile_name_and_error_are_text(web: Any, emulator: Any) -> None:
    engine = ScriptedEngine(steps=3, fails_at=2, error=HOSTILE)
    job_id = emulator.create_job(engine, {"note": HOSTILE}, name=HOSTILE)
    _ended(emulator, job_id)
    for path in ("", "/report.html", "/saved.html", "/chart.svg"):
        text = _text(web.get(f"/jobs/{job_id}{path}"))
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "\u202e" not in text
        assert "alert(1)" in text


def test_secrets_of_the_settings_are_hidden(web: Any, emulator: Any) -> None:
    source = {"type": "blob", "url": "https://someone:hunter2@data.example/x?sig=hunter2"}
    config = {"apiKey": "hunter2", "datasetSource": {**source, "token": "hunter2"}}
    job_id = emulator.create_job(ScriptedEngine(steps=1), config)
    _ended(emulator, job_id)
    for path in ("", "/report.html", "/saved.html"):
        text = _text(web.get(f"/jobs/{job_id}{path}"))
        assert "data.example" in text
        assert "hunter2" not in text


def test_the_chart_is_a_picture_for_browsers_without_scripts(web: Any, finished: str) -> None:
    answer = web.get(f"/jobs/{finished}/chart.svg")
    assert answer.mimetype == "image/svg+xml"
    assert answer.text.startswith("<svg ")
    assert "loss over 40 steps" in answer.text
    assert f'<img class="job-picture" src="/jobs/{finished}/chart.svg"' in _text(
        web.get(f"/jobs/{finished}")
    )


def test_a_report_has_the_values(web: Any, finished: str) -> None:
    answer = web.get(f"/jobs/{finished}/report.html")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert "<b>Step 20</b>, loss 1.42, eval loss 0.15" in _text(answer)


def test_a_saved_run_holds_all_that_it_needs(web: Any, finished: str) -> None:
    answer = web.get(f"/jobs/{finished}/saved.html")
    text = _text(answer)
    assert "attachment" in answer.headers["Content-Disposition"]
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)
    data = _data(text)
    loss, evaluated = data["curves"]
    assert loss["x"] == list(range(1, 41))
    assert loss["y"][19] == pytest.approx(1.41970)
    assert evaluated["y"][0] == 3
    assert data["checkpoints"] == [20, 40]


def test_a_saved_run_allows_its_own_script_and_style_alone(web: Any, finished: str) -> None:
    text = _text(web.get(f"/jobs/{finished}/saved.html"))
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]+)"', text)[0])
    script = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    hashes = [
        base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()
        for each in (*script, *style)
    ]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'"
    )


def test_cancel_needs_the_token_of_the_form(web: Any, emulator: Any) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=5, manual=True))
    emulator.step(job_id)
    text = _text(web.get(f"/jobs/{job_id}"))
    action, token = re.findall(
        r'<form method="post" action="([^"]+)" id="cancel">\s*'
        r'<input type="hidden" name="form_token" value="([^"]+)">',
        text,
    )[0]
    assert web.post(action).status_code == 403
    assert emulator.jobs[job_id].status == "running"
    assert web.post(action, data={"form_token": token}).status_code == 303
    assert emulator.jobs[job_id].status == "cancelled"
    assert 'id="cancel" hidden' in _text(web.get(f"/jobs/{job_id}"))


def _data(text: str) -> Dict[str, Any]:
    data: Dict[str, Any] = json.loads(
        re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)[0]
    )
    return data
