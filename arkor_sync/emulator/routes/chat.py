"""Chat with a model. Runs in the connection's thread."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, Dict, Optional, Tuple, Union

from arkor_sync.emulator.engine.base import CheckpointNotFound
from arkor_sync.emulator.http.messages import ApiError, Response, is_integer
from arkor_sync.emulator.http.routing import Call, Route, StreamedResponse
from arkor_sync.emulator.http.sse import END
from arkor_sync.emulator.http.stream_body import StreamBody
from arkor_sync.emulator.models import Frame, LogEntry, Project, StoredJob
from arkor_sync.emulator.routes.chat_completion import ChatCompletion
from arkor_sync.emulator.routes.chat_validation import check_chat
from arkor_sync.emulator.routes.resource import Resource


class Chat(Resource):
    """Lets an engine answer a conversation."""

    ROUTES = (Route("POST", "/v1/inference/chat", "chat"),)

    def chat(self, call: Call) -> Union[Response, StreamedResponse]:
        """Answer with a job's adapter or with a base model."""
        return self._answer(call.scope, call.request.json_object())

    def _answer(self, project: Project, body: Dict[str, Any]) -> Union[Response, StreamedResponse]:
        chat = check_chat(body, tool_calling=self._settings.tool_calling)
        job, step = self._adapter(project, body)
        engine = job.engine if job else self._backend.engine()
        model = job.config["model"] if job else body["baseModel"]
        try:
            pieces = engine.reply(job, step, chat)
        except CheckpointNotFound as error:
            raise ApiError(404, str(error)) from None
        completion = ChatCompletion(chat, model, pieces)
        if not body.get("stream"):
            with closing(completion):
                return Response(200, completion.body())

        def write(out: StreamBody) -> None:
            with closing(completion):  # a client that goes away ends the answer
                out.begin()
                try:
                    for frame in completion.frames():
                        out.write(LogEntry(frame))
                except ApiError as error:  # the status is sent: the answer itself has to say it
                    failure = {"error": {"message": str(error), "code": error.status}}
                    out.write(LogEntry(Frame(json.dumps(failure))))
            out.finish(END if self._settings.chat_end == "end" else Frame("[DONE]"))

        return StreamedResponse(write)

    def _adapter(
        self, project: Project, body: Dict[str, Any]
    ) -> Tuple[Optional[StoredJob], Optional[int]]:
        """Return the job and the step of the adapter; (None, None) means the base model."""
        adapter, base_model = body.get("adapter"), body.get("baseModel")
        if (adapter is None) == (base_model is None):
            raise ApiError(400, "expected exactly one of adapter and baseModel")
        if adapter is None:
            if not isinstance(base_model, str) or not base_model:
                raise ApiError(400, "baseModel: expected a non-empty string")
            return None, None
        kind = adapter.get("kind") if isinstance(adapter, dict) else None
        if kind not in ("final", "checkpoint") or not isinstance(adapter.get("jobId"), str):
            raise ApiError(400, "adapter: expected kind 'final' or 'checkpoint', and a jobId")
        step = adapter.get("step")
        if kind == "checkpoint" and not is_integer(step):
            raise ApiError(400, "adapter.step: expected a whole number")
        job = self._job(project, adapter["jobId"])
        if kind == "final":
            if job.status != "completed":
                raise ApiError(404, "the job has no final adapter")
            return job, None
        if step not in job.saved_steps:
            raise ApiError(404, f"the job has no checkpoint at step {step}")
        return job, step
