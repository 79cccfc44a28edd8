"""Records of the program's own, in a file or a list, checked. Runs on the caller's thread.

A record is one conversation: `{"messages": [{"role": "user", "content": "..."}, ...]}`. A file has
one on each line (JSON Lines). No message of an error holds the content of one.
"""

from __future__ import annotations

import json
import os
import stat
from typing import (
    Any,
    Iterator,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypedDict,
    Union,
    get_args,
)

from arkor_sync._common.arguments import refusal, show
from arkor_sync._common.json import parse_json
from arkor_sync._common.paths import reason_of
from arkor_sync.errors import ArkorUsageError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: Tuple[Role, ...] = get_args(Role)
"""Who may speak in a conversation."""

MAX_LINE = 64 * 1024 * 1024
"""Bytes of the longest line that is read, so that a file without lines is never in memory."""

RECORD = '{"messages": [{"role": "user", "content": "..."}, ...]}'
_FILE_WANTED = f"the path of a file with a record on each line: {RECORD}"


class Message(TypedDict):
    """A message of a conversation, for type checkers; any mapping with these keys will do."""

    role: Role
    content: str


Messages = Sequence[Union[Message, Mapping[str, Any]]]
Prompt = Union[str, Messages]
"""A text, which is a message of the user, or a list of messages."""


class ChatRecord(TypedDict):
    """A record, for type checkers; any mapping with this key will do."""

    messages: Messages


class Records:
    """Checked records as JSON Lines. They become a file when the job is submitted.

    It stands in a job's configuration until then, so its `repr` shows no content.
    """

    def __init__(self, lines: Tuple[str, ...]) -> None:
        self.lines = lines

    def __len__(self) -> int:
        return len(self.lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Records) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)

    def __repr__(self) -> str:
        return f"<{len(self)} record{'s' * (len(self) != 1)}>"


def check_records(records: Sequence[Any]) -> Records:
    """Check a list of records, and copy it.

    Raises:
        ArkorUsageError: There is none, or one is no conversation. The message has its index.
    """
    if not records:
        raise refusal("dataset", records, f"a list of records: {RECORD}", got="a list of no record")
    return Records(tuple(_encoded(f"dataset[{i}]", each) for i, each in enumerate(records)))


def _encoded(name: str, record: Any) -> str:
    problem = _problem_of(record)
    if problem:
        raise refusal(name, None, problem[1], got=f"a record {problem[0]}")
    try:
        return json.dumps(record, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArkorUsageError(f"{name} cannot be sent as JSON: {error}") from error


def check_file(path: str) -> None:
    """Read a file, one line at a time, and check each record.

    Args:
        path: The absolute path.

    Raises:
        FileNotFoundError: There is no such file; or NotADirectoryError, if its folder is none.
        ArkorUsageError: It cannot be read, has no record, or a line is no record. The message has
            the number of the line.
    """
    is_empty = True
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a directory" if os.path.isdir(path) else "no regular file"
            raise refusal("dataset", path, _FILE_WANTED, got=f"{path}, which is {kind}")
        with open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=1):
                if line.strip():
                    is_empty = False
                    _check_line(f"line {number} of {path}", line)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        got = f"{path}, which cannot be read: {reason_of(error)}"
        raise refusal("dataset", path, _FILE_WANTED, got=got) from error
    if is_empty:
        raise refusal("dataset", path, _FILE_WANTED, got=f"{path}, which has no record")


def _check_line(where: str, line: bytes) -> None:
    wanted = f"one record on each line: {RECORD}"
    if len(line) == MAX_LINE:
        got = f"{where}, which has {MAX_LINE} bytes and more"
        raise refusal("dataset", None, wanted, got=got)
    try:
        problem = _problem_of(parse_json(line.rstrip()))
    except UnicodeDecodeError:
        problem = "which is no text in UTF-8", wanted
    except json.JSONDecodeError as error:
        problem = f"which is no JSON ({error.msg}, at column {error.colno})", wanted
    except ValueError as error:
        problem = f"which is no JSON ({error})", wanted
    if problem:
        raise refusal("dataset", None, problem[1], got=f"{where}, {problem[0]}")


def _problem_of(record: Any) -> Optional[Tuple[str, str]]:
    """Return what is wrong with a record, and what would do; None if nothing is."""
    messages = record.get("messages") if isinstance(record, Mapping) else None
    if not isinstance(messages, (list, tuple)) or not messages:
        kind = "without a list of messages" if isinstance(record, Mapping) else "that is no object"
        return kind, f"a record such as {RECORD}"
    return next(_problems_of_messages(messages), None)


def _problems_of_messages(messages: Sequence[Any]) -> Iterator[Tuple[str, str]]:
    for index, message in enumerate(messages):
        whose = f"whose messages[{index}]"
        if not isinstance(message, Mapping):
            yield f"{whose} is no object", '{"role": "user", "content": "..."}'
            continue
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            has = "no role" if role is None else f"the role {show(role)}"
            yield f"{whose} has {has}", f"one of the roles {', '.join(ROLES)}"
        if not isinstance(content, str):
            has = "no content" if content is None else f"a content that is {show(content)}"
            yield f"{whose} has {has}", "a text as its content"
