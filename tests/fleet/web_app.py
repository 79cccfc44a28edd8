"""A web application that submits a job for each key, and follows none: WSGI, for any server."""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Dict, List
from urllib.parse import parse_qs

from arkor_sync import (
    ArkorError,
    CloudApiClient,
    HuggingFaceDataset,
    SQLCursorStore,
    create_trainer,
    submit,
)

# All is made at import, as applications do: with a preloaded one that is before the fork.
client = CloudApiClient()
store = SQLCursorStore(os.environ["FLEET_STORE"])


def train(key: str) -> str:
    trainer = create_trainer(
        name="web",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("arkorlab/triage-demo"),
        client=client,
    )
    submission = submit(
        trainer, key=key, store=store, timeout=1.0, request_limit=2.0, settle_time=3.0
    )
    assert submission.job_id is not None
    return submission.job_id


def application(environ: Dict[str, Any], start_response: Callable[..., Any]) -> List[bytes]:
    keys = parse_qs(environ["QUERY_STRING"]).get("key", [])
    status, answer = "200 OK", {"pid": os.getpid(), "job": ""}
    try:
        if keys:
            answer["job"] = train(keys[0])
    except ArkorError as error:
        status, answer["error"] = "503 Service Unavailable", type(error).__name__
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
