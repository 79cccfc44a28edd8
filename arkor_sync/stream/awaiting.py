"""Waits for what a callback returned. Runs on the worker thread."""

from __future__ import annotations

import inspect
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import Flag

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures


_BACKGROUND_GRACE = 1.0  # seconds for cancelled tasks to clean up


class Interrupted(Exception):
    """The run was stopped while the worker waited. It never leaves the worker."""


class Awaiter:
    """Waits for futures, coroutines and other awaitables, one at a time, until stopped.

    All coroutines run on one event loop, made when the first one comes, because clients that a
    program keeps between callbacks belong to the loop that they first ran on.

    Threads: `wait_for` and `close` belong to the worker; `stop` may be called from any thread.
    """

    def __init__(self) -> None:
        self._wake = Flag()
        self._stopped = Flag()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._task: Optional[asyncio.Future[Any]] = None

    def stop(self) -> None:
        """Make the wait at hand, and every later one, raise `Interrupted`."""
        self._stopped.set()
        self._wake.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                return  # the loop is closed: there is nothing left to wait for

    def wait_for(self, result: Any) -> None:
        """Wait until what a callback returned is done; its outcome is dropped.

        Args:
            result: Anything but None. What cannot be waited for is ignored.

        Raises:
            Interrupted: `stop` was called.
            TypeError: A generator, which a stray `yield` makes of a function: its body never ran.
            Exception: Whatever the future or coroutine raised. A cancelled one raises
                `concurrent.futures.CancelledError`.
        """
        import concurrent.futures  # here, like asyncio below: most callbacks return nothing

        if isinstance(result, concurrent.futures.Future):
            self._wait_for_future(result)
        elif self._is_foreign(result):
            bridge: concurrent.futures.Future[Any] = concurrent.futures.Future()
            if result.done():  # its loop may be gone
                _copy(result, bridge)
            else:
                result.get_loop().call_soon_threadsafe(
                    result.add_done_callback, partial(_copy, target=bridge)
                )
            self._wait_for_future(bridge)
        elif inspect.isawaitable(result):
            self._run(result)
        elif inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise TypeError(
                "the callback is a generator function, so its body did not run; "
                "it must not contain yield"
            )

    def abandon(self) -> None:
        """Wait for nothing any more, in a forked child. The loop is the parent's."""
        self._wake, self._stopped = Flag(), Flag()
        self._stopped.set()

    def close(self) -> None:
        """Close the event loop, if there is one; what still runs in the background is cancelled."""
        loop = self._loop
        if loop is None:
            return
        import asyncio

        with closing(loop):
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                ending = loop.create_task(asyncio.wait(left, timeout=_BACKGROUND_GRACE))
                while not ending.done():
                    with suppress(SystemExit, KeyboardInterrupt):  # a task may raise them
                        loop.run_until_complete(ending)
            loop.run_until_complete(loop.shutdown_asyncgens())

    def _is_foreign(self, result: Any) -> bool:
        """Tell a future that belongs to some other, running loop."""
        # The mark by which asyncio itself knows one; importing asyncio takes 60 ms.
        is_future = hasattr(type(result), "_asyncio_future_blocking")
        return is_future and result.get_loop() is not self._loop

    def _wait_for_future(self, future: Any) -> None:
        future.add_done_callback(lambda _: self._wake.set())
        while not future.done():
            if self._stopped.is_set():
                raise Interrupted
            self._wake.wait()
            self._wake.clear()
        future.result()

    def _run(self, awaitable: Any) -> None:
        import asyncio
        import concurrent.futures

        if self._stopped.is_set():
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # or Python complains that it was never awaited
            raise Interrupted
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.time = Clock.now  # type: ignore[method-assign]  # see there
        self._task = asyncio.ensure_future(awaitable, loop=self._loop)
        if self._stopped.is_set():  # too early to have seen the task
            self._task.cancel()
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError as error:
            if self._stopped.is_set():
                raise Interrupted from None
            raise concurrent.futures.CancelledError("the awaited task was cancelled") from error
        finally:
            self._task = None
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # a stop before its first step would leave it never awaited


def _copy(source: Any, target: concurrent.futures.Future[Any]) -> None:
    """Copy the outcome of a loop's future into one that any thread can wait for."""
    import concurrent.futures

    if source.cancelled():
        target.set_exception(concurrent.futures.CancelledError())
    elif source.exception() is not None:
        target.set_exception(source.exception())
    else:
        target.set_result(None)
