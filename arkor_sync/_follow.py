"""Following a job that another process submitted. Runs on the caller's thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from arkor_sync.callbacks import CallbacksInput
from arkor_sync.cloud.sse import MAX_EVENT_BYTES
from arkor_sync.history import MAX_HISTORY_BYTES
from arkor_sync.options import RunOptions
from arkor_sync.run import Run
from arkor_sync.stores import CursorStore, LeasedStore
from arkor_sync.stream.around import AroundFunction
from arkor_sync.stream.channel import MAX_BYTES, MAX_EVENTS
from arkor_sync.stream.error_policy import ErrorPolicy
from arkor_sync.stream.reconnect import ReconnectPolicy

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.credentials import Credentials


def follow(
    job_id: str,
    *,
    callbacks: CallbacksInput = None,
    error_policy: Optional[ErrorPolicy] = None,
    reconnect: Optional[ReconnectPolicy] = None,
    client: Optional[CloudApiClient] = None,
    credentials: Optional[Credentials] = None,
    base_url: Optional[str] = None,
    cwd: Union[str, Path, None] = None,
    cursor_store: Union[CursorStore, LeasedStore, None] = None,
    around: Optional[AroundFunction] = None,
    lease_wait: float = 0.0,
    abort_event: Optional[threading.Event] = None,
    stale_after: float = 300.0,
    abort_grace: float = 5.0,
    max_buffered_events: int = MAX_EVENTS,
    max_buffered_bytes: int = MAX_BYTES,
    max_event_bytes: int = MAX_EVENT_BYTES,
    max_history_bytes: int = MAX_HISTORY_BYTES,
) -> Run:
    """Follow a job that was submitted elsewhere, from its first event or from a saved position.

    Args:
        job_id: The job's id.
        callbacks: What to call. This and all that follows are as for `create_trainer`.
        error_policy: What happens when a callback raises.
        reconnect: When a lost stream is opened again.
        client: The client to use. Without one, the next three arguments make one.
        credentials: How to sign in.
        base_url: The cloud's URL.
        cwd: The project's folder.
        cursor_store: Continue after the last event that was acknowledged with this store, and save
            the position there. Once the job was finished with it, nothing is called.
        around: A context around the callbacks of each event and the saving of its position.
        lease_wait: Seconds to wait while another run has the job's lease.
        abort_event: When set, it aborts.
        stale_after: These and the rest limit time and memory, as for `create_trainer`.
        abort_grace: Seconds to wait for a running callback.
        max_buffered_events: Events that may wait.
        max_buffered_bytes: Their size.
        max_event_bytes: The size of one.
        max_history_bytes: The size of `run.history`.

    Returns:
        The run, at once.

    Raises:
        NotFoundError: There is no such job in this project.
        LeaseHeldError: Another run follows it with this cursor store.
        CursorStoreError: The cursor store cannot be read.
        CloudApiError: The cloud refused the request; or `ArkorConnectionError`.
        ArkorUsageError: An argument cannot work.
    """
    options = RunOptions(
        callbacks=callbacks,
        error_policy=error_policy,
        reconnect=reconnect,
        cursor_store=cursor_store,
        around=around,
        lease_wait=lease_wait,
        abort_event=abort_event,
        stale_after=stale_after,
        abort_grace=abort_grace,
        max_buffered_events=max_buffered_events,
        max_buffered_bytes=max_buffered_bytes,
        max_event_bytes=max_event_bytes,
        max_history_bytes=max_history_bytes,
    )
    from arkor_sync.cloud.client import choose_client

    chosen = choose_client(client, credentials, base_url, cwd)
    run = Run(chosen, chosen.jobs.get(job_id), options)
    try:
        return run.start()
    except BaseException:
        run.close()  # a Ctrl-C may have come when it had just started
        raise
