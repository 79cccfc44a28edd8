"""A site with a login of its own and Studio below `/arkor/`; web servers load it, too."""

from __future__ import annotations

from typing import Any

from flask import Flask, Request, redirect, request, session, url_for

from arkor_sync.contrib.flask import Arkor


def make_app(**settings: Any) -> Flask:
    """Make the application. Two of them are as two processes: they share nothing but the key."""
    app = Flask("site")
    app.config.update(SECRET_KEY="of-tests", **settings)
    arkor = Arkor(app)

    def may_use_studio(asked: Request, changes: bool) -> Any:
        if "user" not in session:
            return url_for("login", next=asked.full_path)
        return session["user"] == "editor" or (session["user"] == "reader" and not changes)

    arkor.mount_studio(app, "/arkor", authorize=may_use_studio)

    @app.get("/")
    def home() -> str:
        return "the site's own page"

    @app.route("/login", methods=["GET", "POST"])
    def login() -> Any:
        if request.method == "POST":
            session["user"] = request.form["user"]
            return redirect(request.args.get("next", "/"))
        return "who are you?"

    return app
