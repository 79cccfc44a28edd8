"""`store create`."""

from __future__ import annotations

from pathlib import Path

from arkor_sync import SavedCursor, SQLCursorStore
from arkor_sync.stores.sql_tables import VERSION
from support.command_line import CommandLine
from support.extras import need


def test_it_makes_the_tables_once(nobody: CommandLine, tmp_path: Path) -> None:
    need("sqlalchemy")
    url = f"sqlite:///{tmp_path / 'store.db'}"
    done = nobody("store", "create", url)
    assert done.stdout == f"The tables of the store are there, in version {VERSION}.\n"
    assert nobody("store", "create", "--json", ARKOR_STORE_URL=url).json == {"version": VERSION}
    store = SQLCursorStore(url)
    assert store.load("job-1") == SavedCursor()
    store.close()


def test_a_password_is_not_told(nobody: CommandLine) -> None:
    need("psycopg")
    for url in ("postgresql://me:s3cret@127.0.0.1:1/db", "mysql://me:s3cret@h/db", "me:s3cret@h"):
        for arguments, variables in ((), {"ARKOR_STORE_URL": url}), ((url,), {}):
            done = nobody("store", "create", *arguments, code=None, **variables)
            assert done.code in (1, 2)
            assert "s3cret" not in done.stdout + done.stderr


def test_without_a_url_it_says_where_to_give_one(nobody: CommandLine) -> None:
    assert "ARKOR_STORE_URL" in nobody("store", "create", code=2).stderr
