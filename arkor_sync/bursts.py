"""Runs of plain logs, read all at once. Pure: no I/O and no threads; the reader thread calls it.

A burst of `training.log` events differs in little from one to the next, so it is taken apart by a
few passes over the whole text and one JSON decode, several times faster than event by event. What
is not of exactly that form is left to `FrameParser` and `decode`, which say the same of it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import repeat
from operator import contains
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Union, overload

from arkor_sync.events import LOG, TrainingEvent, decode_json, event_key
from arkor_sync.frames import Frame, FrameParser

COMMON = ("type", "jobId")
"""The fields that are the same in all logs of a job."""

# The first log: its event line, and what its data line has in common with those of the others.
_FIRST = re.compile(
    r"id: [^\n]*\n(event: training\.log)\n"
    r'(data: \{"type": ?"training\.log", ?(?:"jobId": ?"[^"\\\x00-\x1f]*", ?)?)'
)
_RUN = re.compile(
    rb"(?:(?<=\n\n)|\A)(?:id: [^\n]*\nevent: training\.log\ndata: \{[^\n]*\}\n\n){2,}"
)


class Outline(NamedTuple):
    """What tells the events of a batch apart from all others.

    Attributes:
        ids: The frames' ids.
        steps: The step of each.
        fields: How many fields each has of its own.
        common: How many all have in common.
    """

    ids: List[str]
    steps: List[int]
    fields: List[int]
    common: int

    def keys(self) -> List[int]:
        """Return the key of each event."""
        fields = [self.common + own for own in self.fields]
        return list(map(event_key, self.ids, repeat(LOG), self.steps, fields))


class LogBatch(Sequence[TrainingEvent]):
    """Consecutive logs in columns. An event of it is built when it is asked for.

    Attributes:
        common: The fields that all have the same values: the type, and the job's id.
        ids: The frames' ids.
        objects: The other fields of each.
        steps: The step of each.
        texts: The JSON of each, without the head.
        head: Characters of JSON of the common fields.
        size: Characters of JSON, of all together.
    """

    __slots__ = ("common", "head", "ids", "objects", "size", "steps", "texts")

    def __init__(
        self,
        common: Dict[str, Any],
        ids: List[str],
        objects: List[Dict[str, Any]],
        steps: List[int],
        texts: List[str],
        head: int,
    ) -> None:
        self.common = common
        self.ids = ids
        self.objects = objects
        self.steps = steps
        self.texts = texts
        self.head = head
        self.size = _size(texts) + head * len(texts)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> TrainingEvent: ...

    @overload
    def __getitem__(self, index: slice) -> LogBatch: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[TrainingEvent, LogBatch]:
        if isinstance(index, slice):
            columns = self.ids[index], self.objects[index], self.steps[index], self.texts[index]
            return LogBatch(self.common, *columns, self.head)
        data = {**self.common, **self.objects[index]}
        event_id = self.ids[index]
        key = event_key(event_id, LOG, self.steps[index], len(data))
        return TrainingEvent(LOG, data, event_id, key=key, size=self.head + len(self.texts[index]))

    def outline(self) -> Outline:
        """Return what the keys are made of, and nothing larger."""
        return Outline(self.ids, self.steps, list(map(len, self.objects)), len(self.common))


def read(parser: FrameParser, chunk: bytes) -> Iterator[Union[LogBatch, List[Frame]]]:
    """Take the next bytes of a body apart into logs and whatever else there is, in order.

    Args:
        parser: That of the body; it holds back what is unfinished.
        chunk: Any number of bytes.

    Raises:
        StreamProtocolError: One event is larger than the limit.
    """
    blocks = parser.complete(chunk)
    if len(blocks) > parser.max_event_bytes:
        yield parser.parse(blocks)
        return
    logs = read_logs(blocks)
    if logs is not None:
        yield logs
        return
    done = 0
    for run in _RUN.finditer(blocks):
        logs = read_logs(run[0])
        if logs is not None:
            if done < run.start():
                yield parser.parse(blocks[done : run.start()])
            yield logs
            done = run.end()
    if done < len(blocks):
        yield parser.parse(blocks[done:])


def read_logs(blocks: bytes) -> Optional[LogBatch]:
    """Read blocks of one `id`, one `event` and one `data` line, each a flat `training.log`.

    Returns:
        The logs; None where any block is of another form.
    """
    text = blocks.decode("utf-8", "replace")
    first = _FIRST.match(text)
    if first is None or "\0" in text or "\\" in text:
        return None
    lines = text.split("\n")
    count, rest = divmod(len(lines), 4)
    id_lines, data_lines = lines[:-1:4], lines[2::4]
    if rest != 1 or any(lines[3::4]) or lines[1::4].count(first[1]) != count:
        return None
    ids = [line.removeprefix("id: ") for line in id_lines]
    own = [line.removeprefix(first[2]) for line in data_lines]
    cut = count * len("id: " + first[2])
    if _size(id_lines) + _size(data_lines) != _size(ids) + _size(own) + cut:
        return None  # some line does not begin as all should
    # No string holds a newline, so each object begins where its event does; with one brace each
    # and as many objects as events, each is flat and ends there too.
    together = ",\n{".join(own)
    if together.count("{") != count - 1 or not all(ids):
        return None
    head = first[2][len("data: ") :]
    try:
        common = _common(head)
        objects = decode_json("[{" + together + "]")
        steps = [each["step"] for each in objects]
    except (ValueError, KeyError, TypeError):
        return None
    if (
        len(objects) != count
        or set(map(type, steps)) != {int}
        or any(True in map(contains, objects, repeat(field)) for field in common)
    ):
        return None
    return LogBatch(common, ids, objects, steps, own, len(head))


@lru_cache(maxsize=16)
def _common(head: str) -> Dict[str, Any]:
    fields: Dict[str, Any] = decode_json(head.rstrip(", ") + "}")
    return fields


def _size(texts: List[str]) -> int:
    return sum(map(len, texts))
