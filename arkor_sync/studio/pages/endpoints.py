"""The page of endpoints. Runs on the caller's thread."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("endpoints", __name__)


@blueprint.get("/endpoints")
def page() -> str:
    """Show the page."""
    return render_template("base.html")
