"""Deployments and their keys: what the TypeScript client sends and reads, this one does."""

from __future__ import annotations

import inspect
from typing import Any, Dict

import pytest

from arkor_sync import (
    AdapterTarget,
    ArkorUsageError,
    BaseModelTarget,
    CloudApiClient,
    ConflictError,
    UnknownTarget,
)
from arkor_sync.cloud.deployment_models import DeploymentKey
from arkor_sync.emulator import Emulator

BODY: Dict[str, Any] = {
    "slug": "support-bot",
    "target": {"kind": "base_model", "baseModel": "m"},
    "authMode": "fixed_api_key",
    "runRetentionMode": "days",
    "runRetentionDays": 30,
}


@pytest.fixture
def client(emulator: Emulator) -> CloudApiClient:
    return emulator.client()


@pytest.fixture
def deployment(emulator: Emulator) -> str:
    return emulator.add_deployment("support-bot", {"kind": "base_model", "baseModel": "m"})


def last(emulator: Emulator, status: int) -> Any:
    """Check what every request of a project has, and return the newest one."""
    sent = emulator.requests[-1]
    headers = {name.lower(): value for name, value in sent.headers.items()}
    assert sent.query == {"orgSlug": emulator.org_slug, "projectSlug": emulator.project_slug}
    assert headers["x-arkor-client"].startswith("arkor/")
    assert sent.token_digest is not None
    assert sent.status == status
    if sent.body is not None:
        assert headers["content-type"] == "application/json"
    return sent


def test_list_asks_the_endpoints_of_the_project(
    emulator: Emulator, client: CloudApiClient, deployment: str
) -> None:
    assert [each.id for each in client.deployments.list()] == [deployment]
    assert (last(emulator, 200).method, last(emulator, 200).path) == ("GET", "/v1/endpoints")


def test_create_sends_its_input_and_nothing_else(
    emulator: Emulator, client: CloudApiClient
) -> None:
    made = client.deployments.create(
        "support-bot", target=BaseModelTarget("m"), auth_mode="fixed_api_key", retention=30
    )
    assert last(emulator, 201).body == BODY
    assert made.to_dict()["target"] == BODY["target"]
    client.deployments.create("another", target=BaseModelTarget("m"), auth_mode="none")
    assert set(last(emulator, 201).body) == {"slug", "target", "authMode"}


def test_an_id_is_encoded_in_the_path(emulator: Emulator, client: CloudApiClient) -> None:
    with pytest.raises(Exception, match="no such deployment"):
        client.deployments.get("a/b c")
    assert last(emulator, 404).route == "get_deployment", "a slash does not end the segment"


def test_update_sends_the_given_fields_and_retargeting_keeps_the_address(
    emulator: Emulator, client: CloudApiClient, deployment: str
) -> None:
    before = client.deployments.get(deployment)
    after = client.deployments.update(deployment, target=AdapterTarget.final("j"))
    sent = last(emulator, 200)
    assert (sent.method, sent.body) == (
        "PATCH",
        {"target": {"kind": "adapter", "adapter": {"kind": "final", "jobId": "j"}}},
    )
    assert (after.slug, after.auth_mode, after.id) == (before.slug, before.auth_mode, before.id)
    assert "slug" not in inspect.signature(client.deployments.update).parameters


def test_delete_and_revoke_answer_with_nothing(
    emulator: Emulator, client: CloudApiClient, deployment: str
) -> None:
    key = client.deployments.keys.create(deployment, "ci")
    calls: Any = (
        lambda: client.deployments.keys.revoke(deployment, key.id),
        lambda: client.deployments.delete(deployment),
    )
    for call in calls:
        assert call() is None
        assert last(emulator, 204).method == "DELETE"


def test_only_a_new_key_has_its_text(
    emulator: Emulator, client: CloudApiClient, deployment: str
) -> None:
    key = client.deployments.keys.create(deployment, "ci")
    assert last(emulator, 201).body == {"label": "ci"}
    assert key.plaintext.startswith("ark_live_")
    (listed,) = client.deployments.keys.list(deployment)
    assert (listed.id, listed.last_used_at) == (key.id, None)
    assert "plaintext" not in listed.to_dict()


def test_the_text_of_a_key_in_a_list_is_removed_and_other_unknown_fields_are_kept() -> None:
    wire = {"id": "k", "label": "ci", "prefix": "p", "enabled": True, "createdAt": "t"}
    read = DeploymentKey.from_dict({**wire, "plaintext": "ark_live_x", "scope": "all"})
    assert read.to_dict() == {**wire, "lastUsedAt": None, "scope": "all"}


def test_a_slug_that_is_taken_is_told_in_the_clouds_words(
    client: CloudApiClient, deployment: str
) -> None:
    with pytest.raises(ConflictError) as caught:
        client.deployments.create("support-bot", target=BaseModelTarget("m"), auth_mode="none")
    assert caught.value.message == "the slug 'support-bot' is already taken"


@pytest.mark.parametrize("retention", ["days", 0, -7, 1.5])
def test_retention_by_days_needs_a_whole_number_of_days(
    emulator: Emulator, client: CloudApiClient, deployment: str, retention: Any
) -> None:
    with pytest.raises(ArkorUsageError, match="retention"):
        client.deployments.update(deployment, retention=retention)
    assert emulator.requests == []


def test_modes_and_kinds_of_a_newer_cloud_can_be_read(
    emulator: Emulator, client: CloudApiClient, deployment: str
) -> None:
    emulator.add_deployment("menu", {"kind": "model_menu"}, runRetentionMode="weeks")
    first, second = client.deployments.list()
    assert first.id == deployment
    assert (second.retention, second.target) == ("weeks", UnknownTarget("model_menu"))
