"""The switch that cuts a stream of an Arkor on this machine. Any thread.

A local Arkor has routes below `/_emulator`, which no cloud has. Only the loopback is asked whether
it has them, so that a cloud never gets such a request.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Optional
from urllib.parse import urlsplit

from arkor_sync.cloud.loopback import is_loopback
from arkor_sync.errors import ArkorError

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient


class Cuts(NamedTuple):
    """The cuts of a job's streams that were asked for.

    Attributes:
        done: How many were made.
        waiting: How many wait for the next event.
    """

    done: int
    waiting: int


class LocalArkor:
    """An Arkor on this machine; `find_local_arkor` makes one.

    Args:
        client: Its client.
        url: Its base URL.
    """

    def __init__(self, client: CloudApiClient, url: str) -> None:
        self._client = client
        self._url = url

    def cut(self, job_id: str) -> None:
        """Have the next event of the job's stream cut in the middle, and the connection closed.

        Raises:
            ArkorError: It does not answer, or not so.
        """
        self._ask("POST", "faults", _fault(job_id))

    def cuts(self, job_id: str) -> Cuts:
        """Count the cuts of the job's streams.

        Raises:
            ArkorError: It does not answer, or not so.
        """
        wanted = _fault(job_id).items()
        found = [each for each in self._ask("GET", "faults")["faults"] if wanted <= each.items()]
        fired = [each["fired"] for each in found]
        return Cuts(sum(fired), fired.count(0))

    def answers(self) -> bool:
        """Whether it is there, and a local Arkor."""
        with suppress(ArkorError, ValueError, KeyError, TypeError):
            return bool(self._ask("GET", "health")["projectId"])
        return False

    def _ask(self, method: str, name: str, body: Any = None) -> Any:
        url = f"{self._url}/_emulator/{name}"
        with self._client.transport() as transport:
            http = self._client._session.http
            return json.loads(http.fetch(method, url, body=body, transport=transport))


def find_local_arkor(client: CloudApiClient) -> Optional[LocalArkor]:
    """Return the local Arkor that a client asks; None if it asks a cloud."""
    url = client._session.find_address().rstrip("/")
    if not is_loopback(urlsplit(url).hostname or ""):
        return None
    found = LocalArkor(client, url)
    return found if found.answers() else None


def _fault(job_id: str) -> Any:
    return {"kind": "cut_mid_event", "route": "stream", "job": job_id}
