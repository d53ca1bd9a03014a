"""The engines that have to agree with the model. Another dialect is one more entry."""

import tempfile
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path

from longwatch.admission.postgres import PostgresLimiter
from longwatch.admission.redis import Link, RedisLimiter
from longwatch.admission.redis.link import SCRIPT
from longwatch.db.connection import Database
from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.db.sqlite import SqliteDatabase
from longwatch.policy.limits import Limits
from longwatch.runtime.world import Machine
from longwatch.store.journal import Journal
from longwatch.testing import redis
from longwatch.testing.play import Beside, HandClock, MakeEngine
from longwatch.testing.postgres import shared

NUMBERS = count()


@cache
def _template() -> bytes:
    """A state as migrations leave it."""
    database = _migrated(SqliteDatabase(":memory:", HandClock()))
    made = database.connection.serialize("main")
    database.close()
    return made


def in_memory(clock: HandClock) -> SqliteDatabase:
    """A copy of one that was migrated: a third of a program's time went into the making of its state."""
    database = SqliteDatabase(":memory:", clock)
    database.connection.deserialize("main", _template())  # pyright: ignore[reportUnknownMemberType]
    return database


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


def beside_redis(clock: HandClock, *, script: bytes = SCRIPT) -> Beside:
    """A state in memory, whose calls Redis decides about, with keys of its own."""
    tag = f"conformance-{next(NUMBERS)}"

    def limiter(database: Database, journal: Journal, limits: Limits) -> RedisLimiter:
        link = Link(redis.shared().url, tag, script=script)
        token = f"generation-{tag}"
        return RedisLimiter(database, journal, limits, link=link, clock=clock, new_token=lambda: token, given=True)

    return Beside(in_memory(clock), limiter)


def on_server(clock: HandClock) -> Beside:
    """Every state is a new database of one server, which ends with the tests."""
    database = Dropped(shared().new_database(), Machine(), clock=clock)
    return Beside(database, lambda _, journal, limits: PostgresLimiter(database, journal, limits))


def _migrated(database: SqliteDatabase) -> SqliteDatabase:
    migrate(database)
    return database


ENGINES: dict[str, Callable[[Path], MakeEngine]] = {
    "sqlite in memory": lambda folder: in_memory,
    "sqlite on a file": on_file,
    "postgres": lambda folder: on_server,
    "redis": lambda folder: beside_redis,
}
