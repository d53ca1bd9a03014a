"""What agents remember, along with the state that is copied: the same rows and checksums, all of it or nothing.

On a server memory's tables are filled in the transaction that fills the state's. Of a state in a file memory is a file beside
it: it is written and closed before the state commits, and waits for that under the copy's epoch (store/memory_backup.py). The
index of words is made anew, as the engine makes it. Leases are over: who makes snapshots is nobody.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from longwatch.db import tables
from longwatch.db.connection import Clock, Database, Transaction
from longwatch.db.sqlite import SqliteDatabase
from longwatch.db.sqlite import tables as every_table
from longwatch.db.tables import Filled, Plain, Sum, Table
from longwatch.errors import StoreUnavailable
from longwatch.store.memory import MOST, tag_of
from longwatch.store.memory_backup import clear_waiting, settle, sync, waiting
from longwatch.store.memory_schema import memory_migrations, prepare_memory

NOT_COPIED = ("memory_words", "memory_compactor")  # beginnings of names
Told = Callable[[int], None]


@dataclass(frozen=True)
class MemoryCopy:
    """old: where memory is read. state: the new state's file; None on a server, where memory's tables are beside the state's.

    clock: of the new state.
    """

    old: Database
    state: Path | None
    clock: Clock

    def rows(self) -> int:
        with self.old.read() as tx:
            return sum(tables.count(cast("Plain", tx), table) for table in memory_tables())

    def fill(
        self, tx: Transaction, *, epoch: int, next_table: Callable[[str], None], told: Told, target: str
    ) -> Mapping[str, Sum]:
        """tx: of the new state, not committed yet. What each table holds. Errors: StoreUnavailable."""
        with self.old.read() as reading:
            if self.state is None:
                return _filled(reading, tx, next_table, told, target)
            with tempfile.TemporaryDirectory(prefix=".copy-", dir=self.state.parent) as room:
                place = Path(room) / "memory"
                database = SqliteDatabase(str(place), self.clock)
                try:
                    prepare_memory(database)
                    with database.transaction() as own:
                        found = _filled(reading, own, next_table, told, target)
                finally:
                    database.close()  # and so the log is in the file
                sync(place)
                clear_waiting(self.state)
                os.rename(place, waiting(self.state, epoch))
                sync(self.state.parent)
                return found

    def settle(self, epoch: int) -> None:
        """The state has committed."""
        if self.state is not None:
            settle(self.state, epoch)


def memory_tables() -> list[Table]:
    return [table for table in every_table(memory_migrations("sqlite")) if not table.name.startswith(NOT_COPIED)]


def _filled(
    reading: Transaction, tx: Transaction, next_table: Callable[[str], None], told: Told, target: str
) -> Mapping[str, Sum]:
    found: dict[str, Sum] = {}
    for table in memory_tables():
        next_table(table.name)
        read = tables.copy(cast("Plain", reading), cast("Filled", tx), table, told)
        if tables.summed(cast("Filled", tx), table) != read:
            raise StoreUnavailable(
                f"the copy in {target} is not what was read: table {table.name}",
                hint="Nothing was written there. Please report this, with the versions of both engines.",
            )
        found[table.name] = read
    _index(tx)
    return found


def _index(tx: Transaction) -> None:
    """Make the records findable, but for those that were redacted."""
    for agent in tx.all("memory.agents"):
        for first in range(1, int(agent.places) + 1, MOST):
            last = min(first + MOST - 1, int(agent.places))
            tx.count("memory.add_words", agent=agent.agent, tag=tag_of(agent.agent), first_place=first, last_place=last)
    for row in tx.all("memory.redacted"):
        tx.count("memory.redact_words", seq=row.seq)
