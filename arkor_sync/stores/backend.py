"""What a store for several machines asks of its database, in one protocol. Pure.

A backend makes each call in one short transaction of its own, on the thread that calls it, unless
`joined` says that the thread is in a transaction of the program. Times are the server's: no clock
of a client is compared with another one. A backend that cannot reach its server, or is told to try
again, raises `StoreUnavailableError` within a few seconds; for anything else, `CursorStoreError`.
"""

from __future__ import annotations

from typing import Collection, List, NamedTuple, Optional, Protocol, Sequence, Set, Tuple


class Taken(NamedTuple):
    """A lease that was just taken.

    Attributes:
        epoch: How many leases on the job there have been, this one included: its fence.
        text: What `encode_cursor` made of the last saved position, or None.
    """

    epoch: int
    text: Optional[str]


class Save(NamedTuple):
    """A position to keep.

    Attributes:
        job_id: The job.
        epoch: That of the lease. The save is refused where the stored one is higher.
        text: What `encode_cursor` made of the position.
        finished: Whether the callbacks have finished with the job's last event.
        owner: Who has the lease. A server that may lose what it has kept gives an epoch twice, so
            a backend for one compares the owner, too.
    """

    job_id: str
    epoch: int
    text: str
    finished: bool
    owner: str = ""


class Holder(NamedTuple):
    """Who follows a job, as far as the store knows.

    Attributes:
        job_id: The job.
        owner: Who has, or had, the lease, as text for people; None if nobody ever had it.
        epoch: How many leases there have been; 0 for none.
        expires_in: Seconds until the lease ends; 0 or less where nobody has it.
        saved_ago: Seconds since the position was saved; None if it never was.
        finished: Whether the callbacks have finished with the job's last event.
    """

    job_id: str
    owner: Optional[str]
    epoch: int
    expires_in: float
    saved_ago: Optional[float]
    finished: bool


class Member(NamedTuple):
    """A process that follows jobs.

    Attributes:
        owner: Its name, as in `Holder.owner`.
        expires_in: Seconds until it is no longer counted, unless it says again that it is there.
    """

    owner: str
    expires_in: float


SUBMITTING, SUBMITTED, REFUSED, UNKNOWN = "submitting", "submitted", "refused", "unknown"
"""What may have become of a submission. `submitting` and `unknown` are not final."""


class Intent(NamedTuple):
    """A submission that was written down before its request.

    Attributes:
        key: The program's name for it.
        name: What the first one wrote down: the job's name, and by what its configuration is known.
        status: `submitting`, `submitted`, `refused` or `unknown`.
        job_id: The job, once it is known.
        detail: Why it was refused, or is unknown; None else.
        epoch: How many processes have had this row's lease, this one included.
        expires_in: Seconds until the row's lease ends.
        age: Seconds since it was first written down.
        mine: Whether this call has taken the row's lease.
        owner: Who has, or had, the row's lease, as text for people.
    """

    key: str
    name: str
    status: str
    job_id: Optional[str]
    detail: Optional[str]
    epoch: int
    expires_in: float
    age: float
    mine: bool
    owner: Optional[str] = None


class Backend(Protocol):
    """Keeps leases, positions, members and submissions. Any thread may call it."""

    def take(self, job_id: str, owner: str, ttl: float) -> Taken:
        """Take the lease on a job if nobody has it, and fence off all earlier holders.

        It raises the epoch in the lease's row and in the position's row, in this order, and reads
        the position after that. A holder of an earlier epoch that is just saving is waited for, or
        is refused: both write the position's row.

        Raises:
            LeaseHeldError: Somebody has it; the message names who and for how long.
            CursorStoreError: What is stored is of a newer version. Nothing is changed.
        """

    def renew(self, leases: Sequence[Tuple[str, int]], owner: str, ttl: float) -> Set[str]:
        """Prolong leases, given as job and epoch; return the jobs whose lease is still held.

        It touches no position's row, so it never waits for a transaction around a callback.
        """

    def save(self, saves: Sequence[Save]) -> Set[str]:
        """Keep positions, committed when it returns; return the jobs for which it was refused.

        It is refused where the stored epoch is not that of the save. Where the thread is `joined`,
        the position belongs to that transaction and is committed with it.
        """

    def release(self, job_id: str, owner: str, epoch: int) -> None:
        """End a lease, if it is still held. The epoch stays."""

    def load(self, job_id: str) -> Optional[str]:
        """Return what was saved last, or None."""

    def holders(self, job_ids: Optional[Collection[str]]) -> List[Holder]:
        """Look up who follows these jobs, or all jobs; those that are not known are left out."""

    def join(self, owner: str, ttl: float) -> List[Member]:
        """Say that a process follows jobs, for so long; return all that do, this one included.

        Members whose time is over are removed.
        """

    def members(self) -> List[Member]:
        """Return the processes that follow jobs, and change nothing."""

    def leave(self, owner: str) -> None:
        """Say that a process follows no more jobs."""

    def open_submission(self, key: str, name: str, owner: str, ttl: float) -> Intent:
        """Write an intent down with a lease on its row, or return the one that is there.

        The lease of a row whose status is not final is taken over once it has ended; the status
        stays. The name of an intent that is there is not changed.
        """

    def close_submission(
        self,
        key: str,
        owner: str,
        epoch: int,
        status: str,
        job_id: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> bool:
        """Write down what became of an intent and end its row's lease.

        Returns:
            False if another process has taken the lease over; then nothing is changed.
        """

    def submissions(self, statuses: Collection[str]) -> List[Intent]:
        """List the intents with one of these statuses, the oldest first; `mine` is False."""

    def unfinished_submissions(self) -> List[Intent]:
        """List the intents that are `submitted` and whose job is not finished, the oldest first.

        The others are not read, however many there are.
        """

    def forget_submission(self, key: str) -> bool:
        """Remove an intent that is not `submitted`, and whose row's lease nobody has.

        Returns:
            Whether one was removed.
        """

    def prune(self, age: float) -> int:
        """Remove the lease, the position and the submission of jobs that were finished long ago.

        That is, so many seconds ago. A job whose lease somebody has is left alone. It is done in
        short transactions, a part of the jobs in each.

        Returns:
            How many jobs that were.
        """

    @property
    def joined(self) -> bool:
        """Whether the calling thread is in a transaction that its saves belong to."""

    def after_fork(self) -> None:
        """Leave the parent's connections alone, in a forked child; make new ones when asked."""

    def close(self) -> None:
        """Close the connections. A later call makes new ones."""
