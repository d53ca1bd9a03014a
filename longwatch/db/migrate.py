"""Brings a state to this code's schema: numbered migrations, each in the transaction that records its number.

`migrate`, at every start, applies what this code cannot work without. What takes something away from older code
(policy/schema.py) waits for `finish`, or until a later migration needs it, and is refused as long as a worker of older
code is at work: a guard looks, in the transaction that would apply it.

A state from which something was taken away that this code needs is refused before anything is read from it: old code must
not guess at new tables. One to which something was only added is not.
"""

# pyright: reportUnknownMemberType=false
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from longwatch.db import statements
from longwatch.db.connection import Database, Transaction
from longwatch.db.sqlite import SqliteDatabase
from longwatch.db.statements import Migration
from longwatch.errors import StoreUnavailable
from longwatch.policy.duration import format_ms
from longwatch.policy.schema import SILENT_MS, is_post, is_welcome, needed, pending

NAMED = 5  # workers in a message

Guard = Callable[[Transaction], None]
"""Raises when the migration may not be applied."""


class Schema(Protocol):
    """An engine that keeps the number of its schema itself. place: as it is named in messages."""

    @property
    def place(self) -> str: ...

    def schema(self) -> int:
        """The number of the last migration; 0 of an empty state."""
        ...

    def apply(self, number: int, text: str, guard: Guard) -> None:
        """Run the migration and record its number, all or nothing, unless another process was faster."""
        ...


class SqliteSchema:
    """The number is in the header of the file."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database, self.place = database, str(database.path)

    def schema(self) -> int:
        with self._database.read():
            return int(self._database.connection.pragma("user_version"))

    def apply(self, number: int, text: str, guard: Guard) -> None:
        with self._database.transaction() as tx:
            if int(self._database.connection.pragma("user_version")) < number:
                guard(tx)
                self._database.connection.execute(text)
                self._database.connection.execute(f"pragma user_version = {number:d}")


def migrate(database: Database, *, known: Sequence[Migration] | None = None, lease_ms: int = SILENT_MS) -> int:
    """Apply what the code cannot work without; the schema's number afterwards. known: the code's migrations.

    lease_ms: a worker that has been silent for longer is taken for gone. Errors: StoreUnavailable when the state is too
    new, or when something would have to be taken from older code that is at work.
    """
    return _apply(database, needed, known or statements.migrations(), lease_ms)


def finish(database: Database, *, known: Sequence[Migration] | None = None, lease_ms: int = SILENT_MS) -> int:
    """As `migrate`, and everything else: from then on the previous code is refused."""
    return _apply(database, pending, known or statements.migrations(), lease_ms)


def refuse_unwelcome(found: int, known: int, place: str) -> None:
    """Errors: StoreUnavailable when code that knows `known` may not use a schema of number `found`."""
    if not is_welcome(known, found):
        raise StoreUnavailable(
            f"the state {place} cannot be used: its schema is number {found}, this Longwatch knows up to {known}",
            hint="Upgrade Longwatch: pip install --upgrade longwatch. The state was not touched.",
        )


def _apply(
    database: Database,
    choose: Callable[[Sequence[Migration], int], list[Migration]],
    known: Sequence[Migration],
    lease_ms: int,
) -> int:
    schema = SqliteSchema(database) if isinstance(database, SqliteDatabase) else cast("Schema", database)
    found, newest = schema.schema(), known[-1].number
    refuse_unwelcome(found, newest, schema.place)
    chosen = choose(known, found)
    for migration in chosen:
        schema.apply(migration.number, migration.text, _guard(schema.place, migration, lease_ms))
    if not chosen:
        return found
    found = schema.schema()
    refuse_unwelcome(found, newest, schema.place)  # meanwhile newer code may have gone further
    return found


def _guard(place: str, migration: Migration, lease_ms: int) -> Guard:
    """What only adds may always be applied, and what takes away only when nobody older is at work."""

    def guard(tx: Transaction) -> None:
        silent_ms = max(lease_ms, SILENT_MS)
        older = tx.all("tasks.older_workers", schema=migration.number, silent_ms=silent_ms)
        if not older:
            return
        named = [f"process {row.pid} (agent {row.agent}, schema {row.schema})" for row in older[:NAMED]]
        more = [f"{len(older) - NAMED} more"] if len(older) > NAMED else []
        raise StoreUnavailable(
            f"the state {place} still serves older code: {', '.join(named + more)} needs what migration "
            f"{migration.number} ({migration.name}) takes away",
            hint="Upgrade these workers, or stop them. One that was killed counts as gone once it has been silent for "
            f"{format_ms(silent_ms)}. Nothing was taken away.",
        )

    return guard if is_post(migration.number) else _allow


def _allow(_: Transaction) -> None:
    """Adding does no harm."""
