"""One connection's life: read a request, check who asks, answer, again. A connection's thread."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, TypeVar, Union

from arkor_sync.emulator.faults import ENDINGS, KINDS, REQUEST, Fault, FaultBook, Place
from arkor_sync.emulator.http import client_version
from arkor_sync.emulator.http.messages import ApiError, Request, Response, read_request, whole
from arkor_sync.emulator.http.server import ClientGone, Connection
from arkor_sync.emulator.http.stream_body import Body, CutClean, Wire
from arkor_sync.emulator.models import Identity, Project, RecordedRequest
from arkor_sync.emulator.routes.admin import Admin
from arkor_sync.emulator.routes.jobs import Call, Handler, Route, Streamed, find_route
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.store import Store

T = TypeVar("T")

REDACTED = "[redacted]"


class App:
    """Answers what comes over a connection.

    Args:
        store: What the emulator knows.
        settings: Its switches.
        handlers: The handlers of the cloud's routes.
        admin: The handlers of the emulator's own routes.
        book: The faults.
        failed: Told of every exception that a handler did not mean.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        handlers: Mapping[Route, Handler],
        admin: Admin,
        book: FaultBook,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._handlers = handlers
        self._admin = admin
        self._book = book
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
            if request.segments[:1] == ["_emulator"]:
                answer = self._guarded(partial(self._admin.handle, request))
                connection.send(whole(answer, keep_alive=False))
                return
            keep_alive = self._serve_one(connection, request) and request.keep_alive

    def _serve_one(self, connection: Connection, request: Request) -> bool:
        """Answer one request; tell whether the connection can take another."""
        token = bearer(request)
        record = self._record(request, token)
        place = Place(record.number, record.route, record.job_id)
        wire = Wire(connection, self._store, self._book, place, token)
        resumes = bool(request.headers.get("Last-Event-ID"))
        kinds = [kind for kind in KINDS if resumes or kind != "replay_gone"]
        answer: Union[Response, Streamed]
        answer = self._struck(wire, self._book.strike(REQUEST, place, kinds)) or self._handle(
            request
        )
        notice = self._notice()
        if not isinstance(answer, Streamed):
            self._settle(record, answer.status)
            answer.headers.update(notice)
            return self._send(wire, answer, request)
        self._settle(record, 200)
        chunked = self._settings.framing == "chunked"
        try:
            answer.run(Body(wire, chunked=chunked, headers=notice))
        except CutClean:
            pass
        except ClientGone:
            raise
        except Exception as error:
            self._failed(error)
            return False
        return chunked

    def _send(self, wire: Wire, answer: Response, request: Request) -> bool:
        """Send a whole answer, unless a fault ends it."""
        data = whole(answer, keep_alive=request.keep_alive)
        for fault in wire.at_answer(ENDINGS):
            if fault.kind == "cut_mid_event":
                data = data[: len(data) // 2 if fault.byte is None else fault.byte]
            if fault.kind in ("cut_mid_event", "cut_clean"):
                wire.send(data)
            wire.end(fault)
        wire.send(data)
        return True

    def _struck(self, wire: Wire, faults: List[Fault]) -> Optional[Response]:
        """Do what faults do before an answer; return the answer that one of them gives."""
        for fault in faults:
            if fault.kind == "refuse":
                wire.connection.reset()
                raise ClientGone
            if fault.kind == "accept_then_drop":
                wire.connection.close()
                raise ClientGone
            if fault.kind == "stall_before_headers":
                wire.wait(fault.seconds)
            elif fault.kind == "expire_token":
                wire.expire_token()
            elif fault.kind == "replay_gone":
                return Response(410, {"error": "the event stream is gone"})
            elif fault.kind == "status":
                retry = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                return Response(fault.status or 503, {"error": fault.value}, retry)
            elif fault.kind == "redirect":
                return Response(fault.status or 302, None, {"Location": str(fault.value)})
            elif fault.kind == "wrong_content_type":
                page = b"<!doctype html><title>Sign in</title><p>data: not an event</p>\n\n"
                return Response(200, page, {"Content-Type": str(fault.value)})
        return None

    def _handle(self, request: Request) -> Union[Response, Streamed]:
        def answer() -> Union[Response, Streamed]:
            if request.segments[:1] == ["v1"]:
                client_version.check_client(
                    request.headers.get("X-Arkor-Client"), self._settings.supported_range
                )
            route, params = find_route(self._handlers, request.method, request.segments)
            return self._handlers[route](self._admit(route, request, params))

        return self._guarded(answer)

    def _guarded(self, answer: Callable[[], T]) -> Union[T, Response]:
        try:
            return answer()
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
        identity = self._store.identities.get(bearer(request) or "")
        if identity is None:
            raise ApiError(401, "missing, unknown or expired bearer token")
        return identity

    def _notice(self) -> Dict[str, str]:
        message = self._settings.deprecation
        return client_version.deprecation_headers(message, self._settings.sunset) if message else {}

    def _record(self, request: Request, token: Optional[str]) -> RecordedRequest:
        try:
            route, params = find_route(self._handlers, request.method, request.segments)
            name, job_id = route.name, params.get("job_id")
        except ApiError:
            name, job_id = None, None
        headers = {
            header: REDACTED if header.lower() in ("authorization", "cookie") else value
            for header, value in request.headers.items()
        }
        with self._store.changed:
            record = RecordedRequest(
                method=request.method,
                path=request.path,
                query=request.query,
                headers=headers,
                body=_readable(request.body),
                route=name,
                job_id=job_id,
                token_digest=hashlib.sha256(token.encode()).hexdigest()[:8] if token else None,
                number=self._store.count_request(name, job_id),
            )
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
