"""Runs of plain logs, read all at once. Pure: no I/O and no threads.

A burst of `training.log` events differs in little from one to the next, so the reader thread takes
it apart by a few passes over the whole text, and the worker thread decodes its JSON in one go, each
several times faster than event by event. What is not of exactly that form is left to `FrameParser`
and `decode`, which say the same of it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import repeat
from operator import contains, lt
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union, final, overload

from arkor_sync._common.json import decode_json
from arkor_sync.cloud.sse import Frame, FrameParser
from arkor_sync.stream.events import LOG, TrainingEvent, decode, event_key

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
_SEPARATOR = ",\n{"  # no string holds a newline, so each object of JSON begins at one


@final
class LogBatch(Sequence[TrainingEvent]):
    """Consecutive logs, whose JSON is decoded when it is asked for: one by one, or all at once.

    Where every event passes, it is told by `type`: `isinstance` asks the abstract base class.

    What they have of their own is kept as two texts: many small ones take longer to keep and to
    forget than all else that is done with them.

    Attributes:
        head: How the JSON of each begins: the fields that all have in common.
        size: Characters of JSON, of all together.
        rising: Whether the id of each is above that of the one before.
        first_id: The first frame's id.
        last_id: The last frame's id.
        begun: How many of them the worker thread has begun to deliver. It alone changes that.
    """

    __slots__ = (
        "_body",
        "_count",
        "_ids",
        "_split",
        "begun",
        "first_id",
        "head",
        "last_id",
        "rising",
        "size",
    )

    def __init__(self, head: str, ids: List[str], texts: List[str]) -> None:
        self.head = head
        self._count = len(ids)
        self._ids = "\n".join(ids)
        self._body = _SEPARATOR.join(texts)
        self.size = _size(texts) + len(head) * len(texts)
        self.rising = _rise(ids)
        self.first_id, self.last_id = (ids[0], ids[-1]) if ids else ("", "")
        self.begun = 0
        self._split: Optional[Tuple[List[str], List[str]]] = None  # until one is asked for

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> TrainingEvent: ...

    @overload
    def __getitem__(self, index: slice) -> LogBatch: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[TrainingEvent, LogBatch]:
        if self._split is None:
            self._split = self.ids, self._body.split(_SEPARATOR)
        ids, texts = self._split
        if isinstance(index, slice):
            return LogBatch(self.head, ids[index], texts[index])
        return decode(Frame(LOG, self.head + texts[index], ids[index]))

    @property
    def ids(self) -> List[str]:
        """The frames' ids."""
        return self._ids.split("\n") if self._count else []

    def keys(self) -> List[int]:
        """Return the key of each event."""
        fields = self.fields()
        if fields is None:
            return [event.key for event in self]
        common = len(_common(self.head))
        return [
            event_key(event_id, LOG, own["step"], common + len(own))
            for event_id, own in zip(self.ids, fields)
        ]

    def fields(self) -> Optional[List[Dict[str, Any]]]:
        """Decode the fields that each has of its own; None where one is not a plain log."""
        # Each event begins an object, of the outermost array unless another is open: that needs a
        # bracket, and one more brace for the object to be in it. With as many objects as events,
        # each then ends where its event does.
        count = self._count
        if "[" in self._body and self._body.count("{") != count - 1:
            return None
        try:
            objects: List[Dict[str, Any]] = decode_json("[{" + self._body + "]")
            plain = {type(each["step"]) for each in objects} == {int}
            # A field that comes twice has its last value, and so might be another type.
            own = not any(
                True in map(contains, objects, repeat(name)) for name in _common(self.head)
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return objects if plain and own and len(objects) == count else None


def read(parser: FrameParser, chunk: bytes) -> Iterator[Union[LogBatch, List[Frame]]]:
    """Take the next bytes of a body apart into logs and whatever else there is, in order.

    Args:
        parser: That of the body; it holds back what is unfinished.
        chunk: Any number of bytes.

    Raises:
        StreamProtocolError: One event is larger than the limit.
    """
    frame = parser.lone(chunk)
    if frame is not None:
        yield [frame]
        return
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
    """Read blocks of one `id`, one `event` and one `data` line, whose JSON begins as a log's.

    Returns:
        The logs; None where any block is of another form.
    """
    text = blocks.decode("utf-8", "replace")
    first = _FIRST.match(text)
    if first is None or "\0" in text:
        return None
    event, head = first.groups()
    lines = text.split("\n")
    count, rest = divmod(len(lines), 4)
    if rest != 1 or any(lines[3::4]) or lines[1::4].count(event) != count:
        return None
    ids = [line.removeprefix("id: ") for line in lines[:-1:4]]
    texts = [line.removeprefix(head) for line in lines[2::4]]
    if _size(ids) + _size(texts) + count * len(f"id: \n{event}\n{head}\n\n") != len(text):
        return None  # some line does not begin as all should
    return LogBatch(head[len("data: ") :], ids, texts) if all(ids) else None


def id_order(event_id: str) -> Tuple[int, str]:
    """Order ids by length, then as text.

    Numbers rise in it, and times, and whatever else is counted up.
    """
    return len(event_id), event_id


@lru_cache(maxsize=16)
def _common(head: str) -> Dict[str, Any]:
    fields: Dict[str, Any] = decode_json(head.rstrip(", ") + "}")
    return fields


def _rise(ids: List[str]) -> bool:
    order: Sequence[Any] = ids
    if len(set(map(len, ids))) > 1:
        order = list(map(id_order, ids))
    return all(map(lt, order, order[1:]))


def _size(texts: List[str]) -> int:
    return sum(map(len, texts))
