"""The jobs of the project, asked for once for all who look. Any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient


class JobList:
    """The jobs of the project, as the cloud listed them a moment ago.

    Args:
        client: Asks the cloud.
    """

    def __init__(self, client: CloudApiClient) -> None:
        self._client = client
