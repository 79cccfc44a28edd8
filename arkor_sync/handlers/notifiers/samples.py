"""Asks a checkpoint a prompt, for its notification. Runs on a thread of its own."""

from __future__ import annotations

from arkor_sync._common.log import get_logger
from arkor_sync.cloud.chat_request import as_messages
from arkor_sync.cloud.training_data import Prompt
from arkor_sync.contexts import CheckpointContext
from arkor_sync.handlers._shared.exceptions import describe_error
from arkor_sync.handlers.notifiers.notification import Sample, clean

logger = get_logger("arkor_sync.handlers")

_ANSWER_TOKENS = 256
_ANSWER_TIMEOUT = 60.0  # seconds


def ask_checkpoint(ctx: CheckpointContext, prompt: Prompt) -> Sample:
    """Ask a checkpoint one prompt.

    An error is logged and becomes the answer, so that the other prompts are still asked.
    """
    messages = as_messages(prompt)
    try:
        question = str(messages[-1].get("content"))
        answer = ctx.infer(
            messages,
            stream=False,
            temperature=0,
            max_tokens=_ANSWER_TOKENS,
            timeout=_ANSWER_TIMEOUT,
        )
        return Sample(clean(question, 1000), clean(answer.content() or "(no text)", 4000))
    except Exception as error:
        logger.warning("checkpoint %d: no sample: %s", ctx.step, describe_error(error))
        return Sample(clean(prompt, 1000), f"(no answer: {type(error).__name__})")
