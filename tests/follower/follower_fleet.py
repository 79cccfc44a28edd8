"""Followers of one process, each as if it were a process of its own."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

from arkor_sync import Callbacks, CloudApiClient, Follower, StoreUnavailableError
from arkor_sync.stores import LeasedStore
from arkor_sync.stores.backend import Holder
from support.memory_backend import MemoryBackend
from support.waiting import until

TTL = 3.0


class Link:
    """A process's way to the backend, which may be cut."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.cut = False
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        if not callable(value) or name in ("after_fork", "close"):
            return value

        def call(*given: Any) -> Any:
            if self.cut:
                raise StoreUnavailableError("the cable is cut")
            return value(*given)

        return call


class Fleet:
    """Followers with stores of their own on one backend.

    Attributes:
        events: How often each step of each job was delivered, over all followers.
    """

    def __init__(self, client: CloudApiClient) -> None:
        self.backend = MemoryBackend()
        self.followers: List[Follower] = []
        self.links: List[Link] = []
        self.stores: List[LeasedStore] = []
        self.ids: List[str] = []
        self.events: Counter[Tuple[str, int]] = Counter()
        self.completed: Counter[str] = Counter()
        self._client = client
        self._lock = threading.Lock()

    def callbacks(self, job_id: str) -> Callbacks:
        def on_log(ctx: Any) -> None:
            with self._lock:
                self.events[job_id, ctx.step] += 1

        def on_completed(ctx: Any) -> None:
            with self._lock:
                self.completed[job_id] += 1

        return Callbacks(on_log=on_log, on_completed=on_completed)

    def make(self, callbacks: Any = None, ttl: float = TTL, **options: Any) -> Follower:
        self.links.append(Link(self.backend))
        self.stores.append(LeasedStore(self.links[-1], ttl))
        settings: Dict[str, Any] = {"poll": 0.5, "client": self._client, **options}
        given = self.callbacks if callbacks is None else callbacks
        made = Follower(lambda: list(self.ids), given, store=self.stores[-1], **settings)
        self.followers.append(made)
        return made

    def counts(self) -> List[int]:
        return [len(each.runs) for each in self.followers]

    def status(self) -> Dict[str, Holder]:
        return {each.job_id: each for each in self.backend.holders(None)}

    def until_followed(self, number: Optional[int] = None) -> None:
        expected = len(self.ids) if number is None else number
        until(lambda: sum(self.counts()) == expected)
