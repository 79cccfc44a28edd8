"""`deployments` and `keys`: serve a model, and say who may call it. Runs on the caller's thread."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING, Any, Dict, Optional

import click

from arkor_sync._common.text import counted, safe_line
from arkor_sync.cli.client import make_client
from arkor_sync.cli.command import command, group
from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import root

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.deployment_models import Deployment, DeploymentKey, DeploymentTarget

deployments = group(root, "deployments", "Serve a model at an address of its own.")
keys = group(root, "keys", "Issue, list and revoke the keys of a deployment.")


def _retention(_ctx: click.Context, _param: click.Parameter, value: Optional[str]) -> Any:
    """Return the number of days of `7d`, or the name of another mode."""
    if value is not None and re.fullmatch("[1-9][0-9]{0,8}d", value):
        return int(value[:-1])
    if value not in (None, "unlimited", "disabled"):
        wanted = "a number of days from 1, such as 7d, or unlimited or disabled"
        raise click.BadParameter(f"got {safe_line(value)!r}; give {wanted}")
    return value


_job_option = click.option(
    "--job",
    metavar="JOB[@STEP]",
    help="Serve the final model of this job, or its checkpoint at STEP; by id or by name.",
)
_model_option = click.option("--model", metavar="MODEL", help="Serve this base model.")
_auth_choice = click.Choice(["none", "fixed_api_key"])
_retention_option = click.option(
    "--retention",
    metavar="DAYS",
    callback=_retention,
    help="How long the cloud keeps what it was asked: 30d, or unlimited, or disabled (not at all).",
)


@command(
    deployments,
    "list",
    examples="""
    arkor-sync deployments list
    arkor-sync deployments list --json
    """,
)
def list_deployments(output: Output) -> None:
    """List the deployments of the project."""
    found = make_client().deployments.list()
    rows = [each.to_dict() if output.as_json else _facts(each) for each in found]
    output.table(rows, ("slug", "target", "authMode", "enabled", "id"))
    if not found:
        output.note("There is no deployment yet: `arkor-sync deployments create` makes one.")


@command(
    deployments,
    "create",
    examples="""
    arkor-sync deployments create support-bot --job triage-v1
    arkor-sync deployments create support-bot --job triage-v1@50 --retention 30d
    arkor-sync deployments create playground --model unsloth/gemma-4-E4B-it --auth none
    """,
)
@click.argument("slug")
@_job_option
@_model_option
@click.option(
    "--auth",
    type=_auth_choice,
    default="fixed_api_key",
    show_default=True,
    help="fixed_api_key: whoever calls it needs a key, see `arkor-sync keys`; none: everybody may.",
)
@_retention_option
def create(
    output: Output,
    slug: str,
    job: Optional[str],
    model: Optional[str],
    auth: str,
    retention: Any,
) -> None:
    """Serve what a job has trained, or a base model.

    SLUG is the first part of its address: 2 to 50 characters of a-z, 0-9 and inner hyphens. It
    cannot be changed later.
    """
    from arkor_sync.cloud.deployment_models import check_slug
    from arkor_sync.errors import ConflictError

    check_slug(slug)
    if job is None and model is None:
        raise click.UsageError("what is to be served? give --job or --model")
    client = make_client()
    target = _target(client, job, model, output)
    assert target is not None
    try:
        made = client.deployments.create(slug, target=target, auth_mode=auth, retention=retention)
    except ConflictError as error:
        change = f"if it is yours, `arkor-sync deployments update {slug}` changes it"
        hint = f"{error.hint}; {change}" if error.hint else change
        raise ConflictError(
            error.status, error.message, error.code, error.body, error.retry_after, hint
        ) from error
    _show(output, client, made)


@command(
    deployments,
    "show",
    examples="""
    arkor-sync deployments show support-bot
    arkor-sync deployments show support-bot --json
    """,
)
@click.argument("deployment")
def show(output: Output, deployment: str) -> None:
    """Show one deployment, by its slug or its id."""
    client = make_client()
    _show(output, client, _find(client, deployment))


@command(
    deployments,
    "update",
    examples="""
    arkor-sync deployments update support-bot --job triage-v2
    arkor-sync deployments update support-bot --disable
    """,
)
@click.argument("deployment")
@_job_option
@_model_option
@click.option("--auth", type=_auth_choice, help="Who may call it; its keys stay valid.")
@_retention_option
@click.option(
    "--enable/--disable", "enabled", default=None, help="Whether it answers. It keeps its slug."
)
def update(
    output: Output,
    deployment: str,
    job: Optional[str],
    model: Optional[str],
    auth: Optional[str],
    retention: Any,
    enabled: Optional[bool],
) -> None:
    """Change a deployment, by its slug or its id; what is not given stays as it is."""
    if all(each is None for each in (job, model, auth, retention, enabled)):
        raise click.UsageError(
            "nothing to change; give --job, --model, --auth, --retention, --enable or --disable"
        )
    client = make_client()
    target = _target(client, job, model, output)
    found = _find(client, deployment)
    changed = client.deployments.update(
        found.id, target=target, auth_mode=auth, enabled=enabled, retention=retention
    )
    _show(output, client, changed)


@command(
    deployments,
    "delete",
    examples="""
    arkor-sync deployments delete support-bot
    arkor-sync deployments delete support-bot --yes
    """,
)
@click.argument("deployment")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
def delete(output: Output, deployment: str, yes: bool) -> Optional[ExitCode]:
    """Delete a deployment and its keys, by its slug or its id. This cannot be undone.

    In a terminal you have to type its slug.
    """
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("there is no terminal to ask in; give --yes")
    client = make_client()
    found = _find(client, deployment)
    if not yes:
        question = f"This deletes {safe_line(found.slug)} and its keys for good. Type its slug"
        if click.prompt(question, default="", show_default=False, err=True).strip() != found.slug:
            output.note("That is not its slug; nothing was deleted.")
            return ExitCode.FAILED
    client.deployments.delete(found.id)
    if output.as_json:
        output.json({"id": found.id, "slug": found.slug, "deleted": True})
    else:
        output.line(f"deleted {safe_line(found.slug)}")
    return None


@command(
    keys,
    "list",
    examples="""
    arkor-sync keys list support-bot
    arkor-sync keys list support-bot --json
    """,
)
@click.argument("deployment")
def list_keys(output: Output, deployment: str) -> None:
    """List the keys of a deployment, also those revoked. None is shown whole."""
    client = make_client()
    found = client.deployments.keys.list(_find(client, deployment).id)
    rows = [each.to_dict() for each in found]
    output.table(rows, ("id", "label", "prefix", "enabled", "createdAt", "lastUsedAt"))
    if not found:
        output.note("It has no key yet: `arkor-sync keys issue` makes one.")


@command(
    keys,
    "issue",
    examples="""
    arkor-sync keys issue support-bot "our web shop"
    arkor-sync keys issue support-bot ci > key.txt
    """,
)
@click.argument("deployment")
@click.argument("label")
def issue(output: Output, deployment: str, label: str) -> None:
    """Issue a key of a deployment, and print it. It is shown this once, and never again.

    LABEL says what the key is for, in 1 to 80 characters.
    """
    from arkor_sync.cloud.deployment_models import check_label

    check_label(label)
    client = make_client()
    found = _find(client, deployment)
    issued = client.deployments.keys.create(found.id, label)
    if output.as_json:
        output.json(issued.to_dict())
    else:
        output.line(issued.plaintext)
    output.note(
        f"The key {safe_line(issued.label)} ({safe_line(issued.id)}) is shown only this once: "
        "store it now."
    )
    if found.auth_mode == "none":
        output.note("The deployment does not ask for a key: its --auth is none.")
    url = client.deployments.endpoint_url(found.slug)
    if url is not None and not output.as_json:
        output.note(f"Ask it, with the key in $KEY:\n{_curl(url)}")


@command(
    keys,
    "revoke",
    examples="""
    arkor-sync keys revoke support-bot ci
    arkor-sync keys revoke support-bot 7d7e9f0c-5b8c-4b3e-9b52-9e8f1c5c2a10
    """,
)
@click.argument("deployment")
@click.argument("key")
def revoke(output: Output, deployment: str, key: str) -> None:
    """Revoke a key, by its id, its prefix or its label. Whoever has it is refused from then on."""
    client = make_client()
    of = _find(client, deployment)
    found = _find_key(client, of, key)
    client.deployments.keys.revoke(of.id, found.id)
    if output.as_json:
        output.json({**found.to_dict(), "enabled": False})
    else:
        output.line(f"revoked {safe_line(found.label)} ({safe_line(found.id)})")


def _find(client: CloudApiClient, deployment: str) -> Deployment:
    """Return the deployment that an argument names, by its id or its slug."""
    from arkor_sync.errors import ArkorUsageError

    found = client.deployments.list()
    for named in ("id", "slug"):
        for each in found:
            if getattr(each, named) == deployment:
                return each
    raise ArkorUsageError(
        f"no deployment of this project has the slug or the id {safe_line(deployment)!r}; "
        "`arkor-sync deployments list` shows them"
    )


def _find_key(client: CloudApiClient, deployment: Deployment, key: str) -> DeploymentKey:
    """Return the key that an argument names; refuse what several keys have that are accepted."""
    from arkor_sync.errors import ArkorUsageError

    listed = client.deployments.keys.list(deployment.id)
    found = [each for each in listed if each.id == key]
    named = [each for each in listed if key in (each.prefix, each.label)]
    found = found or [each for each in named if each.enabled] or named[:1]
    slug = safe_line(deployment.slug)
    if not found:
        raise ArkorUsageError(
            f"no key of {slug} has the id, the prefix or the label {safe_line(key)!r}; "
            f"`arkor-sync keys list {slug}` shows them"
        )
    if len(found) > 1:
        ids = ", ".join(safe_line(each.id) for each in found[:5])
        what = counted(len(found), "key")
        raise ArkorUsageError(
            f"{what} of {slug} have the label {safe_line(key)!r}: {ids}; give the id of one"
        )
    return found[0]


def _target(
    client: CloudApiClient, job: Optional[str], model: Optional[str], output: Output
) -> Optional[DeploymentTarget]:
    from arkor_sync.cli.chat_target import find_adapter
    from arkor_sync.cloud.deployment_models import AdapterTarget, BaseModelTarget
    from arkor_sync.cloud.job_config import SUPPORTED_MODELS

    if job is not None and model is not None:
        raise click.UsageError("--job and --model name two things to serve; give one of them")
    if model is not None:
        if model not in SUPPORTED_MODELS:
            known = ", ".join(SUPPORTED_MODELS)
            output.note(
                f"{safe_line(model)!r} is not a model that can be trained ({known}); the cloud "
                "decides whether it can serve it"
            )
        return BaseModelTarget(model)
    if job is None:
        return None
    adapter = find_adapter(client, job, output).body["adapter"]
    return AdapterTarget(adapter["jobId"], adapter.get("step"))


def _show(output: Output, client: CloudApiClient, deployment: Deployment) -> None:
    url = client.deployments.endpoint_url(deployment.slug)
    if output.as_json:
        shown = deployment.to_dict()
        output.json(shown if url is None else {"url": url, **shown})
    else:
        facts = _facts(deployment)
        output.facts({"id": facts.pop("id"), "slug": facts.pop("slug"), "url": url, **facts})


def _curl(url: str) -> str:
    """Return a command for a shell that asks a deployment; it reads the key from `$KEY`."""
    header = '-H "Authorization: Bearer $KEY"'
    body = '{"messages": [{"role": "user", "content": "Hello"}]}'
    address = shlex.quote(f"{url}/chat/completions")
    return f"curl {address} {header} -H 'Content-Type: application/json' -d '{body}'"


def _facts(deployment: Deployment) -> Dict[str, Any]:
    """Return what people see of a deployment."""
    wire = deployment.to_dict()
    names = ("id", "slug", "target", "authMode", "enabled", "customDomain", "retention")
    days = deployment.retention
    wire["target"] = _name_of(deployment.target)
    wire["retention"] = counted(days, "day") if isinstance(days, int) else days
    return {name: wire.get(name) for name in (*names, "expiresAt", "createdAt", "updatedAt")}


def _name_of(target: DeploymentTarget) -> str:
    from arkor_sync.cloud.deployment_models import AdapterTarget, BaseModelTarget

    if isinstance(target, AdapterTarget):
        step = "" if target.step is None else f"@{target.step}"
        return f"job {target.job_id}{step}"
    if isinstance(target, BaseModelTarget):
        return f"model {target.base_model}"
    return target.kind
