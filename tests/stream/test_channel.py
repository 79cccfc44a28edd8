"""The channel between the two threads: bounded, fenced, and never a deadlock."""

from __future__ import annotations

import itertools
import threading
from typing import Any, Callable, List, Optional

import pytest

from arkor_sync.cloud.sse import Frame
from arkor_sync.stores import SavedCursor
from arkor_sync.stream.batches import Batch, EventBatch
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.cursor import Cursor
from arkor_sync.stream.events import TrainingEvent, decode
from support.waiting import PATIENCE, Background, until


def numbered(*ids: int, width: int = 0) -> EventBatch:
    return EventBatch(
        decode(Frame("message", f'{{"type":"training.log","step":{n}}}'.ljust(width), str(n)))
        for n in ids
    )


def ids(events: Any) -> List[Optional[str]]:
    return [event.id for event in events]


def channel(max_events: int = 1024, max_bytes: int = 8 << 20) -> Channel:
    return Channel(Cursor(), max_events, max_bytes)


def blocked_put(on: Channel, events: Batch, epoch: int = 0) -> Background:
    """Put more than fits, on a thread; return once it waits for room."""
    putting = Background(on.put, events, epoch)
    until(lambda: on._drained._waiters)  # type: ignore[attr-defined]
    return putting


def blocked_take(on: Channel) -> Background:
    taking = Background(on.take)
    until(lambda: on._idle)
    return taking


def test_what_is_put_is_taken_in_order_and_as_it_came() -> None:
    line = channel()
    epoch, after = line.connect()
    assert (epoch, after) == (0, None)
    assert line.put(numbered(1, 2), epoch) == 2
    assert line.put(numbered(3), epoch) == 1
    assert len(line) == 3
    assert ids(line.take()) == ["1", "2"]
    assert len(line) == 1
    assert ids(line.take()) == ["3"]
    assert len(line) == 0


def test_a_taker_waits_for_the_first_event() -> None:
    line = channel()
    taking = blocked_take(line)
    line.put(numbered(1), 0)
    assert ids(taking.result()) == ["1"]


def test_a_put_of_what_is_known_wakes_nobody() -> None:
    line = channel()
    line.connect()
    line.put(numbered(1), 0)
    line.take()
    line._idle = True  # as a worker that waits leaves it
    line.connect()
    assert line.put(numbered(1), 0) == 0
    assert line._idle
    assert line._filled.locked()
    line.put(numbered(2), 0)
    assert not line._filled.locked()


def test_duplicates_are_dropped_and_counted() -> None:
    line = channel()
    line.connect()
    assert line.put(numbered(1, 2, 2, 1), 0) == 2
    assert line.duplicates == 2
    line.connect()
    assert line.put(numbered(1, 2, 3), 0) == 1
    assert line.duplicates == 4
    assert [ids(line.take()), ids(line.take())] == [["1", "2"], ["3"]]


def test_duplicates_alone_are_no_new_events() -> None:
    line = channel()
    line.connect()
    line.put(numbered(1, 2), 0)
    line.connect()
    assert line.put(numbered(1, 2), 0) == 0


# Bounds.


def test_it_is_bounded_in_events() -> None:
    line = channel(max_events=2)
    putting = blocked_put(line, numbered(1, 2, 3, 4, 5))
    assert len(line) == 2
    assert ids(line.take()) == ["1", "2"]
    until(lambda: len(line) == 2)
    assert ids(line.take()) == ["3", "4"]
    assert putting.result() == 5
    assert ids(line.take()) == ["5"]


def test_it_is_bounded_in_bytes() -> None:
    line = channel(max_bytes=1000)
    putting = blocked_put(line, numbered(*range(10), width=400))
    # The one that crosses the bound still fits: an event larger than the bound must pass, too.
    assert len(line) == 3
    line.take()
    until(lambda: len(line) == 3)
    assert putting.running()
    line.take()
    until(lambda: len(line) == 3)
    line.take()
    assert putting.result() == 10
    assert len(line) == 1


def test_an_event_larger_than_the_bound_passes_alone() -> None:
    line = channel(max_bytes=10)
    assert line.put(numbered(1, width=400), 0) == 1
    putting = blocked_put(line, numbered(2, width=400))
    assert ids(line.take()) == ["1"]
    assert putting.result() == 1


def test_taking_frees_the_bytes() -> None:
    line = channel(max_bytes=1000)
    for n in range(20):
        assert line.put(numbered(n, width=900), 0) == 1
        assert len(line.take() or []) == 1


def test_high_water_is_the_most_that_waited() -> None:
    line = channel()
    assert line.high_water == 0
    line.put(numbered(1, 2, 3), 0)
    line.take()
    line.put(numbered(4), 0)
    assert line.high_water == 3


# What releases a blocked thread.


def test_a_rewind_releases_a_blocked_put_and_refuses_it() -> None:
    line = channel(max_events=1)
    epoch, _ = line.connect()
    putting = blocked_put(line, numbered(1, 2, 3), epoch)
    assert line.rewind([])
    assert putting.result() is None
    assert len(line) == 0


def test_a_close_releases_a_blocked_put_and_refuses_it() -> None:
    line = channel(max_events=1)
    putting = blocked_put(line, numbered(1, 2))
    line.close()
    assert putting.result() is None
    assert len(line) == 0


@pytest.mark.parametrize("ending", [Channel.close, Channel.finish])
def test_the_end_releases_a_blocked_take(ending: Callable[[Channel], None]) -> None:
    line = channel()
    taking = blocked_take(line)
    ending(line)
    assert taking.result() is None


def test_after_a_close_nothing_goes_in_or_out() -> None:
    line = channel()
    line.put(numbered(1), 0)
    line.close()
    assert line.take() is None
    assert line.put(numbered(2), 0) is None
    assert not line.rewind([])
    line.close()


# Epochs.


def test_a_put_from_an_older_epoch_is_refused() -> None:
    line = channel()
    old = line.connect()
    line.put(numbered(1, 2), old.epoch)
    line.rewind([])
    assert line.put(numbered(3), old.epoch) is None
    new = line.connect()
    assert new.epoch == old.epoch + 1
    assert new.last_event_id is None
    assert line.put(numbered(1), old.epoch) is None
    assert line.put(numbered(1, 2, 3), new.epoch) == 3
    assert ids(line.take()) == ["1", "2", "3"]


def test_a_rewind_asks_for_all_after_the_acknowledged_event() -> None:
    line = channel()
    line.connect()
    line.put(numbered(1, 2, 3, 4), 0)
    batch = line.take() or []
    line.put(numbered(5), 0)
    line.acknowledge(EventBatch([batch[0]]))
    assert line.rewind(batch[1:])
    assert line.connect() == (1, "1")
    assert line.put(numbered(1, 2, 3, 4, 5), 1) == 4


def test_only_a_rewind_changes_the_epoch() -> None:
    line = channel()
    assert line.connect().epoch == line.connect().epoch == 0


def test_a_restore_gives_the_worker_back_what_a_rewind_dropped() -> None:
    line = channel()
    line.connect()
    line.put(numbered(1, 2, 3), 0)
    batch = line.take() or []
    line.put(numbered(4), 0)
    line.acknowledge(EventBatch([batch[0]]))
    line.rewind(batch[1:])
    taking = blocked_take(line)
    epoch, _ = line.connect()
    line.restore(epoch)
    returned = taking.result()
    assert ids(returned) == ["2", "3", "4"]
    assert returned[0] is batch[1]  # the event in hand, so that its attempts are known
    assert line.connect() == (1, "4")
    for event in returned:
        line.acknowledge(EventBatch([event]))
    assert line.cursor.acknowledged == "4"


def test_what_is_restored_counts_against_the_bounds() -> None:
    line = channel(max_bytes=1000)
    line.connect()
    line.put(numbered(1, 2, width=600), 0)
    line.rewind(line.take() or [])
    line.connect()
    line.restore(1)
    putting = blocked_put(line, numbered(3, width=600), 1)
    assert ids(line.take()) == ["1", "2"]
    assert putting.result() == 1


def test_an_end_of_the_record_is_not_given_back_beside_that_of_the_stream() -> None:
    line = channel()
    line.connect()
    line.put(numbered(1, 2), 0)
    in_hand = line.take()
    made = TrainingEvent("training.completed", {}, synthesized=True, key=7)
    line.put(EventBatch([made]), 0)
    assert in_hand is not None
    assert line.rewind(list(in_hand))
    epoch, _ = line.connect()
    sent = decode(Frame("message", '{"type":"training.completed"}', "3"))
    line.put(EventBatch([sent]), epoch)  # it begins elsewhere, so 1 and 2 are given back
    given = [line.take(), line.take()]
    assert [event.id for batch in given for event in batch or ()] == ["1", "2", "3"]
    line.put(EventBatch([made]), epoch)  # as when the record is read again
    assert len(line) == 1


def test_a_restore_happens_once() -> None:
    line = channel()
    line.connect()
    line.put(numbered(1), 0)
    line.rewind(line.take() or [])
    line.connect()
    line.restore(1)
    line.take()
    line.restore(1)
    assert len(line) == 0


def test_once_it_comes_again_there_is_nothing_to_restore() -> None:
    line = channel()
    line.connect()
    line.put(numbered(1, 2), 0)
    line.rewind(line.take() or [])
    assert line.put(numbered(1, 2), line.connect().epoch) == 2
    assert ids(line.take()) == ["1", "2"]
    line.restore(1)
    assert len(line) == 0


def test_a_cloud_that_begins_elsewhere_loses_nothing() -> None:
    """It was asked to send everything after the acknowledged event, and has forgotten some."""
    line = channel()
    line.connect()
    line.put(numbered(1, 2, 3, 4), 0)
    batch = line.take() or []
    line.acknowledge(EventBatch([batch[0]]))
    line.rewind(batch[1:])
    assert line.put(numbered(4, 5), line.connect().epoch) == 1
    assert [ids(line.take()), ids(line.take())] == [["2", "3", "4"], ["5"]]


def held_by_a_replay() -> Channel:
    """A channel for two events, whose connection has sent three old ones of a trimmed history."""
    line = Channel(Cursor(SavedCursor(acknowledged_id="9", delivered=9)), max_events=2)
    line.connect()
    assert line.put(numbered(4, 5, 6), 0) == 0
    return line


def test_what_a_replay_gives_back_waits_for_room() -> None:
    line = held_by_a_replay()
    putting = blocked_put(line, numbered(10))  # above "9", which has not come
    assert len(line) == 2
    assert ids(line.take()) == ["4", "5"]
    assert putting.result() == 4
    assert ids(line.take()) == ["6", "10"]
    assert line.high_water == 2


def test_what_a_replay_gives_back_comes_again_after_a_rewind() -> None:
    line = held_by_a_replay()
    putting = blocked_put(line, numbered(10))
    in_hand = line.take()
    assert in_hand is not None
    assert line.rewind(in_hand)
    assert putting.result() is None
    epoch, after = line.connect()
    assert after == "9"
    line.put(numbered(4, 5, 6), epoch)
    putting = blocked_put(line, numbered(10), epoch)
    assert ids(line.take()) == ["4", "5"]
    assert putting.result() == 4


def test_what_a_replay_gave_back_is_not_lost_if_it_cannot_come_again() -> None:
    line = held_by_a_replay()
    putting = blocked_put(line, numbered(10))
    assert line.rewind(numbered())
    assert putting.result() is None
    epoch, _ = line.connect()
    line.restore(epoch)
    assert ids(line.take()) == ["4", "5", "6", "10"]


def test_a_frame_that_cannot_be_delivered_is_no_sign_that_the_cloud_begins_elsewhere() -> None:
    line = channel()
    line.put(numbered(1, 2), 0)
    in_hand = line.take()
    assert in_hand is not None
    line.rewind(in_hand)
    epoch, _ = line.connect()
    keepalive = decode(Frame("message", '{"type":"keepalive"}', ""))
    line.put(EventBatch([keepalive, *numbered(1, 2)]), epoch)
    assert [event.type for event in line.take() or ()] == ["keepalive", *["training.log"] * 2]
    assert len(line) == 0


def test_an_older_connection_can_neither_replace_nor_restore() -> None:
    line = channel()
    line.connect()
    line.put(numbered(1, 2), 0)
    line.rewind(line.take() or [])
    assert line.put(numbered(1, 2), 0) is None
    line.restore(0)
    assert len(line) == 0
    line.restore(1)
    assert ids(line.take()) == ["1", "2"]


# The end.


def test_what_waits_is_delivered_before_the_end() -> None:
    line = channel()
    line.put(numbered(1, 2), 0)
    error = OSError("lost")
    line.finish(error)
    assert ids(line.take()) == ["1", "2"]
    assert line.take() is None
    assert line.error is error


def test_after_the_end_nothing_can_come_again() -> None:
    line = channel()
    line.put(numbered(1, 2), 0)
    line.finish()
    batch = line.take() or []
    assert not line.rewind(batch)
    for event in batch:  # they are still in hand
        line.acknowledge(EventBatch([event]))
    assert line.cursor.acknowledged == "2"


# Races.


@pytest.mark.parametrize("release", ["take", "rewind", "close"])
def test_a_full_channel_never_deadlocks_however_it_is_released(release: str) -> None:
    for _ in range(50):
        line = channel(max_events=1)
        line.put(numbered(1), 0)
        barrier = threading.Barrier(2, timeout=PATIENCE)

        def put(to: Channel = line, start: threading.Barrier = barrier) -> Optional[int]:
            start.wait()
            return to.put(numbered(2), 0)

        putting = Background(put)
        barrier.wait()
        if release == "take":
            line.take()
            assert putting.result() == 1
        elif release == "rewind":
            line.rewind([])
            assert putting.result() is None
            assert len(line) == 0
        else:
            line.close()
            assert putting.result() is None


def test_every_event_arrives_once_and_in_order_while_the_worker_keeps_asking_again() -> None:
    """A reader that replays and a worker that rewinds, at full speed, through two slots."""
    total = 300
    history = numbered(*range(total))
    line = channel(max_events=2)
    reopen = threading.Event()
    finished = threading.Event()

    def read() -> None:
        while not finished.is_set():
            reopen.clear()
            epoch, after = line.connect()
            start = 0 if after is None else int(after) + 1
            for at in range(max(0, start - 3), total, 7):
                if line.put(history[at : at + 7], epoch) is None:
                    break
            else:
                reopen.wait(PATIENCE)

    reading = Background(read)
    done: List[Optional[str]] = []
    turn = itertools.count(1)
    while len(done) < total:
        batch = line.take()
        assert batch is not None
        for index, event in enumerate(batch):
            if next(turn) % 5 == 0 and line.rewind(batch[index:]):
                reopen.set()
                break
            line.acknowledge(EventBatch([event]))
            done.append(event.id)
    finished.set()
    line.close()
    reopen.set()  # last: the reader may have cleared it once more, and then finds the line closed
    reading.result()
    assert done == ids(history)
    assert line.duplicates > 0
    assert line.high_water <= 2


def test_closing_while_both_threads_are_busy_ends_both() -> None:
    for _ in range(50):
        line = channel(max_events=1)
        barrier = threading.Barrier(3, timeout=PATIENCE)

        def read(to: Channel = line, start: threading.Barrier = barrier) -> None:
            start.wait()
            for n in itertools.count():
                if to.put(numbered(n), 0) is None:
                    return

        def work(of: Channel = line, start: threading.Barrier = barrier) -> None:
            start.wait()
            while True:
                batch = of.take()
                if batch is None:
                    return
                for event in batch:
                    of.acknowledge(EventBatch([event]))

        threads = [Background(read), Background(work)]
        barrier.wait()
        line.close()
        for each in threads:
            each.result()
