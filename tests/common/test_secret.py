"""What is taken for a secret, by its name or by its form, and how it is hidden."""

from __future__ import annotations

import copy
import json
import pickle
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync._common import secret
from arkor_sync._common.secret import (
    Secret,
    hide_secrets,
    is_secret_name,
    redact,
    redact_known,
)
from arkor_sync.render.hyperparams import flatten_hyperparams
from support.waiting import shortest

SECRET = "do-not-show-me-0123456789"


def test_a_secret_is_its_text_but_for_its_repr() -> None:
    secret = Secret(SECRET)
    assert secret == SECRET
    assert (str(secret), f"{secret}", json.loads(json.dumps(secret))) == (SECRET,) * 3
    assert SECRET not in repr({"a": [secret]})
    for again in (copy.deepcopy(secret), pickle.loads(pickle.dumps(secret))):
        assert again == SECRET
        assert SECRET not in repr(again)


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "HF_PAT",
        "hfPat",
        "x-api-key",
        "apiKey",
        "hubtoken",
        "WANDB_API_KEY",
        "Authorization",
        "password",
        "DB_PASSWD",
        "client_secret",
        "Set-Cookie",
        "jwt",
        "tokenValue",
        "accessTokens",
    ],
)
def test_these_names_are_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["path", "pattern", "tokenizer", "keyboard", "dispatch", "name", "author"]
)
def test_these_names_are_not(name: str) -> None:
    assert not is_secret_name(name)


HOLDERS: Any = [
    {"HF_PAT": SECRET},
    {"headers": [{"name": "Authorization", "value": f"Bearer {SECRET}"}]},
    {"headers": [{"key": "X-Api-Key", "value": SECRET}]},
    {"headers": [["Cookie", SECRET]]},
    {"headers": {"Authorization": SECRET}},
    {"headers": [f"Authorization: Bearer {SECRET}"]},
    {"command": f"train --token={SECRET} --epochs 3"},
    {"command": f"HF_PAT={SECRET} train"},
    {"command": f"train --hub-token {SECRET} --epochs 3"},
    {"command": ["train", "--hub-token", SECRET, "--epochs", "3"]},
    {"command": f"curl -H 'Authorization: Basic {SECRET}'"},
    {"note": f'{{"api_key": "{SECRET}"}}'},
    {"url": f"https://user:{SECRET}@host/a"},
    {"url": f"https://host/a?X-Amz-Signature={SECRET}"},
    {"auth": {"user": SECRET}},
    {"auth": [SECRET, SECRET]},
]


@pytest.mark.parametrize("config", HOLDERS, ids=[str(n) for n in range(len(HOLDERS))])
def test_a_secret_is_found_wherever_it_is(config: Any) -> None:
    assert SECRET not in repr(hide_secrets(config))
    assert hide_secrets(config) == config
    for job_config in (config, hide_secrets(config)):  # as a job's record has them hidden
        assert SECRET not in repr(flatten_hyperparams(job_config))


@pytest.mark.parametrize(
    "known", ["hf_", "ghp_", "github_pat_", "sk-", "xoxb-", "glpat-", "AKIA", "eyJ"]
)
def test_well_known_forms_are_secret(known: str) -> None:
    assert redact(f"a {known}0123456789abcdef b") == "a [hidden] b"


def test_what_is_no_secret_is_shown() -> None:
    config = {"model": "unsloth/gemma", "maxTokens": 5, "a": [1, 2], "url": "https://host/a.jsonl"}
    assert flatten_hyperparams(config) == {**config, "a": "1, 2"}
    assert redact("train --max-tokens 512 --tokenizer t") == "train --max-tokens 512 --tokenizer t"
    assert redact("step 5: loss 0.5; the author: A. Key") == "step 5: loss 0.5; the author: A. Key"


@pytest.mark.parametrize(
    "text",
    [
        "give BlobDataset(url, token=...) or HuggingFaceDataset('owner/repo')",
        "BlobDataset(url), with token=... if the URL asks for one",
        "give http://host:port or http://user:password@host:port, in HTTPS_PROXY",
    ],
)
def test_a_placeholder_is_shown(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token=...abc", "token=[hidden]"),
        ("token=....", "token=[hidden]"),
        ("https://user:password1@host/a", "https://host/a"),
        ("https://user:password@me:pa55@host/a", "https://user:password@host/a"),
        ("a //user:password1@host", "a //host"),
    ],
)
def test_a_secret_that_begins_as_a_placeholder_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_text_that_repeats_the_request_loses_its_secrets() -> None:
    sent = hide_secrets({"config": {"datasetSource": {"token": SECRET}, "list": [{"token": "ab"}]}})
    assert redact_known(f"bad {SECRET}, ab", sent) == "bad [hidden], ab"


@pytest.mark.parametrize(
    "part", ["a", "token", "key= ", "://", "Bearer ", "a://b@", "eyJ", "= ", "--", "--key "]
)
def test_any_text_is_searched_in_linear_time(part: str) -> None:
    text = part * (100_000 // len(part))

    def measure() -> float:
        begun = time.thread_time()
        redact(text)
        return time.thread_time() - begun

    assert shortest(measure, 1.0) < 1.0


def test_a_value_that_holds_itself_is_left_alone() -> None:
    value: Any = {}
    value["again"] = [value, value]
    assert hide_secrets(value) is value


_FORMS = st.one_of(
    *(
        st.from_regex(re.compile(pattern, re.ASCII))
        for pattern in (
            secret._ASSIGNED.pattern.replace("(?<![a-z])", ""),
            r"--\w{0,9}(token|key) \w{3}",
            r"(Bearer|basic)\s+[\w.~+/=-]{6}",
            secret._WELL_KNOWN.pattern,
            r"\w{1,9}://(\w+@)?[\w/]{0,9}(\?\w*)?",
            r"//\w+@\w+",
        )
    ),
    st.text(
        st.sampled_from("token\u017fkey=: \"'-/@?BearrKABCDEFhfsj_0123456789\u2003"), max_size=40
    ),
    st.text(),
)


@given(st.lists(_FORMS, max_size=3).map("".join))
def test_a_quick_look_misses_nothing(text: str) -> None:
    found = redact(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secret, "_may_hold_a_secret", lambda _: True)
        assert redact(text) == found
