"""The page of why: what happened to a job, as one timeline. Runs on the caller's thread."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, url_for

from arkor_sync.errors import ArkorError
from arkor_sync.studio.catching_up import read_tap
from arkor_sync.studio.local_arkor import find_local_arkor
from arkor_sync.studio.state import studio
from arkor_sync.studio.story import KINDS, tell

blueprint = Blueprint("why", __name__)

_SHOWN = 1000  # entries: the newest


@blueprint.get("/jobs/<job_id>/why")
def page(job_id: str) -> str:
    """Show the timeline, all of it or what is asked for."""
    tap = read_tap(job_id)
    shown = [kind for kind in request.args.getlist("show") if kind in KINDS] or list(KINDS)
    with tap.lock:
        job, read = tap.job, len(tap.log)
        entries = [each for each in tell(job, tap.log, tap.timeline) if each.kind in shown]
    local = find_local_arkor(studio().client)
    cuts = None
    with suppress(ArkorError):
        cuts = local and local.cuts(job_id)
    return render_template(
        "why.html",
        job=job,
        connection=tap.connection,
        read=read,
        kinds=KINDS,
        shown=shown,
        entries=entries[-_SHOWN:],
        left_out=max(0, len(entries) - _SHOWN),
        cuts=cuts,
    )


@blueprint.post("/jobs/<job_id>/cut")
def cut(job_id: str) -> Any:
    """Have a local Arkor cut the job's stream at its next event; a cloud has nothing like it."""
    local = find_local_arkor(studio().client)
    if local is None:
        abort(404)
    if not local.cuts(job_id).waiting:
        local.cut(job_id)
    return redirect(url_for(".page", job_id=job_id), 303)
