"""Chat with the base model and its adapters. Runs on a thread of its own."""

from __future__ import annotations

import copy
import inspect
import itertools
import threading
import traceback
import uuid
from collections import OrderedDict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional

import torch
from peft import PeftModel

from arkor_sync.emulator.engine.lora.constraints import Constraints, refused
from arkor_sync.emulator.engine.lora.prompt import prompt_tokens
from arkor_sync.emulator.engine.lora.sampling import Sampler
from arkor_sync.emulator.http.messages import ApiError

if TYPE_CHECKING:
    from arkor_sync.emulator.engine.lora.base_model import BaseModel

KEPT_ADAPTERS = 8
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what the first bytes of a character are decoded to


class Chats:
    """The answers that one base model and its adapters are giving.

    Args:
        base: The base model.
        send: Takes the messages of all answers, from their threads.
    """

    def __init__(self, base: BaseModel, send: Callable[[Dict[str, Any]], None]) -> None:
        self._base = base
        self._send = send
        # A tokenizer that pads or truncates may not be used by another thread at the same time.
        self._tokenizer = copy.deepcopy(base.tokenizer)
        self._tokenizer.backend_tokenizer.no_padding()
        self._tokenizer.backend_tokenizer.no_truncation()
        config = base.model.config.get_text_config()
        self._context: Optional[int] = getattr(config, "max_position_embeddings", None)
        # Transformers has renamed it.
        known = inspect.signature(base.model.forward).parameters
        self._cache = "cache" if "cache" in known else "past_key_values"
        self._ends = _ends(base.model.generation_config, self._tokenizer)
        size = max(config.vocab_size, len(self._tokenizer))
        self._constraints = Constraints(self._tokenizer, self._ends, size)
        self._models = _Models(base)
        self._turn = _Turn()
        self._lock = threading.Lock()
        self._stops: Dict[int, threading.Event] = {}

    def start(self, number: int, adapter: Optional[Path], request: Dict[str, Any]) -> None:
        """Begin an answer.

        Args:
            number: The answer's number, which its messages have.
            adapter: The folder of the adapter; None for the base model.
            request: What is asked.
        """
        stopped = threading.Event()
        with self._lock:
            self._stops[number] = stopped
        threading.Thread(
            target=self._run,
            args=(number, adapter, request, stopped),
            name=f"arkor-chat-{number}",
            daemon=True,
        ).start()

    def stop(self, number: int) -> None:
        """End an answer before its next token, unless it has ended."""
        with self._lock:
            stopped = self._stops.get(number)
        if stopped is not None:
            stopped.set()

    @property
    def running(self) -> bool:
        """Whether an answer has not sent its last message yet."""
        with self._lock:
            return bool(self._stops)

    def _run(
        self,
        number: int,
        adapter: Optional[Path],
        request: Dict[str, Any],
        stopped: threading.Event,
    ) -> None:
        def send(**message: Any) -> None:
            self._send({"chat": number, **message})

        try:
            send(end=self._answer(adapter, request, stopped, send))
        except ApiError as error:
            send(error=str(error), status=error.status)
        except Exception as error:
            traceback.print_exc()
            send(error=f"{type(error).__name__}: {error}", status=500)
        finally:
            with self._lock:
                del self._stops[number]

    def _answer(
        self,
        adapter: Optional[Path],
        request: Dict[str, Any],
        stopped: threading.Event,
        send: Callable[..., None],
    ) -> Dict[str, Any]:
        """Send the answer; return how it ended."""
        prompt = prompt_tokens(self._tokenizer, request)
        sampler = Sampler(self._base.model, request, prompt)
        constraint = self._constraints.of(request)
        limit = request["max_tokens"]
        if self._context is not None:
            if len(prompt) >= self._context:
                raise refused(
                    f"messages: they have {len(prompt)} tokens, and the model's context, which "
                    f"holds the answer as well, has {self._context}"
                )
            limit = min(limit, self._context - len(prompt))

        def end(reason: str) -> Dict[str, Any]:
            counts = {"prompt_tokens": len(prompt), "completion_tokens": tokens}
            return {"finish_reason": reason, **counts}

        text, arguments = _Text(self._tokenizer), ""
        tokens, given, cache, complete = 0, prompt, None, False
        while tokens < limit and not complete:
            with self._turn, torch.no_grad():
                if stopped.is_set():
                    return end("stop")
                output = self._models.of(adapter)(
                    input_ids=torch.tensor([given], device=self._base.model.device),
                    use_cache=True,
                    logits_to_keep=1,
                    **{self._cache: cache},
                )
                logits = output.logits[0, -1].float().cpu()
            token = sampler.choose(logits, constraint)
            cache, given, tokens = output[self._cache], [token], tokens + 1
            complete = token in self._ends
            piece = "" if complete else text.add(token)
            if constraint is not None:
                complete = constraint.take(token) or complete
            if complete or tokens == limit:
                piece += text.rest() if complete else text.rest().rstrip(UNFINISHED)
            if request["tool"]:
                arguments += piece
            elif piece:
                send(text=piece)
        if request["tool"]:
            send(call=_call(request["tool"][0], arguments))
            return end("tool_calls" if complete else "length")
        return end("stop" if complete else "length")


class _Turn:
    """A lock that is given to those who wait for it in the order in which they came."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: Deque[object] = deque()

    def __enter__(self) -> None:
        me = object()
        with self._condition:
            self._queue.append(me)
            self._condition.wait_for(lambda: self._queue[0] is me)

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._queue.popleft()
            self._condition.notify_all()


class _Models:
    """The base model, and modules of their own with the adapters that were chatted with last.

    Only one of those adapters is active. So `of` is called, and the model is used, in a turn.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._adapted: Any = None
        self._names: OrderedDict[Path, str] = OrderedDict()
        self._numbers = itertools.count(1)

    def of(self, adapter: Optional[Path]) -> Any:
        """Return the model with an adapter, or without one."""
        if adapter is None:
            return self._base.model
        if adapter not in self._names:
            self._load(adapter)
        self._names.move_to_end(adapter)
        name = self._names[adapter]
        if self._adapted.active_adapter != name:
            self._adapted.set_adapter(name)
        return self._adapted

    def _load(self, adapter: Path) -> None:
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            if not (adapter / file).is_file():
                raise ApiError(404, f"there is no adapter here any more: {adapter / file}")
        name = f"adapter-{next(self._numbers)}"
        # Without low_cpu_mem_usage the weights would first be drawn from the global random numbers,
        # and a training draws from those, too.
        how = {"low_cpu_mem_usage": True, "torch_device": str(self._base.model.device)}
        if self._adapted is None:
            model = self._base.copy()
            self._adapted = PeftModel.from_pretrained(model, str(adapter), name, **how).eval()
        else:
            self._adapted.load_adapter(str(adapter), name, **how)
        self._names[adapter] = name
        while len(self._names) > KEPT_ADAPTERS:
            _, oldest = self._names.popitem(last=False)
            self._adapted.set_adapter(name)
            self._adapted.delete_adapter(oldest)


class _Text:
    """Turns tokens into text, a piece as soon as its characters are whole."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Some tokenizers write a token differently at the beginning of a text. So each piece is
        # decoded together with the one before it.
        self._before: List[int] = []
        self._tokens: List[int] = []

    def add(self, token: int) -> str:
        """Take the next token; return the text that has become whole."""
        self._tokens.append(token)
        piece = self.rest()
        if not piece or piece.endswith(UNFINISHED):
            return ""
        self._before, self._tokens = self._tokens, []
        return piece

    def rest(self) -> str:
        """Return the text of the tokens that are not whole characters."""
        before = self._decode(self._before)
        return self._decode(self._before + self._tokens)[len(before) :]

    def _decode(self, tokens: List[int]) -> str:
        return str(
            self._tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def _ends(generation: Any, tokenizer: Any) -> List[int]:
    """Return the tokens that end an answer."""
    tokens = generation.eos_token_id
    given = tokens if isinstance(tokens, list) else [tokens]
    return sorted({token for token in [*given, tokenizer.eos_token_id] if token is not None})


def _call(name: str, arguments: str) -> Dict[str, Any]:
    return {
        "id": f"call_{uuid.uuid4().hex[:12]}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
