from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.cloud.models import (
    AnonymousToken,
    JobStatus,
    Me,
    Org,
    PersonalOrg,
    Project,
    TrainingJob,
)
from arkor_sync.errors import ResponseError
from support.scripted_cloud import ANONYMOUS, JOB, PROJECT

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_a_job_is_decoded_by_its_wire_names() -> None:
    job = TrainingJob.from_dict({**JOB, "startedAt": "2026-01-01T00:00:01.000Z"})
    assert (job.id, job.org_id, job.project_id) == ("job-1", "org-1", "project-1")
    assert job.created_at == "2026-01-01T00:00:00.000Z"
    assert job.started_at == "2026-01-01T00:00:01.000Z"
    assert job.completed_at is None
    assert job.error is None


@pytest.mark.parametrize("key", ["error", "startedAt", "completedAt"])
def test_null_and_absent_are_the_same(key: str) -> None:
    assert TrainingJob.from_dict({**JOB, key: None}) == TrainingJob.from_dict(JOB)


@pytest.mark.parametrize("status", [each.value for each in JobStatus])
def test_the_known_statuses(status: str) -> None:
    job = TrainingJob.from_dict({**JOB, "status": status})
    assert job.status == JobStatus(status)
    assert job.is_terminal is (status in ("completed", "failed", "cancelled"))
    assert f"{JobStatus(status)}" == status


def test_an_unknown_status_survives_and_is_not_terminal() -> None:
    job = TrainingJob.from_dict({**JOB, "status": "paused"})
    assert job.status == "paused"
    assert not job.is_terminal


def test_a_model_that_cannot_be_trained_any_more_is_decoded() -> None:
    assert TrainingJob.from_dict({**JOB, "config": {"model": "old"}}).config == {"model": "old"}


def test_unknown_keys_are_kept_and_written_back() -> None:
    more: Dict[str, Any] = {"provider": "modal", "extra": {"a": 1}, "org_id": "snake", "x": None}
    job = TrainingJob.from_dict({**JOB, **more})
    assert job.extra == more
    assert job.org_id == "org-1"
    again = job.to_dict()
    assert again == {**JOB, "error": None, "startedAt": None, "completedAt": None, **more}
    assert TrainingJob.from_dict(again) == job
    assert TrainingJob.from_dict(JOB) != job


def test_unknown_keys_of_nested_records_are_kept() -> None:
    data = {**ANONYMOUS, "personalOrg": {**PERSONAL_ORG, "plan": "free"}}
    token = AnonymousToken.from_dict(data)
    assert token.personal_org == PersonalOrg("org-1", "personal", "Personal", {"plan": "free"})
    assert token.to_dict() == data
    me = {
        "user": {"id": "u", "email": None},
        "orgs": [{"id": "o", "slug": "s", "name": None, "p": 1}],
    }
    assert Me.from_dict(me).to_dict() == me


PERSONAL_ORG = {"id": "org-1", "slug": "personal", "name": "Personal"}


@pytest.mark.parametrize("key", sorted(JOB))
def test_a_required_key_of_a_job(key: str) -> None:
    data = {k: v for k, v in JOB.items() if k != key}
    with pytest.raises(ResponseError, match=rf"^job\.{key}: expected .*, got nothing$"):
        TrainingJob.from_dict(data, "job")


@pytest.mark.parametrize("key", sorted(JOB))
@pytest.mark.parametrize("value", [None, 5, True, ["x"]])
def test_a_key_of_the_wrong_type(key: str, value: Any) -> None:
    with pytest.raises(ResponseError, match=rf"^{key}: expected (a string|an object), got "):
        TrainingJob.from_dict({**JOB, key: value})


@pytest.mark.parametrize("config", [{}, {"model": None}, {"model": 5}])
def test_the_model_in_the_config_is_required(config: Any) -> None:
    with pytest.raises(ResponseError, match=r"^jobs\[0\]\.config\.model: expected a string, got"):
        TrainingJob.from_dict({**JOB, "config": config}, "jobs[0]")


@pytest.mark.parametrize("data", [None, [], "x", 5, True])
def test_what_is_not_an_object(data: Any) -> None:
    with pytest.raises(ResponseError, match=r"^job: expected an object, got"):
        TrainingJob.from_dict(data, "job")
    with pytest.raises(ResponseError, match=r"^the answer: expected an object, got"):
        Project.from_dict(data)


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(ResponseError) as caught:
        Me.from_dict({"user": "x" * 1000, "orgs": []})
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("missing", ["id", "slug", "name"])
def test_the_personal_organisation_is_complete(missing: str) -> None:
    org = {k: v for k, v in PERSONAL_ORG.items() if k != missing}
    with pytest.raises(ResponseError, match=rf"^personalOrg\.{missing}: expected"):
        AnonymousToken.from_dict({**ANONYMOUS, "personalOrg": org})


def test_the_kind_of_an_anonymous_token_is_closed() -> None:
    with pytest.raises(ResponseError, match=r"^kind: expected 'cli' or 'web', got str 'app'$"):
        AnonymousToken.from_dict({**ANONYMOUS, "kind": "app"})


def test_a_secret_of_the_wrong_type_is_not_shown() -> None:
    with pytest.raises(ResponseError) as caught:
        AnonymousToken.from_dict({**ANONYMOUS, "token": 987654321})
    assert str(caught.value) == "token: expected a string, got an int"


def test_entries_of_a_list_are_named_by_their_index() -> None:
    with pytest.raises(ResponseError, match=r"^orgs\[1\]\.id: expected a string, got nothing$"):
        Me.from_dict({"user": {}, "orgs": [{"id": "a"}, {}]})


def test_organisations_need_only_an_id() -> None:
    assert Me.from_dict({"user": {}, "orgs": [{"id": "a"}]}).orgs == [Org("a")]


@given(json_values)
def test_nothing_but_a_response_error_comes_out(data: Any) -> None:
    for record in (TrainingJob, AnonymousToken, Me):
        try:
            record.from_dict(data)
        except ResponseError:
            continue
        raise AssertionError(f"{record} was built from {data!r}")


@given(st.sampled_from(sorted(JOB)), json_values)
def test_a_job_is_right_or_refused(key: str, value: Any) -> None:
    try:
        job = TrainingJob.from_dict({**JOB, key: value})
    except ResponseError:
        return
    assert job.to_dict()[key] == value


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_extra_key_goes_round(extra: Dict[str, Any]) -> None:
    data = {**PROJECT, **{k: v for k, v in extra.items() if k not in PROJECT}}
    assert Project.from_dict(data).to_dict() == data


@pytest.mark.parametrize(
    "record",
    [
        TrainingJob.from_dict({**JOB, "x": 1}),
        Project.from_dict(PROJECT),
        AnonymousToken.from_dict(ANONYMOUS),
        Me.from_dict({"user": {}, "orgs": [{"id": "a"}]}),
    ],
)
def test_records_pickle_compare_hash_and_are_frozen(record: Any) -> None:
    again = pickle.loads(pickle.dumps(record))
    assert again == record
    assert hash(again) == hash(record)
    assert replace(record, extra={"other": 1}) != record
    with pytest.raises(FrozenInstanceError):
        record.extra = {}


def test_a_record_does_not_share_its_wire_form() -> None:
    job = TrainingJob.from_dict({**JOB, "config": {"model": "m", "deep": {"list": [1]}}})
    job.to_dict()["config"]["deep"]["list"].append(2)
    assert job.config["deep"] == {"list": [1]}


def test_what_may_be_secret_is_not_shown() -> None:
    source = {"type": "blob", "url": "https://x", "token": "dataset-secret"}
    job = TrainingJob.from_dict(
        {**JOB, "config": {"model": "m", "datasetSource": source}, "k": "s3"}
    )
    assert "dataset-secret" not in repr(job)
    assert "s3" not in repr(job)
    assert str(ANONYMOUS["token"]) not in repr(AnonymousToken.from_dict(ANONYMOUS))


def test_importing_the_client_loads_nothing_heavy() -> None:
    heavy = "{'dataclasses_json', 'marshmallow', 'backoff', 'asyncio'}"
    code = f"import sys, arkor_sync.cloud.client; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
