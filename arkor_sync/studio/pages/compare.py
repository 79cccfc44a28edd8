"""The page of compare. Runs on the caller's thread."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("compare", __name__)


@blueprint.get("/compare")
def page() -> str:
    """Show the page."""
    return render_template("base.html")
