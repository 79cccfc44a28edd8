"""A cloud without sockets: each connection is a script, and waiting costs no time."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from arkor_sync._common.clock import Clock
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError
from arkor_sync.options import RunOptions
from arkor_sync.run import Run
from support.clocks import FakeClock


class Hold:
    """A read that blocks until it is let go, or the transport is interrupted."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._let_go = threading.Event()

    def let_go(self) -> None:
        self._let_go.set()

    def block(self, transport: Any) -> None:
        self.reached.set()
        while not self._let_go.wait(0.002):
            if transport.interrupted:
                raise ArkorConnectionError("the socket was shut down")


Step = Union[bytes, Exception, Hold, Callable[[], Any]]
Connection = Union[Exception, List[Step]]


class FakeStream:
    def __init__(self, transport: Any, steps: List[Step]) -> None:
        self.closed = threading.Event()
        self.closed_by: Optional[str] = None
        self.timeouts: List[float] = []
        self._transport = transport
        self._steps = list(steps)

    def read(self) -> bytes:
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, bytes):
                return step
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Hold):
                step.block(self._transport)
            else:
                step()
        return b""

    def set_timeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def close(self) -> None:
        self.closed_by = threading.current_thread().name
        self.closed.set()


class FakeJobs:
    """The `client.jobs` of a run: it hands out the scripted connections in order."""

    def __init__(self, connections: List[Connection], records: List[Any]) -> None:
        self.connections = list(connections)
        self.records = list(records)
        self.resumed: List[Optional[str]] = []
        self.timeouts: List[Tuple[float, float]] = []
        self.streams: List[FakeStream] = []
        self.cancelled = 0
        self.cancel_error: Optional[Exception] = None
        self.looked_up = 0

    def events(
        self,
        job_id: str,
        *,
        transport: Any,
        last_event_id: Optional[str] = None,
        timeout: Tuple[float, float],
    ) -> FakeStream:
        self.resumed.append(last_event_id)
        self.timeouts.append(timeout)
        connection = self.connections.pop(0) if self.connections else [Hold()]
        if isinstance(connection, Exception):
            raise connection
        stream = FakeStream(transport, connection)
        self.streams.append(stream)
        return stream

    def get(self, job_id: str, *, transport: Any = None) -> TrainingJob:
        self.looked_up += 1
        record = self.records.pop(0) if len(self.records) > 1 else self.records[0]
        if isinstance(record, Exception):
            raise record
        return record

    def cancel(self, job_id: str) -> None:
        if self.cancel_error is not None:
            raise self.cancel_error
        self.cancelled += 1


def job(status: str = "queued", **more: Any) -> TrainingJob:
    return TrainingJob.from_dict(
        {
            "id": "job-1",
            "orgId": "org-1",
            "projectId": "project-1",
            "name": "fake",
            "status": status,
            "config": {"model": "m"},
            "createdAt": "2026-01-01T00:00:00Z",
            **more,
        }
    )


def frame(
    id: Optional[str], data: Union[str, Dict[str, Any]], event: Optional[str] = None
) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    lines = [] if id is None else [f"id: {id}"]
    if event is None and isinstance(data, dict):
        event = data.get("type")
    if event:
        lines.append(f"event: {event}")
    return "\n".join([*lines, f"data: {text}", "", ""]).encode()


def started(id: Optional[str] = "0") -> bytes:
    return frame(id, {"type": "training.started", "jobId": "job-1", "timestamp": "t0"})


def log(step: int, id: Optional[str] = "", **more: Any) -> bytes:
    data = {"type": "training.log", "jobId": "job-1", "timestamp": f"t{step}", "step": step, **more}
    return frame(str(step) if id == "" else id, data)


def logs(first: int, last: int) -> bytes:
    return b"".join(log(step) for step in range(first, last + 1))


def checkpoint(step: int, id: str) -> bytes:
    return frame(id, {"type": "checkpoint.saved", "timestamp": "tc", "step": step})


def completed(id: Optional[str] = "end", **more: Any) -> bytes:
    data = {"type": "training.completed", "timestamp": "t9", "artifacts": [{"a": 1}], **more}
    return frame(id, data)


def failed(id: Optional[str] = "end", **more: Any) -> bytes:
    data = {"type": "training.failed", "timestamp": "t9", "error": "CUDA out of memory", **more}
    return frame(id, data)


PING = b"event: ping\ndata:\n\n"
END = b"event: end\ndata: {}\n\n"


class Seen:
    """Callbacks that write down what they were called with."""

    def __init__(self) -> None:
        self.calls: List[str] = []
        self.contexts: List[Any] = []

    def table(self) -> Dict[str, Callable[[Any], Any]]:
        names = ["started", "log", "checkpoint", "completed", "failed", "cancelled"]
        return {f"on_{name}": self._recorder(name) for name in names}

    @property
    def steps(self) -> List[int]:
        return [ctx.step for ctx in self.contexts if type(ctx).__name__ == "LogContext"]

    def _recorder(self, name: str) -> Callable[[Any], None]:
        def record(ctx: Any) -> None:
            self.calls.append(name)
            self.contexts.append(ctx)

        return record


def make_run(
    *connections: Connection,
    callbacks: Any = None,
    records: Optional[List[Any]] = None,
    clock: Optional[Clock] = None,
    begin: Optional[TrainingJob] = None,
    **options: Any,
) -> Tuple[Run, FakeJobs]:
    """Make a run over scripted connections; it is not started."""
    jobs = FakeJobs(list(connections), records or [job("running")])
    client: Any = SimpleNamespace(jobs=jobs, transport=Transport)
    settings = RunOptions(callbacks=callbacks, clock=clock or FakeClock(), **options)
    return Run(client, begin or job(), settings), jobs
