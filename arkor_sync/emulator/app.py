"""One connection's life: read a request, check who asks, answer, again. A connection's thread."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Callable, Dict, Optional, Union

from arkor_sync.emulator import gate
from arkor_sync.emulator.records import Identity, Project, RecordedRequest
from arkor_sync.emulator.routes import Api, Call, Route, Streamed, find_route
from arkor_sync.emulator.server import ClientGone, Connection
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.sse import Body
from arkor_sync.emulator.store import Store
from arkor_sync.emulator.wire import ApiError, Request, Response, read_request, whole

REDACTED = "[redacted]"


class App:
    """Answers what comes over a connection.

    Args:
        store: What the emulator knows.
        settings: Its switches.
        api: The handlers.
        failed: Told of every exception that a handler did not mean.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        api: Api,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._api = api
        self._failed = failed

    def serve(self, connection: Connection) -> None:
        """Answer requests until either side closes the connection."""
        keep_alive = True
        while keep_alive and connection.open:
            try:
                request = read_request(connection.reader)
            except ApiError as error:
                connection.send(whole(Response(error.status, error.body), keep_alive=False))
                return
            except (OSError, ValueError):
                # Reset by the client, or closed by stop().
                return
            if request is None:
                return
            keep_alive = self._answer(connection, request)

    def _answer(self, connection: Connection, request: Request) -> bool:
        record = self._record(request)
        answer = self._handle(request, record)
        headers = self._notice()
        if isinstance(answer, Response):
            self._settle(record, answer.status)
            answer.headers.update(headers)
            connection.send(whole(answer, keep_alive=request.keep_alive))
            return request.keep_alive
        self._settle(record, 200)
        chunked = self._settings.framing == "chunked"
        body = Body(connection, chunked=chunked, headers=headers)
        try:
            return answer.run(body) and chunked and request.keep_alive
        except ClientGone:
            raise
        except Exception as error:
            self._failed(error)
            return False

    def _handle(self, request: Request, record: RecordedRequest) -> Union[Response, Streamed]:
        try:
            if request.segments[:1] == ["v1"]:
                gate.check_client(
                    request.headers.get("X-Arkor-Client"), self._settings.supported_range
                )
            route, params = find_route(request.method, request.segments)
            record.route, record.job_id = route.name, params.get("job_id")
            call = self._admit(route, request, params)
            answer: Union[Response, Streamed] = getattr(self._api, route.name)(call)
            return answer
        except ApiError as error:
            return Response(error.status, error.body)
        except Exception as error:
            self._failed(error)
            return Response(500, {"error": "internal error of the emulator"})

    def _admit(self, route: Route, request: Request, params: Dict[str, str]) -> Call:
        """Check the bearer and the scope."""
        if route.needs == "nothing":
            return Call(request, params)
        identity = self._identity(request)
        if route.needs == "bearer":
            return Call(request, params, identity)
        wanted = ["orgSlug"] if route.needs == "org" else ["orgSlug", "projectSlug"]
        missing = [name for name in wanted if not request.query.get(name)]
        if missing:
            raise ApiError(400, f"missing query parameter {missing[0]}")
        if request.query["orgSlug"] != identity.org_slug:
            raise ApiError(403, "not a member of this org")
        project: Optional[Project] = None
        if route.needs == "project":
            project = self._store.find_project(identity.org_id, request.query["projectSlug"])
            if project is None:
                raise ApiError(404, "no such project in this org")
        return Call(request, params, identity, project)

    def _identity(self, request: Request) -> Identity:
        token = bearer(request)
        identity = self._store.identities.get(token) if token else None
        if identity is None:
            raise ApiError(401, "missing, unknown or expired bearer token")
        return identity

    def _notice(self) -> Dict[str, str]:
        message = self._settings.deprecation
        return gate.deprecation_headers(message, self._settings.sunset) if message else {}

    def _record(self, request: Request) -> RecordedRequest:
        token = bearer(request)
        headers = {
            name: REDACTED if name.lower() in ("authorization", "cookie") else value
            for name, value in request.headers.items()
        }
        record = RecordedRequest(
            method=request.method,
            path=request.path,
            query=request.query,
            headers=headers,
            body=_readable(request.body),
            route=None,
            job_id=None,
            token_digest=hashlib.sha256(token.encode()).hexdigest()[:8] if token else None,
        )
        with self._store.changed:
            self._store.requests.append(record)
            self._store.notify()
        return record

    def _settle(self, record: RecordedRequest, status: int) -> None:
        with self._store.changed:
            record.status = status
            self._store.notify()


def bearer(request: Request) -> Optional[str]:
    """Return the request's bearer token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _readable(body: bytes) -> Any:
    """Return a body for the record: JSON where it is, without a data set's token."""
    if not body:
        return None
    try:
        value = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    source = (value.get("config") or {}) if isinstance(value, dict) else {}
    source = source.get("datasetSource") if isinstance(source, dict) else None
    if isinstance(source, dict) and "token" in source:
        source["token"] = REDACTED
    return value
