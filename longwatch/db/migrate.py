"""Brings a state to this code's schema: numbered migrations, each in the transaction that records its number.

A state from a newer Longwatch is refused, before anything is read from it: old code must not guess at new tables.
"""

# pyright: reportUnknownMemberType=false
from typing import Protocol

from longwatch.db import statements
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import StoreUnavailable


class Schema(Protocol):
    """An engine that keeps the number of its schema itself. place: as it is named in messages."""

    @property
    def place(self) -> str: ...

    def schema(self) -> int:
        """The number of the last migration; 0 of an empty state."""
        ...

    def apply(self, number: int, text: str) -> None:
        """Run the migration and record its number, all or nothing, unless another process was faster."""
        ...


class SqliteSchema:
    """The number is in the header of the file."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database, self.place = database, str(database.path)

    def schema(self) -> int:
        with self._database.read():
            return int(self._database.connection.pragma("user_version"))

    def apply(self, number: int, text: str) -> None:
        with self._database.transaction():
            if int(self._database.connection.pragma("user_version")) < number:
                self._database.connection.execute(text)
                self._database.connection.execute(f"pragma user_version = {number:d}")


def migrate(database: SqliteDatabase | Schema) -> int:
    """Apply what is missing; the schema's number afterwards. Errors: StoreUnavailable when the state is newer."""
    schema = SqliteSchema(database) if isinstance(database, SqliteDatabase) else database
    newest, found = statements.migrations()[-1][0], schema.schema()
    if found > newest:
        raise StoreUnavailable(
            f"the state {schema.place} cannot be used: its schema is number {found}, this Longwatch knows up to {newest}",
            hint="Upgrade Longwatch: pip install --upgrade longwatch. The state was not touched.",
        )
    for number, _, text in statements.migrations():
        if number > found:
            schema.apply(number, text)
    return newest
