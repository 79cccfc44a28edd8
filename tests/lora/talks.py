"""Somebody who chats with a tiny model and its adapters, and waits for the whole answers."""

from __future__ import annotations

import queue
from collections import defaultdict
from pathlib import Path
from typing import Any, Callable, DefaultDict, Dict, List, Optional

import torch
from peft import LoraConfig, get_peft_model

from arkor_sync.emulator.engine.lora.base_model import BaseModel, load
from arkor_sync.emulator.engine.lora.chat import Chats
from support.tiny_model import make_tiny_model
from support.waiting import PATIENCE


def load_base(folder: Path) -> BaseModel:
    """Make a tiny model, and load it as the engine does."""
    return load(str(make_tiny_model(folder)), "cpu", "float32")


def make_adapter(base: BaseModel, folder: Path, seed: int) -> Path:
    """Save an adapter that changes what the model says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(
            task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False
        )
        get_peft_model(base.copy(), config).save_pretrained(folder)
    return folder


def request(text: str = "How are you?", **body: Any) -> Dict[str, Any]:
    """Return a request as the engine's parent side hands it over; `body` is as a client sends it.

    `constraint`, `tool` and `messages` are taken out of it.
    """
    messages = body.pop("messages", [{"role": "user", "content": text}])
    constraint, tool = body.pop("constraint", None), body.pop("tool", None)
    return {
        "messages": messages,
        "temperature": body.get("temperature"),
        "top_p": body.get("topP", 1.0),
        "max_tokens": body.get("maxTokens", 40),
        "seed": body.get("seed"),
        "constraint": constraint,
        "tool": tool,
        "body": {"messages": messages, **body},
    }


class Answered:
    """All messages of one answer."""

    def __init__(self, messages: List[Dict[str, Any]]) -> None:
        self.pieces: List[str] = [m["text"] for m in messages if "text" in m]
        self.calls: List[Dict[str, Any]] = [m["call"] for m in messages if "call" in m]
        self.last = messages[-1]
        assert sum("end" in m or "error" in m for m in messages) == 1

    @property
    def text(self) -> str:
        """The whole text of an answer that did not fail."""
        assert "end" in self.last, self.last
        return "".join(self.pieces)

    @property
    def end(self) -> Dict[str, Any]:
        assert "end" in self.last, self.last
        end: Dict[str, Any] = self.last["end"]
        return end


class Talks:
    """Asks one base model and its adapters."""

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self.chats = Chats(base, self._take)
        self.heard: Callable[[Dict[str, Any]], None] = lambda message: None
        self._messages: DefaultDict[int, queue.Queue[Dict[str, Any]]] = defaultdict(queue.Queue)
        self._number = 0

    def ask(self, *args: Any, adapter: Optional[Path] = None, **body: Any) -> Answered:
        """Ask, and wait for the whole answer."""
        return self.answer(self.start(*args, adapter=adapter, **body))

    def start(self, *args: Any, adapter: Optional[Path] = None, **body: Any) -> int:
        """Ask; return the number of the answer."""
        self._number += 1
        self.chats.start(self._number, adapter, request(*args, **body))
        return self._number

    def answer(self, number: int) -> Answered:
        """Wait for the whole answer with a number."""
        messages: List[Dict[str, Any]] = []
        while not messages or not {"end", "error"} & set(messages[-1]):
            messages.append(self._messages[number].get(timeout=PATIENCE))
        return Answered(messages)

    def _take(self, message: Dict[str, Any]) -> None:
        self.heard(message)
        self._messages[message["chat"]].put(message)
