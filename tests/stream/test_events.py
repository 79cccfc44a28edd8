"""Frames to events: what is read, what is refused, and what is never lost."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.cloud.sse import Frame
from arkor_sync.stream.events import (
    CANCELLED,
    CHECKPOINT,
    COMPLETED,
    FAILED,
    KNOWN,
    LOG,
    STARTED,
    TERMINAL,
    TrainingEvent,
    decode,
    items,
    number,
    text,
    whole,
)


def read(data: Any, id: Optional[str] = "7") -> TrainingEvent:
    return decode(Frame("message", data if isinstance(data, str) else json.dumps(data), id))


@pytest.mark.parametrize("kind", sorted(KNOWN))
def test_every_known_type_is_delivered(kind: str) -> None:
    event = read({"type": kind, "step": 3, "timestamp": "2026-01-01T00:00:00Z", "jobId": "j"})
    assert event.problem is None
    assert (event.type, event.id, event.step) == (kind, "7", 3)
    assert event.timestamp == "2026-01-01T00:00:00Z"
    assert event.data["jobId"] == "j"
    assert event.is_terminal == (kind in TERMINAL)
    assert not event.synthesized


def test_the_json_names_the_type_and_the_frame_does_not() -> None:
    frame = Frame(STARTED, '{"type": "training.completed"}', "1")
    assert decode(frame).type == COMPLETED


@pytest.mark.parametrize("kind", [LOG, CHECKPOINT])
@pytest.mark.parametrize(
    "step", [None, True, "3", 3.5, [], {}, 1e309, -1e309, "", {"steps": 3}], ids=repr
)
def test_a_log_or_checkpoint_without_a_whole_step_is_a_problem(kind: str, step: Any) -> None:
    document = json.dumps({"type": kind, "step": step}).replace("Infinity", "1e309")
    event = read(document)
    assert event.problem is not None
    assert event.problem.startswith("step is ")
    assert event.step is None


@pytest.mark.parametrize("kind", [LOG, CHECKPOINT])
def test_a_missing_step_is_a_problem(kind: str) -> None:
    assert read({"type": kind, "loss": 1.0}).problem == "step is None, not a whole number"


@pytest.mark.parametrize(("sent", "step"), [("3", 3), ("3.0", 3), ("-0.0", 0), ("1e3", 1000)])
def test_a_whole_step_may_be_written_as_a_float(sent: str, step: int) -> None:
    event = read(f'{{"type": "training.log", "step": {sent}}}')
    assert event.problem is None
    assert event.step == step
    assert type(event.data["step"]) is int


def test_a_long_step_does_not_make_a_long_problem() -> None:
    event = read({"type": LOG, "step": "x" * 10_000})
    assert event.problem is not None
    assert len(event.problem) < 100


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("kind", sorted(KNOWN))
def test_tokens_that_are_not_json_are_refused(token: str, kind: str) -> None:
    event = read(f'{{"type": "{kind}", "step": 1, "loss": {token}}}')
    assert event.problem == f"not JSON: {token} is not JSON"
    assert (event.type, event.data, event.id) == ("", {}, "7")
    assert not event.is_terminal


def test_a_number_beyond_a_float_is_infinite() -> None:
    event = read('{"type": "training.log", "step": 1, "loss": 1e309, "evalLoss": -1e309}')
    assert event.problem is None
    assert number(event.data["loss"]) == math.inf
    assert number(event.data["evalLoss"]) == -math.inf


@pytest.mark.parametrize("depth", [10, 100, 900, 990, 1010, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_never_raises(depth: int, opening: str, closing: str) -> None:
    nested = opening * depth + "1" + closing * depth
    for document in (
        nested,
        f'{{"type":"training.log","step":{nested}}}',
        f'{{"type":"training.log","step":1,"x":{nested}}}',
    ):
        event = read(document)
        assert isinstance(event, TrainingEvent)
        assert len(repr(event)) < 300


def test_nesting_beyond_the_stack_is_a_problem() -> None:
    event = read("[" * 200_000)
    assert event.problem is not None
    assert event.problem.startswith("not JSON: ")


def test_an_integer_of_any_length_never_raises() -> None:
    limit = getattr(sys, "get_int_max_str_digits", lambda: 0)()
    huge = read(f'{{"type": "training.log", "step": 1, "loss": {"9" * 5000}}}')
    assert (huge.problem is not None) == (0 < limit < 5000)
    step = read(f'{{"type": "training.log", "step": {"9" * 4000}}}')
    assert step.problem is None
    assert repr(step).startswith("<TrainingEvent training.log step=999")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("null", "not a JSON object: NoneType"),
        ("true", "not a JSON object: bool"),
        ("12", "not a JSON object: int"),
        ("1.5", "not a JSON object: float"),
        ('"training.log"', "not a JSON object: str"),
        ('[{"type": "training.log"}]', "not a JSON object: list"),
        ("{}", "no type"),
        ('{"type": null}', "no type"),
        ('{"type": 3}', "no type"),
        ('{"type": ["training.log"]}', "no type"),
        ('{"type": ""}', "unknown type ''"),
        ('{"type": "job.paused"}', "unknown type 'job.paused'"),
        ('{"type": "Training.Log", "step": 1}', "unknown type 'Training.Log'"),
        ('{"type": "\\ud800"}', "unknown type '\\ud800'"),
    ],
)
def test_what_cannot_be_delivered_says_why(document: str, problem: str) -> None:
    event = read(document)
    assert event.problem == problem
    assert event.id == "7"
    assert not event.is_terminal


@pytest.mark.parametrize(
    "document",
    ["", " ", "{", '{"type"', "{'type': 1}", '{"type":"training.log"} x', "\ufeff{}", "[1,]"],
)
def test_broken_json_is_a_problem(document: str) -> None:
    problem = read(document).problem
    assert problem is not None
    assert problem.startswith("not JSON: ")


def test_an_unknown_type_keeps_its_data() -> None:
    event = read({"type": "job.paused", "step": 4, "by": "operator"})
    assert event.type == "job.paused"
    assert event.data["by"] == "operator"
    assert event.step == 4


def test_a_long_unknown_type_does_not_make_a_long_problem() -> None:
    problem = read({"type": "x" * 10_000}).problem
    assert problem is not None
    assert len(problem) < 120


@pytest.mark.parametrize("kind", [COMPLETED, FAILED, STARTED])
@pytest.mark.parametrize(
    "rest",
    [
        {},
        {"step": None},
        {"step": "many"},
        {"step": 2.5},
        {"metrics": None, "artifacts": None, "error": None},
        {"metrics": [], "artifacts": {}, "error": 5, "timestamp": 12},
    ],
    ids=repr,
)
def test_a_terminal_event_is_read_generously(kind: str, rest: Any) -> None:
    event = read({"type": kind, **rest})
    assert event.problem is None
    assert event.is_terminal == (kind in TERMINAL)
    assert event.step is None
    assert event.timestamp is None


@pytest.mark.parametrize("id", [None, ""])
def test_an_absent_or_empty_id_is_none(id: Optional[str]) -> None:
    assert read({"type": STARTED}, id).id is None


def test_the_size_is_that_of_the_json_and_of_the_id() -> None:
    for document in ('{"type": "training.started"}', "", "nonsense", "[1, 2]"):
        assert read(document).size == len(document) + len("7")
        assert read(document, None).size == len(document)


@given(st.text(max_size=20), st.one_of(st.none(), st.text(max_size=4)))
def test_reading_never_raises_and_keeps_the_id(data: str, id: Optional[str]) -> None:
    event = read(data, id)
    assert event.id == (id or None)
    assert event.problem is not None
    assert repr(event)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(KNOWN)), st.dictionaries(st.sampled_from(["step", "loss"]), JSON))
def test_whatever_the_fields_hold_the_accessors_are_typed(kind: str, fields: Any) -> None:
    event = read({"type": kind, **fields})
    assert event.step is None or type(event.step) is int
    assert number(event.data.get("loss")) is None or math.isfinite(event.data["loss"])
    if event.problem is None and kind in (LOG, CHECKPOINT):
        assert type(event.step) is int


IDS = st.one_of(st.none(), st.sampled_from(["1", "2"]))
DATA = st.sampled_from(
    [
        '{"type":"training.started"}',
        '{"type":"training.log","step":1}',
        '{"type":"training.log","step":2}',
        '{"type":"training.log","step":2,"loss":1}',
        '{"type":"checkpoint.saved","step":2}',
        "1",
        "x",
        "{}",
    ]
)


@given(IDS, DATA, IDS, DATA)
def test_keys_are_equal_exactly_for_equal_frames(
    id: Optional[str], data: str, other_id: Optional[str], other_data: str
) -> None:
    same = (id, data) == (other_id, other_data)
    assert (read(data, id).key == read(other_data, other_id).key) == same


def test_with_an_id_the_wording_of_an_event_does_not_matter() -> None:
    one, other = '{"type":"training.started","t":1}', '{"t": 2, "type": "training.started"}'
    assert read(one, "1").key == read(other, "1").key
    assert read(one, None).key != read(other, None).key


def test_the_key_does_not_depend_on_the_frames_name() -> None:
    assert decode(Frame("message", "{}", "1")).key == decode(Frame("x", "{}", "1")).key


@pytest.mark.parametrize("document", ['{"type": "training.log", "step": 5, "loss": 1.5}', "nope"])
def test_an_event_survives_pickling(document: str) -> None:
    event = read(document)
    event = event._replace(synthesized=True)
    for again in (pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy(event)):
        assert again == event
        assert hash(again) == hash(event)
        for name in ("type", "id", "data", "problem", "synthesized", "size"):
            assert getattr(again, name) == getattr(event, name)


def test_events_differ_by_what_they_hold() -> None:
    event = read({"type": LOG, "step": 5})
    assert event == read({"type": LOG, "step": 5})
    assert event != read({"type": LOG, "step": 6})
    assert event != read({"type": LOG, "step": 5}, "8")
    assert event != "an event"


def test_the_repr_is_short_and_shows_what_is_there() -> None:
    assert repr(read({"type": LOG, "step": 5, "loss": 0.1})) == (
        "<TrainingEvent training.log step=5 id='7'>"
    )
    assert repr(read({"type": STARTED}, None)) == "<TrainingEvent training.started>"
    assert repr(read("null", None)) == ("<TrainingEvent ? problem='not a JSON object: NoneType'>")


def test_an_event_built_from_a_record_is_terminal() -> None:
    event = TrainingEvent(CANCELLED, {}, synthesized=True)
    assert event.is_terminal
    assert event.id is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1, 1), (1.5, 1.5), (0, 0), (None, None), (True, None), ("1", None), ([], None)],
)
def test_number(value: Any, kept: Any) -> None:
    assert number(value) == kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1, 1), (2.0, 2), (1.5, None), (True, None), ("1", None), (None, None), (math.inf, None)],
)
def test_whole(value: Any, kept: Any) -> None:
    assert whole(value) == kept


def test_text_and_items_keep_their_type_only() -> None:
    assert text("a") == "a"
    assert text(b"a") is None
    assert text(None) is None
    assert items([1]) == [1]
    assert items((1,)) == []
    assert items(None) == []
