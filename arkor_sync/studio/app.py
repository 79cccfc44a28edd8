"""The WSGI application, and what holds for every request. Runs on the caller's thread."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import quote, urlencode

from arkor_sync._common.extras import import_extra
from arkor_sync._common.log import get_logger
from arkor_sync._common.text import safe_line
from arkor_sync._version import __version__
from arkor_sync.errors import ArkorError, ArkorUsageError, CloudApiError, text_of
from arkor_sync.studio import access as rules

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.exceptions import HTTPException

    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.studio.access import Access, Authorize

logger = get_logger("arkor_sync.studio")

# No inline script or style, and nothing from another host: a text that becomes markup by a mistake
# still cannot do anything.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LARGEST_BODY = 1 << 20


def create_app(client: Optional[CloudApiClient] = None, *, authorize: Optional[Authorize]) -> Flask:
    """Make the application, for a program that mounts it under a path of its own.

    Args:
        client: Asks the cloud; by default as `CloudApiClient()` does.
        authorize: Called before each request, with the WSGI environment and whether the request
            changes something. It returns True, False, or a URL at which to sign in. It decides
            alone: there is no application without it.

    Returns:
        A WSGI application; its threads are those of the server. It needs the extra `studio`.

    Raises:
        ArkorUsageError: There is no `authorize`, or the extra is missing.
    """
    if not callable(authorize):
        raise ArkorUsageError(
            "authorize must be a function of the WSGI environment and of whether the request "
            f"changes something; got {authorize!r}. Without one everybody could read all jobs "
            "and cancel them. `arkor-sync studio` serves the pages on this machine alone."
        )
    return build_app(client, rules.Mounted(authorize))


def build_app(
    client: Optional[CloudApiClient], access: Access, file: Optional[Path] = None
) -> Flask:
    """Make the application with a kind of access; see `create_app`."""
    flask = import_extra("flask", "studio", "Studio")
    from werkzeug.exceptions import HTTPException

    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.studio import live
    from arkor_sync.studio.job_list import JobList
    from arkor_sync.studio.local_run import LocalRun
    from arkor_sync.studio.pages import (
        compare,
        endpoints,
        job,
        jobs,
        overview,
        playground,
        series,
        why,
    )
    from arkor_sync.studio.state import KEY, Studio
    from arkor_sync.studio.taps import Taps

    client = client or CloudApiClient()
    app: Flask = flask.Flask(__name__)
    # Whatever the environment and the program around it say: a mistake in a page shows nothing.
    app.config.update(DEBUG=False, PROPAGATE_EXCEPTIONS=False, MAX_CONTENT_LENGTH=LARGEST_BODY)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    run = LocalRun(file) if access.local and file is not None else None
    app.extensions[KEY] = Studio(client, Taps(client), JobList(client), access.local, run)
    for module in (live, series, overview, jobs, job, compare, playground, endpoints, why):
        app.register_blueprint(module.blueprint)

    @app.before_request
    def refuse() -> Any:
        return _refusal(access)

    @app.after_request
    def protect(response: Any) -> Any:
        return _protected(response)

    @app.context_processor
    def shared() -> Any:
        return {
            "version": __version__,
            "local": access.local,
            "form_token": _form_token() if flask.g.get("is_allowed") else "",
            "form_field": rules.CSRF_FIELD,
        }

    app.register_error_handler(ArkorError, _explain)
    app.register_error_handler(HTTPException, _explain_refusal)
    app.register_error_handler(500, _hide)
    return app


def _refusal(access: Access) -> Any:
    """Return the answer to a request that is refused; None if it is not."""
    from flask import abort, g, redirect, request

    if not access.host_is_known(request.host):
        abort(403, "This server answers on the loopback alone.")
    if rules.is_embedded_elsewhere(request):
        abort(403, "Another site may link to these pages, but not load them into its own.")
    changes = rules.changes_something(request)
    if isinstance(access, rules.Launch) and not changes and access.opens(_token(request)):
        answer = redirect(_without_token(request))
        _set_cookie(answer, access.cookie, access.token)
        return answer
    if request.endpoint == "static":
        return None  # it holds nothing of the project
    allowed = access.allows(request, changes)
    if isinstance(allowed, str):
        if changes or not _wants_a_page():
            abort(401, "Sign in first: you are not signed in any more.")
        return redirect(allowed)
    if not allowed:
        abort(403, access.advice)
    if changes and not rules.comes_from_here(request):
        abort(403, "This form is not one of this server, or is too old: load its page again.")
    g.is_allowed = True
    return None


def _token(request: Any) -> Optional[str]:
    token: Optional[str] = request.args.get(rules.TOKEN)
    return token


def _without_token(request: Any) -> str:
    """Return the path and the other parameters of a request, at this server."""
    left = [pair for pair in request.args.items(multi=True) if pair[0] != rules.TOKEN]
    # Two slashes at the start would be the name of another server.
    path = quote(f"{request.script_root}/{request.path.lstrip('/')}")
    return f"{path}?{urlencode(left)}" if left else path


def _wants_a_page() -> bool:
    """Whether a person asks, and no script."""
    from flask import request

    return request.accept_mimetypes.best not in ("application/json", "text/event-stream")


def _form_token() -> str:
    """Return the token that a form of this browser has to repeat; it gets a cookie with it."""
    from flask import g, request

    if "form_token" not in g:
        known = request.cookies.get(rules.CSRF_COOKIE, "")
        g.form_token_is_new = not rules.is_form_token(known)
        g.form_token = secrets.token_urlsafe(32) if g.form_token_is_new else known
    token: str = g.form_token
    return token


def _protected(response: Any) -> Any:
    from flask import g, request

    headers = response.headers
    headers["Content-Security-Policy"] = POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint == "static":
        headers["Cache-Control"] = "no-cache"
    else:
        headers.setdefault("Cache-Control", "no-store")
    if g.get("form_token_is_new"):
        _set_cookie(response, rules.CSRF_COOKIE, g.form_token)
    return response


def _set_cookie(response: Any, name: str, value: str) -> None:
    """Set a cookie of the mount.

    It is sent with what another site links to, or a link to a job would end at "sign in", but with
    nothing that another site posts or loads.
    """
    from flask import request

    response.set_cookie(
        name,
        value,
        path=request.script_root or "/",
        httponly=True,
        samesite="Lax",
        secure=request.is_secure,
    )


def _explain(error: ArkorError) -> Any:
    """Show an error of the cloud."""
    from flask import request

    text = text_of(error)
    code = 400 if isinstance(error, ArkorUsageError) else 502
    if isinstance(error, CloudApiError) and error.status is not None and 400 <= error.status < 500:
        code = error.status
    logger.warning("%s %s: %s", request.method, safe_line(request.path), safe_line(text))
    return _answer(text, code)


def _explain_refusal(error: HTTPException) -> Any:
    """Show why a request was refused, or that there is no such page."""
    own: Any = error.get_response()
    if own.status_code < 400:
        return own
    text = "There is no such page." if own.status_code == 404 else error.description
    answer = _answer(text or own.status, own.status_code)
    for name in ("Allow", "Retry-After"):
        if name in own.headers:
            answer.headers[name] = own.headers[name]
    return answer


def _hide(_: HTTPException) -> Any:
    """Answer after a mistake of ours, or of `authorize`: the log says what it was."""
    from flask import make_response

    text = "Something went wrong in Studio. The log of its server says what."
    if not _wants_a_page():
        return {"error": text}, 500
    answer = make_response(text, 500)
    answer.mimetype = "text/plain"  # no template: that may be what does not work
    return answer


def _answer(text: str, code: int) -> Any:
    """Answer with an error, as a page or as JSON to a script."""
    from flask import g, jsonify, make_response, render_template

    if not _wants_a_page():
        return make_response(jsonify(error=text), code)
    # Who is not allowed in is shown nothing but the text.
    template = "error.html" if g.get("is_allowed") else "refused.html"
    return make_response(render_template(template, text=text), code)
