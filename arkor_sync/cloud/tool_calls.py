"""The tool calls of a streamed answer, joined from their parts. Pure.

The rule: a part belongs to the call with its id, else to the last call with its index, else to the
last call. A new id begins a new call, also under an index that another call has; so does another
name in a part without an id. Some servers give all calls the index 0, and some give none.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional


class _Call:
    def __init__(self, order: int, call_id: Optional[str]) -> None:
        self.order = order
        self.id = call_id
        self.name: Optional[str] = None
        self.arguments: List[str] = []


class ToolCalls:
    """Joins the parts of calls: the arguments are in many parts, all else is in one."""

    def __init__(self) -> None:
        self._calls: List[_Call] = []
        self._by_id: Dict[str, _Call] = {}
        self._by_index: Dict[int, _Call] = {}

    def add(self, parts: List[Any]) -> None:
        """Take the parts of one chunk, in order; what is no object is left out."""
        for position, part in enumerate(parts):
            if not isinstance(part, dict):
                continue
            index = part.get("index")
            if type(index) is not int:
                # Several parts at a time continue the calls that began at their positions.
                index = position if len(parts) > 1 else None
            function = part.get("function")
            function = function if isinstance(function, dict) else {}
            call = self._call_of(part, index, _text(function.get("name")))
            if index is not None:
                self._by_index[index] = call
            call.name = call.name or _text(function.get("name"))
            call.arguments.append(arguments_text(function.get("arguments")) or "")

    def joined(self) -> List[Any]:
        """Return the calls by their index, else in the order in which they began."""
        return [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in sorted(self._calls, key=lambda call: call.order)
        ]

    def _call_of(self, part: Dict[str, Any], index: Optional[int], name: Optional[str]) -> _Call:
        call_id = _text(part.get("id"))
        last = self._calls[-1] if self._calls else None
        current = last if index is None else self._by_index.get(index)
        if call_id is not None and call_id in self._by_id:
            return self._by_id[call_id]
        if current is not None:
            if call_id is None and (name is None or name == current.name or not current.name):
                return current
            if call_id is not None and current.id is None and index is not None and not name:
                current.id = call_id  # it came after the name
                self._by_id[call_id] = current
                return current
        call = _Call(len(self._calls) if index is None else index, call_id)
        self._calls.append(call)
        if call_id is not None:
            self._by_id[call_id] = call
        return call


def arguments_text(value: Any) -> Optional[str]:
    """Return the arguments of a call as the JSON that they should be: some servers decode it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else _text(value)


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value else None
