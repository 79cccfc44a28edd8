"""The two positions, against a server that replays too much, and a worker that asks again."""

from __future__ import annotations

from typing import List, Optional, Tuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from arkor_sync.cloud.sse import Frame
from arkor_sync.stores import SavedCursor
from arkor_sync.stream.batches import EventBatch
from arkor_sync.stream.cursor import Cursor
from arkor_sync.stream.events import TrainingEvent, decode

Sent = Tuple[Optional[str], str]  # id and data


def event(sent: Sent) -> TrainingEvent:
    return decode(Frame("message", sent[1], sent[0]))


def numbered(*ids: int) -> List[TrainingEvent]:
    return [event((str(n), f'{{"type":"training.log","step":{n}}}')) for n in ids]


class Follower:
    """A reader and a worker in one thread, and the server that they talk to.

    It does what the channel does with a cursor, but keeps no position of its own.
    """

    def __init__(self, history: List[Sent], remembered: int) -> None:
        self.history = history
        self.by_key = {event(sent).key: sent for sent in history}
        self.cursor = Cursor(remembered=remembered)
        self.queue: List[TrainingEvent] = []
        self.set_aside: List[TrainingEvent] = []
        self.done: List[Sent] = []
        self.next = 0  # what the server sends next

    def connect(self, overlap: int) -> None:
        """Open the stream. The server resumes after the id, or up to `overlap` events earlier."""
        after = self.cursor.connect()
        self.set_aside = []
        ids = [sent_id for sent_id, _ in self.history]
        self.next = 0 if after is None else max(0, ids.index(after) + 1 - overlap)

    def receive(self, count: int, twice: bool = False) -> None:
        """Read `count` events; with `twice`, the server repeats each that has an id."""
        for sent in self.history[self.next : self.next + count]:
            self.next += 1
            for _ in range(2 if twice and sent[0] is not None else 1):
                arrived = event(sent)
                self.queue.extend(self.cursor.accept(EventBatch([arrived])))

    def acknowledge(self, count: int) -> None:
        """Have the callbacks be done with `count` events."""
        for _ in range(min(count, len(self.queue))):
            arrived = self.queue.pop(0)
            self.cursor.acknowledge(EventBatch([arrived]))
            self.done.append(self.by_key[arrived.key])

    def rewind(self) -> None:
        """Drop the connection and all that was not acknowledged, to have it sent again."""
        self.cursor.rewind(self.queue)
        self.set_aside, self.queue = self.queue, []
        assert self.cursor.read == self.cursor.acknowledged

    def refuse(self) -> None:
        """Answer the next connection with 410: what a rewind dropped comes back."""
        self.cursor.connect()
        self.cursor.restore(self.set_aside)
        self.queue, self.set_aside = self.queue + self.set_aside, []
        self.next = len(self.history)

    def check(self) -> None:
        assert self.done == self.history[: len(self.done)]
        acknowledged = [sent_id for sent_id, _ in self.done if sent_id is not None]
        assert self.cursor.acknowledged == (acknowledged[-1] if acknowledged else None)
        read = acknowledged + [each.id for each in self.queue if each.id is not None]
        assert self.cursor.read == (read[-1] if read else None)


@st.composite
def histories(draw: st.DrawFn) -> List[Sent]:
    """Draw events with ids, events without, and ids that are used again for something else."""
    kinds = draw(st.lists(st.sampled_from("iiiio="), max_size=24))
    history: List[Sent] = []
    for number, kind in enumerate(kinds):
        data = f'{{"type":"training.log","step":{number}}}'
        same = kind == "=" and history and history[-1][0]
        history.append((same or (None if kind == "o" else f"id{number}"), data))
    return history


STEPS = st.one_of(
    st.tuples(st.just("receive"), st.integers(1, 8)),
    st.tuples(st.just("receive twice"), st.integers(1, 8)),
    st.tuples(st.just("acknowledge"), st.integers(1, 8)),
    st.tuples(st.just("connect"), st.sampled_from([0, 0, 1, 3, 1000])),
    st.tuples(st.just("rewind"), st.sampled_from([0, 2, 1000])),
    st.tuples(st.just("rewind, refused"), st.just(0)),
)


@settings(max_examples=300)
@given(histories(), st.sampled_from([5, 10_000]), st.lists(STEPS, max_size=40), st.booleans())
@example(
    [(str(n), f'{{"type":"training.log","step":{n}}}') for n in range(20)],
    5,
    [("receive", 12), ("acknowledge", 12), ("connect", 1000), ("receive", 15), ("acknowledge", 2)],
    True,
)
def test_every_event_is_acknowledged_in_order_and_once(
    history: List[Sent], remembered: int, steps: List[Tuple[str, int]], from_start: bool
) -> None:
    follower = Follower(history, remembered)
    # What is forgotten can only be recognised by its place in a replay from the very start.
    remembers_all = remembered > len(history)

    def overlap(wanted: int) -> int:
        return wanted if remembers_all or wanted == 1000 else 0

    follower.connect(0)
    for what, amount in steps:
        if what == "receive":
            follower.receive(amount)
        elif what == "receive twice":
            follower.receive(amount, twice=remembers_all)
        elif what == "acknowledge":
            follower.acknowledge(amount)
        elif what == "connect":
            follower.connect(overlap(amount))
        elif what == "rewind":
            follower.rewind()
            follower.connect(overlap(amount))
        else:
            follower.rewind()
            follower.refuse()
        follower.check()
    follower.connect(1000 if from_start else 0)
    follower.receive(len(history))
    follower.acknowledge(len(history))
    follower.check()
    assert follower.done == history


def accepted(cursor: Cursor, arriving: List[TrainingEvent]) -> List[Optional[str]]:
    """Let events arrive one by one, which must come to the same as all at once."""
    import copy

    together = [each.id for each in copy.deepcopy(cursor).accept(EventBatch(arriving))]
    singly = [each.id for one in arriving for each in cursor.accept(EventBatch([one]))]
    assert together == singly
    return singly


def test_a_new_cursor_asks_for_the_start_of_the_history() -> None:
    cursor = Cursor()
    assert (cursor.read, cursor.acknowledged) == (None, None)
    assert cursor.connect() is None


def test_a_stored_position_is_where_the_first_connection_resumes() -> None:
    cursor = Cursor(SavedCursor(acknowledged_id="41"))
    assert cursor.connect() == "41"
    news = numbered(42, 43)
    assert accepted(cursor, news) == ["42", "43"]
    cursor.rewind(news)
    assert cursor.connect() == "41"


def test_a_lost_connection_resumes_after_what_was_read() -> None:
    cursor = Cursor()
    cursor.connect()
    one, two, three = numbered(1, 2, 3)
    assert accepted(cursor, [one, two]) == ["1", "2"]
    cursor.acknowledge(EventBatch([one]))
    assert cursor.connect() == "2"
    assert accepted(cursor, [three]) == ["3"]
    assert (cursor.read, cursor.acknowledged) == ("3", "1")


def test_an_event_without_an_id_that_was_given_back_is_recognised_when_it_comes_after_all() -> None:
    cursor = Cursor()
    cursor.connect()
    one, two = numbered(1, 2)
    bare = event((None, '{"type":"training.log","step":3}'))
    accepted(cursor, [one, two, bare])
    cursor.acknowledge(EventBatch([one]))
    cursor.rewind([two, bare])
    cursor.connect()
    cursor.restore([two, bare])
    assert accepted(cursor, [two, bare]) == []


def test_a_rewind_resumes_after_what_was_acknowledged() -> None:
    cursor = Cursor()
    cursor.connect()
    one, two, three = numbered(1, 2, 3)
    accepted(cursor, [one, two, three])
    cursor.acknowledge(EventBatch([one]))
    cursor.rewind([two, three])
    assert cursor.connect() == "1"
    assert accepted(cursor, [one, two, three]) == ["2", "3"]


def test_what_a_refused_rewind_gives_back_is_recognised_when_it_comes_after_all() -> None:
    cursor = Cursor()
    cursor.connect()
    one, two, three = numbered(1, 2, 3)
    accepted(cursor, [one, two, three])
    cursor.acknowledge(EventBatch([one]))
    cursor.rewind([two, three])
    cursor.connect()
    cursor.restore([two, three])
    assert cursor.connect() == "3"
    assert accepted(cursor, numbered(1, 2, 3, 4)) == ["4"]
    for each in numbered(2, 3):
        cursor.acknowledge(EventBatch([each]))
    assert cursor.acknowledged == "3"


def test_an_event_with_an_id_is_recognised_on_the_same_connection() -> None:
    cursor = Cursor()
    cursor.connect()
    assert accepted(cursor, numbered(1, 1, 2, 1, 2, 3)) == ["1", "2", "3"]
    assert cursor.read == "3"


def test_the_same_id_with_other_data_is_another_event() -> None:
    cursor = Cursor()
    cursor.connect()
    log = '{"type":"training.log","step":1,"loss":1}'
    saved = '{"type":"checkpoint.saved","step":1,"n":1}'
    only_eval = '{"type":"training.log","step":1}'
    arriving = [event(("1", data)) for data in (log, saved, only_eval, "{}", "[]", log)]
    assert accepted(cursor, arriving) == ["1"] * 5


def test_an_event_that_was_damaged_or_worded_anew_on_its_second_way_is_the_same() -> None:
    cursor = Cursor()
    cursor.connect()
    first = event(("1", '{"type":"training.log","step":1,"jobId":"j"}'))
    again = event(("1", '{"type":"training.log","step":1,"jobId":"\ufffd"}'))
    assert accepted(cursor, [first, again]) == ["1"]


def test_equal_events_without_an_id_are_two_on_one_connection_and_one_on_two() -> None:
    cursor = Cursor()
    cursor.connect()
    bare = (None, '{"type":"training.started"}')
    assert accepted(cursor, [event(bare), event(bare)]) == [None, None]
    assert cursor.connect() is None
    assert accepted(cursor, [event(bare), event(bare)]) == []


def test_an_event_without_an_id_moves_neither_position() -> None:
    cursor = Cursor()
    cursor.connect()
    one, bare = event(("1", "{}")), event((None, "{}"))
    accepted(cursor, [one, bare])
    assert cursor.read == "1"
    cursor.acknowledge(EventBatch([one]))
    cursor.acknowledge(EventBatch([bare]))
    assert cursor.acknowledged == "1"
    cursor.rewind([])
    assert cursor.connect() == "1"
    assert accepted(cursor, [bare]) == []


def test_what_was_forgotten_is_recognised_by_its_place_in_a_replay_of_everything() -> None:
    cursor = Cursor(remembered=3)
    cursor.connect()
    history = numbered(*range(20))
    for each in history[:12]:
        assert accepted(cursor, [each]) == [each.id]
        cursor.acknowledge(EventBatch([each]))
    assert len(accepted(cursor, history[12:15])) == 3
    assert not cursor.knows(history[0])
    cursor.connect()
    assert accepted(cursor, history) == [str(n) for n in range(15, 20)]
    cursor.rewind(history[12:])
    cursor.connect()
    assert accepted(cursor, history) == [str(n) for n in range(12, 20)]


def test_a_server_that_only_greets_with_the_first_event_is_not_replaying_everything() -> None:
    history = numbered(*range(20))
    cursor = Cursor(remembered=3)
    cursor.connect()
    for each in history[:12]:
        cursor.accept(EventBatch([each]))
        cursor.acknowledge(EventBatch([each]))
    cursor.connect()
    assert accepted(cursor, [history[0], *history[12:15]]) == ["12", "13", "14"]


def test_another_process_recognises_a_replay_of_everything_as_well() -> None:
    history = numbered(*range(8))
    first = Cursor()
    first.connect()
    for each in first.accept(EventBatch(history[:5])):
        first.acknowledge(EventBatch([each]))
    saved = first.position()
    for overlap in (0, 5):
        second = Cursor(saved)
        assert second.connect() == "4"
        assert accepted(second, history[5 - overlap :]) == ["5", "6", "7"]


def test_what_is_remembered_is_bounded() -> None:
    cursor = Cursor(remembered=3)
    cursor.connect()
    for each in numbered(*range(100)):
        assert cursor.accept(EventBatch([each]))
        cursor.acknowledge(EventBatch([each]))
        assert cursor._old.size + cursor._new.size <= 6
    assert cursor.delivered == 100
