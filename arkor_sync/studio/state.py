"""What all pages of one application share: its client, streams and list of jobs. Any thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Optional, cast

from flask import current_app

from arkor_sync.studio.job_list import JobList
from arkor_sync.studio.local_run import LocalRun
from arkor_sync.studio.taps import Taps

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient

KEY = "arkor_sync.studio"

STREAMS = 6
"""Live streams at a time. Each holds a thread of our server: two of its threads stay free."""


@dataclass
class Studio:
    """What the pages of one application share.

    Attributes:
        client: Asks the cloud.
        taps: The streams of jobs, one for each job that somebody looks at.
        job_list: The jobs of the project.
        local: Whether it is a server of our own, on the loopback, which may run a file.
        run: Starts the trainer's file; None if there is no such button.
        streams: Taken by each live stream.
    """

    client: CloudApiClient
    taps: Taps
    job_list: JobList
    local: bool
    run: Optional[LocalRun] = None
    streams: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(STREAMS))


def studio() -> Studio:
    """Return what the pages of the current application share."""
    return cast(Studio, current_app.extensions[KEY])
