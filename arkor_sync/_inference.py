"""Chatting with what a job trained: `infer` of runs, results and checkpoints. Any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from arkor_sync._common.arguments import refusal
from arkor_sync._common.text import safe_line
from arkor_sync.cloud.chat_request import adapter_of
from arkor_sync.errors import ArkorUsageError

if TYPE_CHECKING:
    from arkor_sync.cloud.chat import ChatResponse
    from arkor_sync.cloud.chat_types import ResponseFormat, StructuredOutputs, ToolDefinition
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.cloud.training_data import Prompt

_MOST_NAMED = 10  # checkpoints in an error message


class Inference:
    """Base of what can be chatted with."""

    def infer(
        self,
        messages: Prompt,
        *,
        step: Optional[int] = None,
        stream: bool = True,
        temperature: Optional[float] = None,
        top_p: Optional[float] = None,
        max_tokens: Optional[int] = None,
        tools: Optional[Sequence[Union[ToolDefinition, Mapping[str, Any]]]] = None,
        tool_choice: Optional[Union[str, Mapping[str, Any]]] = None,
        response_format: Union[ResponseFormat, Mapping[str, Any], None] = None,
        structured_outputs: Union[StructuredOutputs, Mapping[str, Any], None] = None,
        timeout: Optional[float] = None,
        extra: Optional[Mapping[str, Any]] = None,
    ) -> ChatResponse:
        """Chat with the final model or a checkpoint of the job: `infer(...).content()`.

        It runs on the calling thread, in a callback too, and may be called while the job goes on
        and after its end. Each call is one request, which is not retried. For an argument that is
        left out, the cloud uses its default.

        Args:
            messages: `{"role": ..., "content": ...}`, the oldest first; or a text of the user.
            step: The step of a checkpoint. None: for the context of a checkpoint this checkpoint,
                for a run or a result the final model of the job, which must have completed. So
                `history.best(...).checkpoint`, which is None without checkpoints, then asks the
                final model too.
            stream: Whether the answer comes piece by piece.
            temperature: 0 to 2.
            top_p: 0 to 1 (`topP`).
            max_tokens: The longest answer, in tokens (`maxTokens`).
            tools: Functions that the model may call: see `ToolDefinition`, and `run_tools`.
            tool_choice: `"auto"`, `"none"`, `"required"` or a named function (`toolChoice`).
            response_format: Plain text, a JSON object or a JSON schema (`responseFormat`).
            structured_outputs: One constraint: `json`, `regex`, `choice`, `grammar` or
                `json_object` (`structuredOutputs`).
            timeout: As in `client.chat`; 300 s by default.
            extra: Further fields of the request, by their names in the JSON.

        Returns:
            The answer. `content()` is its text; iterating gives the text in pieces as they come.

        Raises:
            ArkorUsageError: The request cannot work, or there is no final model: the message names
                the checkpoints. Nothing was sent.
            CloudApiError: The cloud refused the request. `NotFoundError`: there is no such
                checkpoint; the message names the job and the step.
            ArkorConnectionError: No answer came, or only a part of it.
        """
        client, adapter = self._client_and_adapter(step)
        return client.chat(
            messages,
            adapter=adapter,
            stream=stream,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            tools=tools,
            tool_choice=tool_choice,
            response_format=response_format,
            structured_outputs=structured_outputs,
            timeout=timeout,
            extra=extra,
        )

    def _client_and_adapter(self, step: Optional[int]) -> Tuple[CloudApiClient, Dict[str, Any]]:
        """Return what asks, and what is asked.

        Raises:
            ArkorUsageError: There is none.
        """
        raise NotImplementedError


def final_or_checkpoint(
    job: TrainingJob, step: Optional[int], checkpoints: Sequence[int]
) -> Dict[str, Any]:
    """Return the adapter of a run's job: of the checkpoint at `step`, or for None the final one.

    Raises:
        ArkorUsageError: The job has no final model, or none yet.
    """
    if step is None and job.status != "completed":
        more = "..., " if len(checkpoints) > _MOST_NAMED else ""
        saved = more + ", ".join(map(str, checkpoints[-_MOST_NAMED:]))
        none = "the run has seen none so far; give save_steps to the trainer to have some"
        wanted = f"the step of a checkpoint: {saved or none}"
        got = f"None, but job {safe_line(job.id)} is {safe_line(job.status)}: it has no final model"
        raise refusal("step", None, wanted, got=got)
    return adapter_of(job, step)


def no_client(what: str, job: TrainingJob, step: Optional[int]) -> ArkorUsageError:
    """Build the error for a copy, which has no client. The caller raises it."""
    model = f"job={safe_line(job.id)!r}" + ("" if step is None else f", step={step}")
    return ArkorUsageError(
        f"this {what} is a copy (it was unpickled, for instance), and a copy has no client; "
        f"ask with a client: client.chat(messages, {model})"
    )
