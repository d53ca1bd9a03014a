"""The engines that have to agree with the model. Another dialect is one more entry."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.db.sqlite import SqliteDatabase
from longwatch.runtime.world import Machine
from longwatch.testing.play import HandClock, MakeEngine
from longwatch.testing.postgres import shared


def in_memory(clock: HandClock) -> SqliteDatabase:
    return _migrated(SqliteDatabase(":memory:", clock))


def on_file(folder: Path) -> MakeEngine:
    """Every state is a new file in the folder, with a name of its own."""

    def make(clock: HandClock) -> SqliteDatabase:
        place = Path(tempfile.mkdtemp(dir=folder))
        return _migrated(SqliteDatabase(str(place / "state.db"), clock))

    return make


class Dropped(PostgresDatabase):
    """Leaves nothing behind."""

    def close(self) -> None:
        super().close()
        shared().drop(self.place)


def on_server(clock: HandClock) -> PostgresDatabase:
    """Every state is a new database of one server, which ends with the tests."""
    return Dropped(shared().new_database(), Machine(), clock=clock)


def _migrated(database: SqliteDatabase) -> SqliteDatabase:
    migrate(database)
    return database


ENGINES: dict[str, Callable[[Path], MakeEngine]] = {
    "sqlite in memory": lambda folder: in_memory,
    "sqlite on a file": on_file,
    "postgres": lambda folder: on_server,
}
