"""The page of the project: its trainer, its newest jobs, who asks. Runs on the caller's thread."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, cast

from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for

from arkor_sync._common.clock import Clock
from arkor_sync._common.text import safe_line
from arkor_sync._version import __version__
from arkor_sync.cloud.client_version import UPGRADE, latest_deprecation
from arkor_sync.cloud.credentials import credentials_path
from arkor_sync.errors import ConflictError
from arkor_sync.render.job_facts import duration_of
from arkor_sync.studio.disk import disk_facts
from arkor_sync.studio.identity import Identity, find_identity
from arkor_sync.studio.lately import Lately
from arkor_sync.studio.local_run import LocalRun, RunView
from arkor_sync.studio.state import KEY, studio

blueprint = Blueprint("overview", __name__)

_NEWEST = 5
_LINES = 500  # of the output, in a page or an answer
_PATIENCE = 0.2  # seconds that the page waits for what the cloud or a process tells
_KEPT = 30.0  # seconds after which the cloud is asked again who this is
_IDENTITY = f"{KEY}.identity"


@blueprint.record
def _prepare(setup: Any) -> None:
    client = setup.app.extensions[KEY].client
    setup.app.extensions[_IDENTITY] = Lately(lambda _: find_identity(client))


@blueprint.get("/")
def page() -> str:
    """Show the page."""
    shared = studio()
    listing = shared.job_list.read()
    newest = sorted(listing.jobs, key=lambda job: job.created_at, reverse=True)[:_NEWEST]
    run = shared.run.view(most=_LINES) if shared.run else None
    return render_template(
        "overview.html",
        local_run=shared.run,
        file=shared.run.file() if shared.run else None,
        trainer=shared.run.trainer(_PATIENCE) if shared.run else None,
        run=run,
        run_state=_state(run) if run else "",
        newest=[(job, duration_of(job)) for job in newest],
        jobs_version=listing.version,
        jobs_problem=listing.problem,
        identity=_identity().read(int(Clock.now() / _KEPT), _PATIENCE),
        software=_software(shared.local),
    )


@blueprint.post("/run")
def start() -> Any:
    """Start the trainer's file."""
    run = _local_run()
    if run.file() is None:
        abort(404)
    run.start()  # if a run goes on already, the page shows it
    return _back()


@blueprint.post("/run/stop")
def stop() -> Any:
    """Stop following the run, or cancel its job; the run then ends with the job."""
    run = _local_run()
    view = run.view(most=0)
    if view is None or request.form.get("run", type=int) != view.number:
        return _back()  # a form of an earlier run
    if request.form.get("answer") == "cancel" and view.job_id:
        with suppress(ConflictError):  # it has ended
            studio().client.jobs.cancel(view.job_id)
        studio().job_list.forget()
    else:
        run.leave()
    return _back()


@blueprint.get("/run/output")
def output() -> Dict[str, Any]:
    """Return what the run has printed since the line `from`."""
    start = request.args.get("from", 0, type=int)
    view = _local_run().view(start, _LINES)
    if view is None:
        abort(404)
    return {
        "run": view.number,
        "from": view.start,
        "next": view.start + len(view.lines),
        "lines": view.lines,
        "open": view.open,
        "running": view.running,
        "job": view.job_id,
        "state": _state(view),
    }


def _local_run() -> LocalRun:
    """Return what starts the file; there is nothing of the kind where the page is mounted."""
    run = studio().run
    if run is None:
        abort(404)
    return run


def _back() -> Any:
    return redirect(f"{url_for('overview.page')}#run", 303)


def _identity() -> Lately[Identity]:
    return cast("Lately[Identity]", current_app.extensions[_IDENTITY])


def _state(run: RunView) -> str:
    """Say in a sentence how a run is."""
    if run.running:
        if run.leaving:
            return "It was asked to stop following, and ends when its callback has returned."
        return "It runs." if run.job_id else "It runs; no job is submitted yet."
    if run.code == 0:
        return "It has ended: all went well."
    if run.leaving:
        goes_on = ": the job goes on" if run.job_id else ""
        return f"It was stopped{goes_on}."
    if run.code is None:
        return "It could not be started."
    if run.code < 0:
        return f"It has ended: the signal {-run.code} ended it."
    told = "the job was cancelled" if run.code == 3 else "its last lines say why"
    return f"It has ended with exit code {run.code}: {told}."


def _software(local: bool) -> List[Tuple[str, str]]:
    """Return names and values to be shown: versions, and the disk of who runs the server."""
    facts = [("arkor_sync", __version__)]
    notice: Optional[Any] = latest_deprecation()
    if notice is not None:
        until = f" (accepted until {safe_line(notice.sunset)})" if notice.sunset else ""
        facts += [("The cloud says", f"{safe_line(notice.message)}{until}"), ("Do this", UPGRADE)]
    if local:
        home, here = credentials_path().parent, Path.cwd() / ".arkor"
        facts += disk_facts([("~/.arkor", home), ("./.arkor", here)])
    return facts
