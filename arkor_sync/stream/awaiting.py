"""Waiting for what a callback returned. It runs on the worker thread, which owns the event loop."""

from __future__ import annotations

import concurrent.futures
import contextvars
import inspect
import threading
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    import asyncio


class Interrupted(Exception):
    """The run was stopped while the worker waited. It never leaves the worker."""


class Awaiter:
    """Waits for futures, coroutines and other awaitables, one at a time, until stopped.

    All coroutines run on one event loop, made when the first one comes, because clients that a
    program keeps between callbacks belong to the loop that they first ran on.

    Threads: `wait_for` and `close` belong to the worker; `stop` may be called from any thread.
    """

    def __init__(self, context: contextvars.Context) -> None:
        self._context = context
        self._wake = threading.Event()
        self._stopped = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._task: Optional[asyncio.Task[Any]] = None

    def stop(self) -> None:
        """Make the wait at hand, and every later one, raise `Interrupted`."""
        self._stopped = True
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
        if _is_concurrent_future(result):
            self._wait_for_future(result)
        elif _is_foreign_future(result):
            bridge: concurrent.futures.Future[Any] = concurrent.futures.Future()
            result.get_loop().call_soon_threadsafe(_chain, result, bridge)
            self._wait_for_future(bridge)
        elif inspect.isawaitable(result):
            self._run(result)
        elif inspect.isgenerator(result) or hasattr(result, "__aiter__"):
            raise TypeError(
                "the callback is a generator function, so its body did not run; "
                "it must not contain yield"
            )

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _wait_for_future(self, future: Any) -> None:
        future.add_done_callback(lambda _: self._wake.set())
        while not future.done():
            if self._stopped:
                raise Interrupted
            self._wake.wait()
            self._wake.clear()
        future.result()

    def _run(self, awaitable: Any) -> None:
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        loop = self._loop
        # A task copies the context that is current when it is made.
        task = self._context.run(loop.create_task, _as_coroutine(awaitable))
        self._task = task
        if self._stopped:
            task.cancel()
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError as error:
            if self._stopped:
                raise Interrupted from None
            raise concurrent.futures.CancelledError("the awaited task was cancelled") from error
        finally:
            self._task = None
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # a stop before its first step would leave it never awaited


async def _as_coroutine(awaitable: Any) -> Any:
    return await awaitable


def _is_concurrent_future(result: Any) -> bool:
    return isinstance(result, concurrent.futures.Future)


def _is_foreign_future(result: Any) -> bool:
    """Tell a future that some other, running loop will complete."""
    get_loop: Optional[Callable[[], Any]] = getattr(result, "get_loop", None)
    return get_loop is not None and hasattr(result, "add_done_callback") and not result.done()


def _chain(source: Any, target: concurrent.futures.Future[Any]) -> None:
    """Copy a loop's future into one that any thread can wait for. It runs on that loop."""

    def copy(done: Any) -> None:
        if done.cancelled():
            target.set_exception(concurrent.futures.CancelledError())
        elif done.exception() is not None:
            target.set_exception(done.exception())
        else:
            target.set_result(None)

    source.add_done_callback(copy)
