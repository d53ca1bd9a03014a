"""Memory's own tables: in a file beside the state, or beside the state's tables on a server; numbered by themselves."""

# pyright: reportUnknownMemberType=false
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from longwatch.db.connection import Database
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.db.statements import Migration
from longwatch.errors import StoreUnavailable

if TYPE_CHECKING:
    from longwatch.db.postgres import PostgresDatabase

ENDING = ".memory"
"""How the name of memory's file ends, behind the state's."""


@cache
def memory_migrations(dialect: str) -> tuple[Migration, ...]:
    """In order. A file NNNN_name.DIALECT.sql is of that engine alone."""
    found: dict[int, Migration] = {}
    for file in files("longwatch.store").joinpath("sql").joinpath("memory").iterdir():
        stem, _, other = file.name.removesuffix(".sql").partition(".")
        digits, _, name = stem.partition("_")
        if other in ("", dialect):
            found[int(digits)] = Migration(int(digits), name, file.read_text("utf-8"))
    return tuple(found[number] for number in sorted(found))


def prepare_memory(database: Database) -> None:
    """Bring memory's tables to what this code knows. Errors: StoreUnavailable when they are newer."""
    if isinstance(database, SqliteDatabase):
        migrate(database, known=memory_migrations("sqlite"))
    else:
        _on_server(database)  # type: ignore[arg-type]


def _on_server(database: "PostgresDatabase") -> None:
    from longwatch.db.postgres import dialect

    known = memory_migrations("postgres")
    with database.transaction() as tx:
        tx.plain("create table if not exists memory_schema (number bigint primary key)")
        ((found,),) = tx.plain("select coalesce(max(number), 0) from memory_schema")
        assert isinstance(found, int)
        if found > known[-1].number:
            raise StoreUnavailable(
                f"the memory in {database.place} is number {found}, this Longwatch knows up to {known[-1].number}",
                hint="Upgrade Longwatch: pip install --upgrade longwatch. Nothing was touched.",
            )
        for each in known:
            if each.number > found:
                for statement in dialect.migration(each.text):
                    tx.plain(statement)
                tx.plain("insert into memory_schema (number) values ($1)", each.number)
