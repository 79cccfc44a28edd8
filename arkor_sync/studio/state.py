"""What all pages of one application share: its client, streams and list of jobs. Any thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional, cast

from flask import current_app

from arkor_sync.studio.job_list import JobList
from arkor_sync.studio.taps import Taps

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient

KEY = "arkor_sync.studio"


@dataclass
class Studio:
    """What the pages of one application share.

    Attributes:
        client: Asks the cloud.
        taps: The streams of jobs, one for each job that somebody looks at.
        job_list: The jobs of the project.
        local: Whether it is a server of our own, on the loopback, which may run a file.
        file: The trainer's file that the run button starts; None if there is no such button.
    """

    client: CloudApiClient
    taps: Taps
    job_list: JobList
    local: bool
    file: Optional[Path] = None


def studio() -> Studio:
    """Return what the pages of the current application share."""
    return cast(Studio, current_app.extensions[KEY])
