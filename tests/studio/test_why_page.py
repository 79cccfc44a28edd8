"""The page of why, without a browser and without JavaScript, and the switch of a local Arkor."""

from __future__ import annotations

import html
from typing import Any, Iterator

import pytest

from arkor_sync import CloudApiClient, TokenCredentials
from arkor_sync.emulator import Emulator
from arkor_sync.emulator.engine.scripted import ScriptedEngine
from arkor_sync.studio.local_arkor import find_local_arkor
from support.scripted_cloud import ScriptedCloud
from support.waiting import until

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def web(web: Any) -> Iterator[Any]:
    """Close the streams at the end."""
    yield web
    web.application.extensions["arkor_sync.studio"].taps.close()


def cut(web: Any, job: str, **form: Any) -> Any:
    web.get("/jobs")
    token = web.get_cookie("arkor_studio_form").value
    return web.post(f"/jobs/{job}/cut", data={"form_token": token, **form})


def text_of(web: Any, job: str, query: str = "") -> str:
    return html.unescape(web.get(f"/jobs/{job}/why{query}").text)


def running_job(emulator: Emulator, **fields: Any) -> str:
    engine = ScriptedEngine(steps=50, checkpoints=[2], manual=True)
    job = emulator.create_job(engine, **fields)
    emulator.step(job, 4)
    return job


def test_all_is_told_in_plain_words(web: Any, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=4, checkpoints=[2], fails_at=4, error=HOSTILE))
    emulator.wait_for(lambda: emulator.jobs[job].status == "failed")
    raw = web.get(f"/jobs/{job}/why").text
    assert HOSTILE not in raw
    text = html.unescape(raw)
    for each in (
        "The job was created",
        "The training started",
        "2 logs, steps 1 to 2",
        "The checkpoint at step 2 was saved",
        f"The training failed: {HOSTILE}",
        "Studio opened the stream",
    ):
        assert each in text


def test_only_what_is_asked_for_is_shown(web: Any, emulator: Emulator) -> None:
    job = running_job(emulator)
    text = text_of(web, job, "?show=event&show=record")
    assert "The checkpoint at step 2 was saved" in text
    assert "The job was created" in text
    assert "2 logs" not in text
    assert "Studio opened the stream" not in text


def test_a_hostile_name_is_a_text(web: Any, emulator: Emulator) -> None:
    job = running_job(emulator, name=HOSTILE)
    raw = web.get(f"/jobs/{job}/why").text
    assert HOSTILE not in raw
    assert html.escape(HOSTILE) in raw


def test_a_job_that_does_not_exist(web: Any) -> None:
    assert web.get("/jobs/nothing/why").status_code == 404


def test_a_cut_stream_recovers(web: Any, emulator: Emulator) -> None:
    job = running_job(emulator)
    assert "Cut this stream now" in text_of(web, job)
    answer = cut(web, job)
    assert (answer.status_code, answer.location) == (303, f"/jobs/{job}/why")
    assert "It is cut at the next event" in text_of(web, job)
    cut(web, job)  # one is enough
    emulator.step(job, 1)
    until(lambda: "Connected again" in text_of(web, job))
    text = text_of(web, job)
    assert "The stream was cut: " in text
    assert "It was cut 1 time by this switch" in text
    assert "nothing was lost" in text
    assert emulator.faults.fired() == 1


def test_no_switch_for_a_job_that_has_ended(web: Any, emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=2))
    emulator.wait_for(lambda: emulator.jobs[job].status == "completed")
    until(lambda: "is completed" in text_of(web, job))
    assert "Cut this stream now" not in text_of(web, job)


def test_the_switch_needs_the_token_of_the_form(web: Any, emulator: Emulator) -> None:
    job = running_job(emulator)
    assert cut(web, job, form_token="other").status_code == 403
    assert emulator.faults.tally() == []


def test_a_cloud_is_not_even_asked() -> None:
    """It would be an error of the test to connect to another machine."""
    client = CloudApiClient("https://api.arkor.ai", TokenCredentials("a-token"))
    assert find_local_arkor(client) is None


@pytest.mark.parametrize(("status", "content"), [(404, ""), (200, "<html>"), (200, {}), (200, [])])
def test_a_cloud_behind_a_tunnel_is_none(status: int, content: Any) -> None:
    with ScriptedCloud() as cloud:
        cloud.reply(content, status)
        client = CloudApiClient(cloud.url, TokenCredentials("a-token"))
        assert find_local_arkor(client) is None
        assert [each.target for each in cloud.received] == ["/_emulator/health"]
        assert "Authorization" not in cloud.received[0].headers
