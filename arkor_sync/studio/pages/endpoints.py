"""The pages of endpoints: models that are served at an address. Runs on the caller's thread."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from flask import Blueprint, redirect, render_template, request, url_for

from arkor_sync._common.arguments import refusal
from arkor_sync.cloud.deployment_models import AuthMode, check_label, check_slug
from arkor_sync.errors import ArkorError, ArkorUsageError, CloudApiError, ConflictError, text_of
from arkor_sync.studio.quick_start import VARIABLE, examples
from arkor_sync.studio.state import studio
from arkor_sync.studio.targets import choices, read_target, steps_of

blueprint = Blueprint("endpoints", __name__)

_LONGEST_RETENTION = 9  # digits of a number of days
_FIELDS = {"slug": "slug", "target": "target", "authMode": "auth_mode", "label": "label"}
"""How the cloud's refusal of a field begins, and the form's name of the field."""


class _Refused(Exception):
    """A form that cannot be carried out.

    Args:
        field: The field that is wrong; empty if it is none of them.
        text: Why.
        status: The status of the answer.
    """

    def __init__(self, field: str, text: str, status: int = 400) -> None:
        self.errors = {field: text}
        self.status = status


@blueprint.get("/endpoints")
def page() -> str:
    """List the endpoints, with a form for a new one, which may begin with a job's model."""
    asked = request.args
    form = {"target": f"job:{asked['job']}", **asked} if "job" in asked else dict(asked)
    return _list_page({**form, "steps_of": form.get("target", "")})


@blueprint.post("/endpoints")
def create() -> Any:
    """Create an endpoint; `look` only shows the checkpoints of the job that was chosen."""
    form = request.form
    if "look" in form:
        return _list_page({**form, "steps_of": form.get("target", "")})
    try:
        slug = form.get("slug", "").strip()
        _checked("slug", check_slug, slug)
        wanted = {"auth_mode": _auth_mode(form), "retention": _retention(form)}
        target = _checked("target", read_target, form)
        _send(studio().client.deployments.create, slug, target=target, **wanted)
    except _Refused as refused:
        return _list_page(form, refused.errors), refused.status
    return redirect(url_for(".page", created=slug), 303)


@blueprint.get("/endpoints/<deployment_id>")
def endpoint(deployment_id: str) -> str:
    """Show one endpoint."""
    return _one_page(deployment_id)


@blueprint.post("/endpoints/<deployment_id>")
def change(deployment_id: str) -> Any:
    """Change what the form has; `look` only shows the checkpoints of the job that was chosen."""
    form = request.form
    if "look" in form:
        return _one_page(deployment_id, {**form, "steps_of": form.get("target", "")})
    wanted: Dict[str, Any] = {}
    try:
        if "enabled" in form:
            wanted["enabled"] = form["enabled"] == "yes"
        if "auth_mode" in form:
            wanted["auth_mode"] = _auth_mode(form)
        if "retention" in form:
            wanted["retention"] = _retention(form)
        if "target" in form:
            wanted["target"] = _checked("target", read_target, form)
        _send(studio().client.deployments.update, deployment_id, **wanted)
    except _Refused as refused:
        return _one_page(deployment_id, form, refused.errors), refused.status
    return _back(deployment_id)


@blueprint.post("/endpoints/<deployment_id>/keys")
def issue(deployment_id: str) -> Any:
    """Issue a key. This answer is the only place that shows it."""
    form = request.form
    shown = _shown(deployment_id, form)  # all that may fail comes before there is a key to lose
    try:
        label = _checked("label", check_label, form.get("label", ""))
        issued = _send(studio().client.deployments.keys.create, deployment_id, label)
    except _Refused as refused:
        shown["errors"] = refused.errors
        return render_template("endpoint.html", **shown), refused.status
    return render_template("endpoint.html", **shown, issued=issued)


@blueprint.post("/endpoints/<deployment_id>/keys/<key_id>/revoke")
def revoke(deployment_id: str, key_id: str) -> Any:
    """Have a key refused from now on."""
    studio().client.deployments.keys.revoke(deployment_id, key_id)
    return _back(deployment_id)


@blueprint.post("/endpoints/<deployment_id>/delete")
def delete(deployment_id: str) -> Any:
    """Delete an endpoint whose slug was typed."""
    deployments = studio().client.deployments
    if request.form.get("typed", "").strip() != deployments.get(deployment_id).slug:
        errors = {"typed": "That is not its slug; nothing was deleted."}
        return _one_page(deployment_id, errors=errors), 400
    deployments.delete(deployment_id)
    return redirect(url_for(".page"), 303)


@blueprint.get("/endpoints/<deployment_id>/keys")
@blueprint.get("/endpoints/<deployment_id>/delete")
@blueprint.get("/endpoints/<deployment_id>/keys/<key_id>/revoke")
def after(deployment_id: str, **_: str) -> Any:
    """Lead who loads the answer of a form again to its page."""
    return _back(deployment_id)


@blueprint.get("/jobs/<job_id>/steps")
def steps(job_id: str) -> Any:
    """Return the steps of a job's checkpoints."""
    return {"steps": steps_of(job_id)}


def _list_page(form: Mapping[str, str], errors: Optional[Dict[str, str]] = None) -> str:
    found = studio().client.deployments.list()
    awaited = request.args.get("created", "")
    return render_template(
        "endpoints.html",
        deployments=sorted(found, key=lambda each: each.slug),
        choices=choices(form.get("target", "")),
        created=next((each for each in found if each.slug == awaited), None),
        awaited=awaited,
        form=form,
        errors=errors or {},
    )


def _one_page(
    deployment_id: str,
    form: Optional[Mapping[str, str]] = None,
    errors: Optional[Dict[str, str]] = None,
) -> str:
    return render_template("endpoint.html", **_shown(deployment_id, form or {}, errors))


def _shown(
    deployment_id: str, form: Mapping[str, str], errors: Optional[Dict[str, str]] = None
) -> Dict[str, Any]:
    """Return what the page of an endpoint shows; what a form has stays in it."""
    deployments = studio().client.deployments
    found = deployments.get(deployment_id)
    days = found.run_retention_days
    url = deployments.endpoint_url(found.slug)
    asks_for_key = found.auth_mode != AuthMode.NONE
    return {
        "deployment": found,
        "keys": deployments.keys.list(deployment_id),
        "choices": choices(form.get("target", "")),
        "form": {
            "auth_mode": found.auth_mode,
            "retention": found.run_retention_mode or "",
            "days": "" if days is None else str(days),
            **form,
        },
        "errors": errors or {},
        "url": url,
        "examples": examples(url, found.slug, asks_for_key) if url else [],
        "variable": VARIABLE if asks_for_key else None,
    }


def _back(deployment_id: str) -> Any:
    return redirect(url_for(".endpoint", deployment_id=deployment_id), 303)


def _auth_mode(form: Mapping[str, str]) -> str:
    mode = form.get("auth_mode", "")
    if mode not in list(AuthMode):
        raise _Refused("auth_mode", "Choose who may ask it.")
    return mode


def _retention(form: Mapping[str, str]) -> Any:
    """Return how long what an endpoint is asked is kept; None for the cloud's default."""
    mode, days = form.get("retention", ""), form.get("days", "").strip()
    if mode != "days":
        return mode or None
    if not days.isdecimal() or len(days) > _LONGEST_RETENTION or int(days) < 1:
        error = refusal("days", days, "a whole number of days from 1")
        raise _Refused("retention", str(error))
    return int(days)


def _checked(field: str, check: Any, value: Any) -> Any:
    """Check a field of the form; refuse the form with the text of the check."""
    try:
        return check(value)
    except ArkorUsageError as error:
        raise _Refused(field, str(error)) from None


def _send(request_of: Any, *args: Any, **kwargs: Any) -> Any:
    """Ask the cloud; refuse the form with the cloud's text, at the field that it is about."""
    try:
        return request_of(*args, **kwargs)
    except ArkorError as error:
        raise _refusal_of(error) from None


def _refusal_of(error: ArkorError) -> _Refused:
    if isinstance(error, ConflictError):
        text = f"This slug cannot be had; choose another one: {error.message}"
        return _Refused("slug", text, error.status)
    if not isinstance(error, CloudApiError):
        return _Refused("", text_of(error), 400 if isinstance(error, ArkorUsageError) else 502)
    field = _FIELDS.get(error.message.partition(":")[0].partition(".")[0], "")
    return _Refused(field, error.message if field else text_of(error), error.status)
