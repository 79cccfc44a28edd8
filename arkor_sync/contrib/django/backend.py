"""What the store asks of the database, with Django's models: PostgreSQL or SQLite. Any thread.

A call is a short transaction on a connection of the store's own. A thread that is in a transaction
already, as in `around` or in a `TestCase`, uses that one.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Collection, Iterator, List, Optional, Sequence, Set, Tuple

from django.db import (
    DEFAULT_DB_ALIAS,
    Error,
    InterfaceError,
    OperationalError,
    connections,
    transaction,
)
from django.db.models import Exists, F, OuterRef, Q

from arkor_sync._common.arguments import refusal
from arkor_sync._common.secret import redact
from arkor_sync._common.text import safe_line
from arkor_sync.contrib.django.connections import ServerTime, StoreConnection, current_connection
from arkor_sync.contrib.django.models import Lease, Member, Position, Run
from arkor_sync.errors import (
    ArkorUsageError,
    CursorStoreError,
    LeaseHeldError,
    StoreUnavailableError,
)
from arkor_sync.stores.backend import (
    REFUSED,
    SUBMITTED,
    SUBMITTING,
    UNKNOWN,
    Holder,
    Intent,
    Save,
    Taken,
)
from arkor_sync.stores.backend import Member as FollowingMember
from arkor_sync.stores.base import decode_position

_MOST = 500  # values in one statement
_HALF = re.compile("[\ud800-\udfff]")
_NO_TABLE = re.compile("no such (table|column)|has no column")  # what SQLite says
_OPEN = (SUBMITTING, UNKNOWN)


class DjangoBackend:
    """Keeps everything in the tables of the app.

    Args:
        alias: The database; it must be PostgreSQL or SQLite.
    """

    def __init__(self, alias: str) -> None:
        vendor = connections[alias].vendor
        if vendor not in ("postgresql", "sqlite"):
            wanted = "the alias of a database that is PostgreSQL or SQLite"
            raise refusal("ARKOR['DATABASE']", alias, wanted, got=f"{alias!r}, which is {vendor}")
        self.alias = alias
        # Renewals have one to themselves: they wait for nothing else.
        self._renewing: Any = StoreConnection(alias)
        self._own: Any = StoreConnection(alias)

    def lend(self, lent: Any) -> None:
        """Use the connection of a test from now on, and none of its own."""
        self._renewing = self._own = lent

    @property
    def joined(self) -> bool:
        """Whether the thread is in a transaction of this database."""
        connection = current_connection(self.alias)
        return connection is not None and connection.in_atomic_block

    @contextmanager
    def transaction(
        self, own: Any = None, committed: bool = True, reads: bool = False
    ) -> Iterator[None]:
        """Enter a transaction, and tell errors of the database as those of a store.

        Args:
            own: The connection to use where the thread is in no transaction.
            committed: Whether it has to be committed at the end. Then the thread may be in no
                transaction but that of a `TestCase`.
            reads: Whether it only reads.
        """
        try:
            if not self.joined:
                with (own or self._own).transaction(reads):
                    yield
                return
            durable = {"durable": True} if committed and not reads else {"savepoint": False}
            with transaction.atomic(using=self.alias, **durable):
                yield
        except RuntimeError as error:
            if "durable" not in str(error):
                raise
            raise ArkorUsageError(
                "in a transaction: it would be undone if that rolls back; follow and submit "
                "outside of transaction.atomic(), or use arkor_sync.contrib.django.submit"
            ) from None
        except (Error, ValueError) as error:
            raise error_of(error, self.alias) from error

    def take(self, job_id: str, owner: str, ttl: float) -> Taken:
        """Take the lease on a job if nobody has it, and fence off all earlier holders."""
        with self.transaction():
            leases, positions = self._rows(Lease), self._rows(Position)
            leases.bulk_create([Lease(job_id=job_id)], ignore_conflicts=True)
            lease = leases.select_for_update().annotate(now=ServerTime()).get(job_id=job_id)
            left = lease.expires - lease.now
            if left > 0:
                raise LeaseHeldError(
                    f"job {job_id} is followed by {lease.owner}; its lease lasts {left:.1f} s "
                    "more, unless it is renewed"
                )
            epoch = lease.epoch + 1
            leases.filter(job_id=job_id).update(
                owner=owner, epoch=epoch, expires=ServerTime() + ttl
            )
            positions.bulk_create([Position(job_id=job_id)], ignore_conflicts=True)
            positions.filter(job_id=job_id).update(epoch=epoch)
            text = positions.values_list("text", flat=True).get(job_id=job_id)
            decode_position(job_id, text)  # what cannot be used is not changed
        return Taken(epoch, text)

    def renew(self, leases: Sequence[Tuple[str, int]], owner: str, ttl: float) -> Set[str]:
        """Prolong leases; return the jobs whose lease is still held."""
        if not leases:
            return set()
        epochs = dict(leases)
        with self.transaction(self._renewing):
            rows = self._rows(Lease)
            mine = rows.filter(job_id__in=epochs, owner=owner, expires__gt=ServerTime())
            found = mine.select_for_update().order_by("job_id").values_list("job_id", "epoch")
            held = {job_id for job_id, epoch in found if epochs[job_id] == epoch}
            rows.filter(job_id__in=held).update(expires=ServerTime() + ttl)
        return held

    def save(self, saves: Sequence[Save]) -> Set[str]:
        """Keep positions; return the jobs for which it was refused."""
        refused = set()
        with self.transaction(committed=False):
            for save in sorted(saves, key=lambda each: each.job_id):  # one order: no deadlock
                kept = self._rows(Position).filter(job_id=save.job_id, epoch=save.epoch)
                values = {
                    "text": _escaped(save.text),
                    "finished": save.finished,
                    "saved_at": ServerTime(),
                }
                if not kept.update(**values):
                    refused.add(save.job_id)
        return refused

    def release(self, job_id: str, owner: str, epoch: int) -> None:
        """End a lease, if it is still held."""
        with self.transaction(committed=False):
            mine = self._rows(Lease).filter(job_id=job_id, owner=owner, epoch=epoch)
            mine.filter(expires__gt=ServerTime()).update(expires=ServerTime())

    def load(self, job_id: str) -> Optional[str]:
        """Return what was saved last, or None."""
        with self.transaction(reads=True):
            texts = self._rows(Position).filter(job_id=job_id).values_list("text", flat=True)
            text: Optional[str] = texts.first()
        return text

    def holders(self, job_ids: Optional[Collection[str]]) -> List[Holder]:
        """Look up who follows these jobs, or all jobs."""
        found = []
        with self.transaction(reads=True):
            for part in _parts(job_ids):
                wanted = Q() if part is None else Q(job_id__in=part)
                positions = {
                    job_id: (saved_ago, finished)
                    for job_id, saved_ago, finished in self._rows(Position)
                    .filter(wanted)
                    .annotate(ago=ServerTime() - F("saved_at"))
                    .values_list("job_id", "ago", "finished")
                }
                leases = self._rows(Lease).filter(wanted).order_by("job_id")
                left = leases.annotate(left=F("expires") - ServerTime())
                for job_id, owner, epoch, seconds in left.values_list(
                    "job_id", "owner", "epoch", "left"
                ):
                    saved_ago, finished = positions.get(job_id, (None, False))
                    found.append(Holder(job_id, owner, epoch, seconds, saved_ago, finished))
        return found

    def join(self, owner: str, ttl: float) -> List[FollowingMember]:
        """Say that a process follows jobs, for so long; return all that do."""
        with self.transaction(self._renewing):
            rows = self._rows(Member)
            rows.bulk_create([Member(owner=owner, expires=0.0)], ignore_conflicts=True)
            rows.filter(owner=owner).update(expires=ServerTime() + ttl)
            # What another process is just changing is left to it.
            ended = rows.filter(expires__lte=ServerTime()).exclude(owner=owner)
            if connections[self.alias].features.has_select_for_update_skip_locked:
                ended = ended.select_for_update(skip_locked=True)
            rows.filter(owner__in=list(ended.values_list("owner", flat=True))).delete()
            return self._members()

    def members(self) -> List[FollowingMember]:
        """Return the processes that follow jobs."""
        with self.transaction(reads=True):
            return self._members()

    def leave(self, owner: str) -> None:
        """Say that a process follows no more jobs."""
        with self.transaction(self._renewing, committed=False):
            self._rows(Member).filter(owner=owner).delete()

    def open_submission(self, key: str, name: str, owner: str, ttl: float) -> Intent:
        """Write an intent down with a lease on its row, or return the one that is there.

        A row that the app's own `submit` has written has no intent yet.
        """
        with self.transaction():
            rows = self._rows(Run)
            if not rows.filter(key=key).exists():
                new = Run(key=key, name=name, complete=False, submit_opened=ServerTime())
                rows.bulk_create([new], ignore_conflicts=True)
            run = rows.select_for_update().annotate(now=ServerTime()).get(key=key)
            mine = _status_of(run) in _OPEN and run.submit_expires <= run.now
            if mine:
                run.intent = run.intent or storable(name)
                run.status = _status_of(run)
                run.submitter = owner
                run.submit_epoch += 1
                run.submit_expires = run.now + ttl
                rows.filter(key=key).update(
                    intent=run.intent,
                    status=run.status,
                    submitter=owner,
                    submit_epoch=run.submit_epoch,
                    submit_expires=ServerTime() + ttl,
                )
        return _intent_of(run, mine)

    def close_submission(
        self,
        key: str,
        owner: str,
        epoch: int,
        status: str,
        job_id: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> bool:
        """Write down what became of an intent and end its row's lease."""
        with self.transaction():
            mine = self._rows(Run).filter(key=key, submitter=owner, submit_epoch=epoch)
            changed = mine.update(
                status=status, job_id=job_id, error=storable(detail), submit_expires=ServerTime()
            )
        return bool(changed)

    def submissions(self, statuses: Collection[str]) -> List[Intent]:
        """List the intents with one of these statuses, the oldest first."""
        with self.transaction(reads=True):
            rows = self._rows(Run).exclude(intent="").annotate(now=ServerTime())
            if SUBMITTED not in statuses:
                rows = rows.filter(status__in=(*statuses, Run.Status.LOST))
            found = [_intent_of(run, False) for run in rows.order_by("submit_opened", "pk")]
        return [each for each in found if each.status in statuses]

    def unfinished_submissions(self) -> List[Intent]:
        """List the intents that are `submitted` and whose job is not finished, the oldest first."""
        with self.transaction(reads=True):
            finished = self._rows(Position).filter(job_id=OuterRef("job_id"), finished=True)
            rows = (
                self._rows(Run).exclude(intent="").filter(~Exists(finished), job_id__isnull=False)
            )
            rows = rows.annotate(now=ServerTime()).order_by("submit_opened", "pk")
            found = [_intent_of(run, False) for run in rows]
        return [each for each in found if each.status == SUBMITTED]

    def prune(self, age: float) -> int:
        """Remove the lease, the position and the run of jobs that were finished long ago."""
        pruned = 0
        while True:
            with self.transaction():
                old = self._rows(Position).filter(
                    ~is_held(self.alias), finished=True, saved_at__lte=ServerTime() - age
                )
                jobs = list(old.values_list("job_id", flat=True)[:_MOST])
                leases = self._rows(Lease).filter(job_id__in=jobs, expires__lte=ServerTime())
                leases.delete()
                taken = self._rows(Lease).filter(job_id__in=jobs).values_list("job_id", flat=True)
                gone = sorted({*jobs} - {*taken})
                self._rows(Position).filter(job_id__in=gone).delete()
                self._rows(Run).filter(job_id__in=gone).delete()
            if not gone:
                return pruned
            pruned += len(gone)

    def forget_submission(self, key: str) -> bool:
        """Remove an intent that is not `submitted`. The row of the run stays."""
        with self.transaction():
            rows = self._rows(Run).filter(key=key, job_id=None).exclude(intent="")
            forgotten = rows.filter(submit_expires__lte=ServerTime()).update(
                intent="", status=SUBMITTING, submit_epoch=0, submitter=""
            )
        return bool(forgotten)

    def after_fork(self) -> None:
        """Do nothing: the connections do it themselves."""

    def close(self) -> None:
        """Close the connections. A later call makes new ones."""
        self._renewing.close()
        self._own.close()

    def _rows(self, model: Any) -> Any:
        return model.objects.using(self.alias)

    def _members(self) -> List[FollowingMember]:
        rows = self._rows(Member).annotate(left=F("expires") - ServerTime()).filter(left__gt=0)
        found = rows.order_by("owner").values_list("owner", "left")
        return [FollowingMember(owner, left) for owner, left in found]


def is_held(alias: str) -> Exists:
    """Return the condition that somebody follows the job of a row."""
    leases = Lease.objects.using(alias)
    return Exists(leases.filter(job_id=OuterRef("job_id"), expires__gt=ServerTime()))


def storable(text: Optional[str]) -> str:
    """Return a text as a database can hold it, without secrets; None is an empty one."""
    text = redact("" if text is None else text).replace("\0", " ")
    return text.encode(errors="replace").decode()


def _parts(values: Optional[Collection[str]]) -> Iterator[Optional[List[str]]]:
    if values is None:
        yield None
        return
    listed = sorted(set(values))
    for begin in range(0, len(listed), _MOST):
        yield listed[begin : begin + _MOST]


def _status_of(run: Any) -> str:
    """Return the status of a run's submission."""
    if run.status in (SUBMITTING, UNKNOWN, REFUSED):
        return str(run.status)
    return SUBMITTING if run.job_id is None else SUBMITTED  # `lost`, where there is no job


def _intent_of(run: Any, mine: bool) -> Intent:
    return Intent(
        run.key,
        run.intent,
        _status_of(run),
        run.job_id,
        run.error or None,
        run.submit_epoch,
        run.submit_expires - run.now,
        run.now - run.submit_opened,
        mine,
        run.submitter or None,
    )


def _escaped(text: str) -> str:
    """Escape, in JSON, the halves of surrogate pairs: a database takes whole characters only."""
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def error_of(error: Exception, alias: str) -> CursorStoreError:
    """Return the error of a store for one of the database.

    Args:
        error: That one.
        alias: The database.
    """
    if isinstance(error, CursorStoreError):
        return error
    text = safe_line(redact(str(error)))
    cause = type(error.__cause__).__name__
    if cause in ("UndefinedTable", "UndefinedColumn") or _NO_TABLE.search(text):
        option = "" if alias == DEFAULT_DB_ALIAS else f" --database {alias}"
        return CursorStoreError(
            "the tables of the app arkor are missing, or of an older version; "
            f"run: manage.py migrate{option} ({text})"
        )
    if isinstance(error, (OperationalError, InterfaceError)):
        return StoreUnavailableError(f"the database cannot be used now: {text}")
    return CursorStoreError(f"the database refused: {text}")
