from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from time import thread_time
from typing import Any, Dict, List

import pytest

from arkor_sync.cloud.models import JobStatus, TrainingJob
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.errors import ArkorConnectionError
from support.extras import need_extra
from support.scripted_cloud import JOB
from support.waiting import shortest

need_extra("studio")

MANUAL = ScriptedEngine(manual=True)


def rows(page: Any) -> List[str]:
    """Return the ids in the table, in order."""
    return [unescape(each) for each in re.findall(r'<tr data-job="([^"]*)"', page.text)]


def names(page: Any) -> List[str]:
    return [unescape(each) for each in re.findall(r'jobs-name"><a [^>]*>([^<]*)</a>', page.text)]


def counts(page: Any) -> Dict[str, str]:
    return dict(re.findall(r'data-count="([^"]*)">([^<]*)<', page.text))


def headers(web: Any, **more: str) -> Dict[str, str]:
    page = web.get("/jobs")
    token = re.search(r'data-form-token="([^"]+)"', page.text)
    assert token
    return {"X-Arkor-Form": token[1], **more}


def job(number: int, **fields: Any) -> TrainingJob:
    made: TrainingJob = replace(TrainingJob.from_dict(JOB), id=f"job-{number:05}", **fields)
    return made


@pytest.fixture
def listed(web: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that says what the cloud lists."""
    from arkor_sync.studio.state import KEY

    studio = web.application.extensions[KEY]

    def say(answer: Any) -> Any:
        def jobs() -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(studio.client.jobs, "list", jobs)
        studio.job_list.forget()
        return web

    return say


def test_the_newest_job_comes_first(web: Any, emulator: Emulator) -> None:
    first = emulator.create_job(MANUAL, name="first")
    emulator.advance(60)
    second = emulator.create_job(MANUAL, name="second")
    page = web.get("/jobs")
    assert rows(page) == [second, first]
    assert names(page) == ["second", "first"]
    assert f'href="/jobs/{first}"' in page.text
    assert "1 to 2 of 2 jobs" in page.text


def test_only_a_job_that_goes_on_can_be_cancelled(web: Any, emulator: Emulator) -> None:
    running, done = (emulator.create_job(MANUAL, name=name) for name in ("goes on", "done"))
    emulator.finish(done, "completed")
    page = web.get("/jobs")
    assert f'href="/jobs/{running}/cancel"' in page.text
    assert f'href="/jobs/{done}/cancel"' not in page.text


@pytest.mark.parametrize("search", ["  Bravo ", "BRAVO", "job-00002", "00002", "rav"])
def test_a_job_is_found_by_its_name_and_by_its_id(listed: Any, search: str) -> None:
    web = listed([job(1, name="alpha"), job(2, name="bravo one")])
    assert rows(web.get("/jobs", query_string={"search": search})) == ["job-00002"]


def test_statuses_are_counted_and_chosen(listed: Any) -> None:
    statuses = ["running", "running", "failed", "paused"]
    web = listed([job(n, status=status, name=f"n{n % 2}") for n, status in enumerate(statuses)])
    page = web.get("/jobs?status=running&status=paused")
    assert sorted(rows(page)) == ["job-00000", "job-00001", "job-00003"]
    assert list(counts(page)) == [*JobStatus, "paused"]
    assert list(counts(page).values()) == ["0", "2", "0", "1", "0", "1"]
    assert counts(web.get("/jobs?search=n1"))["running"] == "1"
    checked = re.findall(r'name="status" value="(\w+)" checked', page.text)
    assert checked == ["running", "paused"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("created", [2, 1, 3]),
        ("-created", [1, 2, 3]),
        ("name", [3, 1, 2]),
        ("-name", [2, 1, 3]),
        ("status", [2, 3, 1]),
        ("duration", [1, 2, 3]),
        ("-duration", [2, 1, 3]),
        ("nonsense", [1, 2, 3]),
    ],
)
def test_the_order(listed: Any, sort: str, expected: List[int]) -> None:
    done = {"status": "completed", "started_at": "2026-01-01T00:00:00Z"}
    web = listed(
        [
            job(1, name="b", created_at="2026-01-03T00:00:00Z",
                **{**done, "status": "failed"}, completed_at="2026-01-01T00:00:05Z"),
            job(2, name="C", created_at="2026-01-02T00:00:00+00:00",
                **done, completed_at="2026-01-01T01:00:00Z"),
            job(3, name="A", created_at="a while ago", status="completed"),
        ]
    )  # fmt: skip
    page = web.get(f"/jobs?sort={sort}")
    assert rows(page) == [f"job-0000{number}" for number in expected]


def test_fifty_are_on_a_page(listed: Any) -> None:
    web = listed([job(n, name="x") for n in range(120)])
    pages = [rows(web.get(f"/jobs?sort=name&page={n}")) for n in (1, 2, 3)]
    assert list(map(len, pages)) == [50, 50, 20]
    assert [each for page in pages for each in page] == [f"job-{n:05}" for n in range(120)]
    last = web.get("/jobs?sort=name&page=99")
    assert rows(last) == pages[2]
    assert "101 to 120 of 120 jobs" in last.text
    for nonsense in ("0", "-1", "x", "9" * 5000, "²"):
        assert rows(web.get(f"/jobs?sort=name&page={nonsense}")) == pages[0]


def test_links_keep_the_search(listed: Any) -> None:
    web = listed([job(n, name="a b&c") for n in range(120)])
    page = web.get("/jobs?search=b%26c&status=queued&sort=name")
    (following,) = re.findall(r'<a class="button" href="([^"]*)" rel="next"', page.text)
    assert rows(web.get(unescape(following)))[0] == "job-00050"
    assert 'aria-sort="ascending"' in page.text
    assert "sort=-name" in page.text


def test_a_name_and_an_error_are_text(listed: Any) -> None:
    hostile = "<script>alert(1)</script>\"'\u202e\x00\ud800"
    web = listed([job(1, name=hostile, error=hostile, status="<b>failed"), job(2, name="\x00")])
    page = web.get("/jobs")
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<b>" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "\u202e" not in page.text
    assert "(no name)" in page.text


def test_an_id_that_is_no_unicode_is_shown(listed: Any) -> None:
    web = listed([replace(job(1), id="a\ud800/b?c#d")])
    assert web.get("/jobs").status_code == 200


def test_there_are_no_jobs_yet(web: Any) -> None:
    page = web.get("/jobs")
    assert "This project has no jobs yet" in page.text
    assert "<table" not in page.text


def test_no_job_matches(listed: Any) -> None:
    page = listed([job(1)]).get("/jobs?search=nothing")
    assert "None of the 1 jobs matches" in page.text


def test_the_cloud_cannot_be_reached(listed: Any) -> None:
    web = listed(ArkorConnectionError("the <network> is down"))
    page = web.get("/jobs")
    assert page.status_code == 200
    assert "the &lt;network&gt; is down" in page.text
    assert "Whether there are jobs is not known" in page.text

    listed([job(1)])
    assert rows(web.get("/jobs")) == ["job-00001"]
    listed(ArkorConnectionError("it is down again"))
    page = web.get("/jobs")
    assert "it is down again" in page.text
    assert "The jobs below are those of" in page.text
    assert rows(page) == ["job-00001"]


def test_a_job_is_cancelled_by_a_form(web: Any, emulator: Emulator) -> None:
    job_id = emulator.create_job(MANUAL, name="to be <cancelled>")
    question = web.get(f"/jobs/{job_id}/cancel")
    assert "Cancel to be &lt;cancelled&gt;?" in question.text
    token = re.search(r'name="form_token" value="([^"]+)"', question.text)
    assert token
    answer = web.post(f"/jobs/{job_id}/cancel", data={"form_token": token[1]})
    assert (answer.status_code, answer.location) == (303, f"/jobs/{job_id}")
    assert "status-cancelled" in web.get("/jobs").text


def test_a_job_is_cancelled_by_a_script(web: Any, emulator: Emulator) -> None:
    job_id = emulator.create_job(MANUAL)
    answer = web.post(f"/jobs/{job_id}/cancel", headers=headers(web, Accept="application/json"))
    assert (answer.status_code, answer.json) == (200, {"status": "cancelled"})
    assert "status-cancelled" in web.get("/jobs").text


def test_a_job_that_has_ended_cannot_be_cancelled(web: Any, emulator: Emulator) -> None:
    job_id = emulator.create_job(MANUAL)
    emulator.finish(job_id, "completed")
    answer = web.post(f"/jobs/{job_id}/cancel", headers=headers(web, Accept="application/json"))
    assert answer.status_code == 409
    assert answer.json["error"]


def test_a_job_is_not_cancelled_without_the_token_of_the_form(web: Any, emulator: Emulator) -> None:
    job_id = emulator.create_job(MANUAL)
    web.get("/jobs")
    assert web.post(f"/jobs/{job_id}/cancel").status_code == 403
    assert web.get(f"/jobs/{job_id}/cancel").status_code == 200
    assert "status-cancelled" not in web.get("/jobs").text


def test_a_job_that_is_not_there_cannot_be_cancelled(web: Any) -> None:
    assert web.get("/jobs/nothing/cancel").status_code == 404
    assert web.post("/jobs/nothing/cancel", headers=headers(web)).status_code == 404


@pytest.mark.parametrize("query", ["", "search=a+job+9&sort=name", "sort=-duration&page=150"])
def test_a_list_of_ten_thousand_jobs_opens_at_once(
    listed: Any, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arkor_sync.studio import job_list

    monkeypatch.setattr(job_list, "_REST", 10_000.0)
    ended = {"status": "completed", "started_at": "2026-01-01T00:01:00.000Z"}
    times = [f"2026-01-01T01:{n // 60 % 60:02}:{n % 60:02}.{n % 1000:03}Z" for n in range(10_000)]
    web = listed(
        [
            job(n, name=f"a job {n}", created_at=time, completed_at=time, **ended)
            for n, time in enumerate(times)
        ]
    )
    web.get("/jobs")

    def opened() -> float:
        start = thread_time()  # a busy machine makes it no longer
        assert len(rows(web.get(f"/jobs?{query}"))) == 50
        return thread_time() - start

    assert shortest(opened, 0.3) < 0.3
