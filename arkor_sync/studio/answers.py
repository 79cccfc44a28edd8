"""An answer of a model, on its way from the cloud to a browser. Any thread."""

from __future__ import annotations

import json
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, Optional

from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync.errors import ArkorError, text_of

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient

logger = get_logger("arkor_sync.studio")

BEAT = 1.0
"""Seconds of silence after which an empty line is sent: only then is it seen who has gone."""


class LiveAnswer:
    """One answer, which a thread of its own reads from the cloud.

    The thread of the request sends it on as lines of JSON: `{"text": ...}` again and again, and
    last `{"end": {...}}` or `{"error": ...}`. The cloud may be silent for minutes; the browser can
    go away at any time, and `close` then ends the request to the cloud too.

    Args:
        client: Asks the cloud.
        question: Arguments of `client.chat`.
    """

    def __init__(self, client: CloudApiClient, question: Mapping[str, Any]) -> None:
        self._client = client
        self._question = question
        self._transport = client.transport()
        # It has no bound: the answer keeps its pieces anyway, and the client limits those.
        self._lines: SimpleQueue[Optional[Dict[str, Any]]] = SimpleQueue()

    def lines(self) -> Iterator[bytes]:
        """Ask, and yield the lines as they come; they are ASCII, so that no character is cut."""
        Thread(target=self._read, name="arkor-studio-chat", daemon=True).start()
        while True:
            try:
                line = self._lines.get(timeout=BEAT)
            except Empty:
                yield b"\n"
                continue
            if line is None:
                return
            yield json.dumps(line).encode() + b"\n"

    def close(self) -> None:
        """End the request to the cloud. Any thread may call it, also more than once."""
        self._transport.close()

    def _read(self) -> None:
        try:
            self._ask()
        except ArkorError as error:
            self._lines.put({"error": text_of(error)})
        except Exception:
            logger.exception("An answer of a model could not be read.")
            self._lines.put({"error": "the server has failed; its log says why"})
        finally:
            self._lines.put(None)

    def _ask(self) -> None:
        with (
            self._transport,
            self._client.chat(
                **self._question,
                stream=True,
                transport=self._transport,
                extra={"streamOptions": {"includeUsage": True}},
            ) as answer,
        ):
            pieces = 0
            began = ended = Clock.now()
            for piece in answer:
                ended = Clock.now()
                if not pieces:
                    began = ended
                pieces += 1
                self._lines.put({"text": piece})
            usage = answer.usage
            facts = {
                "reason": answer.finish_reason,
                "calls": answer.tool_calls(),
                "tokens": usage and usage.get("completion_tokens"),
                "pieces": pieces,
                "seconds": ended - began,
            }
            self._lines.put({"end": facts})
