"""Deployments and their keys. Runs in the connection's thread."""

from __future__ import annotations

import re
import secrets
import uuid
from typing import Any, Dict, Optional

from arkor_sync.emulator.clock import timestamp
from arkor_sync.emulator.http.messages import ApiError, Response, is_integer
from arkor_sync.emulator.http.routing import Call, Route
from arkor_sync.emulator.models import Deployment
from arkor_sync.emulator.routes.resource import Resource

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,48}[a-z0-9]")
RESERVED = frozenset({"www", "api", "admin", "app", "docs", "status"})
DEFAULT_RETENTION = {"runRetentionMode": "days", "runRetentionDays": 7}


class Deployments(Resource):
    """Deployments and their keys. `deployed.py` serves what is deployed."""

    ROUTES = (
        Route("GET", "/v1/endpoints", "list_deployments"),
        Route("POST", "/v1/endpoints", "create_deployment"),
        Route("GET", "/v1/endpoints/:deployment_id", "get_deployment"),
        Route("PATCH", "/v1/endpoints/:deployment_id", "update_deployment"),
        Route("DELETE", "/v1/endpoints/:deployment_id", "delete_deployment"),
        Route("GET", "/v1/endpoints/:deployment_id/keys", "list_keys"),
        Route("POST", "/v1/endpoints/:deployment_id/keys", "create_key"),
        Route("DELETE", "/v1/endpoints/:deployment_id/keys/:key_id", "revoke_key"),
    )

    def list_deployments(self, call: Call) -> Response:
        """List the project's deployments."""
        with self._store.condition:
            found = [
                deployment.wire()
                for deployment in self._store.deployments.values()
                if deployment.project.id == call.scope.id
            ]
        return Response(200, {"deployments": found})

    def create_deployment(self, call: Call) -> Response:
        """Add a deployment; 409 if any org has a deployment with that slug."""
        body = call.request.json_object()
        slug = body.get("slug")
        if not isinstance(slug, str) or not SLUG.fullmatch(slug):
            raise ApiError(400, "slug: expected 2 to 50 characters of a-z, 0-9 and inner hyphens")
        if slug in RESERVED:
            raise ApiError(400, f"slug: {slug!r} is reserved")
        for name in ("target", "authMode"):
            if name not in body:
                raise ApiError(400, f"{name}: required")
        fields = {**DEFAULT_RETENTION, **_checked(body)}
        deployment = self._store.add_deployment(call.scope, slug, fields)
        return Response(201, {"deployment": deployment.wire()})

    def get_deployment(self, call: Call) -> Response:
        """Return a deployment."""
        return Response(200, {"deployment": self._deployment(call).wire()})

    def update_deployment(self, call: Call) -> Response:
        """Change the fields that the body has."""
        deployment = self._deployment(call)
        fields = _checked(call.request.json_object())
        with self._store.condition:
            deployment.fields.update(fields)
            deployment.updated_at = timestamp()
            self._store.notify()
            return Response(200, {"deployment": deployment.wire()})

    def delete_deployment(self, call: Call) -> Response:
        """Remove a deployment and its keys."""
        deployment = self._deployment(call)
        with self._store.condition:
            self._store.deployments.pop(deployment.id, None)
            self._store.notify()
        return Response(204)

    def list_keys(self, call: Call) -> Response:
        """List a deployment's keys, with those that were revoked."""
        return Response(200, {"keys": list(self._deployment(call).keys.values())})

    def create_key(self, call: Call) -> Response:
        """Add a key. Only this response holds its text."""
        deployment = self._deployment(call)
        label = call.request.json_object().get("label")
        if not isinstance(label, str) or not 1 <= len(label.strip()) <= 80:
            raise ApiError(400, "label: expected 1 to 80 characters")
        plaintext = f"ark_live_{secrets.token_hex(16)}"
        shown = {
            "id": str(uuid.uuid4()),
            "label": label.strip(),
            "prefix": plaintext[:17],
            "createdAt": timestamp(),
        }
        with self._store.condition:
            deployment.add_key({**shown, "enabled": True, "lastUsedAt": None}, plaintext)
            self._store.notify()
        return Response(201, {"key": {**shown, "plaintext": plaintext}})

    def revoke_key(self, call: Call) -> Response:
        """Disable a key; it stays in the list."""
        key = self._deployment(call).keys.get(call.params["key_id"])
        if key is None:
            raise ApiError(404, "no such key")
        with self._store.condition:
            key["enabled"] = False
            self._store.notify()
        return Response(204)

    def _deployment(self, call: Call) -> Deployment:
        deployment = self._store.deployments.get(call.params["deployment_id"])
        if deployment is None or deployment.project.id != call.scope.id:
            raise ApiError(404, "no such deployment in this project")
        return deployment


def _checked(body: Dict[str, Any]) -> Dict[str, Any]:
    """Check the fields that a client may set, and return them."""
    if "target" in body:
        _check_target(body["target"])
    if body.get("authMode", "none") not in ("none", "fixed_api_key"):
        raise ApiError(400, "authMode: expected 'none' or 'fixed_api_key'")
    if not isinstance(body.get("enabled", True), bool):
        raise ApiError(400, "enabled: expected a boolean")
    fields: Dict[str, Any] = {
        name: body[name] for name in ("target", "authMode", "enabled") if name in body
    }
    return {**fields, **_retention(body)}


def _check_target(target: Any) -> None:
    kind = target.get("kind") if isinstance(target, dict) else None
    if kind == "model_menu":
        return
    if kind == "base_model":
        if not isinstance(target.get("baseModel"), str) or not target["baseModel"]:
            raise ApiError(400, "target.baseModel: expected a non-empty string")
        return
    if kind != "adapter":
        raise ApiError(400, "target.kind: expected 'adapter', 'base_model' or 'model_menu'")
    adapter = target.get("adapter")
    if (
        not isinstance(adapter, dict)
        or adapter.get("kind") not in ("final", "checkpoint")
        or not isinstance(adapter.get("jobId"), str)
        or (adapter["kind"] == "checkpoint" and not is_integer(adapter.get("step")))
    ):
        raise ApiError(400, "target.adapter: expected kind, jobId and, for a checkpoint, step")


def _retention(body: Dict[str, Any]) -> Dict[str, Any]:
    mode: Optional[str] = body.get("runRetentionMode")
    days: Any = body.get("runRetentionDays")
    if mode not in (None, "unlimited", "disabled", "days"):
        raise ApiError(400, "runRetentionMode: expected 'unlimited', 'disabled' or 'days'")
    if mode == "days":
        if not is_integer(days) or days < 1:
            raise ApiError(400, "runRetentionDays: expected a whole number above 0")
        return {"runRetentionMode": mode, "runRetentionDays": days}
    if days is not None:
        raise ApiError(400, "runRetentionDays: is allowed only with the mode 'days'")
    return {} if mode is None else {"runRetentionMode": mode, "runRetentionDays": None}
