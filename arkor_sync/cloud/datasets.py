"""What a job trains on, and how its records are split. Runs on the caller's thread.

The forms that `dataset=` takes, and what each is on the wire (`datasetSource`):

* `HuggingFaceDataset`, `BlobDataset` and the wire form: as they are.
* The path of a file: its `file:` URL, after each line was checked.
* A list of records: checked, and written to a file when the job is submitted (`local_data`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Union
from urllib.parse import urlsplit

from arkor_sync._common.arguments import check, check_keys, refusal, show
from arkor_sync._common.json import json_copy
from arkor_sync._common.paths import absolute
from arkor_sync._common.secret import Secret, hide_secrets, redact
from arkor_sync.cloud.fields import check_text, is_integer, is_share, present
from arkor_sync.cloud.training_data import ChatRecord, check_file, check_records
from arkor_sync.cloud.urls import without_query
from arkor_sync.errors import ArkorUsageError

_SOURCE_KEYS = {
    "huggingface": ("type", "name", "split", "subset"),
    "blob": ("type", "url", "token"),
}
_SPLIT_KEYS = ("enabled", "testSize", "seed")
_SHARE = "a number above 0 and below 1"
_WANTED = (
    "the path of a JSONL file that exists, HuggingFaceDataset('owner/repo'), "
    "BlobDataset('https://...'), or a list of records {'messages': [...]}"
)
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HUB = re.compile(
    rf"(?:hf://datasets/|https?://huggingface\.co/datasets/)?(?P<name>{_HUB_NAME.pattern})/?"
)
_FILE_SUFFIXES = frozenset({".jsonl", ".json", ".txt", ".csv", ".gz", ".zip", ".parquet"})
_LONGEST_PATH = 1000  # characters; a longer text is no path, and a message may not show it
_PASSWORD = re.compile(r":[^\s]*@")


@dataclass(frozen=True)
class HuggingFaceDataset:
    """A dataset on the Hugging Face Hub (`datasetSource` of type `huggingface`).

    Args:
        name: `owner/repo`.
        split: The split to train on; the cloud's default is `train`.
        subset: The subset (configuration) of the dataset.
    """

    name: str
    split: Optional[str] = None
    subset: Optional[str] = None

    def __post_init__(self) -> None:
        fits = isinstance(self.name, str) and bool(_HUB_NAME.fullmatch(self.name))
        fits = fits and not _names_a_file(self.name)
        wanted = "the form 'owner/repo'; a file on this machine is dataset='data.jsonl'"
        check("HuggingFaceDataset.name", self.name, fits, wanted)
        for name in ("split", "subset"):
            check_text(f"HuggingFaceDataset.{name}", getattr(self, name))

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return present(type="huggingface", name=self.name, split=self.split, subset=self.subset)


@dataclass(frozen=True, repr=False)
class BlobDataset:
    """A dataset behind a URL (`datasetSource` of type `blob`).

    A file of your own has to be behind a URL for the cloud. For an Arkor on this machine,
    `create_trainer(dataset="data.jsonl")` takes the file as it is.

    Args:
        url: `https://...`, `http://...` or another scheme that the cloud can read.
        token: The cloud downloads the URL with it. It is part of the job's configuration, where it
            is not encrypted.
    """

    url: str
    token: Optional[str] = None

    def __post_init__(self) -> None:
        url: Any = self.url
        try:
            parts = urlsplit(url)
            fits = len(parts.scheme) > 1 and bool(parts.netloc or parts.path.strip("/"))
            fits = fits and isinstance(url, str)
            fits = fits and (parts.scheme not in ("http", "https") or bool(parts.hostname))
        except (ValueError, AttributeError, TypeError):
            fits = False
        wanted = (
            "a URL with its scheme, such as 'https://host/data.jsonl'; a file on this machine is "
            "dataset='data.jsonl'"
        )
        check("BlobDataset.url", without_query(url) if isinstance(url, str) else url, fits, wanted)
        if self.token is None:
            return
        if not isinstance(self.token, str) or not self.token.strip():
            wanted = "a string that is not empty, or None"
            raise refusal("BlobDataset.token", self.token, wanted, secret=True)
        token = Secret(self.token.strip())  # without the newline at a file's end
        object.__setattr__(self, "token", token)

    def __repr__(self) -> str:
        token = ", token=..." if self.token else ""
        return f"BlobDataset(url={without_query(self.url)[:200]!r}{token})"

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form, token included."""
        return present(type="blob", url=self.url, token=self.token)


@dataclass(frozen=True)
class DatasetSplit:
    """Holds records out of the training, to measure the loss on them (`datasetSplit`, enabled).

    Args:
        test_size: The share of the records that is held out, above 0 and below 1 (`testSize`).
        seed: Which records these are; the same seed chooses the same (`seed`).
    """

    test_size: float = 0.1
    seed: int = 42

    def __post_init__(self) -> None:
        check("DatasetSplit.test_size", self.test_size, is_share(self.test_size), _SHARE)
        check("DatasetSplit.seed", self.seed, is_integer(self.seed), "a whole number")

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return {"enabled": True, "testSize": self.test_size, "seed": self.seed}


PathLike = Union[str, "os.PathLike[str]"]
Dataset = Union[
    HuggingFaceDataset,
    BlobDataset,
    PathLike,
    Sequence[Union[ChatRecord, Mapping[str, Any]]],
    Mapping[str, Any],
]


def dataset_source(dataset: Any) -> Dict[str, Any]:
    """Check a dataset and return the `datasetSource` of a job.

    Returns:
        The wire form; for a list of records `{"type": "records", "records": Records}`.

    Raises:
        ArkorUsageError: It cannot be trained on.
    """
    if isinstance(dataset, (HuggingFaceDataset, BlobDataset)):
        source: Dict[str, Any] = hide_secrets(dataset.to_dict())
        return source
    if isinstance(dataset, (str, os.PathLike)):
        return _file_source(dataset)
    if isinstance(dataset, Mapping):
        return _checked_source(dataset)
    if isinstance(dataset, Sequence) and not isinstance(dataset, (bytes, bytearray, memoryview)):
        return {"type": "records", "records": check_records(dataset)}
    raise refusal("dataset", dataset, _WANTED)


def checked_split(split: Union[DatasetSplit, Mapping[str, Any], None]) -> Optional[Dict[str, Any]]:
    """Check a split and return it in wire form; None for None.

    Raises:
        ArkorUsageError: It cannot work, or the cloud would ignore a part of it.
    """
    if split is None:
        return None
    if isinstance(split, DatasetSplit):
        return split.to_dict()
    name = "dataset_split"
    check(name, split, isinstance(split, Mapping), "DatasetSplit(test_size=0.1)")
    check_keys(name, split, _SPLIT_KEYS, ", or DatasetSplit(test_size=0.1)")
    enabled = split.get("enabled", False)
    check(f"{name}['enabled']", enabled, isinstance(enabled, bool), "True or False")
    size, seed = split.get("testSize", 0.1), split.get("seed", 42)
    check(f"{name}['testSize']", size, is_share(size), _SHARE)
    check(f"{name}['seed']", seed, is_integer(seed), "a whole number")
    if split and "enabled" not in split:
        wanted = "'enabled': True as well, or DatasetSplit(test_size=0.1)"
        raise refusal(name, split, wanted, got="an object without 'enabled', which splits nothing")
    return dict(split)


def checked_format(value: Union[str, Mapping[str, Any], None]) -> Any:
    """Check a dataset's format and return it; None for None.

    Raises:
        ArkorUsageError: It is no name, and no object that has a `type` and nothing else.
    """
    name, wanted = "dataset_format", "a name such as 'chatml', or {'type': 'chatml'}"
    if not isinstance(value, Mapping):
        check(name, value, value is None or isinstance(value, str), wanted)
        return check_text(name, value)
    check_keys(name, value, ("type",))
    kind = value.get("type")
    fits = isinstance(kind, str) and bool(kind.strip())
    check(f"{name}['type']", kind, fits, "a name such as 'chatml'")
    return dict(value)


def _checked_source(source: Mapping[str, Any]) -> Dict[str, Any]:
    kind = source.get("type")
    check("dataset['type']", kind, kind in ("huggingface", "blob"), "'huggingface' or 'blob'")
    check_keys("dataset", source, _SOURCE_KEYS[str(kind)], closed=False)
    copy: Dict[str, Any] = hide_secrets(json_copy(dict(source), "the dataset"))
    return copy


def _names_a_file(name: str) -> bool:
    """Whether the name of a dataset on the Hub is rather the path of a file with data."""
    return Path(name).suffix.lower() in _FILE_SUFFIXES and os.path.isfile(name)


def _file_source(given: PathLike) -> Dict[str, Any]:
    """Check the file that a text or a path names, or refuse one that names none."""
    text = os.fsdecode(given)
    if len(text) > _LONGEST_PATH or re.search(r"[\0\r\n]", text):
        got = f"{show(given, secret=True)} that is no path"
        raise refusal("dataset", given, _WANTED, got=got)
    if text.strip():
        path = os.path.abspath(os.path.expanduser(text))
        try:
            check_file(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        else:
            return {"type": "blob", "url": Path(path).as_uri()}
        del path  # it may hold what the text holds
    raise _what_it_may_mean(given, text)


def _what_it_may_mean(given: PathLike, text: str) -> ArkorUsageError:
    """Build the error for what names no file. What may hold a secret is not shown."""
    path, text = os.path.expanduser(text), text.strip()
    is_url = re.match(r"file:|[a-z][\w+.-]+://", text, re.I)
    hub = _HUB.fullmatch(text)
    if redact(text) != text or _PASSWORD.search(text):
        got, hub = f"{show(given, secret=True)}, which may hold a secret", None
        missing = "such file"
    else:
        got, missing = show(given), f"file {redact(absolute(path))}"
    if text and not is_url:
        got = f"{got}, and there is no {missing}"
    wanted = _WANTED
    if hub and Path(text).suffix.lower() not in _FILE_SUFFIXES:
        wanted = (
            f"HuggingFaceDataset({hub['name']!r}) for a dataset on the Hugging Face Hub, or the "
            "path of a JSONL file that exists"
        )
    elif is_url:
        wanted = "BlobDataset(url), with token=... if the URL asks for one"
    return refusal("dataset", given, wanted, got=got)
