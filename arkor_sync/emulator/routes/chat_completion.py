"""Route 11: an engine's answer in the shape of OpenAI's chat completions. A connection's thread."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Dict, Iterable, Iterator, List, Optional

from arkor_sync.emulator.engine.base import ChatRequest, Piece
from arkor_sync.emulator.models import Frame


class Answer:
    """Counts and cuts the pieces of one answer.

    Args:
        chat: The request.
        model: The name of what answers.
        pieces: The engine's pieces.
    """

    def __init__(self, chat: ChatRequest, model: str, pieces: Iterable[Piece]) -> None:
        self._chat = chat
        self._pieces = pieces
        self._envelope = {
            "id": f"chatcmpl-{uuid.uuid4().hex[:24]}",
            "created": int(time.time()),
            "model": model,
        }
        self._characters = 0
        self._finish_reason = "stop"

    def whole(self) -> Dict[str, Any]:
        """Return the answer to ``stream: false``."""
        texts: List[str] = []
        calls: List[Dict[str, Any]] = []
        for piece in self._limited():
            if isinstance(piece, str):
                texts.append(piece)
            else:
                calls.append(piece)
        message: Dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
        if calls:
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        return {
            **self._envelope,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(),
        }

    def frames(self) -> Iterator[Frame]:
        """Yield the answer to ``stream: true``, chunk by chunk, all but what says that it ends."""
        yield self._chunk({"role": "assistant", "content": ""})
        calls = 0
        for piece in self._limited():
            if isinstance(piece, str):
                yield self._chunk({"content": piece})
            else:
                yield self._chunk({"tool_calls": [{"index": calls, **piece}]})
                calls += 1
        yield self._chunk({}, self._finish_reason)
        if (self._chat.body.get("streamOptions") or {}).get("includeUsage"):
            yield self._frame({"choices": [], "usage": self._usage()})

    def _chunk(self, delta: Dict[str, Any], finish_reason: Optional[str] = None) -> Frame:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._frame({"choices": [choice]})

    def _frame(self, body: Dict[str, Any]) -> Frame:
        chunk = {**self._envelope, "object": "chat.completion.chunk", **body}
        return Frame(json.dumps(chunk, ensure_ascii=False))

    def _limited(self) -> Iterator[Piece]:
        """Cut at ``stop`` and at ``maxTokens``, and notice why the answer ended."""
        limit = self._chat.max_tokens
        for piece in cut_at(self._stops(), self._pieces):
            if not isinstance(piece, str):
                self._finish_reason = "tool_calls"
                yield piece
                continue
            room = limit - self._characters
            self._characters += min(len(piece), room)
            if piece[:room]:
                yield piece[:room]
            if self._characters == limit:
                self._finish_reason = "length"
                return

    def _stops(self) -> List[str]:
        stop = self._chat.body.get("stop") or []
        return [stop] if isinstance(stop, str) else stop

    def _usage(self) -> Dict[str, int]:
        prompt = sum(len(str(m.get("content") or "")) for m in self._chat.messages)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._characters,
            "total_tokens": prompt + self._characters,
        }


def cut_at(stops: List[str], pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield pieces up to the first stop text, which may lie across pieces."""
    if not stops:
        yield from pieces
        return
    # So much of the tail might still turn out to be the beginning of a stop text.
    held_back = max(map(len, stops)) - 1
    text = ""
    for piece in pieces:
        if not isinstance(piece, str):
            yield piece
            continue
        text += piece
        found = [text.index(stop) for stop in stops if stop in text]
        if found:
            text = text[: min(found)]
            break
        if len(text) > held_back:
            yield text[: len(text) - held_back]
            text = text[len(text) - held_back :]
    if text:
        yield text
