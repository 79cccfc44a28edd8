"""Waiting for what a callback returned: every kind of it, and stopping in the middle of each."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import threading
import types
import warnings
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Generator, Iterator, List, Tuple
from unittest import mock

import pytest

from arkor_sync.stream.abort_watch import AbortWatch
from arkor_sync.stream.awaiting import Awaiter, Interrupted
from support.waiting import PATIENCE, Background, until


@pytest.fixture(autouse=True, scope="module")
def _nothing_of_other_tests() -> None:
    gc.collect()


@pytest.fixture(autouse=True)
def unraised() -> Iterator[List[Any]]:
    """Nothing is left to the garbage collector: no unclosed loop, no coroutine never awaited."""
    caught: List[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, caught.append
    yield caught
    gc.collect()
    sys.unraisablehook = hook
    assert [each.exc_value for each in caught] == []


@pytest.fixture
def awaiter() -> Iterator[Awaiter]:
    made = Awaiter()
    yield made
    made.close()


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The program's own event loop, which runs on a thread of its own."""
    loop = asyncio.new_event_loop()
    running = Background(loop.run_forever)
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    running.result()
    loop.close()


class Outcome(Exception):
    pass


Future = concurrent.futures.Future


# concurrent.futures.


def test_a_future_that_is_done_is_not_waited_for(awaiter: Awaiter) -> None:
    future: Future[int] = Future()
    future.set_result(3)
    awaiter.wait_for(future)


def test_a_future_is_waited_for(awaiter: Awaiter) -> None:
    future: Future[int] = Future()
    waiting = Background(awaiter.wait_for, future)
    until(lambda: future._done_callbacks)
    assert waiting.running()
    future.set_result(3)
    assert waiting.result() is None


def test_several_futures_are_waited_for_one_after_the_other(awaiter: Awaiter) -> None:
    for _ in range(20):
        future: Future[None] = Future()
        waiting = Background(awaiter.wait_for, future)
        future.set_result(None)
        waiting.result()


@pytest.mark.parametrize("when", ["before", "while waiting"])
@pytest.mark.parametrize("error", [Outcome("no"), SystemExit(3)], ids=repr)
def test_the_error_of_a_future_is_raised(awaiter: Awaiter, when: str, error: BaseException) -> None:
    future: Future[None] = Future()
    if when == "before":
        future.set_exception(error)
    waiting = Background(awaiter.wait_for, future)
    if when == "while waiting":
        until(lambda: future._done_callbacks)
        future.set_exception(error)
    with pytest.raises(type(error)) as caught:
        waiting.result()
    assert caught.value is error


@pytest.mark.parametrize("when", ["before", "while waiting"])
def test_a_cancelled_future_is_an_ordinary_error(awaiter: Awaiter, when: str) -> None:
    future: Future[None] = Future()
    if when == "before":
        future.cancel()
    waiting = Background(awaiter.wait_for, future)
    if when == "while waiting":
        until(lambda: future._done_callbacks)
        future.cancel()
    with pytest.raises(concurrent.futures.CancelledError) as caught:
        waiting.result()
    assert isinstance(caught.value, Exception)


def test_a_future_of_a_pool_is_waited_for(awaiter: Awaiter) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        go = threading.Event()
        waiting = Background(awaiter.wait_for, pool.submit(go.wait, PATIENCE))
        assert waiting.running()
        go.set()
        waiting.result()


# Coroutines and other awaitables.


async def returns() -> int:
    await asyncio.sleep(0)
    return 3


async def raises() -> None:
    await asyncio.sleep(0)
    raise Outcome("no")


class Custom:
    """An awaitable object that is no coroutine."""

    def __init__(self, function: Callable[[], Awaitable[Any]]) -> None:
        self.function = function

    def __await__(self) -> Generator[Any, None, Any]:
        return self.function().__await__()


def decorated(function: Callable[[], Awaitable[Any]]) -> Any:
    """Await as code of before Python 3.5 did: with a generator."""

    @types.coroutine
    def generator() -> Generator[Any, None, Any]:
        return (yield from function().__await__())

    return generator()


KINDS: Dict[str, Callable[[Callable[[], Any]], Any]] = {
    "coroutine": lambda function: function(),
    "awaitable object": Custom,
    "generator-based coroutine": decorated,
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_an_awaitable_is_run_to_its_end(awaiter: Awaiter, kind: Any) -> None:
    ran: List[int] = []

    async def run() -> None:
        ran.append(await returns())

    awaiter.wait_for(kind(run))
    assert ran == [3]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_the_error_of_an_awaitable_is_raised(awaiter: Awaiter, kind: Any) -> None:
    with pytest.raises(Outcome, match="no"):
        awaiter.wait_for(kind(raises))
    awaiter.wait_for(kind(returns))  # and the next one is run as if nothing had been


def test_an_exit_in_a_coroutine_is_raised(awaiter: Awaiter) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        awaiter.wait_for(leave())


def test_a_coroutine_that_cancels_itself_is_an_ordinary_error(awaiter: Awaiter) -> None:
    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(PATIENCE)

    with pytest.raises(concurrent.futures.CancelledError) as caught:
        awaiter.wait_for(cancel_itself())
    assert isinstance(caught.value, Exception)


def test_all_coroutines_share_one_loop(awaiter: Awaiter) -> None:
    loops: List[Any] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    awaiter.wait_for(note())
    awaiter.wait_for(Custom(note))
    awaiter.wait_for(note())
    assert len(set(loops)) == 1


def test_no_loop_is_made_before_it_is_needed(awaiter: Awaiter) -> None:
    with mock.patch("asyncio.new_event_loop", side_effect=AssertionError):
        awaiter.wait_for(3)
        future: Future[None] = Future()
        future.set_result(None)
        awaiter.wait_for(future)


def test_the_callers_context_variables_are_seen_and_not_changed() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    context = contextvars.copy_context()
    context.run(tenant.set, "acme")
    seen: List[str] = []

    async def look() -> None:
        seen.append(tenant.get())
        tenant.set("other")
        await asyncio.sleep(0)
        seen.append(tenant.get())

    awaiter = Awaiter()
    for _ in range(2):
        Background(context.run, awaiter.wait_for, look()).result()
    Background(awaiter.close).result()
    assert seen == ["acme", "other"] * 2
    assert tenant.get() == "nobody"


# Futures of another loop.


def test_a_future_of_another_loop_is_waited_for(
    awaiter: Awaiter, other_loop: asyncio.AbstractEventLoop
) -> None:
    future = other_loop.create_future()
    waiting = Background(awaiter.wait_for, future)
    until(lambda: future._callbacks)
    assert waiting.running()
    other_loop.call_soon_threadsafe(future.set_result, 3)
    waiting.result()


def test_a_task_of_another_loop_is_waited_for(
    awaiter: Awaiter, other_loop: asyncio.AbstractEventLoop
) -> None:
    ready: Future[asyncio.Task[Any]] = Future()

    async def begin(work: Any) -> None:
        ready.set_result(asyncio.ensure_future(work))

    asyncio.run_coroutine_threadsafe(begin(raises()), other_loop)
    with pytest.raises(Outcome):
        awaiter.wait_for(ready.result(PATIENCE))


def test_the_end_of_another_loops_future_is_passed_on(
    awaiter: Awaiter, other_loop: asyncio.AbstractEventLoop
) -> None:
    failing, cancelled = other_loop.create_future(), other_loop.create_future()
    waiting = Background(awaiter.wait_for, failing)
    until(lambda: failing._callbacks)
    other_loop.call_soon_threadsafe(failing.set_exception, Outcome("no"))
    with pytest.raises(Outcome):
        waiting.result()
    waiting = Background(awaiter.wait_for, cancelled)
    until(lambda: cancelled._callbacks)
    other_loop.call_soon_threadsafe(cancelled.cancel)
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.result()


def test_another_loops_future_that_is_done_needs_no_loop_that_runs(awaiter: Awaiter) -> None:
    loop = asyncio.new_event_loop()
    done, failed = loop.create_future(), loop.create_future()
    done.set_result(3)
    failed.set_exception(Outcome("no"))
    loop.close()
    awaiter.wait_for(done)
    with pytest.raises(Outcome):
        awaiter.wait_for(failed)


# What is not waited for.


@pytest.mark.parametrize(
    "value",
    [0, "text", [1], {"a": 1}, object(), print, range(3), iter([1])],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_are_ignored(awaiter: Awaiter, value: Any) -> None:
    awaiter.wait_for(value)


def test_a_mock_is_a_plain_value(awaiter: Awaiter) -> None:
    awaiter.wait_for(mock.Mock())


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_is_refused_because_its_body_never_ran(
    awaiter: Awaiter, function: Callable[[], Any]
) -> None:
    with pytest.raises(TypeError, match="its body did not run; it must not contain yield"):
        awaiter.wait_for(function())


# Stopping.


def test_a_stop_interrupts_the_wait_for_a_future(awaiter: Awaiter) -> None:
    future: Future[None] = Future()
    waiting = Background(awaiter.wait_for, future)
    until(lambda: future._done_callbacks)
    awaiter.stop()
    with pytest.raises(Interrupted):
        waiting.result()
    future.set_result(None)  # nobody waits any longer, and nothing breaks


def test_a_stop_interrupts_the_wait_for_another_loops_future(
    awaiter: Awaiter, other_loop: asyncio.AbstractEventLoop
) -> None:
    future = other_loop.create_future()
    waiting = Background(awaiter.wait_for, future)
    until(lambda: future._callbacks)
    awaiter.stop()
    with pytest.raises(Interrupted):
        waiting.result()
    other_loop.call_soon_threadsafe(future.set_result, None)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_stop_cancels_a_coroutine_and_lets_it_clean_up(awaiter: Awaiter, kind: Any) -> None:
    begun, cleaned = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    waiting = Background(awaiter.wait_for, kind(work))
    assert begun.wait(PATIENCE)
    awaiter.stop()
    with pytest.raises(Interrupted):
        waiting.result()
    assert cleaned.is_set()


def test_a_stop_interrupts_a_coroutine_that_waits_for_a_thread(awaiter: Awaiter) -> None:
    future: Future[None] = Future()
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        await asyncio.wrap_future(future)

    waiting = Background(awaiter.wait_for, work())
    assert begun.wait(PATIENCE)
    awaiter.stop()
    with pytest.raises(Interrupted):
        waiting.result()


def test_what_a_cancelled_coroutine_raises_instead_is_its_error(awaiter: Awaiter) -> None:
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            raise Outcome("while cleaning up") from None

    waiting = Background(awaiter.wait_for, work())
    assert begun.wait(PATIENCE)
    awaiter.stop()
    with pytest.raises(Outcome):
        waiting.result()


def test_after_a_stop_a_future_is_not_waited_for(awaiter: Awaiter) -> None:
    awaiter.stop()
    future: Future[None] = Future()
    with pytest.raises(Interrupted):
        Background(awaiter.wait_for, future).result()


def test_after_a_stop_a_coroutine_is_not_begun_and_not_complained_of(awaiter: Awaiter) -> None:
    began: List[int] = []

    async def run() -> None:
        began.append(1)

    awaiter.stop()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")  # "... was never awaited"
        with pytest.raises(Interrupted):
            awaiter.wait_for(run())
        gc.collect()
    assert seen == []
    assert began == []


def test_stopping_twice_or_when_closed_is_harmless() -> None:
    awaiter = Awaiter()
    awaiter.wait_for(returns())
    awaiter.stop()
    awaiter.close()
    awaiter.stop()


def test_a_stop_at_any_moment_ends_the_wait() -> None:
    for _ in range(50):
        awaiter = Awaiter()
        barrier = threading.Barrier(2, timeout=PATIENCE)
        future: Future[None] = Future()

        def wait(
            on: Awaiter = awaiter,
            start: threading.Barrier = barrier,
            what: Future[None] = future,
        ) -> None:
            start.wait()
            on.wait_for(what)

        waiting = Background(wait)
        barrier.wait()
        awaiter.stop()
        with pytest.raises(Interrupted):
            waiting.result()


def test_closing_finishes_what_asynchronous_generators_left_open() -> None:
    closed: List[int] = []

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(1)

    left = rows()

    async def look_at_one() -> None:
        assert await left.__anext__() == 1

    mine = Awaiter()
    mine.wait_for(look_at_one())
    assert closed == []
    mine.close()
    assert closed == [1]


def test_a_coroutine_is_closed_when_the_run_was_stopped_before(awaiter: Awaiter) -> None:
    awaiter.stop()
    with pytest.raises(Interrupted):
        awaiter.wait_for(returns())


def test_a_task_of_the_workers_own_loop_is_waited_for(awaiter: Awaiter) -> None:
    tasks: List[Any] = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(returns()))

    awaiter.wait_for(begin())
    Background(awaiter.wait_for, tasks[0]).result()
    assert tasks[0].done()


def test_background_tasks_are_cancelled_and_clean_up_at_the_end() -> None:
    cleaned: List[int] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            cleaned.append(1)

    tasks: List[Any] = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    mine = Awaiter()
    mine.wait_for(begin())
    mine.close()
    assert cleaned == [1]


def test_what_can_be_iterated_asynchronously_is_not_a_generator(awaiter: Awaiter) -> None:
    stream = type("Stream", (), {"__aiter__": lambda self: self})
    awaiter.wait_for(stream())
    awaiter.wait_for(mock.MagicMock())


# The abort event.


def watching_threads() -> List[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("arkor-abort-")]


def watch(event: threading.Event) -> Tuple[AbortWatch, Future[object]]:
    aborted: Future[object] = Future()
    made = AbortWatch(event, aborted.set_result, "test")
    made.start()
    return made, aborted


@pytest.mark.parametrize("when", ["before", "later"])
def test_setting_the_abort_event_aborts(when: str) -> None:
    event = threading.Event()
    if when == "before":
        event.set()
    watching, aborted = watch(event)
    event.set()
    assert aborted.result(PATIENCE) == "abort_event was set"
    watching.join(PATIENCE)
    assert not watching_threads()


def test_a_stopped_watch_aborts_nothing() -> None:
    event = threading.Event()
    watching, aborted = watch(event)
    watching.stop()
    watching.join(PATIENCE)
    assert not watching_threads()
    event.set()
    assert not aborted.done()


def test_a_watch_that_was_not_started_can_be_joined() -> None:
    AbortWatch(threading.Event(), print, "test").join()
