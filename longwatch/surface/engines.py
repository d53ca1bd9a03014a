"""Which engine keeps a state, and which one decides about calls: told by their addresses."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from longwatch.admission.limiter import Limiter
from longwatch.admission.postgres import PostgresLimiter
from longwatch.config import Settings
from longwatch.config.secret import without_password
from longwatch.db.connection import Clock, Database
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import ConfigError, StoreUnavailable
from longwatch.runtime.loop import Bells, Fifos
from longwatch.runtime.world import World
from longwatch.store.archive import Archive, Folder
from longwatch.store.fleet import Fleet
from longwatch.store.journal import Journal
from longwatch.store.memory_backup import settle
from longwatch.store.memory_schema import ENDING, prepare_memory

SERVERS = ("postgresql", "postgres")


@dataclass(frozen=True)
class State:
    """An opened state. clock: the fleet's. bells: None without any (in memory). file: None when a server keeps it."""

    database: Database
    clock: Clock
    bells: Bells | None
    file: Path | None


def is_remote(state: str) -> bool:
    """Whether a server keeps it, and not a file."""
    return "://" in state


def identity(state: str) -> str:
    """The same for two names of one file."""
    return state if is_remote(state) else os.path.realpath(state)


def shown(state: str) -> str:
    """As it may be shown: no password."""
    return without_password(state) if is_remote(state) else state


def open_state(settings: Settings, world: World) -> State:
    """Open the state, or make it, and bring it to this code's schema. Errors: StoreUnavailable, ConfigError."""
    return _on_server(settings, world) if is_remote(settings.state) else _in_file(settings, world)


def in_memory(file: Path | None) -> bool:
    """Whether the state is in no file at all."""
    return file is None or str(file) == ":memory:"


def open_memory(settings: Settings, database: Database, world: World, file: Path | None) -> Database:
    """Memory's own file beside the state's; on a server the state's own database, where memory has tables of its own.

    file: the state's; None when it is in memory or on a server. Errors: StoreUnavailable.
    """
    if is_remote(settings.state):
        prepare_memory(database)
        return database
    if file is None or in_memory(file):
        place = ":memory:"
    else:
        with database.read() as tx:
            joined = tx.one("memory.epoch")
        settle(file, 0 if joined is None else int(joined.epoch))
        place = str(file.with_name(file.name + ENDING))
    memory = SqliteDatabase(place, world, syncs=settings.durability == "full")
    try:
        prepare_memory(memory)
    except BaseException:
        memory.close()
        raise
    return memory


def open_archive(settings: Settings, world: World) -> Archive:
    """Errors: StoreUnavailable, ConfigError."""
    to = settings.archive.to
    if not is_remote(to):
        return Archive(Folder(Path(to)), world)
    from longwatch.store.archive.bucket import Bucket

    cache = settings.root / ".longwatch" / "archive-cache" / hashlib.sha256(to.encode()).hexdigest()[:12]
    return Archive(Bucket(to, cache), world)


def open_limiter(settings: Settings, database: Database, journal: Journal, joined: Fleet, world: World) -> Limiter:
    """What decides about calls: the state's own engine, or the one that is named. Errors: StoreUnavailable, ConfigError."""
    if not settings.admission:
        return _own_limiter(settings, database, journal)
    try:
        from longwatch.admission.redis import SHORT_S, TIMEOUT_S, Link, RedisLimiter
    except ImportError as error:
        hint = "pip install 'longwatch[redis]'"
        raise ConfigError(f"the driver of Redis is not installed ({error})", hint=hint) from error
    own = hashlib.sha256(joined.redaction_key.encode()).hexdigest()[:12]  # fleets of one name may share a server
    timeout_s = SHORT_S if settings.limits.away else TIMEOUT_S
    link = Link(settings.admission, f"{joined.name}:{own}", timeout_s=timeout_s)
    limiter = RedisLimiter(
        database, journal, settings.limits, link=link, clock=world, new_token=lambda: world.new_id("engine")
    )
    try:
        link.renew()
    except StoreUnavailable as error:
        limiter.failed(error)
    return limiter


def _own_limiter(settings: Settings, database: Database, journal: Journal) -> Limiter:
    if not is_remote(settings.state):
        return Limiter(database, journal, settings.limits)
    from longwatch.db.postgres import PostgresDatabase

    assert isinstance(database, PostgresDatabase)
    return PostgresLimiter(database, journal, settings.limits)


def _in_file(settings: Settings, world: World) -> State:
    database = SqliteDatabase(settings.state, world, syncs=settings.durability == "full")
    try:
        migrate(database, lease_ms=settings.lease_ms)
    except BaseException:
        database.close()
        raise
    file = Path(settings.state)
    return State(database, world, None if database.in_memory else Fifos(file.with_name(file.name + ".bells")), file)


def _on_server(settings: Settings, world: World) -> State:
    scheme = settings.state.partition("://")[0]
    if scheme not in SERVERS:
        hint = "Write postgresql://USER:PASSWORD@HOST/DATABASE, or the path of a file."
        raise ConfigError(f"{scheme}:// is no engine that keeps a state", hint=hint)
    try:
        from longwatch.db.postgres import PostgresDatabase
    except ImportError as error:
        hint = "pip install 'longwatch[postgres]'"
        raise ConfigError(f"the driver of PostgreSQL is not installed ({error})", hint=hint) from error
    database = PostgresDatabase(settings.state, world, syncs=settings.durability == "full")
    try:
        migrate(database, lease_ms=settings.lease_ms)
    except BaseException:
        database.close()
        raise
    return State(database, database.clock, database.bells, None)
