"""`store`: the tables of an `SQLCursorStore`. Runs on the caller's thread."""

from __future__ import annotations

from typing import Optional

import click

from arkor_sync._common.environment import variable
from arkor_sync.cli.command import command, group
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import COMMANDS, root

URL = "ARKOR_STORE_URL"

store = group(root, "store", COMMANDS["store"][0])


@command(
    store,
    "create",
    examples="""
    ARKOR_STORE_URL=postgresql://user:password@host/database arkor-sync store create
    arkor-sync store create sqlite:////var/lib/trainer/store.db
    """,
)
@click.argument("url", required=False)
@click.option("--schema", metavar="NAME", help="The schema of the tables, on PostgreSQL.")
def create(output: Output, url: Optional[str], schema: Optional[str]) -> None:
    """Make the tables of an SQLCursorStore, or add what those of an older version lack.

    URL is that of the database; without it, ARKOR_STORE_URL is. Give a URL with a password there:
    other users of the machine can see the arguments of a command. Running it again changes nothing,
    and tables of a newer version are left as they are.
    """
    from arkor_sync.stores.sql import SQLCursorStore
    from arkor_sync.stores.sql_tables import VERSION

    url = url or variable(URL)
    if url is None:
        raise click.UsageError(f"give the URL of the database, or set {URL}")
    made = SQLCursorStore(url, schema=schema)
    try:
        made.create_tables()
    finally:
        made.close()
    if output.as_json:
        output.json({"version": VERSION})
    else:
        output.line(f"The tables of the store are there, in version {VERSION}.")
