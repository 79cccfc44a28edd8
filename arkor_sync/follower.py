"""Follows many jobs in one process, and takes over from one that died. Any thread."""

from __future__ import annotations

import dataclasses
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Tuple,
    Union,
)

from arkor_sync._common.arguments import (
    check,
    check_callback,
    check_timeout,
    is_seconds,
    refusal,
    show,
)
from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import SLICE, Flag, ProcessLock
from arkor_sync._common.process import register_hooks
from arkor_sync._common.threads import no_thread
from arkor_sync._follower_loop import STORE_GRACE, FollowerLoop
from arkor_sync._preload import import_for_the_threads
from arkor_sync.callbacks import Callback, Callbacks, CallbacksInput
from arkor_sync.cloud.sse import MAX_EVENT_BYTES
from arkor_sync.errors import ArkorUsageError, NotFoundError
from arkor_sync.history import MAX_HISTORY_BYTES
from arkor_sync.options import RunOptions
from arkor_sync.run import Run
from arkor_sync.stores import LeasedStore
from arkor_sync.stores.backend import Holder, Member
from arkor_sync.stream.around import AroundFunction
from arkor_sync.stream.channel import MAX_BYTES, MAX_EVENTS
from arkor_sync.stream.error_policy import ErrorPolicy
from arkor_sync.stream.reconnect import ReconnectPolicy

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.credentials import Credentials
    from arkor_sync.cloud.transport import Transport

Source = Union[Callable[[], Iterable[str]], Iterable[str]]
CallbacksOfJob = Union[CallbacksInput, Callable[[str], CallbacksInput]]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SPARE = STORE_GRACE + 1.0  # seconds that `close` waits, besides `abort_grace`


@dataclasses.dataclass(frozen=True)
class FollowerStatus:
    """Who follows what, as the store knew it at one moment.

    Attributes:
        members: The processes that follow jobs, and for how long they are counted.
        jobs: Each job that the source names: who has it, at which epoch, how many seconds its lease
            lasts, and how many seconds ago its position was saved.
    """

    members: Tuple[Member, ...]
    jobs: Tuple[Holder, ...]

    @property
    def counts(self) -> Dict[str, int]:
        """How many jobs each process follows, also one that is no member."""
        found = {each.owner: 0 for each in self.members}
        for each in self.jobs:
            if each.expires_in > 0 and each.owner is not None:
                found[each.owner] = found.get(each.owner, 0) + 1
        return found

    @property
    def not_followed(self) -> Tuple[str, ...]:
        """The jobs that are not finished and that nobody follows."""
        return tuple(
            each.job_id for each in self.jobs if not each.finished and each.expires_in <= 0
        )


class Follower:
    """Follows all jobs that `source` names, in this process. Several processes share them evenly.

        follower = Follower(unfinished_job_ids, callbacks_of_job, store=store)
        follower.run()

    Leases of the store decide which process has a job. Each process counts the others, takes its
    even share, and gives back what is above it, the newest first: the callback that is running
    ends, the position is saved, and another process goes on from there. The jobs of a process that
    died are taken over when their leases end. A job that was finished with the store is not
    followed again; one that ended with an error is, after a delay that grows.

    Args:
        source: A function that returns the ids of the jobs to follow, or a list of them. It is
            called every `poll` seconds on a thread of the follower. If it raises, that is logged,
            and its last answer stands. A job that it no longer names is followed to its end.
        callbacks: What to call, as for `follow`; or a function of a job's id that returns this.
            Callbacks that keep something of a run need the function, so that each run has its own.
        store: Has the leases and the positions: a store for several processes, such as
            `SQLCursorStore` or `RedisCursorStore`.
        around: A context around the callbacks of each event and the saving of its position. This
            and all that is not named here are as for `follow`, for each run.
        max_runs: How many jobs this process follows at most. Give all processes the same.
        poll: Seconds between two calls of `source`.
        error_policy: What happens when a callback raises.
        reconnect: When a lost stream is opened again.
        client: The client to use. Without one, the next three arguments make one.
        credentials: How to sign in.
        base_url: The cloud's URL.
        cwd: The project's folder.
        stale_after: These and the rest limit time and memory.
        abort_grace: Seconds that running callbacks have to end when the follower stops.
        max_buffered_events: Events that may wait, of one run.
        max_buffered_bytes: Their size.
        max_event_bytes: The size of one.
        max_history_bytes: The size of a run's history.

    Raises:
        ArkorUsageError: An argument cannot work.
    """

    def __init__(
        self,
        source: Source,
        callbacks: CallbacksOfJob = None,
        *,
        store: LeasedStore,
        around: Optional[AroundFunction] = None,
        max_runs: int = 500,
        poll: float = 5.0,
        error_policy: Optional[ErrorPolicy] = None,
        reconnect: Optional[ReconnectPolicy] = None,
        client: Optional[CloudApiClient] = None,
        credentials: Optional[Credentials] = None,
        base_url: Optional[str] = None,
        cwd: Union[str, Path, None] = None,
        stale_after: float = 300.0,
        abort_grace: float = 5.0,
        max_buffered_events: int = MAX_EVENTS,
        max_buffered_bytes: int = MAX_BYTES,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_history_bytes: int = MAX_HISTORY_BYTES,
    ) -> None:
        from arkor_sync.cloud.client import choose_client

        wanted = "a store for several processes, such as SQLCursorStore or RedisCursorStore"
        check("store", store, isinstance(store, LeasedStore), wanted)
        is_count = isinstance(max_runs, int) and not isinstance(max_runs, bool) and max_runs > 0
        check("max_runs", max_runs, is_count, "a whole number from 1")
        check("poll", poll, is_seconds(poll) and poll > 0, "seconds above 0")
        self._callbacks_of: Optional[Callable[[str], Any]] = None
        if callable(callbacks) and not isinstance(callbacks, (Callback, Callbacks)):
            self._callbacks_of = check_callback("callbacks", callbacks, "job's id")
        self._source: Any = source if callable(source) else tuple(_ids(source))
        self._store = store
        self._max_runs = max_runs
        self._poll = poll
        self._options = RunOptions(
            callbacks=None if self._callbacks_of else callbacks,  # type: ignore[arg-type]
            error_policy=error_policy,
            reconnect=reconnect,
            cursor_store=store,
            around=around,
            stale_after=stale_after,
            abort_grace=abort_grace,
            max_buffered_events=max_buffered_events,
            max_buffered_bytes=max_buffered_bytes,
            max_event_bytes=max_event_bytes,
            max_history_bytes=max_history_bytes,
        )
        self._client = choose_client(client, credentials, base_url, cwd)
        # What is told of a job that the cloud does not have. `contrib.django` notes it in its row.
        self._on_missing: Callable[[str, NotFoundError], None] = lambda _job_id, _error: None
        self._lock = ProcessLock()
        self._loop: Optional[FollowerLoop] = None
        self._stopped = Flag()

    def start(self) -> Follower:
        """Start the thread that follows the jobs, unless it has started. It returns at once.

        Raises:
            ArkorUsageError: It was stopped. Make a new one.
            RunError: No thread can start.
        """
        if self._start() is None:
            raise ArkorUsageError("this follower was stopped; make a new one")
        return self

    def run(self) -> None:
        """Follow the jobs until `stop()` is called, then hand them over, and return.

        In the main thread, SIGTERM and SIGINT call `stop()`, unless the process ignores them. The
        former handlers are back when this returns. A Ctrl-C is no exception here.

        Raises:
            Exception: What ended the thread of the follower.
        """
        with self._stopped_by_signals():
            try:
                loop = self._start()
                while loop is not None and not loop.join(SLICE):
                    continue
            finally:
                self.close()
        if loop is not None and loop.error is not None:
            raise loop.error

    def stop(self) -> None:
        """Have all jobs handed over: no more are taken, and running callbacks end.

        Each position is saved and each lease given back. Any thread may call it, and a signal
        handler. It returns at once, and a second call does nothing.
        """
        self._stopped.set()
        if self._loop is not None:
            self._loop.stop()

    def close(self, timeout: Optional[float] = None) -> None:
        """Stop, and wait until all jobs are handed over.

        A callback that has not ended after `abort_grace` is left running, and so is its lease; the
        log says so. In a callback it does not wait.

        Args:
            timeout: Seconds; by default a little more than `abort_grace`.
        """
        check_timeout(timeout)
        self.stop()
        limit = self._options.abort_grace + _SPARE if timeout is None else timeout
        deadline = Clock.now() + limit
        while self._loop is not None and not self._is_in_a_callback():
            left = deadline - Clock.now()
            if left <= 0 or self._loop.join(min(SLICE, left)):
                break

    def _is_in_a_callback(self) -> bool:
        """Whether this thread calls callbacks of a run here. The first moments do not show it."""
        return any(run._worker.is_current() for run in self.runs.values())

    @property
    def owner(self) -> str:
        """This process, as the store knows it."""
        return self._store.owner

    @property
    def runs(self) -> Dict[str, Run]:
        """The runs that go on in this process now, by their jobs."""
        return {} if self._loop is None else self._loop.runs

    def status(self) -> FollowerStatus:
        """Ask the store who follows what. It need not run: `source` is then called here.

        Raises:
            CursorStoreError: The store cannot be asked.
            Exception: What `source` raised.
        """
        ids = self._ask_source() if self._loop is None else self._loop.ids
        found = {each.job_id: each for each in self._store.holders(list(ids))}
        unknown = (Holder(job_id, None, 0, 0.0, None, False) for job_id in ids)
        jobs = tuple(found.get(each.job_id, each) for each in unknown)
        return FollowerStatus(tuple(self._store.members()), jobs)

    def __enter__(self) -> Follower:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = (
            "stopped" if self._stopped.is_set() else "new" if self._loop is None else "following"
        )
        return f"<Follower {state}, {len(self.runs)} runs>"

    def after_fork(self) -> None:
        """Follow nothing in a forked child, where it may be started. The fork hook calls it."""
        self._loop = None
        self._stopped = Flag()

    def at_exit(self, timeout: float) -> Optional[str]:
        """Hand over when the interpreter exits. The exit hook calls it."""
        self.stop()
        if self._loop is None or self._loop.join(timeout):
            return None
        return "jobs are being handed over"

    def _start(self) -> Optional[FollowerLoop]:
        """Start the thread, unless it has started; None if the follower was stopped before."""
        with self._lock():
            if self._loop is not None or self._stopped.is_set():
                return self._loop
            import_for_the_threads()
            loop = FollowerLoop(
                source=self._ask_source,
                begin=self._begin,
                transport=self._client.transport,
                store=self._store,
                most=self._max_runs,
                poll=self._poll,
                grace=self._options.abort_grace,
                clock=Clock(),
            )
            register_hooks(self)
            try:
                loop.start()
            except (RuntimeError, MemoryError) as error:
                raise no_thread("no jobs are followed", error) from error
            self._loop = loop
        if self._stopped.is_set():  # a signal may have come meanwhile
            loop.stop()
        return loop

    def _ask_source(self) -> List[str]:
        source = self._source
        return _ids(source() if callable(source) else source)

    def _begin(self, job_id: str, transport: Transport) -> Run:
        transport.reset()
        try:
            job = self._client.jobs.get(job_id, transport=transport)
        except NotFoundError as error:
            self._on_missing(job_id, error)
            raise
        options = self._options
        if self._callbacks_of is not None:
            options = dataclasses.replace(options, callbacks=self._callbacks_of(job_id))
        run = Run(self._client, job, options)
        run._settlement.silent = True  # the loop waits for its end, and tells it
        return run.start()

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        former: Dict[int, Any] = {}

        def handle(_number: int, _frame: Optional[FrameType]) -> None:
            self.stop()

        try:
            if threading.current_thread() is threading.main_thread():
                for each in _SIGNALS:
                    if signal.getsignal(each) is not signal.SIG_IGN:
                        former[each] = signal.signal(each, handle)
            yield
        finally:
            for number, handler in former.items():
                # None stands for a handler that was not set by Python, and cannot be set again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _ids(found: Any) -> List[str]:
    """Check the ids of jobs; each comes once."""
    wanted = "a list of job ids, or a function that returns one"
    if isinstance(found, (str, bytes)) or not isinstance(found, Iterable):
        raise refusal("source", found, wanted)
    ids = list(dict.fromkeys(found))
    for each in ids:
        if not isinstance(each, str) or not each:
            raise refusal("source", found, wanted, got=f"{show(each)} among the job ids")
    return ids
