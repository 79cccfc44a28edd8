"""The tables of `SQLCursorStore`, and how they are made and changed. Any thread.

A column that an older version of this package does not know has to be nullable or to have a
default, so that both versions can run during a deploy; it leaves `VERSION` as it is. `VERSION` is
raised by a change that older code cannot live with.
"""

from __future__ import annotations

from typing import Any, Optional

from arkor_sync.errors import CursorStoreError

VERSION = 1


class Tables:
    """The tables, in a schema or in the default one. Times are seconds since 1970.

    Attributes:
        leases: Who follows which job.
        positions: How far the callbacks are, and which epoch of the lease may change that.
        members: The processes that follow jobs.
        submissions: What was written down before a request.
        versions: One row with the version of all these.
    """

    def __init__(self, sql: Any, schema: Optional[str]) -> None:
        self._sql = sql
        self._all = sql.MetaData(schema=schema)

        def table(name: str, *columns: Any) -> Any:
            return sql.Table(f"arkor_{name}", self._all, *columns)

        def column(name: str, kind: Any, **options: Any) -> Any:
            return sql.Column(name, kind, nullable=False, **options)

        text, seconds, number = sql.Text, sql.Double, sql.BigInteger
        self.leases = table(
            "leases",
            column("job_id", text, primary_key=True),
            column("owner", text),
            column("epoch", number),
            column("expires", seconds),
        )
        self.positions = table(
            "positions",
            column("job_id", text, primary_key=True),
            column("epoch", number),
            sql.Column("text", text),
            column("finished", sql.Boolean),
            sql.Column("saved_at", seconds),
        )
        self.members = table(
            "members",
            column("owner", text, primary_key=True),
            column("expires", seconds),
        )
        self.submissions = table(
            "submissions",
            column("key", text, primary_key=True),
            column("name", text),
            column("status", text),
            sql.Column("job_id", text),
            sql.Column("detail", text),
            column("owner", text),
            column("epoch", number),
            column("expires", seconds),
            column("created_at", seconds),
        )
        self.versions = table("schema_version", column("version", sql.Integer, primary_key=True))

    def check(self, connection: Any, how_to_create: str) -> None:
        """Refuse tables that are missing, or of another version.

        Args:
            connection: A connection of the database.
            how_to_create: What the error says is to be done.

        Raises:
            CursorStoreError: They cannot be used.
        """
        version = self._version(connection)
        if version is None:
            raise CursorStoreError(f"the tables of the store are not there; {how_to_create}")
        if version < VERSION:
            raise CursorStoreError(
                f"the tables of the store are of version {version}, and this arkor_sync needs "
                f"version {VERSION}; {how_to_create}"
            )

    def create(self, connection: Any) -> None:
        """Make what is missing, in the transaction of a connection that no other one shares.

        Raises:
            CursorStoreError: There are tables of a newer version. They are not changed.
        """
        self._version(connection)
        self._all.create_all(connection)  # those that are missing
        inspector = self._sql.inspect(connection)
        for table in self._all.sorted_tables:
            there = {each["name"] for each in inspector.get_columns(table.name, table.schema)}
            for column in table.columns:
                if column.name not in there:
                    self._add(connection, table, column)
        connection.execute(self.versions.delete())
        connection.execute(self.versions.insert().values(version=VERSION))

    def _add(self, connection: Any, table: Any, column: Any) -> None:
        name = connection.dialect.identifier_preparer.format_table(table)
        definition = self._sql.schema.CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {definition}")

    def _version(self, connection: Any) -> Optional[int]:
        """Look the version up; None if there are no tables."""
        if not self._sql.inspect(connection).has_table(self.versions.name, self.versions.schema):
            return None
        version: Optional[int] = connection.execute(
            self._sql.select(self._sql.func.max(self.versions.c.version))
        ).scalar()
        if version is not None and version > VERSION:
            raise CursorStoreError(
                f"the tables of the store are of version {version}, and this arkor_sync knows "
                f"version {VERSION}; upgrade arkor_sync. Nothing was changed"
            )
        return version
