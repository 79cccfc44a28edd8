"""Studio below a path of an application, with its login. Runs on the caller's thread."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Union

from arkor_sync._common.arguments import check

if TYPE_CHECKING:
    from flask import Flask, Request

    from arkor_sync.cloud.client import CloudApiClient

AuthorizeFlask = Callable[["Request", bool], Union[bool, str]]
"""Called with the request, and whether it changes something."""


def mount_studio(
    app: Flask, prefix: str, client: CloudApiClient, authorize: AuthorizeFlask
) -> None:
    """Mount Studio; see `Arkor.mount_studio`."""
    fits = isinstance(prefix, str) and re.fullmatch("(/[A-Za-z0-9._~-]+)+/?", prefix) is not None
    check("prefix", prefix, fits, "a path of its own such as '/arkor'")
    check("authorize", authorize, callable(authorize), "a function of the request and a bool")
    prefix = prefix.rstrip("/")
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    from arkor_sync.studio import create_app

    def ask(environ: Mapping[str, Any], changes: bool) -> Union[bool, str]:
        with app.request_context(_of_the_host(environ, prefix)):
            from flask import request

            return authorize(request, changes)

    studio = create_app(client, authorize=ask)
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, {prefix: studio}
    )


def _of_the_host(environ: Mapping[str, Any], prefix: str) -> Dict[str, Any]:
    """Return the environment as the application sees it, so that `url_for` is right there."""
    return {
        **environ,
        "SCRIPT_NAME": environ["SCRIPT_NAME"][: -len(prefix)],
        "PATH_INFO": prefix + environ["PATH_INFO"],
    }
