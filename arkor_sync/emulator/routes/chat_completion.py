"""A chat answer in the format of OpenAI's chat completions. Runs in the connection's thread."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Dict, Iterable, Iterator, List, Optional

from arkor_sync.emulator.engine.base import Answer, ChatRequest, Piece
from arkor_sync.emulator.models import Frame

ARGUMENTS_PART = 8  # characters of a tool call's arguments in one event


class ChatCompletion:
    """One answer. It ends where `stop` or `maxTokens` says so.

    Args:
        chat: The request.
        model: The name of the model.
        pieces: What the engine answers.
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

    def body(self) -> Dict[str, Any]:
        """Return the response body for `stream: false`."""
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
        """Yield the events for `stream: true`, without the one that ends the stream."""
        yield self._chunk({"role": "assistant", "content": ""})
        calls = 0
        for piece in self._limited():
            if isinstance(piece, str):
                yield self._chunk({"content": piece})
            else:
                for part in parts_of_call(piece):
                    yield self._chunk({"tool_calls": [{"index": calls, **part}]})
                calls += 1
        yield self._chunk({}, self._finish_reason)
        if (self._chat.body.get("streamOptions") or {}).get("includeUsage"):
            yield self._frame({"choices": [], "usage": self._usage()})

    def close(self) -> None:
        """Let the engine end the answer, wherever it is."""
        close = getattr(self._pieces, "close", None)  # of an `Answer`, or of a generator
        if close is not None:
            close()

    def _chunk(self, delta: Dict[str, Any], finish_reason: Optional[str] = None) -> Frame:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._frame({"choices": [choice]})

    def _frame(self, body: Dict[str, Any]) -> Frame:
        chunk = {**self._envelope, "object": "chat.completion.chunk", **body}
        return Frame(json.dumps(chunk, ensure_ascii=False))

    def _limited(self) -> Iterator[Piece]:
        """Yield the pieces up to `stop` or `maxTokens`, and set the finish reason."""
        if isinstance(self._pieces, Answer):
            yield from cut_at(self._stops(), self._to_its_end(self._pieces))
            self._pieces.close()  # a stop text may have cut it: it counts up to there
            return
        limit = self._chat.max_tokens
        for piece in cut_at(self._stops(), self._pieces):
            if not isinstance(piece, str):
                self._finish_reason = "tool_calls"
                yield piece
                continue
            left = limit - self._characters
            self._characters += min(len(piece), left)
            if piece[:left]:
                yield piece[:left]
            if self._characters == limit:
                self._finish_reason = "length"
                return

    def _to_its_end(self, answer: Answer) -> Iterator[Piece]:
        """Yield the pieces, and take over the finish reason unless a stop text cuts them."""
        yield from answer
        self._finish_reason = answer.finish_reason

    def _stops(self) -> List[str]:
        stop = self._chat.body.get("stop") or []
        return [stop] if isinstance(stop, str) else stop

    def _usage(self) -> Dict[str, int]:
        if isinstance(self._pieces, Answer):
            prompt, answer = self._pieces.prompt_tokens, self._pieces.completion_tokens
        else:
            prompt = sum(len(str(m.get("content") or "")) for m in self._chat.messages)
            answer = self._characters
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        }


def parts_of_call(call: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """Yield the parts in which a tool call is streamed: its name, and then its arguments."""
    function = call.get("function") or {}
    arguments = function.get("arguments") or ""
    yield {**call, "function": {**function, "arguments": ""}}
    for start in range(0, len(arguments), ARGUMENTS_PART):
        yield {"function": {"arguments": arguments[start : start + ARGUMENTS_PART]}}


def cut_at(stops: List[str], pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield pieces up to the first stop text, which may begin in one piece and end in another."""
    if not stops:
        yield from pieces
        return
    # The last characters of the text may be the beginning of a stop text.
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
