"""The engines that have to agree with the model. Another dialect is one more entry."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.testing.play import HandClock, MakeEngine


def in_memory(clock: HandClock) -> SqliteDatabase:
    return _migrated(SqliteDatabase(":memory:", clock))


def on_file(folder: Path) -> MakeEngine:
    """Every state is a new file in the folder, with a name of its own."""

    def make(clock: HandClock) -> SqliteDatabase:
        place = Path(tempfile.mkdtemp(dir=folder))
        return _migrated(SqliteDatabase(str(place / "state.db"), clock))

    return make


def _migrated(database: SqliteDatabase) -> SqliteDatabase:
    migrate(database)
    return database


ENGINES: dict[str, Callable[[Path], MakeEngine]] = {
    "sqlite in memory": lambda folder: in_memory,
    "sqlite on a file": on_file,
}
