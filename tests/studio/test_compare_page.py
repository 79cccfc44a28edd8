from __future__ import annotations

import re
from typing import Any, List
from urllib.parse import urlencode

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.extras import need_extra
from support.waiting import until

need_extra("studio")

MANUAL = ScriptedEngine(manual=True)


def url(*jobs: str) -> str:
    return "/compare?" + urlencode([("job", job) for job in jobs])


def text(page: Any) -> str:
    """Return the text of a page, with a blank for each run of tags and white space."""
    return re.sub(r"(<[^>]*>|\s)+", " ", page.text)


def finished(emulator: Emulator, name: str, *, loss: float, **config: Any) -> str:
    engine = ScriptedEngine(
        steps=10, loss=lambda step: loss / step, eval_loss=lambda _: loss + 1, checkpoints=[4, 8]
    )
    job = emulator.create_job(engine, config, name=name)
    until(lambda: emulator.jobs[job].status == "completed")
    return job


def test_jobs_are_compared(web: Any, emulator: Emulator) -> None:
    one = finished(emulator, "one", loss=2.0, learningRate=1e-4, loraR=8)
    other = finished(emulator, "other", loss=3.0, learningRate=2e-4, loraR=8)
    page = web.get(url(one, other))
    assert page.status_code == 200
    assert "2 jobs compared" in text(page)
    assert re.search(r"one completed .{1,20} 10 0\.2 0\.2 10 8 3 3 1 4 ", text(page))
    assert re.search(r"other completed .{1,20} 10 0\.3 0\.3 10 8 4 4 1 4 ", text(page))
    assert " learningRate 0.0001 0.0002 " in text(page)
    assert "loraR" not in page.text
    assert re.search(r" \d+ settings are the same in all", text(page))


def test_without_scripts_the_curves_are_a_picture(web: Any, emulator: Emulator) -> None:
    jobs = [finished(emulator, name, loss=2.0) for name in ("<one>", "two")]
    page = web.get(url(*jobs))
    sources: List[str] = re.findall(r'<img src="([^"]+)"', page.text)
    assert len(sources) == 2
    for source in sources:
        picture = web.get(source.replace("&amp;", "&"))
        assert picture.mimetype == "image/svg+xml"
        assert "&lt;one&gt;" in picture.text
        assert picture.text.count("<path") > 2
    assert web.get("/compare/epoch.svg").status_code == 404


def test_a_job_that_goes_on_is_compared_as_far_as_it_is(web: Any, emulator: Emulator) -> None:
    one, other = (emulator.create_job(MANUAL, name=name) for name in ("one", "other"))
    emulator.step(one, 4)
    page = web.get(url(one, other))
    assert " one running " in text(page)
    assert re.search(r" one running [^a-z]+ s 3 ", text(page))
    assert f'data-job="{one}" data-name="one">' in page.text  # it is not marked as ended


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "none are chosen"), (1, "1 is chosen"), (9, "9 are chosen")],
)
def test_too_few_and_too_many(web: Any, number: int, told: str) -> None:
    page = web.get(url(*map(str, range(number))))
    assert page.status_code == 400
    assert f"2 to 8 jobs can be compared, and {told}" in page.text
    assert 'href="/jobs"' in page.text


def test_the_same_job_twice_is_one(web: Any, emulator: Emulator) -> None:
    job = emulator.create_job(MANUAL)
    assert "1 is chosen" in web.get(url(job, job, "")).text


def test_a_job_that_is_not_there(web: Any, emulator: Emulator) -> None:
    job = emulator.create_job(MANUAL)
    page = web.get(url(job, "<nothing>"))
    assert page.status_code == 404
    assert "no job with the id &lt;nothing&gt;" in page.text


def test_jobs_of_one_name_are_told_apart(web: Any, emulator: Emulator) -> None:
    jobs = [emulator.create_job(MANUAL, name="same") for _ in range(2)]
    page = web.get(url(*jobs))
    assert all(f'data-name="same {job}"' in page.text for job in jobs)


def test_names_and_settings_are_text_and_no_secrets(web: Any, emulator: Emulator) -> None:
    source = {"type": "blob", "url": "https://x/data?sig=secret-1", "token": "secret-2"}
    jobs = [
        emulator.create_job(MANUAL, {"datasetSource": source, "<i>": "<u>"}, name="<script>x"),
        emulator.create_job(MANUAL, name="\u202ename"),
    ]
    page = web.get(url(*jobs))
    assert "&lt;script&gt;x" in page.text
    assert "&lt;i&gt;" in page.text
    assert "&lt;u&gt;" in page.text
    assert "\u202e" not in page.text
    assert "secret-" not in page.text
