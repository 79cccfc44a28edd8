"""The routes of deployments and their keys, `client.deployments`. Runs on the caller's thread."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Union
from urllib.parse import urlsplit

from arkor_sync._common.arguments import check, refusal
from arkor_sync.cloud.credentials import DEFAULT_BASE_URL
from arkor_sync.cloud.deployment_models import (
    AuthMode,
    Deployment,
    DeploymentKey,
    DeploymentTarget,
    IssuedKey,
    Retention,
    check_label,
    check_slug,
    is_slug,
    retention_fields,
)
from arkor_sync.cloud.fields import check_flag, present
from arkor_sync.cloud.loopback import is_loopback
from arkor_sync.cloud.session import CloudSession, Target
from arkor_sync.cloud.urls import check_id

_TARGET_WANTED = "AdapterTarget.final(job), AdapterTarget.checkpoint(job, step) or BaseModelTarget"


def endpoint_url(base_url: str, slug: str) -> Optional[str]:
    """Return the address of a deployment, as the base URL of an OpenAI-compatible server.

    Args:
        base_url: The cloud.
        slug: The deployment's slug.

    Returns:
        `https://<slug>.arkor.app/v1` for the public cloud, a path below the address of an Arkor on
        this machine, and None for another cloud: it does not tell the address.
    """
    base_url = base_url.strip().rstrip("/")
    if not is_slug(slug):
        return None
    if base_url == DEFAULT_BASE_URL:
        return f"https://{slug}.arkor.app/v1"
    if is_loopback(urlsplit(base_url).hostname or ""):
        return f"{base_url}/deployed/{slug}/v1"
    return None


class Deployments:
    """The routes below `/v1/endpoints`; `client.deployments`.

    Attributes:
        keys: The routes of the keys of a deployment.
    """

    def __init__(self, session: CloudSession) -> None:
        self._session = session
        self.keys = DeploymentKeys(session)

    def list(self) -> List[Deployment]:
        """Read the project's deployments (`GET /v1/endpoints`)."""
        target = self._session.target("endpoints")
        found: List[Deployment] = self._session.request(
            "GET", target, List[Deployment], "deployments"
        )
        return found

    def create(
        self,
        slug: str,
        *,
        target: DeploymentTarget,
        auth_mode: Union[AuthMode, str],
        retention: Optional[Retention] = None,
    ) -> Deployment:
        """Serve a model at an address of its own (`POST /v1/endpoints`).

        It is sent once, but for a client with `retry="all"`.

        Args:
            slug: The first part of the address: 2 to 50 characters of `a-z`, `0-9` and inner
                hyphens. It cannot be changed later.
            target: What is served: `AdapterTarget.final(job)`, `AdapterTarget.checkpoint(job,
                step)` or `BaseModelTarget("...")`.
            auth_mode: `"fixed_api_key"`: whoever calls it needs one of its keys; or `"none"`:
                everybody may call it (`authMode`).
            retention: How long what it is asked is kept: a number of days, `"unlimited"` or
                `"disabled"` (`runRetentionMode`, `runRetentionDays`). None for the cloud's default.

        Raises:
            ArkorUsageError: An argument cannot work; nothing was sent.
            ConflictError: The slug is taken.
            BadRequestError: The slug is reserved, or the target does not exist.
            ArkorConnectionError: The request got no answer. The message says so if the deployment
                may have been created.
        """
        body = {
            "slug": check_slug(slug),
            "target": _target_fields(target),
            "authMode": _checked_mode(auth_mode),
            **retention_fields(retention),
        }
        made: Deployment = self._session.request(
            "POST",
            self._session.target("endpoints"),
            Deployment,
            "deployment",
            body=body,
            lost=f"the deployment {slug!r} may have been created nevertheless; "
            "client.deployments.list() shows it",
        )
        return made

    def get(self, deployment_id: str) -> Deployment:
        """Read a deployment (`GET /v1/endpoints/:id`).

        Args:
            deployment_id: The deployment's id.
        """
        found: Deployment = self._session.request(
            "GET", self._target(deployment_id), Deployment, "deployment"
        )
        return found

    def update(
        self,
        deployment_id: str,
        *,
        target: Optional[DeploymentTarget] = None,
        auth_mode: Union[AuthMode, str, None] = None,
        enabled: Optional[bool] = None,
        retention: Optional[Retention] = None,
    ) -> Deployment:
        """Change a deployment (`PATCH /v1/endpoints/:id`). Its address stays the same.

        Only what is given is sent; all else stays as it is.

        Args:
            deployment_id: The deployment's id.
            target: See `create`.
            auth_mode: See `create`. Its keys stay valid.
            enabled: Whether it answers. One that does not keeps its slug.
            retention: See `create`.

        Raises:
            ArkorUsageError: An argument cannot work, or there is nothing to change; nothing was
                sent.
            NotFoundError: There is no such deployment.
        """
        body = {
            **present(
                target=None if target is None else _target_fields(target),
                authMode=None if auth_mode is None else _checked_mode(auth_mode),
                enabled=check_flag("enabled", enabled),
            ),
            **retention_fields(retention),
        }
        if not body:
            wanted = "target, auth_mode, enabled or retention"
            raise refusal("update", None, wanted, got="nothing to change")
        changed: Deployment = self._session.request(
            "PATCH", self._target(deployment_id), Deployment, "deployment", body=body
        )
        return changed

    def delete(self, deployment_id: str) -> None:
        """Remove a deployment and its keys (`DELETE /v1/endpoints/:id`).

        Args:
            deployment_id: The deployment's id.

        Raises:
            NotFoundError: There is no such deployment.
        """
        self._session.delete(self._target(deployment_id))

    def endpoint_url(self, slug: str) -> Optional[str]:
        """Return the address of a deployment, for `ChatEndpoint` and OpenAI's SDKs; asks nobody.

        Args:
            slug: The deployment's slug.

        Returns:
            `https://<slug>.arkor.app/v1`, or its place in an Arkor on this machine; None for a
            cloud elsewhere, which does not tell it.
        """
        return endpoint_url(self._session.find_address(), slug)

    def _target(self, deployment_id: str) -> Target:
        return self._session.target("endpoints", check_id("deployment_id", deployment_id))


class DeploymentKeys:
    """The routes of the keys of a deployment; `client.deployments.keys`."""

    def __init__(self, session: CloudSession) -> None:
        self._session = session

    def list(self, deployment_id: str) -> List[DeploymentKey]:
        """Read a deployment's keys, also those revoked (`GET /v1/endpoints/:id/keys`).

        Args:
            deployment_id: The deployment's id.
        """
        found: List[DeploymentKey] = self._session.request(
            "GET", self._target(deployment_id), List[DeploymentKey], "keys", secret=True
        )
        return found

    def create(self, deployment_id: str, label: str) -> IssuedKey:
        """Issue a key (`POST /v1/endpoints/:id/keys`).

        It is sent once, but for a client with `retry="all"`.

        Args:
            deployment_id: The deployment's id.
            label: What the key is for, 1 to 80 characters without white space around them.

        Returns:
            The key. Its `plaintext` is never shown again.

        Raises:
            ArkorUsageError: An argument cannot work; nothing was sent.
            ArkorConnectionError: The request got no answer. The message says so if a key may have
                been issued.
        """
        label = check_label(label)
        issued: IssuedKey = self._session.request(
            "POST",
            self._target(deployment_id),
            IssuedKey,
            "key",
            body={"label": label},
            lost="a key may have been issued nevertheless, and nobody has its text; "
            "client.deployments.keys.list() shows it, and keys.revoke() revokes it",
            secret=True,
        )
        return issued

    def revoke(self, deployment_id: str, key_id: str) -> None:
        """Have a key refused from now on (`DELETE /v1/endpoints/:id/keys/:keyId`).

        It stays in the list. The deployment may accept it for a moment longer.

        Args:
            deployment_id: The deployment's id.
            key_id: The key's id.

        Raises:
            NotFoundError: There is no such key.
        """
        self._session.delete(self._target(deployment_id, check_id("key_id", key_id)))

    def _target(self, deployment_id: str, *segments: str) -> Target:
        deployment_id = check_id("deployment_id", deployment_id)
        return self._session.target("endpoints", deployment_id, "keys", *segments)


def _target_fields(target: DeploymentTarget) -> Dict[str, Any]:
    check("target", target, isinstance(target, DeploymentTarget), _TARGET_WANTED)
    return target.to_dict()


def _checked_mode(auth_mode: Union[AuthMode, str]) -> str:
    modes = [mode.value for mode in AuthMode]
    check("auth_mode", auth_mode, auth_mode in modes, " or ".join(map(repr, modes)))
    return AuthMode(auth_mode).value
