"""The page of playground. Runs on the caller's thread."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("playground", __name__)


@blueprint.get("/playground")
def page() -> str:
    """Show the page."""
    return render_template("base.html")
