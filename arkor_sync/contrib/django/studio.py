"""Studio below a path of the site, with its login. Runs on the caller's thread."""

from __future__ import annotations

import sys
from contextlib import closing
from io import BytesIO
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple, Union

from django.contrib.auth.views import redirect_to_login
from django.db import close_old_connections, connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt

from arkor_sync._common.arguments import check
from arkor_sync._common.extras import import_extra
from arkor_sync._common.locks import ProcessLock
from arkor_sync.contrib.django.conf import ArkorSettings, arkor_settings

AuthorizeDjango = Callable[[HttpRequest, bool], Union[bool, str]]
"""Called with the request, and whether it changes something."""

_REQUEST = "arkor_sync.django_request"  # in the WSGI environment


def studio_urls(authorize: AuthorizeDjango) -> Tuple[List[URLPattern], str, str]:
    """Return the URLs of Studio, for the site's `urlpatterns`.

        def may_use_studio(request, changes):
            return request.user.has_perm("arkor.change_run" if changes else "arkor.view_run")

        urlpatterns = [..., path("arkor/", studio_urls(may_use_studio))]

    `reverse("arkor_studio:overview")` is the first page. It needs the extra `studio`.

    Args:
        authorize: Called before each request with the request and whether it changes something. It
            returns True, False, or a URL at which to sign in. With False, who is not signed in is
            sent to the site's login.

    Raises:
        ArkorUsageError: `authorize` is no function, or the extra is missing.
    """
    check("authorize", authorize, callable(authorize), "a function of the request and a bool")
    import_extra("flask", "studio", "Studio")
    application = _Application(authorize)

    # Studio has tokens for its forms, which need no session. An answer of a model may last minutes.
    @csrf_exempt
    def view(request: HttpRequest, page: str = "") -> HttpResponseBase:
        return _answer(application(), request, page)

    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    patterns = [path("", view, name="overview"), path("<path:page>", view, name="page")]
    return patterns, "arkor_studio", "arkor_studio"


class _Application:
    """The WSGI application of this process, made when it is first asked for.

    Args:
        authorize: See `studio_urls`.
    """

    def __init__(self, authorize: AuthorizeDjango) -> None:
        self._authorize = authorize
        self._made: Dict[ArkorSettings, Any] = {}
        self._lock = ProcessLock()

    def __call__(self) -> Any:
        """Return the application for the settings as they are: tests change them."""
        from arkor_sync.studio import create_app

        configured = arkor_settings()
        with self._lock():
            if configured not in self._made:
                self._made[configured] = create_app(configured.client(), authorize=self._allows)
            return self._made[configured]

    def _allows(self, environ: Mapping[str, Any], changes: bool) -> Union[bool, str]:
        request = environ[_REQUEST]
        allowed = self._authorize(request, changes)
        user = getattr(request, "user", None)
        if allowed is False and user is not None and not user.is_authenticated:
            login: str = redirect_to_login(request.get_full_path()).url
            return login
        return allowed


def _answer(application: Any, request: HttpRequest, page: str) -> HttpResponseBase:
    """Ask a WSGI application that is mounted where the request's path is `page`.

    Args:
        application: The application.
        request: The request.
        page: The part of its path that is the application's.
    """
    started: List[Any] = []

    def start(status: str, headers: List[Tuple[str, str]], _: Any = None) -> Any:
        started[:] = status, headers

    chunks = application(_environ(request, page), start)
    status, headers = started
    answer: Any
    # Over ASGI Django would collect a stream itself, with a warning.
    is_whole = any(name.lower() == "content-length" for name, _ in headers)
    if is_whole or not hasattr(request, "environ"):
        with closing(chunks):
            answer = HttpResponse(b"".join(chunks))
    else:
        streamed = _streamed(chunks)
        next(streamed)  # from now on `close` ends it
        answer = StreamingHttpResponse(streamed)
        answer["Content-Encoding"] = "identity"  # GZipMiddleware would hold it back
    answer.status_code = int(status[:3])
    del answer["Content-Type"]
    for name, value in headers:
        if name.lower() == "set-cookie":
            answer.cookies.load(value)
        else:
            answer[name] = value
    return answer


def _environ(request: HttpRequest, page: str) -> Dict[str, Any]:
    """Return the WSGI environment; scheme and host are what the site's settings make of them."""
    body = request.body
    mount = request.path[: len(request.path) - len(page)]
    environ = {
        "wsgi.errors": sys.stderr,
        **request.META,
        "SCRIPT_NAME": _raw(mount.rstrip("/")),
        "PATH_INFO": _raw(f"/{page}"),
        "HTTP_HOST": request.get_host(),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
        "wsgi.url_scheme": request.scheme,
        _REQUEST: request,
    }
    environ.pop("wsgi.file_wrapper", None)  # it is for answers that the server gets itself
    return environ


def _raw(text: str) -> str:
    """Return a text of an URL as WSGI has it."""
    return text.encode().decode("latin-1")


def _streamed(chunks: Any) -> Iterator[bytes]:
    """Pass the chunks on, and hold no connection of the database meanwhile."""
    with closing(chunks):
        yield b""
        close_old_connections()
        yield from chunks
