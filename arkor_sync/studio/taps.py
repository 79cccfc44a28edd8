"""The events of jobs that somebody looks at, read from the cloud once. Any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient


class Taps:
    """The taps of an application, one for each job that somebody looks at.

    Args:
        client: Asks the cloud.
    """

    def __init__(self, client: CloudApiClient) -> None:
        self._client = client

    def close(self) -> None:
        """Stop reading, and wake all who wait."""
