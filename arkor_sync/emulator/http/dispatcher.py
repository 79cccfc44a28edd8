"""Reads requests, authorizes them, calls their handlers. Runs in the connection's thread."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar, Union

from arkor_sync.emulator.faults import (
    ENDINGS,
    KINDS,
    REQUEST,
    FaultBook,
    RequestTarget,
    fire_faults,
)
from arkor_sync.emulator.http import client_version
from arkor_sync.emulator.http.faulty_connection import FaultyConnection
from arkor_sync.emulator.http.messages import (
    ApiError,
    Request,
    Response,
    decode_json,
    encode_response,
)
from arkor_sync.emulator.http.reading import read_request
from arkor_sync.emulator.http.routing import Call, Handler, Route, StreamedResponse, find_route
from arkor_sync.emulator.http.server import ClientGone, Connection
from arkor_sync.emulator.http.stream_body import BodyEnded, StreamBody
from arkor_sync.emulator.models import Identity, Project, RecordedRequest
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.store import Store

T = TypeVar("T")

REDACTED = "[redacted]"
_SECRET_FIELDS = ("code", "code_verifier", "refresh_token")  # of a request for tokens
SECRET_HEADERS = ("authorization", "cookie", "x-api-key")


class Dispatcher:
    """Answers the requests of a connection, one after the other.

    Args:
        store: The emulator's state.
        settings: Its settings.
        handlers: The handlers of the cloud's routes.
        admin: Answers requests whose path begins with `/_emulator`.
        faults: The faults that are set.
        report_error: Called with every exception of a handler other than `ApiError`.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        handlers: Mapping[Route, Handler],
        admin: Callable[[Request], Response],
        faults: FaultBook,
        report_error: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._handlers = handlers
        self._admin = admin
        self._faults = faults
        self._report_error = report_error

    def serve(self, connection: Connection) -> None:
        """Answer requests until the client or the emulator closes the connection."""
        keep_alive = True
        while keep_alive and connection.open:
            try:
                request = read_request(connection)
            except ApiError as error:
                response = Response(error.status, error.body)
                connection.send(encode_response(response, keep_alive=False))
                connection.discard_rest()
                return
            except (OSError, ValueError):
                # The client reset the connection, or stop() closed it.
                return
            if request is None:
                return
            if request.segments[:1] == ["_emulator"]:
                response = self._errors_as_response(partial(self._admin, request))
                connection.send(encode_response(response, keep_alive=False))
                return
            keep_alive = self._answer(connection, request) and request.keep_alive

    def _answer(self, connection: Connection, request: Request) -> bool:
        """Answer one request. Return whether the connection can be used for another."""
        token = bearer_token(request)
        record = self._record(request, token)
        target = RequestTarget(record.number, record.route, record.job_id)
        faulty = FaultyConnection(connection, self._store, self._faults, target, token)
        response = self._request_faults(faulty, request, target) or self._handle(request)
        deprecation = self._deprecation_headers()
        if isinstance(response, Response):
            self._record_status(record, response.status)
            response.headers.update(deprecation)
            self._send(faulty, response, request)
            return True
        self._record_status(record, 200)
        chunked = self._settings.framing == "chunked"
        try:
            response.write(StreamBody(faulty, chunked=chunked, headers=deprecation))
        except BodyEnded:
            pass
        except ClientGone:
            raise
        except Exception as error:
            self._report_error(error)
            return False
        return chunked

    def _send(self, faulty: FaultyConnection, response: Response, request: Request) -> None:
        """Send a response, unless a fault ends the connection during it, or instead."""
        data = encode_response(response, keep_alive=request.keep_alive)
        for fault in faulty.faults_at_end(ENDINGS):
            if fault.kind == "cut_mid_event":
                data = data[: len(data) // 2 if fault.byte is None else fault.byte]
            if fault.kind in ("cut_mid_event", "cut_clean"):
                faulty.send(data)
            faulty.end(fault)
        faulty.send(data)

    def _request_faults(
        self, faulty: FaultyConnection, request: Request, target: RequestTarget
    ) -> Optional[Response]:
        """Do what faults do before a request is answered. Return the response if one gives it."""
        resumes = bool(request.headers.get("Last-Event-ID"))
        kinds = [kind for kind in KINDS if resumes or kind != "replay_gone"]
        for fault in fire_faults(self._faults, REQUEST, target, kinds):
            if fault.kind == "refuse":
                faulty.connection.reset()
                raise ClientGone
            if fault.kind == "accept_then_drop":
                faulty.connection.close()
                raise ClientGone
            if fault.kind == "stall_before_headers":
                faulty.wait(fault.seconds)
            elif fault.kind == "expire_token":
                faulty.expire_token()
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

    def _handle(self, request: Request) -> Union[Response, StreamedResponse]:
        def handle() -> Union[Response, StreamedResponse]:
            if request.segments[:1] == ["v1"]:
                client_version.check_client(
                    request.headers.get("X-Arkor-Client"), self._settings.supported_range
                )
            route, params = find_route(self._handlers, request.method, request.segments)
            return self._handlers[route](self._authorize(route, request, params))

        return self._errors_as_response(handle)

    def _errors_as_response(self, handle: Callable[[], T]) -> Union[T, Response]:
        try:
            return handle()
        except ApiError as error:
            return Response(error.status, error.body)
        except Exception as error:
            self._report_error(error)
            return Response(500, {"error": "internal error of the emulator"})

    def _authorize(self, route: Route, request: Request, params: Dict[str, str]) -> Call:
        """Check the token, the org and the project, as far as the route needs them."""
        if route.needs == "nothing":
            return Call(request, params)
        identity = self._identity(request)
        if route.needs == "bearer":
            return Call(request, params, identity)
        wanted = ["orgSlug"] if route.needs == "org" else ["orgSlug", "projectSlug"]
        missing = [name for name in wanted if not request.query.get(name)]
        if missing:
            raise ApiError(400, f"missing query parameter {missing[0]}")
        caller = identity.within(request.query["orgSlug"])
        if caller is None:
            raise ApiError(403, "not a member of this org")
        project: Optional[Project] = None
        if route.needs == "project":
            project = self._store.find_project(caller.org_id, request.query["projectSlug"])
            if project is None:
                raise ApiError(404, "no such project in this org")
        return Call(request, params, caller, project)

    def _identity(self, request: Request) -> Identity:
        identity = self._store.identity_of(bearer_token(request) or "")
        if identity is None:
            raise ApiError(401, "missing, unknown or expired bearer token")
        return identity

    def _deprecation_headers(self) -> Dict[str, str]:
        message = self._settings.deprecation
        return client_version.deprecation_headers(message, self._settings.sunset) if message else {}

    def _record(self, request: Request, token: Optional[str]) -> RecordedRequest:
        try:
            route, params = find_route(self._handlers, request.method, request.segments)
            name, job_id = route.name, params.get("job_id")
        except ApiError:
            name, job_id = None, None
        headers = {
            header: REDACTED if header.lower() in SECRET_HEADERS else value
            for header, value in request.headers.items()
        }
        with self._store.condition:
            record = RecordedRequest(
                method=request.method,
                path=request.path,
                query=request.query,
                headers=headers,
                body=_recorded_body(request.body),
                route=name,
                job_id=job_id,
                token_digest=hashlib.sha256(token.encode()).hexdigest()[:8] if token else None,
                number=self._store.count_request(name, job_id),
            )
            self._store.requests.append(record)
            self._store.notify()
        return record

    def _record_status(self, record: RecordedRequest, status: int) -> None:
        with self._store.condition:
            record.status = status
            self._store.notify()


def bearer_token(request: Request) -> Optional[str]:
    """Return the request's bearer token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _recorded_body(body: bytes) -> Any:
    """Return a body for the record: decoded if it is JSON, and without its secrets."""
    if not body:
        return None
    try:
        value = decode_json(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    if isinstance(value, dict):
        value.update({name: REDACTED for name in _SECRET_FIELDS if name in value})
    source = (value.get("config") or {}) if isinstance(value, dict) else {}
    source = source.get("datasetSource") if isinstance(source, dict) else None
    if isinstance(source, dict) and "token" in source:
        source["token"] = REDACTED
    return value
