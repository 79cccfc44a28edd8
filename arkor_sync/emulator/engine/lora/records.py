"""Reads a job's records and makes tokens of them. Runs on a thread of its own.

A data set may have a million records. They are read line by line, made into tokens a thousand at a
time, and kept in a file: in memory each record takes 8 bytes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import tempfile
import weakref
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.dataset import LOOPBACK, Record, record_of, shown
from arkor_sync.emulator.engine.lora.base_model import first_line
from arkor_sync.emulator.engine.sample import NAME, RECORDS

AT_ONCE = 1000  # records
FORMATS = ("chatml", "messages")
FETCH_TIMEOUT = 30.0  # seconds without a byte
IGNORED = -100  # the label of a token that is not learnt

Numbered = Tuple[str, Record]
"""A record, and what a message calls it: `line 17`."""


class TokenizedRecords:
    """The tokens of all records, in a file that has no name and vanishes with this object.

    A token that is not to be learnt is kept as its complement, which is below zero.

    Args:
        directory: Where the file is made.
    """

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it vanishes with this object
        weakref.finalize(self, _close, self._file)
        self._ends = array("q")
        self.learnt = 0

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, tokens: List[int], learnt: List[bool]) -> None:
        """Add a record: its tokens, and which of them are learnt."""
        kept = array("i", (t if known else ~t for t, known in zip(tokens, learnt)))
        self._file.write(kept.tobytes())
        self._ends.append(len(tokens) + (self._ends[-1] if self._ends else 0))
        self.learnt += sum(learnt)

    def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            OSError: There is no space.
        """
        self._file.flush()

    def length(self, index: int) -> int:
        """Return how many tokens a record has."""
        return self._ends[index] - (self._ends[index - 1] if index else 0)

    @property
    def tokens(self) -> int:
        """How many tokens all records have."""
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Tuple[List[int], List[int]]:
        """Return a record's tokens and its labels: the token, or `IGNORED`."""
        start = self._ends[index - 1] if index else 0
        kept = array("i")
        self._file.seek(start * kept.itemsize)
        kept.frombytes(self._file.read(self.length(index) * kept.itemsize))
        return [t if t >= 0 else ~t for t in kept], [t if t >= 0 else IGNORED for t in kept]


def _close(file: Any) -> None:
    with contextlib.suppress(OSError):  # there is no space for what is not written yet
        file.close()


@dataclass(frozen=True)
class Template:
    """How a conversation becomes tokens: the model's own chat template.

    Args:
        tokenizer: The model's tokenizer.
        responses_only: Learn the answers of the assistant only.
        max_length: The greatest number of tokens of a record.
    """

    tokenizer: Any
    responses_only: bool
    max_length: int

    def check(self) -> None:
        """Check that the model has a chat template.

        Raises:
            TrainingFailed: It has none.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise TrainingFailed(
                "the model has no chat template, so it is not known how a conversation is written "
                "for it; use a model that was made for chat (often named Instruct or it)"
            )

    def tokens_of(self, records: List[Numbered]) -> Iterator[Tuple[List[int], List[bool]]]:
        """Yield the tokens of each record, and which of them are learnt.

        The template marks no answers. So the tokens before an answer, and those up to its end,
        are counted by writing the beginning of the conversation alone; that the whole begins with
        the same tokens is checked.

        Raises:
            TrainingFailed: A record is too long, has nothing to learn, or the template refuses it.
        """
        texts: List[str] = []
        spans: List[List[Tuple[int, int]]] = []  # where in `texts` the two beginnings are
        wholes: List[int] = []
        for name, record in records:
            wholes.append(len(texts))
            texts.append(self._written(name, record))
            spans.append([])
            if not self.responses_only:
                continue
            if record[0]["role"] == "assistant":
                raise TrainingFailed(
                    f"the data set's {name} begins with the assistant, so nothing asks for that "
                    "answer; put a message of the user before it, or leave "
                    "train_on_responses_only out"
                )
            for index, message in enumerate(record):
                if message["role"] == "assistant":
                    spans[-1].append((len(texts), len(texts) + 1))
                    texts.append(self._written(name, record[:index], asks=True))
                    texts.append(self._written(name, record[: index + 1]))
        encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        for (name, _), whole, answers in zip(records, wholes, spans):
            tokens = encoded[whole]
            learnt = [not self.responses_only] * len(tokens)
            for before, upto in answers:
                start, end = len(encoded[before]), len(encoded[upto])
                if encoded[upto] != tokens[:end] or encoded[before] != tokens[:start]:
                    raise TrainingFailed(
                        f"the data set's {name}: the model's chat template writes the beginning of "
                        "this conversation differently than the whole, so it is not known which "
                        "tokens are the assistant's; leave train_on_responses_only out"
                    )
                learnt[start:end] = [True] * (end - start)
            if len(tokens) > self.max_length:
                raise TrainingFailed(
                    f"the data set's {name} has {len(tokens)} tokens, and at most "
                    f"{self.max_length} are allowed (max_length, and the model's context); "
                    "shorten the record, or raise max_length"
                )
            # The first token is predicted from nothing, so it is never learnt.
            if not any(learnt[1:]):
                raise TrainingFailed(
                    f"the data set's {name} has nothing to learn: no message of the assistant"
                )
            yield tokens, learnt

    def _written(self, name: str, messages: Record, *, asks: bool = False) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=asks
            )
        except Exception as error:  # what a template raises is its own
            raise TrainingFailed(
                f"the data set's {name}: the model's chat template refuses it: {first_line(error)}"
            ) from None
        return text


def read(config: Dict[str, Any]) -> Iterator[Numbered]:
    """Yield the records of a job's data set, as they are read.

    Raises:
        TrainingFailed: The data set cannot be read, or a record is wrong; the text names it.
    """
    _check_format(config.get("datasetFormat"))
    source = config["datasetSource"]
    if source.get("type") != "huggingface":
        return _of_lines(source)
    if source["name"] == NAME:
        return ((f"record {n}", list(record)) for n, record in enumerate(RECORDS, start=1))
    return _of_hub(source)


def tokenized(
    records: Iterable[Numbered],
    template: Template,
    directory: Path,
    stopping: Callable[[], bool],
) -> TokenizedRecords:
    """Make tokens of records.

    Args:
        records: The records.
        template: How they become tokens.
        directory: Where the file of the tokens is made.
        stopping: Asked now and then; when it is true, what there is so far is returned.

    Raises:
        TrainingFailed: See `read` and `Template.tokens_of`; or there is no record, or no space.
    """
    template.check()
    try:
        made = TokenizedRecords(directory)
        waiting = iter(records)
        while not stopping():
            batch = list(itertools.islice(waiting, AT_ONCE))
            if not batch:
                break
            for tokens, learnt in template.tokens_of(batch):
                made.append(tokens, learnt)
        made.flush()
    except OSError as error:
        raise TrainingFailed(f"{directory} cannot be written: {error.strerror or error}") from None
    if not len(made) and not stopping():
        raise TrainingFailed("the data set is empty")
    return made


def _check_format(value: Any) -> None:
    kind = value.get("type") if isinstance(value, dict) else value
    if kind is not None and kind not in FORMATS:
        raise TrainingFailed(
            f"datasetFormat {kind!r:.100}: this engine reads {' or '.join(FORMATS)}: a record is "
            '{"messages": [{"role": ..., "content": ...}, ...]}'
        )


def _of_lines(source: Dict[str, Any]) -> Iterator[Numbered]:
    where = shown(source["url"])
    try:
        for number, line in enumerate(_lines(source["url"], source.get("token")), start=1):
            if line.strip():
                yield f"line {number}", record_of(number, line)
    except TrainingFailed as error:
        raise TrainingFailed(f"{error}: {where}") from None
    except Exception as error:  # of requests, urllib3 or the system
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise TrainingFailed(f"the data set could not be read: {reason}: {where}") from None


def _lines(url: str, token: Optional[str]) -> Iterator[bytes]:
    """Yield the lines of a file or of what an address answers, as they are read."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        with Path(url2pathname(parts.path)).open("rb") as file:
            yield from file
        return
    local = _is_local(url)
    if parts.scheme != "https" and not local:
        raise TrainingFailed("the data set's URL must begin with https:// or file://")
    import requests

    with requests.Session() as session:
        session.trust_env = not local  # a request to this machine goes through no proxy
        response = session.get(url, stream=True, timeout=FETCH_TIMEOUT, auth=_Token(token))
        with response:
            if response.status_code != 200:
                raise TrainingFailed(f"the data set could not be read: HTTP {response.status_code}")
            if urlsplit(response.url).scheme != "https" and not _is_local(response.url):
                raise TrainingFailed("the data set's URL leads to one that begins with http://")
            response.raw.enforce_content_length = True  # urllib3 1 takes the half for the whole
            rest = b""
            try:
                for chunk in response.iter_content(1 << 16):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield from lines
            except requests.exceptions.ChunkedEncodingError:
                raise TrainingFailed(
                    "the data set could not be read: the connection ended in the middle"
                ) from None
            yield rest


def _is_local(url: str) -> bool:
    """Tell whether a URL is of an HTTP server on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in LOOPBACK


class _Token:
    """Sends the data set's token, and not what `~/.netrc` has for that host."""

    def __init__(self, token: Optional[str]) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _of_hub(source: Dict[str, Any]) -> Iterator[Numbered]:
    name = source["name"]
    if importlib.util.find_spec("datasets") is None:
        raise TrainingFailed(
            f"the data set {name!r:.100} of the Hugging Face Hub needs the library datasets: pip "
            "install datasets; or give a JSON Lines file as the data set"
        )
    from datasets import load_dataset

    try:
        rows = load_dataset(
            name, source.get("subset"), split=source.get("split") or "train", streaming=True
        )
        for number, row in enumerate(rows, start=1):
            yield f"record {number}", _of_row(number, row)
    except TrainingFailed:
        raise
    except Exception as error:  # the library has many of its own, and of others
        raise TrainingFailed(
            f"the data set {name!r:.100} of the Hugging Face Hub cannot be read: "
            f"{first_line(error)}"
        ) from None


def _of_row(number: int, row: Any) -> Record:
    import json

    return record_of(number, json.dumps(row, default=str).encode())
