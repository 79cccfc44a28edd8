"""Routes: which handler answers which request. Runs in the connection's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Optional, Tuple, Union

from arkor_sync.emulator.http.messages import ApiError, Request, Response
from arkor_sync.emulator.http.stream_body import StreamBody
from arkor_sync.emulator.models import Identity, Project


@dataclass(frozen=True)
class StreamedResponse:
    """A response that is sent piece by piece. `write` sends the headers and the whole body."""

    write: Callable[[StreamBody], None]


@dataclass(frozen=True)
class Call:
    """A request whose token and scope have been checked; what a handler gets."""

    request: Request
    params: Dict[str, str]
    identity: Optional[Identity] = None
    project: Optional[Project] = None

    @property
    def caller(self) -> Identity:
        """Who sent the request. Not for a route that needs nothing."""
        assert self.identity is not None
        return self.identity

    @property
    def scope(self) -> Project:
        """The project that the query names. Only for a route that needs a project."""
        assert self.project is not None
        return self.project


Handler = Callable[[Call], Union[Response, StreamedResponse]]


@dataclass(frozen=True)
class Route:
    """One route of the API.

    Args:
        method: The HTTP method.
        path: The path; a segment such as `:job_id` is a parameter.
        name: The name of the handler's method. Faults and recorded requests use it, too.
        needs: What the request has to prove: `nothing`, `bearer` (a valid token), `org` (and the
            org's slug in the query) or `project` (and the project's).
    """

    method: str
    path: str
    name: str
    needs: str = "project"

    def match(self, segments: List[str]) -> Optional[Dict[str, str]]:
        """Return the path's parameters, or None if the path does not match."""
        pattern = self.path.split("/")[1:]
        if len(pattern) != len(segments):
            return None
        params = {}
        for expected, actual in zip(pattern, segments):
            if expected.startswith(":"):
                params[expected[1:]] = actual
            elif expected != actual:
                return None
        return params


def find_route(
    routes: Iterable[Route], method: str, segments: List[str]
) -> Tuple[Route, Dict[str, str]]:
    """Return the route of a request and the path's parameters.

    Raises:
        ApiError: 404 for a path that does not exist, 405 for the wrong method on one that does.
    """
    matches = [(route, params) for route in routes if (params := route.match(segments)) is not None]
    for route, params in matches:
        if route.method == method:
            return route, params
    raise ApiError(405, "method not allowed") if matches else ApiError(404, "no such route")
