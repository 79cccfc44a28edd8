"""Consecutive events as one thing that is passed on. Pure.

A `Batch` holds one event or thousands. The reader makes it, the channel queues it, the cursor looks
for known events in it, the worker delivers it, and the history keeps it; none of them asks which
kind it is.

There are two kinds. `EventBatch` holds decoded events. `LogBatch` holds a burst of `training.log`
events, which differ in little from one to the next: the reader takes them apart by a few passes
over the whole text, and the worker decodes their JSON in one go, each several times faster than
event by event. What is not of exactly that form is read by `FrameParser` and `decode`.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import lru_cache
from itertools import repeat
from operator import contains, lt
from sys import getsizeof
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
    final,
    overload,
)

from arkor_sync._common.json import decode_json
from arkor_sync.cloud.sse import Frame, FrameParser
from arkor_sync.stream.events import LOG, TERMINAL, TrainingEvent, decode, event_key

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


class Batch(Sequence[TrainingEvent]):
    """Consecutive events of one job. It never changes.

    Attributes:
        size: Characters of JSON and of ids, of all events together.
        keys_are_known: Whether `keys()` costs nothing; otherwise it decodes every event.
        last_id: The id of the last event that has one; None where none has.
        terminal: Whether its last event is the job's end.
        ends_stream: Whether the cloud said, behind its last event, that no more will come.
        has_data: Whether one of its events has JSON that could be read.
    """

    __slots__ = ()

    size: int
    keys_are_known: bool
    last_id: Optional[str]
    terminal: bool
    ends_stream: bool
    has_data: bool

    @property
    @abstractmethod
    def ids(self) -> Sequence[Optional[str]]:
        """The id of each event, or None."""

    @abstractmethod
    def rising_ids(self) -> Optional[Tuple[str, str]]:
        """Return the first id and the last, if each is above the one before; None otherwise."""

    @abstractmethod
    def keys(self) -> List[int]:
        """Return the key of each event."""

    @abstractmethod
    def plain_logs(self) -> Optional[List[Dict[str, Any]]]:
        """Decode the fields of each event, if all are plain logs.

        A plain log is a `training.log` that can be delivered: a JSON object with a whole `step`.

        Returns:
            The fields of each, in order; those in `COMMON` may be left out. None where one event is
            no plain log, so that each has to be looked at.
        """

    @overload
    def __getitem__(self, index: int) -> TrainingEvent: ...

    @overload
    def __getitem__(self, index: slice) -> Batch: ...

    @abstractmethod
    def __getitem__(self, index: Union[int, slice]) -> Union[TrainingEvent, Batch]: ...


@final
class EventBatch(Batch):
    """Events that are decoded already."""

    __slots__ = ("_events", "ends_stream", "has_data", "last_id", "size", "terminal")
    keys_are_known = True

    def __init__(self, events: Iterable[TrainingEvent], ends_stream: bool = False) -> None:
        self._events = tuple(events)
        self.ends_stream = ends_stream
        self.size = 0
        self.last_id = None
        self.terminal = self.has_data = False
        for event in self._events:  # mostly one: a generator would take longer
            self.size += event.size
            if event.id is not None:
                self.last_id = event.id
            if event.data:
                self.has_data = True
            self.terminal = event.type in TERMINAL

    @property
    def ids(self) -> Sequence[Optional[str]]:
        """The id of each event, or None."""
        return [event.id for event in self._events]

    def rising_ids(self) -> Optional[Tuple[str, str]]:
        """Return the id of a lone event twice. More events are looked at one by one."""
        event_id = self._events[0].id if len(self._events) == 1 else None
        return None if event_id is None else (event_id, event_id)

    def keys(self) -> List[int]:
        """Return the key of each event."""
        return [event.key for event in self._events]

    def plain_logs(self) -> Optional[List[Dict[str, Any]]]:
        """Return the fields of each event, if all are plain logs."""
        fields = []
        for event in self._events:
            if event.type != LOG or event.problem is not None:
                return None
            fields.append(event.data)
        return fields

    @overload
    def __getitem__(self, index: int) -> TrainingEvent: ...

    @overload
    def __getitem__(self, index: slice) -> EventBatch: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[TrainingEvent, EventBatch]:
        if isinstance(index, slice):
            return EventBatch(self._events[index])
        return self._events[index]

    def __iter__(self) -> Iterator[TrainingEvent]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)


@final
class LogBatch(Batch):
    """A burst of logs, whose JSON is decoded when it is asked for: one by one, or all at once.

    The ids are joined into one text, and what differs in the JSON into another: to keep and free
    thousands of small texts would take longer than all other work on them.

    Attributes:
        head: How the JSON of each begins: the fields that all have in common.
    """

    __slots__ = ("_body", "_count", "_ids", "_rising", "_split", "head", "last_id", "size")
    keys_are_known = False
    terminal = False
    ends_stream = False
    has_data = True

    def __init__(self, head: str, ids: List[str], texts: List[str]) -> None:
        self.head = head
        self._count = len(ids)
        self._ids = "\n".join(ids)
        self._body = _SEPARATOR.join(texts)
        self.size = _size(ids) + _size(texts) + len(head) * len(texts)
        self._rising = (ids[0], ids[-1]) if ids and _rise(ids) else None
        self.last_id = ids[-1] if ids else None
        self._split: Optional[Tuple[List[str], List[str]]] = None  # until one is asked for

    @property
    def ids(self) -> List[str]:
        """The id of each log."""
        return self._ids.split("\n") if self._count else []

    def rising_ids(self) -> Optional[Tuple[str, str]]:
        """Return the first id and the last, if each is above the one before; None otherwise."""
        return self._rising

    def keys(self) -> List[int]:
        """Return the key of each log."""
        fields = self.plain_logs()
        if fields is None:
            return [event.key for event in self]
        common = len(_common(self.head))
        return [
            event_key(event_id, LOG, own["step"], common + len(own))
            for event_id, own in zip(self.ids, fields)
        ]

    def plain_logs(self) -> Optional[List[Dict[str, Any]]]:
        """Decode the fields that each log has of its own; None where one is not a plain log."""
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

    @overload
    def __getitem__(self, index: int) -> TrainingEvent: ...

    @overload
    def __getitem__(self, index: slice) -> LogBatch: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[TrainingEvent, LogBatch]:
        split = self._split
        if split is None:
            self._split = split = self._parts()
        ids, texts = split
        if isinstance(index, slice):
            return LogBatch(self.head, ids[index], texts[index])
        return decode(Frame(LOG, self.head + texts[index], ids[index]))

    def __iter__(self) -> Iterator[TrainingEvent]:
        for event_id, text in zip(*(self._split or self._parts())):
            yield decode(Frame(LOG, self.head + text, event_id))

    def __len__(self) -> int:
        return self._count

    def compact(self) -> int:
        """Drop what only spares time, and return how many bytes of memory are left."""
        self._split = None
        texts = getsizeof(self._ids) + getsizeof(self._body) + getsizeof(self.head)
        return texts + 2 * getsizeof(self)  # the other objects are small

    def _parts(self) -> Tuple[List[str], List[str]]:
        return self.ids, self._body.split(_SEPARATOR)


class Delivery:
    """A batch that the worker delivers, and how far it has got with it.

    The worker alone changes it; other threads read it, so each number is written at once.

    Attributes:
        batch: The events.
        before: How many events the worker had acknowledged before these.
        begun: How many of them it has begun to deliver: the callbacks of the last may still run.
        acknowledged: How many of them the cursor knows to be done with.
    """

    __slots__ = ("acknowledged", "batch", "before", "begun")

    def __init__(self, batch: Batch, before: int = 0, begun: int = 0) -> None:
        self.batch = batch
        self.before = before
        self.begun = begun
        self.acknowledged = 0

    @property
    def done(self) -> int:
        """How many of them the callbacks are done with."""
        return max(self.acknowledged, self.begun - 1)


def read(parser: FrameParser, chunk: bytes) -> Iterator[Batch]:
    """Take the next bytes of a body apart into batches, in order; pings are left out.

    The last batch is the one that ends the job or the stream, if there is one.

    Args:
        parser: That of the body; it holds back what is unfinished.
        chunk: Any number of bytes.

    Raises:
        StreamProtocolError: One event is larger than the limit.
    """
    for part in split(parser, chunk):
        batch = part if type(part) is LogBatch else _decoded(part)
        yield batch
        if batch.terminal or batch.ends_stream:
            return


def split(parser: FrameParser, chunk: bytes) -> Iterator[Union[LogBatch, List[Frame]]]:
    """Take the next bytes of a body apart into bursts of logs and the frames between them."""
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


def _decoded(frames: Iterable[Frame]) -> EventBatch:
    """Decode frames up to the end of the job or of the stream."""
    events: List[TrainingEvent] = []
    for frame in frames:
        if frame.event == "end":
            return EventBatch(events, ends_stream=True)
        if frame.event == "ping":
            continue
        event = decode(frame)
        events.append(event)
        if event.type in TERMINAL:
            break
    return EventBatch(events)


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
