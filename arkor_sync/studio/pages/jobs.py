"""The page of jobs. Runs on the caller's thread."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("jobs", __name__)


@blueprint.get("/jobs")
def page() -> str:
    """Show the page."""
    return render_template("base.html")
