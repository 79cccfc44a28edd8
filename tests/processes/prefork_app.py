"""An application for a prefork server, whose views follow runs in the worker that serves them.

The environment says where the cloud is (`TEST_CLOUD`), and whether a run is followed at import
(`TEST_FOLLOW_AT_IMPORT`), which with `--preload` is in the master.
"""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Dict, List

from arkor_sync import ArkorError, HuggingFaceDataset, create_trainer, follow
from support.hang_phases import Cloud
from support.waiting import PATIENCE

CLOUD = Cloud(**json.loads(os.environ["TEST_CLOUD"]))
STEPS: List[int] = []

# As an application would: all is made at import, and with --preload before the fork.
client = CLOUD.client()
trainer = create_trainer(
    name="prefork",
    model="unsloth/gemma-4-E4B-it",
    dataset=HuggingFaceDataset("arkorlab/triage-demo"),
    callbacks={"on_log": lambda ctx: STEPS.append(ctx.step)},
    client=client,
)
kept = []
if os.environ.get("TEST_FOLLOW_AT_IMPORT"):
    kept.append(follow(CLOUD.job_id, client=client))


def train() -> Dict[str, Any]:
    result = trainer.wait(PATIENCE)
    return {"job": result.job.id, "status": result.status, "steps": STEPS}


def keep() -> Dict[str, Any]:
    """Begin to follow, and let the run go on after the response."""
    kept.append(follow(CLOUD.job_id, client=client))
    return {}


def inherited() -> Dict[str, Any]:
    """Wait for the run that was followed at import."""
    try:
        kept[0].wait(PATIENCE)
    except ArkorError as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {}


VIEWS: Dict[str, Callable[[], Dict[str, Any]]] = {
    "/train": train,
    "/keep": keep,
    "/inherited": inherited,
}


def application(environ: Dict[str, Any], start_response: Callable[..., Any]) -> List[bytes]:
    answer = {**VIEWS[environ["PATH_INFO"]](), "pid": os.getpid()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
