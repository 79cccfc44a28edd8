"""The page of overview. Runs on the caller's thread."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("overview", __name__)


@blueprint.get("/")
def page() -> str:
    """Show the page."""
    return render_template("base.html")
