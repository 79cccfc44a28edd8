"""A dataclass as a JSON schema, and answers as instances of it."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any, Dict, List, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync import ArkorUsageError, ResponseError
from arkor_sync.emulator.engine import structured
from arkor_sync.emulator.routes.chat_validation import check_chat
from arkor_sync.handlers.evaluation.schema import answer_format, build_value, schema_of


class Team(enum.Enum):
    BILLING = "billing"
    ACCOUNTS = "accounts"


@dataclasses.dataclass
class Contact:
    name: str
    age: Optional[int]


@dataclasses.dataclass(frozen=True)
class Triage:
    category: Literal["billing", "account"]
    team: Team
    confidence: float
    urgent: bool
    tags: List[str]
    contact: Contact
    code: Union[int, str, None] = None
    length: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class Endless:
    next: Optional[Endless]


@dataclasses.dataclass
class Loose:
    anything: Dict[str, int]


@dataclasses.dataclass
class Bare:
    items: list


class Odd(enum.Enum):
    PAIR = (1, 2)


@dataclasses.dataclass
class Pair:
    odd: Odd


@dataclasses.dataclass
class Coloured:
    team: Literal[Team.BILLING]


@dataclasses.dataclass
class Größe:
    cm: float


@dataclasses.dataclass
class Unknown:
    field: Nowhere  # type: ignore[name-defined]  # noqa: F821


ANSWER = {
    "category": "billing",
    "team": "accounts",
    "confidence": 1,
    "urgent": False,
    "tags": ["a", "b"],
    "contact": {"name": "Ann", "age": None},
    "code": 7,
}


def test_a_dataclass_becomes_a_schema_that_a_strict_cloud_accepts() -> None:
    response_format, _ = answer_format(Triage)
    assert response_format["json_schema"]["name"] == "Triage"
    assert response_format["json_schema"]["strict"] is True
    schema = response_format["json_schema"]["schema"]
    assert schema["required"] == list(ANSWER)
    assert schema["properties"]["category"] == {"enum": ["billing", "account"]}
    assert schema["properties"]["team"] == {"enum": ["billing", "accounts"]}
    assert schema["properties"]["contact"]["additionalProperties"] is False
    assert schema["properties"]["contact"]["properties"]["age"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}]
    }
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "responseFormat": json.loads(json.dumps(response_format)),
    }
    assert check_chat(body, tool_calling=False).constraint == ("json", schema)


def test_what_fits_its_schema_becomes_an_instance() -> None:
    _, parse = answer_format(Triage)
    made = structured.instance(schema_of(Triage), lambda: "text")
    assert parse(made).contact == Contact("text", 0)
    triage = parse(ANSWER)
    assert triage == Triage(
        "billing", Team.ACCOUNTS, 1.0, False, ["a", "b"], Contact("Ann", None), 7
    )
    assert type(triage.confidence) is float


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"category": "sales"}, "category: expected 'billing' or 'account', got str 'sales'"),
        ({"team": "x"}, "team: expected 'billing' or 'accounts', got str 'x'"),
        ({"confidence": "1"}, "confidence: expected number, got str '1'"),
        ({"confidence": True}, "confidence: expected number, got bool True"),
        ({"urgent": 0}, "urgent: expected boolean, got int 0"),
        ({"tags": "a"}, "tags: expected array, got str 'a'"),
        ({"tags": ["a", 1]}, "tags[1]: expected string, got int 1"),
        ({"contact": {"name": "Ann"}}, "contact.age: is missing"),
        ({"contact": {"name": "Ann", "age": 1, "zip": 2}}, "contact.zip: is not a field"),
        ({"contact": None}, "contact: expected object, got None"),
        ({"code": 1.5}, "code: expected integer or string or null, got float 1.5"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change: Dict[str, Any], told: str) -> None:
    _, parse = answer_format(Triage)
    with pytest.raises(ResponseError) as error:
        parse({**ANSWER, **change})
    assert str(error.value) == told


def test_true_is_not_one_and_one_is_not_true() -> None:
    one: Any = Literal[1, "a"]
    assert build_value(one, 1) == 1
    for wrong in (True, 1.0, 2):
        with pytest.raises(ResponseError, match="expected 1 or 'a', got"):
            build_value(one, wrong)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_an_answer_of_any_other_shape_is_refused_and_nothing_else_happens(answer: Any) -> None:
    with pytest.raises(ResponseError, match="the answer: expected object, got"):
        build_value(Triage, answer)


def test_a_schema_as_a_dict_is_sent_as_it_is_and_its_answers_stay_dicts() -> None:
    schema = {"title": "Triage of mails!", "type": "object", "properties": {}}
    response_format, parse = answer_format(schema)
    assert response_format == {
        "type": "json_schema",
        "json_schema": {"name": "Triage_of_mails_", "schema": schema},
    }
    assert parse({"a": 1}) == {"a": 1}
    assert answer_format({})[0]["json_schema"]["name"] == "answer"
    assert answer_format(Größe)[0]["json_schema"]["name"] == "Gr__e"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("object", "schema: got str 'object'; give a JSON schema as an object, or a dataclass"),
        (dict, "schema: got the class dict; give"),
        (Contact("Ann", 1), "schema: got a Contact; give"),
        ({"a": object()}, "schema cannot be sent as JSON"),
        (Endless, "schema.next: .*does not contain itself"),
        (Loose, "schema.anything: got typing.Dict.*, which has no strict JSON schema"),
        (Bare, "schema.items: got <class 'list'>, which has no strict JSON schema"),
        (Pair, "schema.odd: got <enum 'Odd'>, which has no strict JSON schema"),
        (Coloured, "schema.team: got typing.Literal.*, which has no strict JSON schema"),
        (Unknown, "schema: got Unknown, whose annotations cannot be read .name 'Nowhere'"),
    ],
)
def test_a_schema_that_cannot_work_is_refused_with_what_would(schema: Any, told: str) -> None:
    with pytest.raises(ArkorUsageError, match=told):
        answer_format(schema)
