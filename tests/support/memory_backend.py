"""A backend that keeps everything in memory, with a clock of its own and faults. Any thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any, Collection, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from arkor_sync import LeaseHeldError, StoreUnavailableError
from arkor_sync._common.clock import Clock
from arkor_sync.stores.backend import (
    SUBMITTED,
    SUBMITTING,
    UNKNOWN,
    Holder,
    Intent,
    Member,
    Save,
    Taken,
)
from arkor_sync.stores.base import decode_position


class MemoryBackend:
    """What several stores of one process share as their server.

    Attributes:
        ahead: Seconds that its clock is ahead of the machine's; a test moves it.
        down: Whether it cannot be reached.
        calls: The names of the calls, in order.
        batches: The saves of each call of `save`.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.down = False
        self.calls: List[str] = []
        self.batches: List[List[Save]] = []
        self.leases: Dict[str, Tuple[str, int, float]] = {}
        self.positions: Dict[str, Tuple[int, Optional[str], bool, Optional[float]]] = {}
        self._members: Dict[str, float] = {}
        self._submissions: Dict[str, Dict[str, Any]] = {}
        self._lock = threading.RLock()
        self._joined = threading.local()

    def now(self) -> float:
        return Clock.now() + self.ahead

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._lock:
            self.calls.append(name)
            if self.down:
                raise StoreUnavailableError("the memory is down")
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Join the saves of this thread to it: an exception undoes them."""
        with self._lock:
            before = dict(self.positions)
        self._joined.depth = getattr(self._joined, "depth", 0) + 1
        try:
            yield
        except BaseException:
            with self._lock:
                self.positions = before
            raise
        finally:
            self._joined.depth -= 1

    @property
    def joined(self) -> bool:
        return getattr(self._joined, "depth", 0) > 0

    def take(self, job_id: str, owner: str, ttl: float) -> Taken:
        with self._call("take"):
            held_by, epoch, expires = self.leases.get(job_id, ("nobody", 0, 0.0))
            left = expires - self.now()
            if left > 0:
                raise LeaseHeldError(f"job {job_id} is followed by {held_by}, for {left:.1f} s")
            _, text, finished, saved_at = self.positions.get(job_id, (0, None, False, None))
            decode_position(job_id, text)
            self.leases[job_id] = (owner, epoch + 1, self.now() + ttl)
            self.positions[job_id] = (epoch + 1, text, finished, saved_at)
            return Taken(epoch + 1, text)

    def renew(self, leases: Sequence[Tuple[str, int]], owner: str, ttl: float) -> Set[str]:
        with self._call("renew"):
            held = set()
            for job_id, epoch in leases:
                found = self.leases.get(job_id)
                if found is not None and found[:2] == (owner, epoch) and found[2] > self.now():
                    self.leases[job_id] = (owner, epoch, self.now() + ttl)
                    held.add(job_id)
            return held

    def save(self, saves: Sequence[Save]) -> Set[str]:
        with self._call("save"):
            self.batches.append(list(saves))
            refused = set()
            for each in saves:
                if self.positions.get(each.job_id, (0,))[0] != each.epoch:
                    refused.add(each.job_id)
                else:
                    kept = (each.epoch, each.text, each.finished, self.now())
                    self.positions[each.job_id] = kept
            return refused

    def release(self, job_id: str, owner: str, epoch: int) -> None:
        with self._call("release"):
            if self.leases.get(job_id, ("", 0, 0.0))[:2] == (owner, epoch):
                self.leases[job_id] = (owner, epoch, self.now())

    def load(self, job_id: str) -> Optional[str]:
        with self._call("load"):
            return self.positions.get(job_id, (0, None, False, None))[1]

    def holders(self, job_ids: Optional[Collection[str]]) -> List[Holder]:
        with self._call("holders"):
            wanted = self.leases if job_ids is None else [j for j in job_ids if j in self.leases]
            found = []
            for job_id in wanted:
                owner, epoch, expires = self.leases[job_id]
                _, _, finished, saved_at = self.positions[job_id]
                ago = None if saved_at is None else self.now() - saved_at
                found.append(Holder(job_id, owner, epoch, expires - self.now(), ago, finished))
            return found

    def join(self, owner: str, ttl: float) -> List[Member]:
        with self._call("join"):
            self._members[owner] = self.now() + ttl
            self._members = {k: v for k, v in self._members.items() if v > self.now()}
            return self._listed()

    def members(self) -> List[Member]:
        with self._call("members"):
            return [each for each in self._listed() if each.expires_in > 0]

    def _listed(self) -> List[Member]:
        return [Member(owner, ends - self.now()) for owner, ends in sorted(self._members.items())]

    def leave(self, owner: str) -> None:
        with self._call("leave"):
            self._members.pop(owner, None)

    def open_submission(self, key: str, name: str, owner: str, ttl: float) -> Intent:
        with self._call("open_submission"):
            row = self._submissions.get(key)
            if row is None:
                row = self._submissions[key] = {
                    "name": name,
                    "status": SUBMITTING,
                    "job_id": None,
                    "detail": None,
                    "epoch": 0,
                    "expires": 0.0,
                    "created": self.now(),
                }
            is_open = row["status"] in (SUBMITTING, UNKNOWN)
            mine = is_open and row["expires"] <= self.now()
            if mine:
                row.update(owner=owner, epoch=row["epoch"] + 1, expires=self.now() + ttl)
            return self._intent(key, mine)

    def close_submission(
        self,
        key: str,
        owner: str,
        epoch: int,
        status: str,
        job_id: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> bool:
        with self._call("close_submission"):
            row = self._submissions[key]
            if (row["owner"], row["epoch"]) != (owner, epoch):
                return False
            row.update(status=status, job_id=job_id, detail=detail, expires=self.now())
            return True

    def submissions(self, statuses: Collection[str]) -> List[Intent]:
        with self._call("submissions"):
            rows = sorted(self._submissions.items(), key=lambda item: item[1]["created"])
            return [self._intent(key, False) for key, row in rows if row["status"] in statuses]

    def unfinished_submissions(self) -> List[Intent]:
        with self._call("unfinished_submissions"):
            rows = sorted(self._submissions.items(), key=lambda item: item[1]["created"])
            return [
                self._intent(key, False)
                for key, row in rows
                if row["status"] == SUBMITTED and not self._is_finished(row["job_id"])
            ]

    def _is_finished(self, job_id: str) -> bool:
        return self.positions.get(job_id, (0, None, False, None))[2]

    def prune(self, age: float) -> int:
        with self._call("prune"):
            old = {
                job_id
                for job_id, (_, _, finished, saved_at) in self.positions.items()
                if finished and saved_at is not None and saved_at <= self.now() - age
            }
            old = {each for each in old if self.leases[each][2] <= self.now()}
            for job_id in old:
                del self.leases[job_id], self.positions[job_id]
            kept = {k: row for k, row in self._submissions.items() if row["job_id"] not in old}
            self._submissions = kept
            return len(old)

    def forget_submission(self, key: str) -> bool:
        with self._call("forget_submission"):
            row = self._submissions.get(key)
            if row is None or row["status"] == SUBMITTED or row["expires"] > self.now():
                return False
            del self._submissions[key]
            return True

    def _intent(self, key: str, mine: bool) -> Intent:
        row = self._submissions[key]
        return Intent(
            key,
            row["name"],
            row["status"],
            row["job_id"],
            row["detail"],
            row["epoch"],
            row["expires"] - self.now(),
            self.now() - row["created"],
            mine,
            row.get("owner"),
        )

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def close(self) -> None:
        """Do nothing: there are no connections."""
