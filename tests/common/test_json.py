"""JSON is decoded alike with and without orjson: the same value, or the same refusal."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from typing import Any, Dict, Iterator, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arkor_sync._common import json as module
from arkor_sync._common.json import decode_json, json_copy, parse_json
from arkor_sync.errors import ArkorUsageError

DECODERS = ["json"] if module._orjson is None else ["orjson", "json"]


@pytest.fixture(params=DECODERS, autouse=True)
def _with_and_without(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "orjson":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_orjson", None)
        yield


def refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def outcome(decode: Any, document: Any) -> Any:
    """Return what a document means in a form that tells apart all that Python calls equal."""
    try:
        return exact(decode(document))
    except (ValueError, RecursionError) as error:
        too_deep = isinstance(error, RecursionError) or "deeply" in str(error)
        return "too deep" if too_deep else str(error)


def exact(value: Any) -> Any:
    if type(value) is float:
        return float, struct.pack("d", value)
    if type(value) is dict:
        return dict, [(exact(key), exact(each)) for key, each in value.items()]
    if type(value) is list:
        return list, [exact(each) for each in value]
    return type(value), value


def by_json(text: str) -> Any:
    return json.JSONDecoder(parse_constant=refuse).decode(text)


def same(text: str) -> bool:
    """Tell whether a document is decoded as by `json`, alone and among others."""
    return all(
        outcome(decode_json, each) == outcome(by_json, each)
        for each in (text, f"[{text}]", f'{{"a": {text}}}', f'[{{"a":1}},\n{{"b":{text}}}]')
    )


EDGES = [
    "NaN",
    "Infinity",
    "-Infinity",
    '{"a":1,"b":2,"a":3}',
    '{"a":1,"b":2,"\\u0061":3}',
    *(str(each) for each in (2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, -(2**64))),
    "1000000000000000000",
    "9999999999999999999",
    "-9999999999999999999",
    "1" + "0" * 400,
    "1" + "0" * 5000,
    "12345678901234567890.5",
    "12345678901234567890e3",
    "-12345678901234567890E-3",
    "0.00019876543210987654",
    "-0",
    "-0.0",
    "-0e5",
    "0e400",
    "1e400",
    "-1e400",
    "1e99999999999999999999",
    "1e-400",
    "5e-324",
    "2.4703282292062327e-324",
    "2.4703282292062328e-324",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "0." + "1" * 800,
    "01",
    "-01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e",
    "0x10",
    "1_000",
    '"\\ud800"',
    '"\ud800"',
    '"\\udc00\\ud800"',
    '"\\ud83d\\ude00"',
    '"\\u00e9\u00e9\U0001f600"',
    '"\\u0000"',
    '{"\\u0000": 1, "": 2}',
    '"\\u00zz"',
    '"\\u+123"',
    '"\\x41"',
    '"\\/"',
    '"\x00"',
    '"\x1f"',
    '"\t"',
    '"\n"',
    '"\x7f\x85\u2028"',
    "'a'",
    "",
    " ",
    "\ufeff{}",
    "{}\ufeff",
    " \t\r\n{} \t\r\n",
    "\u00a0{}",
    "{}\u00a0",
    "{}\x0b",
    "{}\x0c",
    "[]\x00",
    "\x00",
    "[1,]",
    '{"a":1,}',
    "{1:2}",
    "{}{}",
    "[1] // one",
    "[1]/* one */",
    "tru",
    "True",
    "null",
    "nul",
    "[" * 700 + "]" * 700,
    "[" * 100_000 + "]" * 100_000,
    " " + "[" * 100_000 + "]" * 100_000,
    '{"":' * 100_000 + "1" + "}" * 100_000,
]


@pytest.mark.parametrize("text", EDGES, ids=range(len(EDGES)))
def test_an_edge_of_the_language_means_what_json_says(text: str) -> None:
    assert same(text)


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("[", "]"), ('{"":', "}"), ('{"":[', "]}"), ('[1,\n{"":', "}]"), ('[{"":1},\n{"":', "}]")],
)
def test_orjson_is_asked_about_nesting_that_json_can_follow(opening: str, closing: str) -> None:
    def document(levels: int) -> str:
        times = levels // len(closing)
        return opening * times + "1" + closing * times

    assert same(document(200))
    for levels, asked in ((200, True), (802, False), (1020, False)):
        text = document(levels)
        assert module._means_the_same(text, text.encode()) is asked


# Digits and the characters beside them, put together in every way.
numbers = st.text("0123456789" * 3 + "+-.eE", max_size=30)
long_numbers = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.text("0123456789", min_size=17, max_size=22),
    st.sampled_from(["", ".", ".5", "e", "e2", "E-3"]),
    st.text("0123456789", max_size=22),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.text(),
    st.text(st.characters(min_codepoint=0xD700, max_codepoint=0xE100)),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)
spaces = st.text(" \t\r\n", max_size=3)


@given(st.one_of(numbers, long_numbers))
@example("-9223372036854775809")
def test_numbers_mean_what_json_says(text: str) -> None:
    assert same(text)


@given(values, st.booleans(), st.sampled_from([None, 1]), spaces, spaces)
def test_documents_mean_what_json_says(
    value: Any, ascii_only: bool, indent: Any, before: str, after: str
) -> None:
    assert same(before + json.dumps(value, ensure_ascii=ascii_only, indent=indent) + after)


@given(values, st.booleans(), st.data())
def test_damaged_documents_mean_what_json_says(value: Any, ascii_only: bool, data: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 4)))
    more = data.draw(st.text('{}[]:,"\\u0123456789.eE+- \n\tNaIfd\x00\xa0\ufeff', max_size=4))
    assert same(text[:start] + more + text[end:])


@given(st.text('{}[]:,"\\/bu09.eE-+ \n\ttrueflsn', max_size=40))
def test_any_text_means_what_json_says(text: str) -> None:
    assert same(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_the_same_to_its_last_bit(value: float) -> None:
    (read,) = decode_json(f"[{value!r}]")
    assert struct.pack("d", read) == struct.pack("d", value)


@given(st.binary(max_size=20))
@example(b"\xef\xbb\xbf{}")
@example(b'["\xff"]')
@example(b'["\xed\xa0\x80"]')
def test_bytes_are_strict_utf_8(document: bytes) -> None:
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            parse_json(document)
    else:
        assert outcome(parse_json, document) == outcome(decode_json, text)


def test_common_documents_are_left_to_orjson() -> None:
    log = (
        '"timestamp":"2026-01-01T00:00:00.000Z","step":3,"loss":-0.00019876543210987654,'
        '"sent":1767225600000,"runId":"12345678901234567890"}'
    )
    lone = "{" + log.replace("3", "[1, {}]")
    for text in (lone, "[{" + ",\n{".join([log] * 5000) + "]"):
        assert module._means_the_same(text, text.encode())


def test_infinity_by_overflow_is_what_json_makes_of_it() -> None:
    assert decode_json("[1e400]") == [math.inf]


def test_it_is_imported_without_orjson() -> None:
    code = (
        "import sys; sys.modules['orjson'] = None\n"
        "from arkor_sync._common import json\n"
        "assert json._orjson is None\n"
        "assert json.parse_json(b'[1, 18446744073709551616]') == [1, 2 ** 64]\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_what_cannot_be_sent_is_named_by_its_place() -> None:
    loop: Dict[str, Any] = {}
    loop["again"] = loop
    for value, place in (
        ({"config": {"optim": {1}}}, "config.optim: Object of type set"),
        ({"tools": [{}, {"f": [0, float("nan")]}]}, "tools[1].f[1]: Out of range float"),
        ({"config": {(1, 2): 3}}, "config: keys must be"),
        ({1, 2}, "Object of type set"),
        (loop, "again.again.again"),
    ):
        with pytest.raises(ArkorUsageError) as caught:
            json_copy(value, "the job")
        assert str(caught.value).startswith(f"the job cannot be sent as JSON: {place}")
