"""A connection that sends one answer, with its faults. Runs in the connection's thread."""

from __future__ import annotations

import random
from typing import Iterable, List, NoReturn, Optional

from arkor_sync.emulator.faults import ANSWER, EVENT, Fault, FaultBook, RequestTarget, fire_faults
from arkor_sync.emulator.http.server import ClientGone, Connection
from arkor_sync.emulator.store import Store

# How often, in real seconds, a waiting connection checks whether its client is still there.
POLL_SECONDS = 0.05


class FaultyConnection:
    """A connection while one request is answered. Faults of the kind `answer` act here.

    Args:
        connection: The connection.
        store: The emulator's state.
        faults: The faults that are set.
        target: The request that is being answered.
        token: The request's bearer token.
    """

    def __init__(
        self,
        connection: Connection,
        store: Store,
        faults: FaultBook,
        target: RequestTarget,
        token: Optional[str],
    ) -> None:
        self.connection = connection
        self._store = store
        self._faults = faults
        self._target = target
        self._token = token
        # Draws where the answer is cut.
        self.rng = random.Random(f"{faults.seed}:{target.job}:{target.number}")
        self._answer_faults = {fault.kind: fault for fault in fire_faults(faults, ANSWER, target)}
        kick = self._answer_faults.get("slow_consumer_kick")
        if kick is not None:
            # A socket's timeout is in real seconds.
            real = (kick.seconds or 0) / (store.clock.speed or 1)
            connection.limit_sending(max(real, 0.001), kick.size or 1)

    def fault(self, kind: str) -> Optional[Fault]:
        """Return this answer's fault of that kind (one that fires for an answer), if any."""
        return self._answer_faults.get(kind)

    def has_fault(self, kind: str) -> bool:
        """Tell whether this answer has a fault of that kind."""
        return kind in self._answer_faults

    def faults_at_event(self, index: Optional[int], *names: Optional[str]) -> List[Fault]:
        """Return the faults that fire at an event."""
        return fire_faults(self._faults, EVENT, self._target, index=index, names=names)

    def faults_at_end(self, kinds: Iterable[str]) -> List[Fault]:
        """Return the faults of these kinds that fire for an answer that is not a stream."""
        return fire_faults(self._faults, EVENT, self._target, kinds, index=1)

    def send(self, data: bytes) -> None:
        """Send bytes, in pieces if a fault says so.

        Raises:
            ClientGone: The client has left, or a fault reset the connection of a slow client.
        """
        drip = self._answer_faults.get("slow_drip") or self._answer_faults.get("slice")
        size = (drip.size if drip else None) or max(1, len(data))
        try:
            for start in range(0, len(data), size):
                if drip is not None:
                    self.wait(drip.seconds or 0)
                self.connection.send(data[start : start + size])
        except ClientGone:
            if self.has_fault("slow_consumer_kick"):
                self.connection.reset()
            raise

    def wait(self, seconds: Optional[float]) -> None:
        """Wait so many virtual seconds; None waits for ever.

        Raises:
            ClientGone: The client has left, or the emulator stops.
        """
        clock = self._store.clock
        deadline = float("inf") if seconds is None else clock.now() + seconds
        while clock.now() < deadline:
            with self._store.condition:
                self._store.wait(lambda: False, deadline, POLL_SECONDS)
                if self._store.stopping:
                    raise ClientGone
            if self.connection.client_has_gone():
                raise ClientGone

    def end(self, fault: Fault) -> NoReturn:
        """End the connection as the fault says: by a reset, after a silence, or by closing it."""
        if fault.kind == "reset_peer":
            self.connection.reset()
        elif fault.kind == "blackhole":
            self.wait(fault.seconds)
        self.connection.close()
        raise ClientGone

    def expire_token(self) -> None:
        """Make the request's token invalid."""
        if self._token:
            self._store.revoke(self._token)
