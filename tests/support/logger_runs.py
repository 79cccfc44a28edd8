"""What the tests of metrics loggers share: a short run, ways to break it, a local HTTP service."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any, Callable, Dict, List, NamedTuple

from arkor_sync import create_trainer
from arkor_sync.handlers import MetricsLogger
from support.servers import LoopbackServer, QuietHandler
from support.waiting import PATIENCE

EVENTS: List[Any] = [
    {"type": "training.started"},
    {"type": "training.log", "step": 1, "loss": 3.0, "learningRate": 0.001, "gradNorm": 0.5},
    {"type": "training.log", "step": 1, "evalLoss": 3.125},
    {"type": "training.log", "step": 2, "loss": 2.5},
    {"type": "training.log", "step": 3, "loss": 2.0, "evalLoss": 2.25},
    {"type": "training.completed", "artifacts": []},
]


def train(client: Any, callbacks: Any) -> Any:
    """Follow a whole run to its end."""
    return create_trainer(
        name="a run",
        model="unsloth/gemma-4-E4B-it",
        dataset={"type": "blob", "url": "https://me:s3cret@host/data?s3cret", "token": "s3cret"},
        max_steps=3,
        callbacks=callbacks,
        client=client,
    ).wait(PATIENCE)


def drain(logger: MetricsLogger) -> None:
    """Wait until everything that was logged so far has been tried."""
    for run in list(logger._states._states.values()):
        assert run.outbox.flush(PATIENCE)


def join(logger: MetricsLogger) -> None:
    """Wait until the logger has no thread any more."""
    for thread in threading.enumerate():
        if thread.name == f"arkor-{type(logger).__name__}":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def each_event_twice(logger: MetricsLogger) -> List[Any]:
    """Return callbacks that give the logger every event again."""
    return [logger, {"on_started": logger.on_started, "on_log": logger.on_log}]


def at(step: int, logger: MetricsLogger, do: Callable[[], Any]) -> Dict[str, Any]:
    """Return a callback that does something once a step has been delivered."""

    def on_log(ctx: Any) -> None:
        if ctx.step == step and ctx.loss is not None:
            drain(logger)
            do()

    return {"on_log": on_log}


class Request(NamedTuple):
    method: str
    path: str
    headers: Dict[str, str]
    body: Any


class Service(LoopbackServer):
    """An HTTP service on the loopback that answers as it is told to, and remembers."""

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self.requests: List[Request] = []
        self.let_go = threading.Event()
        self.hangs = False
        service = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802
                data = self.body()
                headers = {name.lower(): value for name, value in self.headers.items()}
                if headers.get("content-encoding") == "gzip":
                    data = gzip.decompress(data)
                request = Request(self.command, self.path, headers, json.loads(data))
                if service.hangs:
                    service.let_go.wait(PATIENCE)
                service.requests.append(request)
                status, body = answer(request)
                how = {"Content_Type": "application/json", "Connection": "close"}
                self.answer(status, json.dumps(body).encode(), **how)

        super().__init__(Handler)

    def stop(self) -> None:
        self.let_go.set()
        super().stop()
