"""A bare client for the emulator's tests: it knows HTTP and SSE, and nothing of arkor_sync."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterator, List, Optional

import requests

from arkor_sync.emulator import Emulator
from support.waiting import PATIENCE

MODEL = "unsloth/gemma-4-E4B-it"
HUB = {"type": "huggingface", "name": "arkorlab/triage-demo"}
CONFIG = {"model": MODEL, "datasetSource": HUB}


@dataclass
class SseEvent:
    id: Optional[str]
    name: Optional[str]
    data: Optional[str]

    @property
    def json(self) -> Any:
        assert self.data is not None
        return json.loads(self.data)


def parse_sse(body: bytes) -> List[SseEvent]:
    """Parse whole frames; an unfinished one at the end is left out."""
    text = body.decode("utf-8")
    events = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        events.append(SseEvent(fields.get("id"), fields.get("event"), fields.get("data")))
    return events


class Client:
    """Requests with the headers and the scope of the protocol."""

    def __init__(self, emu: Emulator, token: Optional[str] = None, **scope: str) -> None:
        self.emu = emu
        self.session = requests.Session()
        self.session.trust_env = False
        self.headers = {
            "Authorization": f"Bearer {token or emu.token}",
            "X-Arkor-Client": "arkor/0.0.3-alpha.1",
        }
        self.scope = scope or {"orgSlug": emu.org_slug, "projectSlug": emu.project_slug}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        headers = {**self.headers, **kwargs.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        kwargs.setdefault("params", self.scope)
        kwargs.setdefault("timeout", PATIENCE)
        return self.session.request(method, self.emu.url + path, headers=headers, **kwargs)

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return self.call("GET", path, **kwargs)

    def post(self, path: str, json: Any = None, **kwargs: Any) -> requests.Response:
        return self.call("POST", path, json=json, **kwargs)

    def submit(self, **config: Any) -> str:
        """Create a job and return its id."""
        response = self.post("/v1/jobs", {"name": "run", "config": {**CONFIG, **config}})
        assert response.status_code == 201, response.text
        job_id: str = response.json()["job"]["id"]
        return job_id

    def open(self, job_id: str, last_event_id: Optional[str] = None) -> requests.Response:
        """Open the event stream of a job."""
        return self.get(
            f"/v1/jobs/{job_id}/events/stream",
            headers={"Accept": "text/event-stream", "Last-Event-ID": last_event_id},
            stream=True,
        )

    def read(self, job_id: str, last_event_id: Optional[str] = None) -> List[SseEvent]:
        """Read the event stream of a job to its end."""
        with self.open(job_id, last_event_id) as response:
            assert response.status_code == 200, response.text
            return parse_sse(response.content)

    def chat(self, prompt: str = "hello", **body: Any) -> requests.Response:
        """Ask a question."""
        return self.post(
            "/v1/inference/chat", {"messages": [{"role": "user", "content": prompt}], **body}
        )


def live(response: requests.Response) -> Iterator[SseEvent]:
    """Yield the events of an open stream as they come."""
    buffer = b""
    for chunk in response.raw.stream(1):
        buffer += chunk
        while b"\n\n" in buffer:
            block, buffer = buffer.split(b"\n\n", 1)
            yield parse_sse(block + b"\n\n")[0]
