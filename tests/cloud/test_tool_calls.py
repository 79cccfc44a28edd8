"""Parts of tool calls, as OpenAI, vLLM, Ollama, Gemini and others stream them."""

from __future__ import annotations

from typing import Any, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.cloud.tool_calls import ToolCalls


def part(index: Any = None, call_id: Any = None, name: Any = None, arguments: Any = None) -> Any:
    fields = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in fields.items() if value is not None}


def joined(*chunks: List[Any]) -> List[Tuple[Any, Any, str]]:
    calls = ToolCalls()
    for chunk in chunks:
        calls.add(chunk)
    return [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls.joined()]


TWO = [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]


@pytest.mark.parametrize(
    "chunks",
    [
        [
            [part(0, "a", "f", "")],
            [part(0, arguments='{"x"')],
            [part(1, "b", "g", '{"y"')],
            [part(0, arguments=":1}"), part(1, arguments=":2}")],
        ],
        [[part(1, "b", "g", '{"y":2}')], [part(0, "a", "f", '{"x":1}')]],
        [[part(0, "a", "f", '{"x":1}')], [part(0, "b", "g", '{"y":2}')]],
        [[part(0, "a", "f", '{"x":1}'), part(0, "b", "g", '{"y":2}')]],
        [
            [part(0, "a", "f", '{"x"')],
            [part(0, arguments=":1}")],
            [part(0, "b", "g", '{"y"')],
            [part(0, arguments=":2}")],
        ],
        [[part(0, "a", "f", '{"x"'), part(0, "b", "g", '{"y":2}')], [part(0, "a", None, ":1}")]],
        [[part(None, "a", "f", '{"x":1}')], [part(None, "b", "g", '{"y":2}')]],
        [[part(None, "a", "f", '{"x":1}'), part(None, "b", "g", '{"y":2}')]],
        [
            [part(None, "a", "f", '{"x"')],
            [part(None, None, None, ":1}")],
            [part(None, "b", "g", '{"y"')],
            [part(None, None, None, ":2}")],
        ],
        [
            [part(None, "a", "f", '{"x"'), part(None, "b", "g", '{"y"')],
            [part(None, None, None, ":1}"), part(None, None, None, ":2}")],
        ],
        [[part("0", "a", "f", '{"x":1}')], [part(True, "b", "g", '{"y":2}')]],
        [[part(0, None, "f", '{"x"')], [part(0, "a", None, ":1}")], [part(1, "b", "g", '{"y":2}')]],
        [[part(0, "a", "f", '{"x"')], [part(0, "a", "f", ":1}")], [part(1, "b", "g", '{"y":2}')]],
    ],
    ids=[
        "by their index",
        "the second begins first",
        "one index for both, one after the other",
        "one index for both, in one chunk",
        "one index for both, in parts",
        "one index for both, told apart by the id",
        "no index, one after the other",
        "no index, in one chunk",
        "no index, in parts",
        "no index, by position",
        "an index that is no number",
        "the id comes later",
        "the id comes with each part",
    ],
)
def test_two_calls_stay_two(chunks: List[List[Any]]) -> None:
    assert joined(*chunks) == TWO


@pytest.mark.parametrize("index", [None, 0])
def test_without_ids_another_name_begins_another_call(index: Any) -> None:
    parts = [[part(index, "", "f", "{}")], [part(index, "", "g", "{")], [part(index, "", "", "}")]]
    assert joined(*parts) == [(None, "f", "{}"), (None, "g", "{}")]


Calls = List[Tuple[str, str, str]]


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.text(min_size=1), st.text()),
        max_size=4,
        unique_by=lambda call: call[0],
    ),
    st.data(),
)
def test_calls_in_any_parts_are_joined(calls: Calls, data: st.DataObject) -> None:
    """Arguments are cut anywhere, calls are interleaved, and chunks hold any number of parts."""
    queues: List[List[Any]] = []
    for index, (call_id, name, arguments) in enumerate(calls):
        cuts = data.draw(st.lists(st.integers(0, len(arguments)), max_size=4).map(sorted))
        ends = [*cuts, len(arguments)]
        pieces = [arguments[start:end] for start, end in zip([0, *cuts], ends)]
        queues.append(
            [
                part(index, call_id, name, pieces[0]),
                *(part(index, None, None, p) for p in pieces[1:]),
            ]
        )
    parts: List[Any] = []
    while any(queues):
        queue = data.draw(st.sampled_from([each for each in queues if each]))
        parts.append(queue.pop(0))
    chunks: List[List[Any]] = []
    while parts:
        size = data.draw(st.integers(1, len(parts)))
        chunks.append(parts[:size])
        parts = parts[size:]
    assert joined(*chunks) == calls


def test_what_is_no_part_is_left_out() -> None:
    odd: List[Any] = ["odd", None, 5, {}, {"index": 0, "function": "odd"}, {"id": ["a"]}]
    assert joined(odd[:3]) == []
    assert all(each == (None, None, "") for each in joined(odd))


def test_arguments_that_a_server_has_decoded_are_not_lost() -> None:
    assert joined([part(0, "a", "f", {"city": "größer"})]) == [("a", "f", '{"city": "größer"}')]
