from __future__ import annotations

import json
import random
import re
from typing import Any, Dict, List

import pytest
import torch
from talks import Talks, load_base, request

from arkor_sync.emulator.engine.lora.base_model import BaseModel
from arkor_sync.emulator.engine.lora.constraints import Constraints
from arkor_sync.emulator.http.messages import ApiError

EOS, VOCABULARY = 2, 300
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"enum": [1, 20, 300]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def talks(base: BaseModel) -> Talks:
    return Talks(base)


@pytest.fixture(scope="module")
def constraints(base: BaseModel) -> Constraints:
    return Constraints(base.tokenizer, [EOS], VOCABULARY)


def blind_answer(base: BaseModel, constraints: Constraints, seed: int, **asked: Any) -> str:
    """Return what a model says that takes any token it may."""
    constraint = constraints.of(request(**asked))
    assert constraint is not None
    generator = torch.Generator().manual_seed(seed)
    tokens: List[int] = []
    while True:
        logits = torch.zeros(VOCABULARY)
        constraint.forbid(logits)
        tokens.append(int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))
        if constraint.take(tokens[-1]) or tokens[-1] == EOS:
            return str(base.tokenizer.decode(tokens, skip_special_tokens=True))


# -- JSON -----------------------------------------------------------------------------------------


def a_schema(draw: random.Random, depth: int = 2) -> Dict[str, Any]:
    """Return a schema whose documents are short."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "pattern"]
    kind = draw.choice(kinds + ["object", "array", "anyOf"] * (2 if depth else 0))
    if kind == "object":
        names = draw.sample(["a", "b c", "é", "😀", '"'], draw.randint(0, 3))
        return {
            "type": "object",
            "properties": {name: a_schema(draw, depth - 1) for name in names},
            "required": draw.sample(names, draw.randint(0, len(names))),
            "additionalProperties": False,
        }
    if kind == "array":
        least = draw.randint(0, 2)
        items = a_schema(draw, depth - 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + 1}
    if kind == "anyOf":
        return {"anyOf": [a_schema(draw, depth - 1) for _ in range(2)]}
    if kind == "string":
        least = draw.randint(0, 2)
        return {"type": "string", "minLength": least, "maxLength": least + draw.randint(0, 5)}
    if kind == "integer":
        least = draw.randint(-300, 300)
        return {"type": "integer", "minimum": least, "maximum": least + draw.randint(0, 90)}
    if kind == "pattern":
        return {"type": "string", "pattern": draw.choice(["^[0-9]{4}-[a-z]$", "^(é|ab){2}$"])}
    return {
        "number": {"type": "number", "minimum": -2, "maximum": 7},
        "boolean": {"type": "boolean"},
        "null": {"type": "null"},
        "enum": {"enum": draw.sample([1, "two", None, True, "é😀", {"x": [1]}], 3)},
        "const": {"const": draw.choice(["é\n", 12, {"y": None}])},
    }[kind]


def fits(value: Any, schema: Dict[str, Any]) -> bool:
    """Say whether a document follows a schema that `a_schema` has made."""
    if "anyOf" in schema:
        return any(fits(value, part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return json.dumps(value) in map(json.dumps, schema.get("enum", [schema.get("const")]))
    kind = schema["type"]
    if kind == "object":
        return (
            isinstance(value, dict)
            and set(schema["required"]) <= set(value) <= set(schema["properties"])
            and all(fits(part, schema["properties"][name]) for name, part in value.items())
        )
    if kind == "array":
        return (
            isinstance(value, list)
            and schema["minItems"] <= len(value) <= schema["maxItems"]
            and all(fits(part, schema["items"]) for part in value)
        )
    if kind == "string":
        if "pattern" in schema:
            return isinstance(value, str) and bool(re.search(schema["pattern"], value))
        return isinstance(value, str) and schema["minLength"] <= len(value) <= schema["maxLength"]
    if kind in ("integer", "number"):
        number = int if kind == "integer" else (int, float)
        right = isinstance(value, number) and not isinstance(value, bool)
        return right and schema["minimum"] <= value <= schema["maximum"]
    return value is None if kind == "null" else isinstance(value, bool)


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_each_answer_follows_its_schema(
    base: BaseModel, constraints: Constraints, first: int
) -> None:
    for seed in range(first, first + 20):
        schema = a_schema(random.Random(seed))
        said = blind_answer(base, constraints, seed, constraint=("json", schema))
        assert fits(json.loads(said), schema), (seed, schema, said)


def test_a_model_answers_in_json(talks: Talks) -> None:
    for seed in range(5):
        asked = {"constraint": ("json", PERSON), "temperature": 1, "seed": seed}
        said = talks.ask(**asked, structuredOutputs={"disable_any_whitespace": True})
        assert said.end["finish_reason"] == "stop"
        assert set(json.loads(said.text)) == {"name", "age"}


def test_an_answer_that_the_limit_ends_is_not_called_finished(talks: Talks) -> None:
    said = talks.ask(constraint=("json", PERSON), maxTokens=4)
    assert said.end["finish_reason"] == "length"
    with pytest.raises(ValueError):
        json.loads(said.text)


def test_an_empty_schema_is_any_object(base: BaseModel, constraints: Constraints) -> None:
    for seed in range(20):
        said = blind_answer(base, constraints, seed, constraint=("json", {}))
        assert isinstance(json.loads(said), dict)


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({"disable_any_whitespace": True}, r'\{"a":1\}'),
        ({"whitespace_pattern": "_?"}, r'_?\{_?"a"_?:_?1_?\}_?'),
    ],
)
def test_the_whitespace_is_as_the_modifiers_say(
    base: BaseModel, constraints: Constraints, options: Dict[str, Any], form: str
) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "required": ["a"],
        "additionalProperties": False,
    }
    asked = {"constraint": ("json", schema), "structuredOutputs": options}
    for seed in range(20):
        said = blind_answer(base, constraints, seed, **asked)
        assert re.fullmatch(form, said), said


def test_other_properties_can_be_forbidden_throughout(
    base: BaseModel, constraints: Constraints
) -> None:
    inner = {"properties": {"properties": {"type": "boolean"}}, "type": "object"}
    schema = {
        "type": "object",
        "properties": {"in": inner, "const": {"const": {"properties": {}}}},
        "required": ["in", "const"],
    }
    before = json.dumps(schema)
    options = {"disable_additional_properties": True}
    asked = {"constraint": ("json", schema), "structuredOutputs": options}
    for seed in range(20):
        said = json.loads(blind_answer(base, constraints, seed, **asked))
        assert set(said) == {"in", "const"}
        assert set(said["in"]) <= {"properties"}
        assert said["const"] == {"properties": {}}
    assert json.dumps(schema) == before


# -- other forms ----------------------------------------------------------------------------------


def test_a_choice_is_one_of_the_texts(base: BaseModel, constraints: Constraints) -> None:
    choices = ["a", "ab", "é😀", 'say "x"\n\\', "</b> | /r/", "a"]
    said = {
        blind_answer(base, constraints, seed, constraint=("choice", choices)) for seed in range(200)
    }
    assert said == set(choices)


@pytest.mark.parametrize(
    ("pattern", "form"),
    [
        (r"[A-Z]{2}-[0-9]{3}\.?", r"[A-Z]{2}-[0-9]{3}\.?"),
        ("(ja|nein)( 東京)?", "(ja|nein)( 東京)?"),
        ("^x{2,3}$", "x{2,3}"),
    ],
)
def test_the_whole_answer_matches_a_regex(
    base: BaseModel, constraints: Constraints, pattern: str, form: str
) -> None:
    for seed in range(20):
        said = blind_answer(base, constraints, seed, constraint=("regex", pattern))
        assert re.fullmatch(form, said), said


@pytest.mark.parametrize(
    "grammar",
    [
        'start: pair ("," pair){0,2}\npair: /[a-c]/ "=" /[0-9]/',
        'root ::= pair ("," pair){0,2}\npair ::= [a-c] "=" [0-9]',
    ],
    ids=["lark", "gbnf"],
)
def test_an_answer_follows_a_grammar(
    base: BaseModel, constraints: Constraints, grammar: str
) -> None:
    for seed in range(20):
        said = blind_answer(base, constraints, seed, constraint=("grammar", grammar))
        assert re.fullmatch("[a-c]=[0-9](,[a-c]=[0-9]){0,2}", said), said


@pytest.mark.parametrize("limit", [200, 3])
def test_a_tool_is_called_with_arguments_of_its_schema(talks: Talks, limit: int) -> None:
    schema = {name: value for name, value in PERSON.items() if name != "type"}
    said = talks.ask(tool=("person", schema), temperature=1, seed=1, maxTokens=limit)
    assert said.pieces == []
    (call,) = said.calls
    assert set(call) == {"id", "type", "function"}
    assert call["function"]["name"] == "person"
    if limit == 3:
        assert said.end["finish_reason"] == "length"
    else:
        assert said.end["finish_reason"] == "tool_calls"
        assert set(json.loads(call["function"]["arguments"])) == {"name", "age"}


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "options", "problem"),
    [
        ("regex", "[a-", {}, "regex: .*unclosed character class"),
        ("regex", "a(?=b)", {}, "regex: .*look-around"),
        ("json", {"type": "horse"}, {}, "json: .*horse"),
        ("json", {"not": {"type": "object"}}, {}, 'json: .*"not"'),
        ("json", {"type": "integer", "minimum": 5, "maximum": 3}, {}, "json: .*minimum"),
        ("json", {}, {"whitespace_pattern": "["}, "json: .*unclosed"),
        (
            "json",
            {},
            {"whitespace_pattern": " ", "disable_any_whitespace": True},
            "whitespace_pattern: cannot be combined",
        ),
        ("grammar", "start: x", {}, 'grammar: .*unknown name: "x".*Lark.*GBNF'),
        ("grammar", "root ::= (", {}, "grammar: .*Lark.*GBNF"),
        ("poem", "x", {}, "poem: "),
    ],
)
def test_a_form_that_cannot_be_followed_is_refused(
    constraints: Constraints, kind: str, value: Any, options: Dict[str, Any], problem: str
) -> None:
    with pytest.raises(ApiError) as caught:
        constraints.of(request(constraint=(kind, value), structuredOutputs=options))
    assert re.match(problem, str(caught.value), re.DOTALL), str(caught.value)
    assert caught.value.status == 400


def test_the_schema_of_a_tool_is_checked(constraints: Constraints) -> None:
    with pytest.raises(ApiError, match=r'tools: .*"contains"'):
        constraints.of(request(tool=("t", {"properties": {"a": {"contains": {}}}})))


def test_a_tokenizer_that_llguidance_cannot_read_is_refused() -> None:
    with pytest.raises(ApiError, match="cannot be constrained"):
        Constraints(object(), [EOS], VOCABULARY).of(request(constraint=("regex", "a")))
