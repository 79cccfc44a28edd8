"""What is deployed, as its callers see it: an OpenAI server. Runs in the connection's thread."""

from __future__ import annotations

from typing import Any, Dict, Union

from arkor_sync.emulator.clock import timestamp
from arkor_sync.emulator.http.dispatcher import bearer_token
from arkor_sync.emulator.http.messages import ApiError, Request, Response
from arkor_sync.emulator.http.routing import Call, Route, StreamedResponse
from arkor_sync.emulator.models import Deployment
from arkor_sync.emulator.routes.chat import Chat

MENU_MODEL = "unsloth/gemma-4-E4B-it"  # what a deployment with a menu serves by default

# The fields of OpenAI's chat completions that have another name in the cloud's own chat route.
CLOUD_NAMES = {
    "top_p": "topP",
    "max_tokens": "maxTokens",
    "max_completion_tokens": "maxTokens",
    "tool_choice": "toolChoice",
    "response_format": "responseFormat",
    "structured_outputs": "structuredOutputs",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "top_logprobs": "topLogprobs",
    "logit_bias": "logitBias",
    "stream_options": "streamOptions",
    "reasoning_effort": "reasoningEffort",
}
SAME_NAMES = ("messages", "temperature", "stream", "tools", "stop", "seed", "logprobs")


class Deployed(Chat):
    """Lets what is deployed answer, below an address that names the deployment.

    In the cloud each deployment has a host of its own; the path after it is the same.
    """

    ROUTES = (
        Route("POST", "/deployed/:slug/v1/chat/completions", "chat_completions", needs="nothing"),
    )

    def chat_completions(self, call: Call) -> Union[Response, StreamedResponse]:
        """Answer with what is deployed."""
        try:
            deployment = self._find(call.params["slug"])
            self._check_key(deployment, call.request)
            asked = call.request.json_object()
            body = in_cloud_names(asked)
            target = deployment.fields["target"]
            if target["kind"] == "adapter":
                body["adapter"] = target["adapter"]
            else:
                named = target.get("baseModel") or asked.get("model")
                body["baseModel"] = named or MENU_MODEL
            return self._answer(deployment.project, body)
        except ApiError as error:
            raise as_openai(error) from None

    def _find(self, slug: str) -> Deployment:
        with self._store.condition:
            for deployment in self._store.deployments.values():
                if deployment.slug == slug and deployment.fields.get("enabled", True):
                    return deployment
        raise ApiError(404, "there is no such deployment, or it is disabled")

    def _check_key(self, deployment: Deployment, request: Request) -> None:
        """Check the key, where one is needed, and note that it was used."""
        if deployment.fields["authMode"] == "none":
            return
        plaintext = bearer_token(request) or request.headers.get("x-api-key") or ""
        with self._store.condition:
            key = deployment.key_of(plaintext)
            if key is None:
                raise ApiError(401, "missing, unknown or revoked API key", "invalid_api_key")
            key["lastUsedAt"] = timestamp()
            self._store.notify()


def in_cloud_names(body: Dict[str, Any]) -> Dict[str, Any]:
    """Return the fields of a chat completion under their names in the cloud's chat route."""
    renamed = {CLOUD_NAMES[name]: body[name] for name in CLOUD_NAMES if body.get(name) is not None}
    options = renamed.get("streamOptions")
    if isinstance(options, dict):
        renamed["streamOptions"] = {"includeUsage": options.get("include_usage", False)}
    return {**{name: body[name] for name in SAME_NAMES if name in body}, **renamed}


def as_openai(error: ApiError) -> ApiError:
    """Return an error with a body as OpenAI's, and with the names of the fields there."""
    message, code = error.body["error"], error.body.get("code")
    field = message.partition(":")[0].partition(".")[0]
    for name, cloud_name in CLOUD_NAMES.items():
        if cloud_name == field and name != "max_completion_tokens":
            message = message.replace(field, name, 1)
    kind = "authentication_error" if error.status == 401 else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return ApiError(error.status, message, body=body)
