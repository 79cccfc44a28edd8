"""What `dataset=`, `dataset_split=` and `dataset_format=` take, and what they refuse."""

from __future__ import annotations

import codecs
import json
import os
import pickle
import tracemalloc
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from arkor_sync.cloud.models import (
    SUPPORTED_MODELS,
    BlobDataset,
    DatasetSplit,
    HuggingFaceDataset,
    build_job_config,
)
from arkor_sync.cloud.training_data import ROLES
from arkor_sync.errors import ArkorUsageError

RECORD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
LINE = json.dumps(RECORD)
HUB = HuggingFaceDataset("owner/repo")


def config(**arguments: Any) -> Dict[str, Any]:
    return build_job_config(**{"model": SUPPORTED_MODELS[0], "dataset": HUB, **arguments})


def refused(**arguments: Any) -> str:
    with pytest.raises(ArkorUsageError) as caught:
        config(**arguments)
    assert caught.value.__context__ is None or isinstance(caught.value.__cause__, OSError)
    return str(caught.value)


def message(role: Any = "user", content: Any = "private words") -> Dict[str, Any]:
    return {"role": role, "content": content}


# Files.


@pytest.mark.parametrize("name", ["data.jsonl", "my data (1).jsonl", "Übung #1 100%.jsonl", "a?b"])
@pytest.mark.parametrize("form", [str, Path, lambda path: PurePosixPath(path)])
def test_a_file_is_sent_as_its_url(work: Path, name: str, form: Any) -> None:
    (work / name).write_text(f"{LINE}\n", "utf-8")
    for path in (form(name), form(work / name)):
        source = config(dataset=path)["datasetSource"]
        url = urlsplit(source["url"])
        assert source == {"type": "blob", "url": (work / name).as_uri()}
        assert url2pathname(url.path) == str(work / name)
        assert (url.scheme, url.query, url.fragment) == ("file", "", "")


def test_a_file_below_the_home_directory(home: Path) -> None:
    (home / "data.jsonl").write_text(LINE)
    assert config(dataset="~/data.jsonl")["datasetSource"]["url"] == (
        (home / "data.jsonl").as_uri()
    )


@pytest.mark.parametrize(
    "content",
    [
        f"{LINE}\r\n\r\n  \n{LINE}",
        codecs.BOM_UTF8 + LINE.encode(),
        json.dumps({**RECORD, "more": [1]}, ensure_ascii=False),
        "\n".join(json.dumps({"messages": [message(role)]}) for role in ROLES),
        json.dumps({"messages": [{**message(), "name": "Zoë"}]}, ensure_ascii=False),
    ],
)
def test_what_a_file_may_hold(work: Path, content: Any) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (work / "data.jsonl").write_bytes(data)
    assert config(dataset="data.jsonl")["datasetSource"]["type"] == "blob"


BAD_RECORDS = [
    ([1], "that is no object", "a record such as {"),
    ({}, "without a list of messages", "a record such as {"),
    ({"messages": []}, "without a list of messages", "a record such as {"),
    ({"messages": "private words"}, "without a list of messages", "a record such as {"),
    ({"prompt": "private words"}, "without a list of messages", "a record such as {"),
    ({"messages": ["private words"]}, "whose messages[0] is no object", '{"role": "user", '),
    ({"messages": [{"content": "private words"}]}, "whose messages[0] has no role", "one of the"),
    (
        {"messages": [message(), message("usr")]},
        "whose messages[1] has the role str 'usr'",
        "one of the roles system, user, assistant, tool",
    ),
    (
        {"messages": [message(5)]},
        "whose messages[0] has the role int 5",
        "one of the roles system, user, assistant, tool",
    ),
    (
        {"messages": [message(), {"role": "user"}]},
        "whose messages[1] has no content",
        "a text as its content",
    ),
    (
        {"messages": [message(content=5.5)]},
        "whose messages[0] has a content that is float 5.5",
        "a text as its content",
    ),
]


@pytest.mark.parametrize(("record", "problem", "wanted"), BAD_RECORDS)
def test_a_record_that_is_no_conversation_is_named(
    work: Path, record: Any, problem: str, wanted: str
) -> None:
    path = work / "data.jsonl"
    path.write_text(f"{LINE}\n\n{json.dumps(record)}\n{LINE}\n")
    in_a_file = refused(dataset=path)
    assert in_a_file.startswith(f"dataset: got line 3 of {path}, {problem}; give {wanted}")
    in_a_list = refused(dataset=[RECORD, record])
    assert in_a_list.startswith(f"dataset[1]: got a record {problem}; give {wanted}")
    assert "private" not in in_a_file + in_a_list


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"private words\n", "line 1 of {path}, which is no JSON (Expecting value, at column 1)"),
        (
            LINE.encode() + b"\n" + LINE.encode()[:-1] + b"\n",
            f"line 2 of {{path}}, which is no JSON (Expecting ',' delimiter, at column {len(LINE)}",
        ),
        (b'{"messages": NaN}', "line 1 of {path}, which is no JSON (NaN is not JSON)"),
        (b"[\n", "line 1 of {path}, which is no JSON (Expecting value, at column 2)"),
        ("{private words Ü".encode("latin-1"), "line 1 of {path}, which is no text in UTF-8"),
        (LINE.encode("utf-16"), "line 1 of {path}, which is no text in UTF-8"),
        (b"\x1f\x8b\x08\x00private words", "line 1 of {path}, which is no text in UTF-8"),
        (b"", "{path}, which has no record"),
        (b"\n  \n", "{path}, which has no record"),
    ],
)
def test_a_file_that_is_no_json_lines_is_named(work: Path, content: bytes, problem: str) -> None:
    path = work / "data.jsonl"
    path.write_bytes(content)
    text = refused(dataset=path)
    assert text.startswith(f"dataset: got {problem.format(path=path)}")
    assert '{"messages": [{"role": "user", "content": "..."}, ...]}' in text
    assert "private" not in text


def test_a_file_that_cannot_be_read_is_named_with_its_whole_path(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(work / "pipe")
    assert refused(dataset=".").startswith(f"dataset: got {work}, which is a directory; give ")
    assert refused(dataset="pipe").startswith(
        f"dataset: got {work / 'pipe'}, which is no regular file; give the path of a file"
    )
    path = work / "data.jsonl"
    (work / "file").touch()
    assert f"there is no file {work / 'file' / 'x.jsonl'}" in refused(dataset="file/x.jsonl")
    for form in ("data.jsonl", Path("data.jsonl")):
        said = refused(dataset=form)
        kind = type(form).__name__
        assert said.startswith(
            f"dataset: got {kind} 'data.jsonl', and there is no file {path}; give the path of"
        )
        assert said.count("the path of") == 1
    path.write_text(LINE)

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert refused(dataset=path).startswith(
        f"dataset: got {path}, which cannot be read: Permission denied; give the path of a file"
    )


def test_a_line_without_end_is_not_read_to_its_end(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync.cloud.training_data.MAX_LINE", 100)
    (work / "data.jsonl").write_text(f"{{}}{' ' * 200}")
    text = refused(dataset="data.jsonl")
    assert "line 1 of" in text
    assert "which has 100 bytes and more" in text


def test_a_large_file_is_never_in_memory(work: Path) -> None:
    line = json.dumps({"messages": [message(content="x" * 1000)]})
    (work / "data.jsonl").write_text(f"{line}\n" * 4000)  # 4 MB
    config(dataset="data.jsonl")
    tracemalloc.start()
    try:
        config(dataset="data.jsonl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400_000


# Texts that name no file.

PATHS = "the path of a JSONL file that exists, HuggingFaceDataset("


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("owner/repo", "HuggingFaceDataset('owner/repo') for a dataset on the Hugging Face Hub"),
        ("owner/repo.v1", "HuggingFaceDataset('owner/repo.v1') for"),
        ("hf://datasets/owner/repo", "HuggingFaceDataset('owner/repo') for"),
        ("https://huggingface.co/datasets/owner/repo", "HuggingFaceDataset('owner/repo') for"),
        ("https://host/data.jsonl", "BlobDataset(url), with token=... if the URL asks for one"),
        ("file:///data.jsonl", "BlobDataset(url), with token=..."),
        ("s3://bucket/data.jsonl", "BlobDataset(url), with token=..."),
        ("data/train.jsonl", PATHS),
        ("./owner/repo", PATHS),
        ("squad", PATHS),
        ("", PATHS),
        ("C:\\data.jsonl", PATHS),
    ],
)
def test_what_a_text_that_is_no_file_may_have_meant(text: str, meant: str) -> None:
    said = refused(dataset=text)
    assert said.startswith("dataset: got str ")
    assert f"; give {meant}" in said


def test_a_text_that_is_no_path_is_not_shown_whole() -> None:
    for text in (LINE + "\n", "\n".join([LINE] * 50), f"{LINE}\r", "x" * 5000, "\0"):
        assert refused(dataset=text).startswith(
            f"dataset: got a str that is no path; give {PATHS}"
        ), text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://user:password@host/x?signature=abc", "BlobDataset(url)"),
        (" https://user:password@host/data.jsonl", "BlobDataset(url)"),
        ("https://user:pass/password@host/data.jsonl", "BlobDataset(url)"),
        ("https//user:password@host/data.jsonl", PATHS),
        (Path("https://user:password@host/data.jsonl"), PATHS),
        ("user:password@host/data.jsonl", PATHS),
        ("host/data.jsonl?signature=abc", PATHS),
        ("hf_abcdefghijklmnopqrstuvwxyz", PATHS),
        ("hf_abcdefghijklmnopqrstuvwxyz/repo", PATHS),
    ],
)
def test_a_text_that_may_hold_a_secret_is_not_shown(text: Any, meant: str) -> None:
    said = refused(dataset=text)
    assert "which may hold a secret" in said
    assert f"; give {meant}" in said
    for secret in ("password", "signature", "abc"):
        assert secret not in said


def test_a_url_is_no_missing_file() -> None:
    assert "there is no" not in refused(dataset="https://host/data.jsonl")


@pytest.mark.parametrize(
    "name", ["./train.jsonl", "../data/train.jsonl", ".data/train", "train.jsonl", "data/train.csv"]
)
def test_the_path_of_a_file_is_no_name_on_the_hub(work: Path, name: str) -> None:
    (work / "data").mkdir()
    (work / "data" / "train.csv").touch()
    (work / "data" / "name.v2").touch()
    with pytest.raises(ArkorUsageError, match=r"^HuggingFaceDataset.name: got .* dataset='data\.j"):
        HuggingFaceDataset(name)
    for legal in ("owner/name.v2", "data/name.v2", "data/train.jsonl", "-o_/.n"):
        HuggingFaceDataset(legal)


# Lists.


def test_a_list_of_records_is_checked_and_copied_and_shows_no_content() -> None:
    records: List[Any] = [RECORD, {"messages": (message(),)}]
    source = config(dataset=records)["datasetSource"]
    records.clear()
    assert source["type"] == "records"
    assert [json.loads(line) for line in source["records"].lines] == [
        RECORD,
        {"messages": [message()]},
    ]
    assert repr(source) == "{'type': 'records', 'records': <2 records>}"
    assert pickle.loads(pickle.dumps(source)) == source
    assert repr(config(dataset=(RECORD,))["datasetSource"]["records"]) == "<1 record>"


def test_a_list_that_cannot_be_sent_is_refused() -> None:
    assert refused(dataset=[]).startswith("dataset: got a list of no record; give a list of")
    for value in ({1}, float("nan"), object()):
        with pytest.raises(ArkorUsageError, match=r"^dataset\[1\] cannot be sent as JSON: "):
            config(dataset=[RECORD, {**RECORD, "more": value}])


@pytest.mark.parametrize("value", [None, 5, b"owner/repo", {"a", "b"}, iter([RECORD])])
def test_a_dataset_of_no_known_form_names_all_forms(value: Any) -> None:
    said = refused(dataset=value)
    assert said.startswith("dataset: got ")
    for form in ("HuggingFaceDataset('owner/repo')", "BlobDataset('https", "path", "a list of rec"):
        assert form in said


# The wire form.


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            {"type": "huggingface", "name": "a/b", "sub_set": "en"},
            "dataset: got the key str 'sub_set', which the cloud would ignore; give only 'type', "
            "'name', 'split', 'subset' (did you mean 'subset'?)",
        ),
        (
            {"type": "blob", "url": "https://h/x", "tokens": "t"},
            "dataset: got the key str 'tokens', which the cloud would ignore; give only 'type', "
            "'url', 'token' (did you mean 'token'?)",
        ),
    ],
)
def test_a_misspelt_key_of_a_dataset_in_wire_form(source: Any, said: str) -> None:
    assert refused(dataset=source) == said
    newer = {"type": "blob", "url": "x", "somethingNew": 1}
    assert config(dataset=newer)["datasetSource"] == newer


# The split.


def test_a_split_is_enabled() -> None:
    assert DatasetSplit() == DatasetSplit(test_size=0.1, seed=42)
    split = DatasetSplit(0.25, seed=-7)
    assert config(dataset_split=split)["datasetSplit"] == split.to_dict()
    assert split.to_dict() == {"enabled": True, "testSize": 0.25, "seed": -7}


@pytest.mark.parametrize("size", [0, 1, 1.5, -0.1, True, None, "0.1", float("nan")])
def test_the_size_of_a_split(size: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"^DatasetSplit\.test_size: got .*above 0 and below"):
        DatasetSplit(test_size=size)
    wire = {"enabled": True, "testSize": size}
    assert refused(dataset_split=wire).startswith("dataset_split['testSize']: got ")


@pytest.mark.parametrize("seed", [0.5, True, None, "42"])
def test_the_seed_of_a_split(seed: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"^DatasetSplit\.seed: got .*; give a whole number$"):
        DatasetSplit(seed=seed)
    wire = {"enabled": True, "seed": seed}
    assert refused(dataset_split=wire).startswith("dataset_split['seed']: got ")


@pytest.mark.parametrize("enabled", [1, "yes", None])
def test_whether_a_split_is_enabled_is_true_or_false(enabled: Any) -> None:
    said = refused(dataset_split={"enabled": enabled})
    assert said.startswith("dataset_split['enabled']: got ")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("test_size", " (did you mean 'testSize'?)"),
        ("TestSize", " (did you mean 'testSize'?)"),
        ("enable", " (did you mean 'enabled'?)"),
        ("xyz", ""),
    ],
)
def test_an_unknown_key_of_a_split_names_the_nearest(key: str, meant: str) -> None:
    assert refused(dataset_split={"enabled": True, key: 0.1}) == (
        f"dataset_split: got the key str {key!r}, which the cloud would ignore; give only "
        f"'enabled', 'testSize', 'seed'{meant}, or DatasetSplit(test_size=0.1)"
    )


def test_a_split_that_would_split_nothing_is_refused() -> None:
    assert "without 'enabled', which splits nothing" in refused(dataset_split={"testSize": 0.1})
    off = {"enabled": False, "testSize": 0.1}
    assert config(dataset_split=off)["datasetSplit"] == off


@pytest.mark.parametrize("split", [None, {}, {"enabled": False}])
@pytest.mark.parametrize("steps", [25, {"ratio": 0.5}])
def test_an_evaluation_without_records_for_it_is_refused(split: Any, steps: Any) -> None:
    assert refused(eval_steps=steps, dataset_split=split) == (
        "eval_steps: got a value without a dataset_split that is enabled; the cloud would ignore "
        "it; give dataset_split=DatasetSplit(test_size=0.1) as well, or leave eval_steps out"
    )


# The format.


@pytest.mark.parametrize("value", ["chatml", {"type": "chatml"}, {"type": "a new one"}])
def test_formats(value: Any) -> None:
    assert config(dataset_format=value)["datasetFormat"] == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, "dataset_format: got int 5; give a name such as 'chatml', or {'type': 'chatml'}"),
        (["chatml"], "dataset_format: got a list"),
        ("", "dataset_format: got str ''; give "),
        ({}, "dataset_format['type']: got None; give a name such as 'chatml'"),
        ({"type": 5}, "dataset_format['type']: got int 5; give a name such as"),
        (
            {"Type": "chatml"},
            "dataset_format: got the key str 'Type', which the cloud would ignore; give only "
            "'type'",
        ),
        ({"type": "chatml", "columns": []}, "dataset_format: got the key str 'columns', which "),
    ],
)
def test_what_is_no_format(value: Any, said: str) -> None:
    assert refused(dataset_format=value).startswith(said)


def test_a_blob_without_a_scheme_is_told_where_files_go() -> None:
    with pytest.raises(ArkorUsageError, match=r"a file on this machine is dataset='data\.jsonl'$"):
        BlobDataset("data.jsonl")
