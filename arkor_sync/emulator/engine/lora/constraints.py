"""Which tokens may come next in an answer that must have a form. Runs on a thread of its own."""

from __future__ import annotations

import copy
import json
import threading
from typing import Any, Dict, List, Optional

import llguidance
import llguidance.hf
import numpy
import torch
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from arkor_sync.emulator.http.messages import ApiError

_GRAMMARS = (
    "a grammar is read as Lark in the dialect of llguidance, whose first rule is `start: ...`, or, "
    "if it has `::=`, as GBNF, whose first rule is `root ::= ...`"
)


class Constraint:
    """The form of one answer, and how far the answer has come in it."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def forbid(self, logits: torch.Tensor) -> None:
        """Set the logits of the tokens that may not come next to minus infinity."""
        packed = numpy.frombuffer(self._matcher.compute_bitmask(), numpy.uint8)
        self._check()
        allowed = numpy.unpackbits(packed, count=len(logits), bitorder="little")
        logits.masked_fill_(torch.from_numpy(allowed) == 0, -torch.inf)

    def take(self, token: int) -> bool:
        """Take the next token; return whether the answer is complete and cannot go on."""
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RuntimeError(f"the constraint stopped: {self._matcher.get_error()}")


class Constraints:
    """Makes the constraints of the requests to one model.

    Args:
        tokenizer: The model's tokenizer.
        ends: The tokens that end an answer.
        size: The number of the model's logits.
    """

    def __init__(self, tokenizer: Any, ends: List[int], size: int) -> None:
        self._lock = threading.Lock()
        self._made_of = (tokenizer, size, ends)
        self._tokenizer: Any = None

    def of(self, request: Dict[str, Any]) -> Optional[Constraint]:
        """Return the constraint of a request; None if its answer may have any form.

        Raises:
            ApiError: 400: The schema, regex, grammar or a modifier is not one that can be followed.
        """
        options = request["body"].get("structuredOutputs") or {}
        if request["tool"]:
            where, grammar = "tools", _json({"type": "object", **request["tool"][1]}, {}, "tools")
        elif request["constraint"]:
            where, value = request["constraint"]
            grammar = _grammar(where, value, options)
        else:
            return None
        tokenizer = self._llguidance_tokenizer()
        problem = llguidance.LLMatcher.validate_grammar(grammar, tokenizer)
        if problem:
            more = f" ({_GRAMMARS})" if where == "grammar" else ""
            raise refused(f"{where}: {problem.strip()}{more}")
        return Constraint(llguidance.LLMatcher(tokenizer, grammar, log_level=0))

    def _llguidance_tokenizer(self) -> Any:
        with self._lock:
            if self._tokenizer is None:
                tokenizer, size, ends = self._made_of
                try:
                    self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, size, ends)
                except ValueError as error:
                    raise refused(f"this model's answers cannot be constrained: {error}") from None
        return self._tokenizer


def _grammar(kind: str, value: Any, options: Dict[str, Any]) -> str:
    """Return what llguidance reads for a constraint."""
    if kind == "json":
        return _json(value or {"type": "object"}, options, "json")
    if kind == "regex":
        return str(llguidance.LLMatcher.grammar_from_regex(value))
    if kind == "choice":
        texts = (json.dumps(text, ensure_ascii=False) for text in value)
        return str(llguidance.LLMatcher.grammar_from_lark("start: " + " | ".join(texts)))
    if kind != "grammar":
        raise refused(f"{kind}: the answer can follow a json, a regex, a choice or a grammar")
    if "::=" in value:
        try:
            value = gbnf_to_lark(value)
        except GbnfToLarkError as error:
            raise refused(f"grammar: {error} ({_GRAMMARS})") from None
    return str(llguidance.LLMatcher.grammar_from_lark(value))


def _json(schema: Dict[str, Any], options: Dict[str, Any], where: str) -> str:
    overrides: Dict[str, Any] = {}
    if options.get("disable_any_whitespace"):
        overrides["whitespace_flexible"] = False
    if options.get("whitespace_pattern") is not None:
        if overrides:
            raise refused("whitespace_pattern: cannot be combined with disable_any_whitespace")
        overrides["whitespace_pattern"] = options["whitespace_pattern"]
    if options.get("disable_additional_properties"):
        schema = copy.deepcopy(schema)
        _close(schema)
    try:
        return str(llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=overrides))
    except ValueError as error:
        raise refused(f"{where}: {error}") from None


def _close(schema: Any) -> None:
    """Forbid other properties in each object schema that does not say whether it allows them."""
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    if not isinstance(schema, dict):
        return
    for key, part in schema.items():
        if key in ("properties", "patternProperties", "$defs", "definitions"):
            _close(list(part.values()) if isinstance(part, dict) else None)
        elif key not in ("const", "enum", "default", "examples"):
            _close(part)
    if "properties" in schema or "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)


def refused(problem: str) -> ApiError:
    """Return the error that refuses a request: its text begins with the name of the field."""
    return ApiError(400, problem, "validation_error")
