"""The emulator's own routes, below `/_emulator`. Runs in the connection's thread."""

from __future__ import annotations

from typing import Any, Callable, Dict

from arkor_sync.emulator.faults import Fault, FaultBook
from arkor_sync.emulator.http.messages import ApiError, Request, Response
from arkor_sync.emulator.store import Store


class Admin:
    """Lets a program in another process read requests, set faults and reset the emulator.

    Args:
        store: The emulator's state.
        faults: The faults that are set.
        reset: Resets the emulator.
    """

    def __init__(self, store: Store, faults: FaultBook, reset: Callable[[], None]) -> None:
        self._store = store
        self._faults = faults
        self._reset = reset

    def handle(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            ApiError: 400 for a fault that is wrong, 404 for an unknown route.
        """
        route = f"{request.method} {'/'.join(request.segments[1:])}"
        if route == "GET health":
            return Response(200, self._health())
        if route == "GET requests":
            with self._store.condition:
                return Response(200, {"requests": [r.wire() for r in self._store.requests]})
        if route == "POST reset":
            self._reset()
            return Response(204)
        if route == "DELETE faults":
            self._faults.clear()
            return Response(204)
        if route == "POST faults":
            self._add(request.json())
        elif route != "GET faults":
            raise ApiError(404, "no such route")
        faults = [{**fault.wire(), "fired": fired} for fault, fired in self._faults.tally()]
        return Response(200 if request.method == "GET" else 201, {"faults": faults})

    def _add(self, body: Any) -> None:
        try:
            self._faults.add(*map(Fault.of, body if isinstance(body, list) else [body]))
        except (ValueError, TypeError) as error:
            raise ApiError(400, str(error)) from None

    def _health(self) -> Dict[str, Any]:
        with self._store.condition:
            return {
                "status": "ok",
                "orgSlug": self._store.identity.org_slug,
                "projectSlug": self._store.project.slug,
                "projectId": self._store.project.id,
                "jobs": {job.id: job.status for job in self._store.jobs.values()},
                "openStreams": self._store.open_streams,
            }
