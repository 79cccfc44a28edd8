"""The examples of how to ask an endpoint."""

from __future__ import annotations

import pytest

from arkor_sync.emulator import Emulator
from arkor_sync.studio.quick_start import VARIABLE, examples

URL = "https://shop.arkor.app/v1"


def text_of(name: str, **changes: object) -> str:
    given = {"url": URL, "slug": "shop", "with_key": True, **changes}
    return {each.name: each.text for each in examples(**given)}[name]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cURL", "Python with requests", "JavaScript"])
def test_the_whole_url_and_the_key_are_there(name: str) -> None:
    text = text_of(name)
    assert f"{URL}/chat/completions" in text
    assert "Authorization" in text
    assert VARIABLE in text


@pytest.mark.parametrize("name", ["cURL", "Python with requests", "JavaScript"])
def test_no_line_for_a_key_where_none_is_asked_for(name: str) -> None:
    text = text_of(name, with_key=False)
    assert f"{URL}/chat/completions" in text
    assert "uthorization" not in text
    assert VARIABLE not in text


def test_the_sdk_gets_the_base_url_and_a_key_that_stands_for_none() -> None:
    assert f'base_url="{URL}"' in text_of("Python with openai")
    assert f'api_key=os.environ["{VARIABLE}"]' in text_of("Python with openai")
    assert 'api_key="none"' in text_of("Python with openai", with_key=False)


@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize("name", ["Python with requests", "Python with openai"])
def test_the_python_examples_are_python(name: str, with_key: bool) -> None:
    compile(text_of(name, with_key=with_key), name, "exec")


def test_a_url_cannot_end_its_text() -> None:
    odd = "http://127.0.0.1/'\"$(x)`"
    compile(text_of("Python with requests", url=odd), "example", "exec")
    assert "'\"'\"'" in text_of("cURL", url=odd)  # the quote of a shell is left, and opened again
    assert '\\"$(x)' in text_of("JavaScript", url=odd)


@pytest.mark.parametrize("mode", ["none", "fixed_api_key"])
def test_the_example_with_requests_works(
    emulator: Emulator,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = {"kind": "base_model", "baseModel": "unsloth/gemma-4-E4B-it"}
    made = emulator.add_deployment("shop", target, authMode=mode)
    if mode != "none":
        key = emulator.client().deployments.keys.create(made, "a test").plaintext
        monkeypatch.setenv(VARIABLE, str(key))
    url = emulator.endpoint_url("shop")
    text = text_of("Python with requests", url=url, with_key=mode != "none")
    exec(compile(text, "example", "exec"), {})
    assert capsys.readouterr().out.strip()
