"""What dataclasses-json makes of a record's values, and that we make the same of them."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Dict, Iterator, List, Type

import pytest

import arkor_sync.cloud.deployment_models
import arkor_sync.cloud.project
import arkor_sync.cloud.projects
import arkor_sync.cloud.sign_in  # noqa: F401
from arkor_sync._common.camel_case import camel_case, decode, encode
from arkor_sync.cloud.deployment_models import AdapterTarget
from arkor_sync.cloud.models import Org, PersonalOrg, TrainingJob
from arkor_sync.cloud.record import Record
from support.scripted_cloud import JOB

# A value of each kind that a field may have, by how the field's type is written.
VALUES: Dict[str, Any] = {
    "str": "a text",
    "Status": "running",
    "bool": True,
    "int": 5,
    "Any": {"a": {"b": [1]}},
    "Dict[str, Any]": {"a": {"b": [1]}, "c": None},
    "List[int]": [1, 2],
    "List[Org]": [Org("o")],
    "List[Project]": [],
    "PersonalOrg": PersonalOrg("o", "s", "n"),
    "DeploymentTarget": AdapterTarget("j"),
}


def records(cls: Type[Record] = Record) -> Iterator[Any]:
    for each in cls.__subclasses__():
        if each.__module__.startswith("arkor_sync.") and is_dataclass(each):
            yield each
        yield from records(each)


def value_of(hint: str) -> Any:
    if hint.startswith("Literal["):
        return hint[len("Literal[") :].split(",")[0].strip("\"']")
    return VALUES[hint[len("Optional[") : -1] if hint.startswith("Optional[") else hint]


def wire_values(cls: Any, *, all_fields: bool) -> Dict[str, Any]:
    wanted = [each for each in fields(cls) if all_fields or each.default is MISSING]
    return {camel_case(each.name): value_of(each.type) for each in wanted}


@pytest.mark.parametrize("all_fields", [True, False])
@pytest.mark.parametrize("cls", list(records()), ids=lambda cls: cls.__name__)
def test_a_record_is_built_as_dataclasses_json_builds_it(cls: Any, all_fields: bool) -> None:
    from dataclasses_json import DataClassJsonMixin

    values = wire_values(cls, all_fields=all_fields)
    built = decode(cls, values)
    encode(built)  # tells dataclasses-json of the names
    expected = DataClassJsonMixin.from_dict.__func__(cls, values)
    assert vars(built) == vars(expected)
    assert list(map(type, vars(built).values())) == list(map(type, vars(expected).values()))


def test_the_names_are_those_of_dataclasses_json() -> None:
    from dataclasses_json import LetterCase

    name_of: Any = LetterCase.CAMEL
    for cls in records():
        assert [*map(camel_case, names(cls))] == [*map(name_of, names(cls))]


def names(cls: Any) -> List[str]:
    return [each.name for each in fields(cls)]


def test_a_job_shares_no_object_with_its_answer() -> None:
    data = {**JOB, "config": {"model": "m"}}
    job = TrainingJob.from_dict(data)
    data["config"]["model"] = "another"
    assert job.config == {"model": "m"}
