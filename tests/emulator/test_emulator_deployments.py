from __future__ import annotations

from typing import Any, Dict

import pytest

from arkor_sync.emulator import Emulator
from support.emulator_client import Client

BASE = {"kind": "base_model", "baseModel": "m"}
NEW = {"slug": "support-bot", "target": BASE, "authMode": "none"}


def create(client: Client, **body: Any) -> Dict[str, Any]:
    response = client.post("/v1/endpoints", {**NEW, **body})
    assert response.status_code == 201, response.text
    deployment: Dict[str, Any] = response.json()["deployment"]
    return deployment


def test_the_life_of_a_deployment(emu: Emulator, client: Client) -> None:
    made = create(client)
    assert made == {
        "id": made["id"],
        "slug": "support-bot",
        "orgId": made["orgId"],
        "projectId": emu.project_id,
        "target": BASE,
        "authMode": "none",
        "urlFormat": "openai_compat",
        "enabled": True,
        "customDomain": None,
        "runRetentionMode": "days",
        "runRetentionDays": 7,
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    path = f"/v1/endpoints/{made['id']}"
    assert client.get("/v1/endpoints").json() == {"deployments": [made]}
    assert client.get(path).json() == {"deployment": made}
    assert client.post("/v1/endpoints", NEW).status_code == 409
    change = {"enabled": False, "authMode": "fixed_api_key"}
    changed = client.call("PATCH", path, json=change).json()["deployment"]
    assert changed == {**made, **change, "updatedAt": changed["updatedAt"]}
    unlimited = client.call("PATCH", path, json={"runRetentionMode": "unlimited"}).json()
    assert "runRetentionDays" not in unlimited["deployment"]
    deleted = client.call("DELETE", path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert client.get(path).status_code == 404
    assert client.call("DELETE", path).status_code == 404
    create(client)


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "adapter", "adapter": {"kind": "final", "jobId": "j"}},
        {"kind": "adapter", "adapter": {"kind": "checkpoint", "jobId": "j", "step": 5}},
        {"kind": "model_menu"},
    ],
)
def test_targets(client: Client, target: Dict[str, Any]) -> None:
    assert create(client, target=target)["target"] == target


@pytest.mark.parametrize(
    "body",
    [
        {"slug": "x"},
        {"slug": "-ab"},
        {"slug": "ab-"},
        {"slug": "Ab"},
        {"slug": "a" * 51},
        {"slug": None},
        {"slug": "www"},
        {"authMode": "jwt"},
        {"enabled": "yes"},
        {"target": None},
        {"target": {"kind": "other"}},
        {"target": {"kind": "base_model"}},
        {"target": {"kind": "adapter"}},
        {"target": {"kind": "adapter", "adapter": {"kind": "checkpoint", "jobId": "j"}}},
        {"runRetentionMode": "weeks"},
        {"runRetentionMode": "days"},
        {"runRetentionMode": "days", "runRetentionDays": 0},
        {"runRetentionMode": "days", "runRetentionDays": 1.5},
        {"runRetentionMode": "unlimited", "runRetentionDays": 3},
        {"runRetentionDays": 3},
    ],
)
def test_what_the_cloud_rejects_is_rejected(client: Client, body: Dict[str, Any]) -> None:
    response = client.post("/v1/endpoints", {**NEW, **body})
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize("missing", ["slug", "target", "authMode"])
def test_the_required_fields(client: Client, missing: str) -> None:
    body = {name: value for name, value in NEW.items() if name != missing}
    assert client.post("/v1/endpoints", body).status_code == 400


def test_the_life_of_a_key(client: Client) -> None:
    path = f"/v1/endpoints/{create(client)['id']}/keys"
    assert client.get(path).json() == {"keys": []}
    response = client.post(path, {"label": "  ci  "})
    assert response.status_code == 201
    key = response.json()["key"]
    assert set(key) == {"id", "label", "plaintext", "prefix", "createdAt"}
    assert key["label"] == "ci"
    assert key["plaintext"].startswith("ark_live_")
    assert key["plaintext"].startswith(key["prefix"])
    listed = {name: key[name] for name in ("id", "label", "prefix", "createdAt")}
    listed = {**listed, "enabled": True, "lastUsedAt": None}
    assert client.get(path).json() == {"keys": [listed]}
    assert client.call("DELETE", f"{path}/{key['id']}").status_code == 204
    assert client.get(path).json() == {"keys": [{**listed, "enabled": False}]}
    assert client.call("DELETE", f"{path}/none").status_code == 404
    for label in ("", "  ", "x" * 81, 5, None):
        assert client.post(path, {"label": label}).status_code == 400


def test_a_deployment_of_another_project_does_not_exist(emu: Emulator, client: Client) -> None:
    made = create(client)
    client.post("/v1/projects", {"name": "Other", "slug": "other"})
    scope = {"orgSlug": emu.org_slug, "projectSlug": "other"}
    assert client.get("/v1/endpoints", params=scope).json() == {"deployments": []}
    assert client.get(f"/v1/endpoints/{made['id']}", params=scope).status_code == 404
    assert client.post("/v1/endpoints", NEW, params=scope).status_code == 409
    emu.reset()
    assert client.get("/v1/endpoints").json() == {"deployments": []}
