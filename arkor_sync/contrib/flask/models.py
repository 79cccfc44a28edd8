"""Models of Flask-SQLAlchemy for the store's tables, for who wants to query them. Any thread."""

from __future__ import annotations

from typing import Any, NamedTuple

from arkor_sync._common.extras import import_extra
from arkor_sync.stores.sql_tables import Tables


class Models(NamedTuple):
    """The models, to be read only: the store writes their rows.

    Attributes:
        Lease: Who follows which job (`job_id`, `owner`, `epoch`, `expires`).
        Position: How far its callbacks are (`job_id`, `epoch`, `finished`, `saved_at`).
        Submission: What was submitted (`key`, `name`, `status`, `job_id`, `detail`).
    """

    Lease: Any
    Position: Any
    Submission: Any


def add_models(db: Any) -> Models:
    """Add the store's tables to the metadata of Flask-SQLAlchemy, once, and return their models.

    Migrations that are made of the metadata (Flask-Migrate) then leave the tables alone. `flask
    arkor create-tables` makes them, or completes what a migration has made.

    Args:
        db: The `SQLAlchemy` object.
    """
    sqlalchemy = import_extra("sqlalchemy", "database", "add_models")
    tables = Tables(sqlalchemy, None)
    for table in (tables.members, tables.versions):
        table.to_metadata(db.metadata)

    def model(name: str, table: Any) -> Any:
        return type(name, (db.Model,), {"__table__": table.to_metadata(db.metadata)})

    return Models(
        model("ArkorLease", tables.leases),
        model("ArkorPosition", tables.positions),
        model("ArkorSubmission", tables.submissions),
    )
