"""Lives of a follower, one after the other, beside servers that send what was done with again."""

from __future__ import annotations

import json
import logging
import random
from typing import List, Optional, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkor_sync.cloud.sse import Frame
from arkor_sync.stores import SavedCursor
from arkor_sync.stores.base import decode_cursor, encode_cursor
from arkor_sync.stream import replay
from arkor_sync.stream.batches import EventBatch
from arkor_sync.stream.cursor import Cursor
from arkor_sync.stream.events import TrainingEvent, decode
from arkor_sync.stream.job_end import with_true_end
from support.fake_cloud import job

Sent = Tuple[Optional[str], str]  # id and data

NOISE = (
    '{"type":"keepalive"}',
    '{"type":"usage","gpu":1}',
    "no JSON",
    "[1, 2]",
    '{"type":"training.log"}',
)


def log(number: int, event_id: Optional[str]) -> Sent:
    return event_id, json.dumps({"type": "training.log", "step": number, "timestamp": f"t{number}"})


def completed(event_id: Optional[str]) -> Sent:
    return event_id, '{"type":"training.completed"}'


def numbered(first: int, last: int) -> List[Sent]:
    return [log(number, str(number)) for number in range(first, last + 1)]


def bare(first: int, last: int) -> List[Sent]:
    return [log(number, None) for number in range(first, last + 1)]


def keepalives(count: int) -> List[Sent]:
    return [(None, NOISE[0])] * count


def event(sent: Sent) -> TrainingEvent:
    return decode(Frame("message", sent[1], sent[0]))


def live(
    saved: SavedCursor,
    sent: Sequence[Sent],
    stop_at: Optional[int] = None,
    remembered: int = 10_000,
) -> Tuple[List[object], SavedCursor]:
    """Follow one connection in a process of its own, up to a number of delivered events.

    Returns:
        What was delivered: the steps, or the type where there is none; and what a store then has.
    """
    cursor = Cursor(saved)
    cursor.connect()
    delivered: List[object] = []
    for each in sent:
        for arrived in cursor.accept(EventBatch([event(each)])):
            if len(delivered) == stop_at:
                break
            cursor.acknowledge(EventBatch([arrived]))
            if arrived.problem is None:
                delivered.append(arrived.type if arrived.step is None else arrived.step)
    return delivered, decode_cursor(encode_cursor("job-1", cursor.position()).encode())


def delivered_by(cursor: Cursor, sent: Sequence[Sent]) -> List[object]:
    """Deliver what a cursor lets through of these, and return the steps."""
    delivered: List[object] = []
    for each in sent:
        for arrived in cursor.accept(EventBatch([event(each)])):
            cursor.acknowledge(EventBatch([arrived]))
            if arrived.problem is None:
                delivered.append(arrived.step)
    return delivered


# What was seen to go wrong


def test_frames_that_do_not_come_again_cost_no_event() -> None:
    first, saved = live(SavedCursor(), [*keepalives(3), *numbered(1, 9)], 6)
    assert first == [1, 2, 3, 4, 5, 6]
    again, _ = live(saved, numbered(1, 9))
    assert again == [7, 8, 9]


def test_frames_that_come_only_the_second_time_bring_no_event_twice() -> None:
    first, saved = live(SavedCursor(), numbered(1, 9), 6)
    assert first == [1, 2, 3, 4, 5, 6]
    again, _ = live(saved, [*keepalives(3), *numbered(1, 9)])
    assert again == [7, 8, 9]


def test_without_ids_only_what_callbacks_were_called_for_is_counted() -> None:
    first, saved = live(
        SavedCursor(), [*keepalives(2), *bare(1, 3), *keepalives(1), *bare(4, 9)], 6
    )
    assert first == [1, 2, 3, 4, 5, 6]
    again, _ = live(saved, [*bare(1, 2), *keepalives(2), *bare(3, 9)])
    assert again == [7, 8, 9]


@pytest.mark.parametrize("resumes", [True, False])
def test_events_without_ids_behind_the_last_id_are_recognised_after_a_restart(
    resumes: bool,
) -> None:
    history = [*numbered(1, 3), *bare(4, 7)]
    first, saved = live(SavedCursor(), history, 5)
    assert first == [1, 2, 3, 4, 5]
    again, _ = live(saved, history[3:] if resumes else history)
    assert again == [6, 7]


def test_events_without_ids_before_the_first_id_are_counted() -> None:
    history = [*bare(1, 4), *numbered(5, 6)]
    first, saved = live(SavedCursor(), history, 2)
    assert (first, saved.before_ids, saved.acknowledged_id) == ([1, 2], 2, None)
    assert live(saved, history)[0] == [3, 4, 5, 6]


def test_two_events_without_an_id_that_differ_in_a_value_are_two() -> None:
    history = [
        *numbered(1, 2),
        (None, '{"type":"training.log","step":3,"loss":1}'),
        (None, '{"type":"training.log","step":3,"evalLoss":1}'),
    ]
    first, saved = live(SavedCursor(), history, 3)
    assert first == [1, 2, 3]
    assert live(saved, history[2:])[0] == [3]


def test_an_id_that_two_events_share_hides_neither() -> None:
    shared = [log(3, "3"), ("3", '{"type":"checkpoint.saved","step":33}')]
    history = [*numbered(1, 2), *shared, *numbered(4, 5)]
    first, saved = live(SavedCursor(), history, 3)
    assert first == [1, 2, 3]
    assert live(saved, history)[0] == [33, 4, 5]
    first, saved = live(SavedCursor(), history, 4)
    assert live(saved, history)[0] == live(saved, history[2:])[0] == [4, 5]


def test_a_server_that_sends_the_event_with_the_resume_id_as_well_brings_it_once() -> None:
    _, saved = live(SavedCursor(), numbered(1, 9), 6)
    assert live(saved, numbered(6, 9))[0] == [7, 8, 9]


# Histories that do not begin at the start, or lack the acknowledged event


def test_a_trimmed_history_is_old_up_to_the_acknowledged_event() -> None:
    _, saved = live(SavedCursor(), numbered(1, 9), 6)
    assert live(saved, numbered(4, 9))[0] == [7, 8, 9]


def test_a_history_trimmed_behind_the_acknowledged_event_is_delivered() -> None:
    _, saved = live(SavedCursor(), numbered(1, 12), 6)
    assert live(saved, numbered(9, 12))[0] == [9, 10, 11, 12]


@pytest.mark.parametrize(
    "end",
    [pytest.param(numbered(8, 12), id="ids above"), pytest.param([completed(None)], id="the end")],
)
def test_if_the_acknowledged_event_never_comes_nothing_is_held_back_for_ever(
    end: List[Sent], caplog: pytest.LogCaptureFixture
) -> None:
    _, saved = live(SavedCursor(), numbered(1, 12), 6)
    sent = [*numbered(4, 5), *end]
    with caplog.at_level(logging.WARNING):
        delivered, _ = live(saved, sent)
    assert delivered == [event(each).step or event(each).type for each in sent]
    assert "event '6' did not come again" in caplog.text


def test_the_end_from_the_record_gives_nothing_back() -> None:
    _, saved = live(SavedCursor(), numbered(1, 12), 6)
    cursor = Cursor(saved)
    cursor.connect()
    assert not cursor.accept(EventBatch(map(event, numbered(1, 4))))
    end = event(completed(None))._replace(synthesized=True, size=0)
    assert list(cursor.accept(EventBatch([end]))) == [end]


def test_what_is_held_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replay, "MAX_HELD_EVENTS", 3)
    _, saved = live(SavedCursor(), numbered(1, 20), 16)
    assert live(saved, [*numbered(4, 20)])[0] == [17, 18, 19, 20]
    with caplog.at_level(logging.WARNING):
        delivered, _ = live(saved, [*numbered(4, 15), *numbered(17, 18)])
    assert delivered == [4, 5, 6, 17, 18]
    assert "events that were not kept and are lost: 9" in caplog.text


def test_a_greeting_with_the_first_event_is_no_replay() -> None:
    history = [(None, '{"type":"training.started","jobId":"j"}'), *numbered(1, 9)]
    _, saved = live(SavedCursor(), history, 7)
    assert live(saved, [history[0], *numbered(7, 9)])[0] == [7, 8, 9]
    assert live(saved, [history[0], *history])[0] == [7, 8, 9]


def test_an_opening_that_was_read_and_not_acknowledged_is_still_delivered() -> None:
    cursor = Cursor()
    cursor.connect()
    cursor.accept(EventBatch(map(event, numbered(1, 2))))
    cursor.acknowledge(EventBatch([event(numbered(1, 1)[0])]))
    assert live(cursor.position(), numbered(2, 4))[0] == [2, 3, 4]


# Servers that honour the id, and whose ids do not rise


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param([f"00:00:00.{each}Z" for each in ("123456", "75", "8", "9")], id="fractions"),
        pytest.param(["498", "499", "1", "700"], id="a counter that began anew"),
        pytest.param(["f3a", "9bc", "e1d", "77a"], id="opaque"),
    ],
)
def test_events_of_a_server_that_resumes_are_delivered_whatever_their_ids_are(
    ids: List[str],
) -> None:
    history = [log(number, event_id) for number, event_id in enumerate(ids)]
    _, saved = live(SavedCursor(), history, 2)
    assert live(saved, history[2:])[0] == [2, 3]


def test_a_counter_that_began_anew_holds_events_back_until_the_stream_pauses() -> None:
    _, saved = live(SavedCursor(), numbered(1, 500))
    cursor = Cursor(saved)
    cursor.connect()
    assert delivered_by(cursor, [log(501, "1"), log(502, "2")]) == []
    cursor.pause()
    assert delivered_by(cursor, [log(503, "3"), log(504, "4")]) == [501, 502, 503, 504]


def test_a_pause_is_no_sign_that_a_history_from_its_start_is_over() -> None:
    _, saved = live(SavedCursor(), numbered(1, 6))
    cursor = Cursor(saved)
    cursor.connect()
    assert delivered_by(cursor, numbered(1, 3)) == []
    cursor.pause()
    assert delivered_by(cursor, numbered(4, 8)) == [7, 8]


def test_ids_that_do_not_rise_are_no_sign_that_a_history_from_its_start_has_passed() -> None:
    history = [log(number, str(number)) for number in (1, 2, 3, 10, 4, 5, 6, 7)]
    _, saved = live(SavedCursor(), history, 7)
    assert live(saved, history)[0] == [7]


def test_two_events_with_one_id_leave_the_ids_rising() -> None:
    _, saved = live(SavedCursor(), numbered(1, 12), 6)
    shared = ("4", '{"type":"checkpoint.saved","step":44}')
    sent = [*numbered(4, 4), shared, *numbered(5, 5), *numbered(8, 12)]
    assert live(saved, sent)[0] == [4, 44, 5, 8, 9, 10, 11, 12]


def test_a_failure_that_the_record_calls_a_cancellation_gives_back_what_was_held() -> None:
    history = [log(number, each) for number, each in enumerate(["f3", "9b", "e1", "77", "0c"])]
    _, saved = live(SavedCursor(), history[:4])
    cursor = Cursor(saved)
    cursor.connect()
    end = with_true_end(EventBatch([event(("zz", '{"type":"training.failed"}'))]), job("cancelled"))
    assert delivered_by(cursor, [*history[:2], history[4]]) == []
    assert [each.step for each in cursor.accept(end)] == [4, None]


# Positions that must not go back, and what is not remembered one by one


def test_an_unreadable_event_that_comes_again_does_not_move_the_position_back() -> None:
    history = [*numbered(1, 5), ("6", '{"type":"usage"}'), *numbered(7, 9)]
    _, saved = live(SavedCursor(), history, 6)
    assert saved.acknowledged_id == "7"
    _, saved = live(saved, history[5:7])
    assert saved.acknowledged_id == "7"
    assert live(saved, history[6:])[0] == [8, 9]


@pytest.mark.parametrize("resumes", [True, False])
def test_many_events_without_ids_behind_one_id_are_counted(resumes: bool) -> None:
    history = [log(0, "0"), *bare(1, 1500)]
    _, saved = live(SavedCursor(), history, 1401)
    assert len(saved.latest) < 300
    for _ in range(3):  # and in every later life
        delivered, saved = live(saved, history[resumes:], 10)
        assert delivered == list(range(saved.after_id - 9, saved.after_id + 1))


def test_many_events_without_ids_are_recognised_on_the_next_connection_too() -> None:
    cursor = Cursor(remembered=16)
    cursor.connect()
    delivered_by(cursor, [log(0, "0"), *bare(1, 600)])
    cursor.connect()
    assert delivered_by(cursor, bare(1, 601)) == [601]


def test_frames_before_a_break_do_not_stop_the_counting() -> None:
    _, saved = live(SavedCursor(), bare(1, 9), 6)
    cursor = Cursor(saved)
    cursor.connect()
    assert delivered_by(cursor, [*bare(1, 6), *keepalives(1)]) == []
    cursor.connect()
    assert delivered_by(cursor, bare(1, 9)) == [7, 8, 9]


def test_an_event_that_looks_like_an_early_one_is_delivered() -> None:
    history = [
        ("0", '{"type":"training.started"}'),
        (None, '{"type":"training.log","step":10,"loss":1,"timestamp":"t"}'),
        (None, '{"type":"training.log","step":10,"evalLoss":1,"timestamp":"t"}'),
        log(11, None),
    ]
    _, saved = live(SavedCursor(), history, 2)
    assert live(saved, history[1:])[0] == live(saved, history)[0] == [10, 11]


# Any history, any noise, any number of lives


@st.composite
def histories(draw: st.DrawFn) -> List[Sent]:
    kind = draw(st.sampled_from(["numbers", "times", "opaque", "some", "none"]))
    rng = random.Random(draw(st.integers(0, 99)))
    history = []
    for number in range(draw(st.integers(1, 60))):
        event_id: Optional[str] = {
            "numbers": str(number + 1),
            "times": f"2026-01-01T00:{number:02}:00Z",
            "opaque": f"{rng.getrandbits(64):016x}",
            "some": rng.choice([None, f"{number}-0"]),
            "none": None,
        }[kind]
        history.append(log(number, event_id))
    return history


LIVES = st.lists(
    st.tuples(
        st.sampled_from(["resumes", "inclusive", "from the start"]),
        st.integers(0, 40),  # events until it stops
        st.lists(st.tuples(st.integers(0, 25), st.sampled_from(NOISE)), max_size=4),
        st.sampled_from([0, 0, 1, 5, 30]),  # and of those, when the connection broke
    ),
    max_size=6,
)


@settings(max_examples=600, deadline=None)
@given(histories(), LIVES, st.sampled_from([16, 10_000]))
def test_each_event_is_delivered_in_order_and_once(
    history: List[Sent],
    lives: List[Tuple[str, int, List[Tuple[int, str]], int]],
    remembered: int,
) -> None:
    ids = [event_id for event_id, _ in history]
    done: List[object] = []
    saved = SavedCursor()
    for server, count, noise, breaks in [*lives, ("resumes", 99, [], 0)]:
        cursor = Cursor(saved, remembered)
        for limit in (breaks, count):
            after = cursor.connect()
            begins = 0
            if after is not None and server != "from the start":
                begins = ids.index(after) + (server == "resumes")
            sent = history[begins:]
            for place, data in noise:
                sent.insert(place, (None, data))
            for each in sent:
                if limit <= 0:
                    break
                for arrived in cursor.accept(EventBatch([event(each)])):
                    cursor.acknowledge(EventBatch([arrived]))
                    if arrived.problem is None:
                        done.append(arrived.step)
                        limit -= 1
        saved = decode_cursor(encode_cursor("job-1", cursor.position()).encode())
    assert done == list(range(len(history)))
