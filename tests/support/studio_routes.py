"""Routes for an application of Studio that is being tested, beside its own: what each kind does."""

from __future__ import annotations

import re
from typing import Any

SECRET = "the-secret-of-this-test"


def add_routes(app: Any) -> Any:
    """Add a form, a change, and a page with a mistake; return a client of the application."""
    from flask import Blueprint, render_template, request

    from arkor_sync.errors import CloudApiError

    routes = Blueprint("of_the_test", __name__)

    @routes.get("/test/form")
    def form() -> str:
        return render_template("base.html")

    @routes.post("/test/change")
    def change() -> str:
        return f"changed {len(request.get_data())}"

    @routes.get("/test/mistake")
    def mistake() -> str:
        raise RuntimeError(SECRET)

    @routes.get("/test/cloud/<name>")
    def cloud(name: str) -> str:
        raise CloudApiError(409, f"the cloud says {name}")

    app.register_blueprint(routes)
    return app.test_client()


def form_token_of(page: str) -> str:
    """Return the token of the forms of a page."""
    found = re.search('data-form-token="([^"]*)"', page)
    assert found is not None, page
    return found[1]
