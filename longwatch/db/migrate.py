"""Brings a state to this code's schema: numbered migrations, each in the transaction that records its number.

A state from a newer Longwatch is refused, before anything is read from it: old code must not guess at new tables.
"""

# pyright: reportUnknownMemberType=false
from longwatch.db import statements
from longwatch.db.sqlite import SqliteDatabase, unavailable


def migrate(database: SqliteDatabase) -> int:
    """Apply what is missing; the schema's number afterwards. Errors: StoreUnavailable when the state is newer."""
    newest = statements.migrations()[-1][0]
    found = _version(database)
    if found > newest:
        raise unavailable(
            database.path,
            f"its schema is number {found}, this Longwatch knows up to {newest}",
            hint="Upgrade Longwatch: pip install --upgrade longwatch. The state was not touched.",
        )
    for number, _, text in statements.migrations():
        if number > found:
            _apply(database, number, text)
    return newest


def _version(database: SqliteDatabase) -> int:
    with database.read():
        return int(database.connection.pragma("user_version"))


def _apply(database: SqliteDatabase, number: int, text: str) -> None:
    with database.transaction():
        if int(database.connection.pragma("user_version")) < number:  # another process may have been faster
            database.connection.execute(text)
            database.connection.execute(f"pragma user_version = {number:d}")
