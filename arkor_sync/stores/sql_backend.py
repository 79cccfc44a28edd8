"""Leases, positions, members and submissions in tables of PostgreSQL or SQLite. Any thread.

A transaction begins with a statement that writes, unless it only reads: in SQLite a reader that
becomes a writer may be refused for good.
"""

from __future__ import annotations

import re
from typing import Any, Collection, Dict, List, Optional, Sequence, Set, Tuple

from arkor_sync.errors import LeaseHeldError
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
from arkor_sync.stores.sql_transactions import Transactions

_MOST = 500  # values in one list of a statement


class SQLBackend(Transactions):
    """Implements `Backend`."""

    def take(self, job_id: str, owner: str, ttl: float) -> Taken:
        """Take a lease; see `Backend`."""
        return self.run(lambda connection: self._take(connection, job_id, owner, ttl))

    def _take(self, connection: Any, job_id: str, owner: str, ttl: float) -> Taken:
        values = {"job_id": job_id, "owner": owner, "ttl": ttl}
        taken = self.do(
            connection,
            "UPDATE {leases} SET owner = :owner, epoch = epoch + 1, expires = {now} + :ttl "
            "WHERE job_id = :job_id AND expires <= {now}",
            **values,
        )
        if not taken.rowcount:
            taken = self.do(
                connection,
                "INSERT INTO {leases} (job_id, owner, epoch, expires) VALUES (:job_id, :owner, "
                "1 + coalesce((SELECT epoch FROM {positions} WHERE job_id = :job_id), 0), "
                "{now} + :ttl) ON CONFLICT (job_id) DO NOTHING",
                **values,
            )
        if not taken.rowcount:
            holder, left = self.do(
                connection,
                "SELECT owner, expires - {now} FROM {leases} WHERE job_id = :job_id",
                job_id=job_id,
            ).one()
            raise LeaseHeldError(
                f"job {job_id} is followed by {holder}, whose lease ends in {max(0.0, left):.1f} s "
                "unless it is renewed"
            )
        # This waits for a holder that has saved and not committed yet. It is not found by the
        # snapshot of an earlier statement, so what it has saved is read after that.
        self.do(
            connection,
            "INSERT INTO {positions} (job_id, epoch, finished) "
            "SELECT job_id, epoch, FALSE FROM {leases} WHERE job_id = :job_id "
            "ON CONFLICT (job_id) DO UPDATE SET epoch = excluded.epoch",
            job_id=job_id,
        )
        epoch, text = self.do(
            connection,
            "SELECT epoch, text FROM {positions} WHERE job_id = :job_id",
            job_id=job_id,
        ).one()
        decode_position(job_id, text)  # undo all of it where that cannot be used
        return Taken(epoch, text)

    def renew(self, leases: Sequence[Tuple[str, int]], owner: str, ttl: float) -> Set[str]:
        """Prolong leases; see `Backend`. A row that is just being taken over is not waited for."""
        if not leases:
            return set()
        if not self.is_postgresql:
            statement = (
                "UPDATE {leases} SET expires = {now} + :ttl WHERE job_id = :job_id "
                "AND owner = :owner AND epoch = :epoch AND expires > {now}"
            )
            return self.run(
                lambda connection: {
                    job_id
                    for job_id, epoch in leases
                    if self.do(
                        connection, statement, job_id=job_id, epoch=epoch, owner=owner, ttl=ttl
                    ).rowcount
                }
            )
        jobs, epochs = zip(*leases)
        statement = (
            "UPDATE {leases} SET expires = {now} + :ttl WHERE job_id IN ("
            "SELECT held.job_id FROM {leases} AS held "
            "JOIN unnest(CAST(:jobs AS text[]), CAST(:epochs AS bigint[])) AS mine (job_id, epoch) "
            "ON held.job_id = mine.job_id AND held.epoch = mine.epoch "
            "WHERE held.owner = :owner AND held.expires > {now} "
            "FOR UPDATE OF held SKIP LOCKED) RETURNING job_id"
        )
        values = {"jobs": list(jobs), "epochs": list(epochs), "owner": owner, "ttl": ttl}
        return set(self.run(lambda connection: self.do(connection, statement, **values).scalars()))

    def save(self, saves: Sequence[Save]) -> Set[str]:
        """Keep positions; see `Backend`.

        Only the holder of an epoch locks the row that has it, so two saves wait for no row of each
        other.
        """
        return self.run_joined(lambda connection: self._save(connection, saves))

    def _save(self, connection: Any, saves: Sequence[Save]) -> Set[str]:
        self.limit_joined()
        if not self.is_postgresql:
            statement = (
                "UPDATE {positions} SET text = :text, finished = :finished, saved_at = {now} "
                "WHERE job_id = :job_id AND epoch = :epoch"
            )
            return {
                each.job_id
                for each in saves
                if not self.do(
                    connection,
                    statement,
                    text=_storable(each.text),
                    finished=each.finished,
                    job_id=each.job_id,
                    epoch=each.epoch,
                ).rowcount
            }
        statement = (
            "UPDATE {positions} AS kept SET text = new.text, finished = new.finished, "
            "saved_at = {now} FROM unnest(CAST(:jobs AS text[]), CAST(:epochs AS bigint[]), "
            "CAST(:texts AS text[]), CAST(:finished AS boolean[])) "
            "AS new (job_id, epoch, text, finished) "
            "WHERE kept.job_id = new.job_id AND kept.epoch = new.epoch RETURNING kept.job_id"
        )
        ordered = sorted(saves)
        kept = self.do(
            connection,
            statement,
            jobs=[each.job_id for each in ordered],
            epochs=[each.epoch for each in ordered],
            texts=[_storable(each.text) for each in ordered],
            finished=[each.finished for each in ordered],
        )
        return {each.job_id for each in saves} - set(kept.scalars())

    def release(self, job_id: str, owner: str, epoch: int) -> None:
        """End a lease; see `Backend`."""
        statement = (
            "UPDATE {leases} SET expires = {now} "
            "WHERE job_id = :job_id AND owner = :owner AND epoch = :epoch"
        )
        values = {"job_id": job_id, "owner": owner, "epoch": epoch}
        self.run_joined(lambda connection: self.do(connection, statement, **values))

    def load(self, job_id: str) -> Optional[str]:
        """Return what was saved last, or None.

        A save that is just being committed is waited for: a connection may be cut off with the
        answer to a COMMIT on its way, and whoever asks what became of it must not be told too soon.
        """
        lock = "FOR SHARE" if self.is_postgresql else ""
        statement = f"SELECT text FROM {{positions}} WHERE job_id = :job_id {lock}"
        text: Optional[str] = self.run(
            lambda connection: self.do(connection, statement, job_id=job_id).scalar(), reads=True
        )
        return text

    def holders(self, job_ids: Optional[Collection[str]]) -> List[Holder]:
        """Look up who follows jobs; see `Backend`."""
        statement = (
            "SELECT leases.job_id, leases.owner, leases.epoch, "
            "leases.expires - {now} AS expires_in, {now} - positions.saved_at AS saved_ago, "
            "positions.finished FROM {leases} AS leases "
            "JOIN {positions} AS positions ON positions.job_id = leases.job_id"
        )
        if job_ids is None:
            found = self._list(statement + " ORDER BY leases.job_id")
        else:
            found = self._list(statement + " WHERE leases.job_id IN :some", sorted(set(job_ids)))
        return [Holder(**row._mapping)._replace(finished=bool(row.finished)) for row in found]

    def _list(self, statement: str, some: Optional[Sequence[str]] = None) -> List[Any]:
        """Return rows; where the statement has a list `:some`, ask for a part of it at a time."""
        text = self.text(statement)
        if some is None:
            return self.run(lambda connection: list(connection.execute(text)), reads=True)
        parts = [list(some[begin : begin + _MOST]) for begin in range(0, len(some), _MOST)]
        return self.run(
            lambda connection: [
                row for part in parts for row in connection.execute(text, {"some": part})
            ],
            reads=True,
        )

    # Members.

    def join(self, owner: str, ttl: float) -> List[Member]:
        """Say that a process follows jobs; see `Backend`."""

        def join(connection: Any) -> List[Member]:
            self.do(
                connection,
                "INSERT INTO {members} (owner, expires) VALUES (:owner, {now} + :ttl) "
                "ON CONFLICT (owner) DO UPDATE SET expires = excluded.expires",
                owner=owner,
                ttl=ttl,
            )
            self.do(  # a row that another process removes, or makes live again, is left to it
                connection,
                "DELETE FROM {members} WHERE owner IN "
                "(SELECT owner FROM {members} WHERE expires <= {now} {skip})",
            )
            return [Member(*row) for row in self.do(connection, _MEMBERS)]

        return self.run(join)

    def members(self) -> List[Member]:
        """Return the processes that follow jobs, and change nothing."""
        return [Member(*row) for row in self._list(_MEMBERS)]

    def leave(self, owner: str) -> None:
        """Say that a process follows no more jobs."""
        statement = "DELETE FROM {members} WHERE owner = :owner"
        self.run(lambda connection: self.do(connection, statement, owner=owner))

    # Submissions.

    def open_submission(self, key: str, name: str, owner: str, ttl: float) -> Intent:
        """Write an intent down, or return the one that is there; see `Backend`."""
        values: Dict[str, Any] = {"key": key, "owner": owner, "ttl": ttl}

        def open_it(connection: Any) -> Intent:
            mine = self.do(
                connection,
                "INSERT INTO {submissions} (key, name, status, owner, epoch, expires, created_at) "
                f"VALUES (:key, :name, '{SUBMITTING}', :owner, 1, {{now}} + :ttl, {{now}}) "
                "ON CONFLICT (key) DO NOTHING",
                name=name,
                **values,
            )
            if not mine.rowcount:
                mine = self.do(
                    connection,
                    "UPDATE {submissions} SET owner = :owner, epoch = epoch + 1, "
                    "expires = {now} + :ttl WHERE key = :key AND expires <= {now} "
                    f"AND status IN ('{SUBMITTING}', '{UNKNOWN}')",
                    **values,
                )
            row = self.do(connection, _INTENTS + " WHERE key = :key", key=key).one()
            return _intent(row, bool(mine.rowcount))

        return self.run(open_it)

    def close_submission(
        self,
        key: str,
        owner: str,
        epoch: int,
        status: str,
        job_id: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> bool:
        """Write down what became of an intent; see `Backend`."""
        statement = (
            "UPDATE {submissions} SET status = :status, job_id = :job_id, detail = :detail, "
            "expires = {now} WHERE key = :key AND owner = :owner AND epoch = :epoch"
        )
        values = {"status": status, "job_id": job_id, "detail": detail and _storable(detail)}
        values.update(key=key, owner=owner)
        done = self.run(
            lambda connection: self.do(connection, statement, epoch=epoch, **values).rowcount
        )
        return bool(done)

    def submissions(self, statuses: Collection[str]) -> List[Intent]:
        """List the intents with one of these statuses; see `Backend`."""
        statement = _INTENTS + " WHERE status IN :some ORDER BY created_at, key"
        return [_intent(row, False) for row in self._list(statement, sorted(statuses))]

    def unfinished_submissions(self) -> List[Intent]:
        """List the intents whose job is not finished; see `Backend`."""
        statement = (
            _INTENTS + f" AS intents WHERE status = '{SUBMITTED}' AND NOT EXISTS "
            "(SELECT 1 FROM {positions} AS positions "
            "WHERE positions.job_id = intents.job_id AND positions.finished) "
            "ORDER BY created_at, key"
        )
        return [_intent(row, False) for row in self._list(statement)]

    def prune(self, age: float) -> int:
        """Remove what is kept of jobs that were finished long ago; see `Backend`."""
        pruned, found = 0, self._prune_some(age)
        while found:
            pruned += found
            found = self._prune_some(age)
        return pruned

    def _prune_some(self, age: float) -> int:
        """Remove some of it. A job that is just taken, or pruned by another process, is left."""
        old = (
            "SELECT job_id FROM {positions} AS positions WHERE finished "
            "AND saved_at <= {now} - :age AND NOT EXISTS (SELECT 1 FROM {leases} AS leases "
            f"WHERE leases.job_id = positions.job_id AND leases.expires > {{now}}) LIMIT {_MOST}"
        )
        jobs = self.run(
            lambda connection: list(self.do(connection, old, age=age).scalars()), reads=True
        )

        def remove(connection: Any) -> int:
            self.do(
                connection,
                "DELETE FROM {leases} WHERE job_id IN (SELECT job_id FROM {leases} "
                "WHERE job_id IN :some AND expires <= {now} {skip})",
                some=jobs,
            )
            removed = self.do(
                connection,
                "DELETE FROM {positions} WHERE job_id IN :some AND NOT EXISTS "
                "(SELECT 1 FROM {leases} AS leases WHERE leases.job_id = {positions}.job_id)",
                some=jobs,
            )
            self.do(
                connection,
                "DELETE FROM {submissions} WHERE job_id IN :some AND NOT EXISTS "
                "(SELECT 1 FROM {positions} AS kept WHERE kept.job_id = {submissions}.job_id)",
                some=jobs,
            )
            return int(removed.rowcount)

        return self.run(remove) if jobs else 0

    def forget_submission(self, key: str) -> bool:
        """Remove an intent; see `Backend`."""
        statement = (
            "DELETE FROM {submissions} WHERE key = :key AND expires <= {now} "
            f"AND status <> '{SUBMITTED}'"
        )
        return bool(self.run(lambda connection: self.do(connection, statement, key=key).rowcount))


_MEMBERS = "SELECT owner, expires - {now} FROM {members} WHERE expires > {now} ORDER BY owner"
_INTENTS = (
    "SELECT key, name, status, job_id, detail, epoch, expires - {now} AS expires_in, "
    "{now} - created_at AS age, owner FROM {submissions}"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def _intent(row: Any, mine: bool) -> Intent:
    return Intent(**row._mapping, mine=mine)


def _storable(text: str) -> str:
    """Escape, as JSON may, the characters that UTF-8 does not have."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
