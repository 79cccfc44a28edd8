"""What a follower knows of its jobs: who has each, and when it may be begun again. Pure."""

from __future__ import annotations

from typing import Any, Collection, Dict, Iterator, List, Optional, Sequence, Set

from arkor_sync._common.doubling import doubling
from arkor_sync._follower_shares import Plan, plan
from arkor_sync.stores.backend import Holder, Member

FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0  # seconds before a job is begun again
LEFT_AFTER = 5.0
"""Seconds that a job without a follower waits for a process that is below its share."""

_GIVEN = 25  # jobs that were given back, and that no other process has taken yet
_SELDOM = 2.0  # seconds between two looks at a job that another member follows
_STEADY = 60.0  # after so many seconds, the end of a run is no longer that of its beginning


class Job:
    """A job that the source names, or that a run of this process still follows.

    Attributes:
        named: Whether the source names it.
        run: The run that follows it in this process, or None.
        since: When that run began.
        owner: The other process that follows it, or None.
        look_at: When it is looked up again, if that process is a member by then.
        free_since: When it was first seen that nobody follows it, or None.
        giving: Whether this process has given it back, and no other one has taken it yet.
        not_before: When it may be begun.
    """

    def __init__(self) -> None:
        self.named = True
        self.run: Any = None
        self.since = 0.0
        self.owner: Optional[str] = None
        self.look_at = 0.0
        self.free_since: Optional[float] = None
        self.giving = False
        self.not_before = 0.0
        self._delays: Optional[Iterator[float]] = None

    def begun(self, run: Any, now: float) -> None:
        """Take note of a run that follows it."""
        self.run, self.since, self.owner = run, now, None
        self.free_since, self.giving = None, False

    def ended(self, now: float) -> None:
        """Take note of the end of that run."""
        if now - self.since > _STEADY:
            self._delays = None
        self.run = self.free_since = None

    def may_begin(self, now: float) -> bool:
        """Whether it may be begun now."""
        return self.run is None and self.not_before <= now

    def delay(self, now: float) -> float:
        """Wait before it is begun again, longer each time; return the seconds."""
        self._delays = self._delays or doubling(FIRST_DELAY, LONGEST_DELAY)
        seconds = next(self._delays)
        self.not_before = now + seconds
        return seconds


class Jobs:
    """The jobs of a follower. One thread calls this.

    Args:
        owner: This process.
        most: How many jobs it follows at most.

    Attributes:
        known: Those that are not finished, by their ids.
        finished: The ids of those that are, of what the source names.
        members: The processes that follow jobs.
    """

    def __init__(self, owner: str, most: int) -> None:
        self.known: Dict[str, Job] = {}
        self.finished: Set[str] = set()
        self.members: List[str] = [owner]
        self._owner = owner
        self._most = most
        self._missing = 0
        self._give_after = 0.0
        self._give_delays: Optional[Iterator[float]] = None

    def name(self, ids: Collection[str]) -> None:
        """Take over what the source names. A run goes on to its end, named or not."""
        named = set(ids)
        self.finished &= named
        for job_id in ids:
            if job_id not in self.finished:
                self.known.setdefault(job_id, Job())
        for job_id, job in list(self.known.items()):
            job.named = job_id in named
            if not job.named and job.run is None:
                del self.known[job_id]

    @property
    def runs(self) -> Dict[str, Any]:
        """The runs that go on, by their jobs."""
        known = list(self.known.items())  # in one step, as any thread may ask
        return {job_id: job.run for job_id, job in known if job.run is not None}

    def to_look_up(self, now: float, members: Sequence[Member]) -> List[str]:
        """Return the jobs whose leases matter now.

        A member's job is looked up now and then, or if this process misses some: a member that
        stops leaves first, and one that has died is no member when its leases end.

        Args:
            now: The time.
            members: The processes that follow jobs.
        """
        self.members = sorted({self._owner, *(each.owner for each in members)})
        calm = () if self._missing else self.members
        return [
            job_id
            for job_id, job in self.known.items()
            if job.run is None and (job.owner not in calm or now >= job.look_at)
        ]

    def look(self, now: float, asked: Sequence[str], holders: Sequence[Holder]) -> None:
        """Take over what the store knows.

        Args:
            now: The time.
            asked: The jobs that were looked up.
            holders: Who follows them.
        """
        found = {each.job_id: each for each in holders}
        for job_id in asked:
            job, holder = self.known[job_id], found.get(job_id)
            job.owner = None
            if holder is None:
                continue
            if holder.finished:
                self.finished.add(job_id)
                del self.known[job_id]
            elif holder.expires_in > 0:
                job.owner, job.free_since = holder.owner, None
                job.look_at = now + min(_SELDOM, holder.expires_in)
                if job.giving and job.owner != self._owner:
                    job.giving, self._give_delays = False, None

    def decide(self, now: float, busy: Collection[str]) -> Plan:
        """Decide what to take, and how many to give back; see `plan`.

        Args:
            now: The time.
            busy: The jobs that are being begun.
        """
        counts = dict.fromkeys(self.members, 0)
        free, left = [], []
        for job_id, job in self.known.items():
            if job.run is not None and job.giving:
                free.append(job_id)  # in a moment
            elif job.run is not None or job_id in busy:
                counts[self._owner] += 1
            elif job.owner is not None:
                if job.owner in counts and job.owner != self._owner:
                    counts[job.owner] += 1
            elif self._free_for(job, now) <= LEFT_AFTER:
                free.append(job_id)
            else:
                if job.giving:
                    self._give_less(job, now)
                if job.may_begin(now):
                    left.append(job_id)
        found = plan(self._owner, counts, free, left, self._most)
        take = [job_id for job_id in found.take if self.known[job_id].may_begin(now)]
        given = sum(job.giving for job in self.known.values())
        give = min(found.give, _GIVEN - given) if now >= self._give_after else 0
        self._missing = found.missing
        return found._replace(take=take, give=max(0, give))

    def give(self, number: int) -> List[Job]:
        """Choose the jobs to give back: those that this process began to follow last."""
        own = [job for job in self.known.values() if job.run and job.named and not job.giving]
        chosen = sorted(own, key=lambda job: job.since, reverse=True)[:number]
        for job in chosen:
            job.giving = True
        return chosen

    def too_many(self) -> int:
        """Return how many jobs no process has room for."""
        return max(0, len(self.known) - self._most * len(self.members))

    def _free_for(self, job: Job, now: float) -> float:
        if job.free_since is None:
            job.free_since = now
        return now - job.free_since

    def _give_less(self, job: Job, now: float) -> None:
        """Wait before more is given back: no other process has taken this job."""
        job.giving = False
        self._give_delays = self._give_delays or doubling(2 * LEFT_AFTER, LONGEST_DELAY)
        self._give_after = now + next(self._give_delays)
