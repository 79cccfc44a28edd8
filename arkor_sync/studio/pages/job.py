"""The page of job. Runs on the caller's thread."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("job", __name__)


@blueprint.get("/jobs/<job_id>")
def page(job_id: str) -> str:
    """Show the page."""
    return render_template("base.html")
