"""One stream for each tab, of all that it shows. Runs on the caller's thread."""

from __future__ import annotations

from flask import Blueprint

blueprint = Blueprint("live", __name__)
