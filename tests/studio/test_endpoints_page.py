"""The pages of endpoints, without a browser and without JavaScript."""

from __future__ import annotations

import html
import logging
import re
from typing import Any, Dict

import pytest

from arkor_sync.emulator import Emulator, Fault
from arkor_sync.emulator.engine.scripted import ScriptedEngine

HOSTILE = "<script>alert(1)</script>"
MODEL = "model:unsloth/gemma-4-E4B-it"
BASE = {"kind": "base_model", "baseModel": "unsloth/gemma-4-E4B-it"}
NEW = {"slug": "shop", "target": MODEL, "auth_mode": "fixed_api_key", "retention": ""}
KEY = re.compile("ark_live_[0-9a-f]{32}")


def send(web: Any, path: str, form: Dict[str, str], **more: Any) -> Any:
    """Send a form as its page does: with the token of the page."""
    web.get("/endpoints")
    token = web.get_cookie("arkor_studio_form").value
    return web.post(path, data={"form_token": token, **form}, **more)


def finished_job(emulator: Emulator, **kwargs: Any) -> str:
    job = emulator.create_job(ScriptedEngine(steps=4, checkpoints=[2, 4], **kwargs))
    emulator.wait_for(lambda: emulator.jobs[job].status in ("completed", "failed"))
    return job


def page_of(emulator: Emulator, slug: str = "shop") -> str:
    """Return the path of an endpoint's page."""
    return f"/endpoints/{only(emulator, slug).id}"


def only(emulator: Emulator, slug: str = "shop") -> Any:
    found = [each for each in emulator.client().deployments.list() if each.slug == slug]
    assert len(found) == 1
    return found[0]


def problem_at(answer: Any, field: str) -> str:
    """Return what stands at a field, and check that the field names it."""
    found = re.search(f'id="{field}-problem" role="alert">([^<]*)<', answer.text)
    assert found, answer.text
    if field:
        assert answer.text.count(f'"{field}-problem"') >= 1
    return html.unescape(found[1])


def test_the_list_is_empty_at_first(web: Any) -> None:
    answer = web.get("/endpoints")
    assert answer.status_code == 200
    assert "There is no endpoint yet" in answer.text


def test_create(web: Any, emulator: Emulator) -> None:
    answer = send(web, "/endpoints", {**NEW, "retention": "days", "days": "30"})
    assert answer.status_code == 303
    assert answer.location == "/endpoints?created=shop"
    made = only(emulator)
    assert (made.auth_mode, made.retention) == ("fixed_api_key", 30)
    assert made.target.base_model == "unsloth/gemma-4-E4B-it"
    assert "shop is served now" in web.get(answer.location).text


def test_a_new_endpoint_that_is_not_listed_yet(web: Any) -> None:
    text = web.get("/endpoints?created=late-one").text
    assert "data-awaited" in text
    assert "late-one was created, but the cloud does not list it yet" in text


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"slug": "Not A Slug"}, "slug", "2 to 50 characters"),
        ({"slug": "www"}, "slug", "reserved"),
        ({"target": ""}, "target", "a job or a base model"),
        ({"auth_mode": "other"}, "auth_mode", "Choose who"),
        ({"retention": "days", "days": "soon"}, "retention", "whole number of days"),
        ({"retention": "days", "days": "0"}, "retention", "whole number of days"),
        ({"retention": "weeks"}, "", "retention"),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    web: Any, emulator: Emulator, change: Dict[str, str], field: str, problem: str
) -> None:
    answer = send(web, "/endpoints", {**NEW, **change})
    assert answer.status_code == 400
    assert problem in problem_at(answer, field)
    assert f'value="{change.get("slug", "shop")}"' in answer.text  # what was typed is kept
    assert emulator.client().deployments.list() == []


def test_a_slug_that_is_taken(web: Any, emulator: Emulator) -> None:
    emulator.add_deployment("shop", BASE)
    answer = send(web, "/endpoints", NEW)
    assert answer.status_code == 409
    assert "is already taken" in problem_at(answer, "slug")


def test_an_answer_that_is_lost(web: Any, emulator: Emulator) -> None:
    emulator.faults.add(Fault("reset_peer", route="create_deployment"))
    answer = send(web, "/endpoints", NEW)
    assert answer.status_code == 502
    assert "may have been created" in problem_at(answer, "")


def test_the_model_of_a_job(web: Any, emulator: Emulator) -> None:
    job = finished_job(emulator)
    assert f'value="job:{job}"' in web.get("/endpoints").text
    send(web, "/endpoints", {**NEW, "target": f"job:{job}"})
    assert (only(emulator).target.job_id, only(emulator).target.step) == (job, None)
    assert "job, final model" in web.get("/endpoints").text


def test_a_checkpoint_is_chosen_without_javascript(web: Any, emulator: Emulator) -> None:
    job = finished_job(emulator)
    chosen = {**NEW, "target": f"job:{job}"}
    looked = send(web, "/endpoints", {**chosen, "look": "yes"})
    assert looked.status_code == 200
    assert "the checkpoint at step 2" in looked.text
    assert f'name="steps_of" value="job:{job}"' in looked.text
    assert 'value="shop"' in looked.text
    assert emulator.client().deployments.list() == []
    send(web, "/endpoints", {**chosen, "steps_of": f"job:{job}", "step": "2"})
    assert (only(emulator).target.job_id, only(emulator).target.step) == (job, 2)
    assert web.get(f"/jobs/{job}/steps").json == {"steps": [2, 4]}


def test_a_job_s_page_can_offer_its_checkpoint(web: Any, emulator: Emulator) -> None:
    job = finished_job(emulator)
    text = web.get(f"/endpoints?job={job}&step=4").text
    assert f'value="job:{job}" data-status="completed" selected' in text
    assert '<option value="4" selected>' in text


def test_a_step_of_another_job_is_refused(web: Any, emulator: Emulator) -> None:
    job = finished_job(emulator)
    form = {**NEW, "target": f"job:{job}", "steps_of": "job:another", "step": "2"}
    answer = send(web, "/endpoints", form)
    assert "shown for another job" in problem_at(answer, "target")


def test_a_failed_job_has_no_final_model(web: Any, emulator: Emulator) -> None:
    job = finished_job(emulator, fails_at=3)
    answer = send(web, "/endpoints", {**NEW, "target": f"job:{job}"})
    assert answer.status_code == 400
    assert "only a completed job has a final model" in problem_at(answer, "target")
    assert emulator.client().deployments.list() == []


def test_changes(web: Any, emulator: Emulator) -> None:
    emulator.add_deployment("shop", BASE)
    job, path = finished_job(emulator), page_of(emulator)
    for form in (
        {"target": f"job:{job}", "steps_of": f"job:{job}", "step": "4"},
        {"enabled": "no"},
        {"auth_mode": "fixed_api_key"},
        {"retention": "disabled", "days": ""},
    ):
        answer = send(web, path, form)
        assert (answer.status_code, answer.location) == (303, path)
    changed = only(emulator)
    assert (changed.target.job_id, changed.target.step) == (job, 4)
    assert (changed.enabled, changed.auth_mode, changed.retention) == (
        False, "fixed_api_key", "disabled",
    )  # fmt: skip
    send(web, path, {"enabled": "yes"})
    assert only(emulator).enabled


def test_a_change_that_is_wrong(web: Any, emulator: Emulator) -> None:
    emulator.add_deployment("shop", BASE)
    answer = send(web, page_of(emulator), {"retention": "days", "days": "-1"})
    assert answer.status_code == 400
    assert "whole number" in problem_at(answer, "retention")


def test_the_examples_know_the_address_and_whether_a_key_is_needed(
    web: Any, emulator: Emulator
) -> None:
    emulator.add_deployment("shop", BASE)
    text = html.unescape(web.get(page_of(emulator)).text)
    assert f"{emulator.endpoint_url('shop')}/chat/completions" in text
    assert "Authorization" not in text
    send(web, page_of(emulator), {"auth_mode": "fixed_api_key"})
    assert "Authorization: Bearer $ARKOR_KEY" in html.unescape(web.get(page_of(emulator)).text)


def test_a_key_is_shown_once(
    web: Any, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    emulator.add_deployment("shop", BASE)
    path = page_of(emulator)
    answer = send(web, f"{path}/keys", {"label": HOSTILE})
    assert answer.status_code == 200
    assert HOSTILE not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    keys = set(KEY.findall(answer.text))
    assert len(keys) == 1
    key = keys.pop()
    assert key not in str(answer.headers)
    later = web.get(path)
    assert key not in later.text
    assert HOSTILE not in later.text
    assert html.escape(HOSTILE) in later.text
    assert web.get(f"{path}/keys").location == path
    assert key not in caplog.text


def test_nothing_is_asked_once_there_is_a_key_to_lose(web: Any, emulator: Emulator) -> None:
    """An error after the key was issued would hide it for ever."""
    emulator.add_deployment("shop", BASE)
    path = page_of(emulator)
    send(web, f"{path}/keys", {"label": "ci"})
    assert emulator.requests[-1].route == "create_key"


@pytest.mark.parametrize("label", ["", "  ", "x" * 81])
def test_a_label_that_is_wrong(web: Any, emulator: Emulator, label: str) -> None:
    emulator.add_deployment("shop", BASE)
    answer = send(web, f"{page_of(emulator)}/keys", {"label": label})
    assert answer.status_code == 400
    assert "1 to 80 characters" in problem_at(answer, "label")
    assert emulator.client().deployments.keys.list(only(emulator).id) == []


def test_revoke(web: Any, emulator: Emulator) -> None:
    emulator.add_deployment("shop", BASE)
    path, keys = page_of(emulator), emulator.client().deployments.keys
    key = keys.create(only(emulator).id, "ci")
    assert "Revoke ci" in web.get(path).text
    answer = send(web, f"{path}/keys/{key.id}/revoke", {})
    assert (answer.status_code, answer.location) == (303, path)
    assert [each.enabled for each in keys.list(only(emulator).id)] == [False]
    assert "revoked" in web.get(path).text


def test_delete_needs_the_slug(web: Any, emulator: Emulator) -> None:
    emulator.add_deployment("shop", BASE)
    path = page_of(emulator)
    refused = send(web, f"{path}/delete", {"typed": "shoP"})
    assert refused.status_code == 400
    assert "nothing was deleted" in problem_at(refused, "typed")
    assert only(emulator)
    answer = send(web, f"{path}/delete", {"typed": "shop"})
    assert (answer.status_code, answer.location) == (303, "/endpoints")
    assert emulator.client().deployments.list() == []


@pytest.mark.parametrize("suffix", ["", "/keys", "/delete"])
def test_no_form_works_without_its_token(web: Any, emulator: Emulator, suffix: str) -> None:
    emulator.add_deployment("shop", BASE)
    before = only(emulator)
    form = {"label": "ci", "typed": "shop", "enabled": "no"}
    assert web.post(page_of(emulator) + suffix, data=form).status_code == 403
    assert only(emulator) == before
    assert emulator.client().deployments.keys.list(before.id) == []


def test_hostile_texts_of_the_cloud_are_texts(web: Any, emulator: Emulator) -> None:
    emulator.create_job(name=HOSTILE)
    emulator.add_deployment(
        HOSTILE, {"kind": HOSTILE}, authMode=HOSTILE, expiresAt=HOSTILE, customDomain=HOSTILE
    )
    path = page_of(emulator, HOSTILE)
    for text in (web.get("/endpoints").text, web.get(path).text):
        assert HOSTILE not in text
        assert html.escape(HOSTILE) in text
    assert "does not tell at which address" in web.get(path).text  # it is no slug


def test_an_endpoint_that_does_not_exist(web: Any) -> None:
    assert web.get("/endpoints/nothing").status_code == 404
