"""Reads a state, or a copy of one, without becoming part of its fleet; and turns a copy into the fleet's next state.

Run it in a process that has no state open: closing a second handle on one would drop the first one's locks.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw
import msgspec

from longwatch.db import statements
from longwatch.db.connection import Database, Transaction
from longwatch.db.migrate import refuse_unwelcome
from longwatch.db.place import unavailable
from longwatch.db.sqlite import BUSY_MS, SqliteDatabase, translated
from longwatch.db.turnstile import Turnstile
from longwatch.store.journal import Journal
from longwatch.store.memory_backup import digest_of
from longwatch.store.memory_schema import memory_migrations

encode = msgspec.json.Encoder().encode

MAGIC, WAL_MODE = b"SQLite format 3\0", b"\x02\x02"  # of the file format: bytes 0 to 15, and 18 and 19

# What a state knows to be spent in the windows that go on: settled calls, and open ones at their hold.
SPENT = """
select purse, ends_ms, dimension, per, starts_ms,
       settled + coalesce((
         select sum(case s.dimension when 'money' then money when 'tokens' then tokens else calls end) from call
          where state = 'open' and calendar_ms >= s.starts_ms and calendar_ms < s.ends_ms
            and (s.purse = 'fleet' or s.purse = 'budget:' || budget or s.purse = 'agent:' || agent
                 or s.purse = 'service:' || service or s.purse = 'task:' || task)), 0)
  from spend s where ends_ms > (select at_ms from calendar)
"""


MEMORIES = """
select json_extract(data, '$.memory') from record
 where kind = 'state.backed_up' and json_extract(data, '$.memory') is not null order by seq desc limit 20
"""


class Process(msgspec.Struct, frozen=True):
    """A worker that the state knows of: see store/workers.py."""

    pid: int
    start_ticks: int
    boot_id: str


class Carried(msgspec.Struct, frozen=True):
    """What must not be forgotten when a state is replaced by an older copy. calendar_ms: how far budgets have got."""

    spend: list[list[Any]] = []
    meters: list[list[Any]] = []
    calendar_ms: int = 0


class Found(msgspec.Struct, frozen=True):
    """What a state holds. at_ms: its last journal entry, by the calendar. tasks: how many stand in which state."""

    schema: int
    name: str
    epoch: int
    at_ms: int
    entries: int
    last_entry: int
    tasks: dict[str, int]
    workers: list[Process] = []
    carried: Carried = Carried()
    memories: list[str] = []
    """SHA-256 of the memories that were copied before it, the newest first: its own is among them."""


def inspect_copy(path: Path) -> Found:
    """A file that nobody writes: read without locks, without a write-ahead log, and checked from end to end.

    Errors: StoreUnavailable when it is no state, damaged, or newer than this Longwatch.
    """
    with _opened(f"file:{quote(str(path))}?mode=ro&immutable=1", path) as connection:
        problems = [row[0] for row in connection.execute("pragma integrity_check(5)") if row[0] != "ok"]
        if problems:
            raise unavailable(path, f"it is damaged ({problems[0]})", hint="Take an older copy.")
        return _found(connection, path)


class FoundMemory(msgspec.Struct, frozen=True):
    """What a copy of memory holds. sha256: of the file."""

    schema: int
    agents: int
    records: int
    files: int
    bytes: int
    sha256: str


def inspect_memory(path: Path) -> FoundMemory:
    """As `inspect_copy`, of memory's file."""
    with _opened(f"file:{quote(str(path))}?mode=ro&immutable=1", path) as connection:
        problems = [row[0] for row in connection.execute("pragma integrity_check(5)") if row[0] != "ok"]
        if problems:
            raise unavailable(path, f"it is damaged ({problems[0]})", hint="Take an older copy.")
        tables = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
        if not {"memory_record", "memory_agent"} <= tables:
            raise unavailable(path, "it is a database, but not a memory", hint="Name a file that backup made.")
        schema, newest = int(connection.pragma("user_version")), memory_migrations("sqlite")[-1].number
        if schema > newest:
            hint = "Upgrade Longwatch: pip install --upgrade longwatch. Nothing was touched."
            raise unavailable(path, f"its schema is number {schema}, this Longwatch knows up to {newest}", hint=hint)
        agents, records, files = (
            _rows_of(connection, table) if table in tables else 0
            for table in ("memory_agent", "memory_record", "memory_file")
        )
        return FoundMemory(schema, agents, records, files, path.stat().st_size, digest_of(path))


def _rows_of(connection: apsw.Connection, table: str) -> int:
    ((rows,),) = connection.execute(f"select count(*) from {table}").fetchall()
    assert isinstance(rows, int)
    return rows


def inspect_present(path: Path) -> Found:
    """The state in use; whoever closes it last, and here that is us, also empties its write-ahead log.

    Errors: StoreUnavailable.
    """
    _refuse_foreign(path)
    turnstile = Turnstile(path.with_name(path.name + ".turn"))
    try:
        with turnstile, _opened(f"file:{quote(str(path))}?mode=rw", path) as connection:
            return _found(connection, path)
    finally:
        turnstile.close()


def _refuse_foreign(path: Path) -> None:
    """Errors: StoreUnavailable for a file that is no WAL database: opening it would delete the log beside it, unread."""
    with path.open("rb") as file:
        head = file.read(20)
    if not head.startswith(MAGIC) or head[18:20] != WAL_MODE:
        raise unavailable(path, "it is not a Longwatch state, or its beginning is damaged")


@contextlib.contextmanager
def _opened(uri: str, path: Path) -> Generator[apsw.Connection]:
    with translated(path):
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)
        try:
            connection.set_busy_timeout(BUSY_MS)
            yield connection
        finally:
            connection.close()


def _found(connection: apsw.Connection, path: Path) -> Found:
    tables = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    if not {"fleet", "task", "record"} <= tables:
        raise unavailable(path, "it is a database, but not a Longwatch state", hint="Name a file that backup made.")
    schema = int(connection.pragma("user_version"))
    refuse_unwelcome(schema, statements.newest(), str(path))
    fleet = connection.execute("select name, epoch, created_ms from fleet").fetchone()
    if fleet is None:
        raise unavailable(path, "no fleet has ever used it", hint="Name a file that backup made.")
    entries = connection.execute("select count(*), coalesce(max(seq), 0), max(at_ms) from record").fetchone()
    assert entries is not None
    return Found(
        schema=schema,
        name=fleet[0],
        epoch=fleet[1],
        at_ms=entries[2] or fleet[2],
        entries=entries[0],
        last_entry=entries[1],
        tasks=dict(connection.execute("select state, count(*) from task group by state")),
        workers=[Process(*row) for row in connection.execute("select pid, start_ticks, boot_id from worker")],
        carried=_carried(connection) if {"spend", "meter", "calendar"} <= tables else Carried(),
        memories=[row[0] for row in connection.execute(MEMORIES)],
    )


def _carried(connection: apsw.Connection) -> Carried:
    calendar = connection.execute("select at_ms from calendar").fetchone()
    return Carried(
        spend=[list(row) for row in connection.execute(SPENT)],
        meters=[list(row) for row in connection.execute("select name, free_us, last_us, total from meter")],
        calendar_ms=0 if calendar is None else calendar[0],
    )


def overtake(database: Database, journal: Journal, *, epoch: int, source: str) -> int:
    """Make a copy the next state of its fleet: a new epoch of fences, no leases. How many leases it held.

    source: where the copy came from, for the journal.
    """
    with database.transaction() as tx:
        ended = overtake_in(tx, journal, epoch=epoch, reason="state restored")
        journal.append(tx, "state.restored", "fleet", source=source, epoch=epoch, leases=ended)
    return ended


def overtake_in(tx: Transaction, journal: Journal, *, epoch: int, reason: str) -> int:
    """As `overtake`, in an open transaction, and for a reason of its own."""
    tx.count("backup.set_epoch", epoch=epoch)
    tx.count("backup.drop_waiters")
    tx.count("backup.drop_covers")
    ended = tx.all("backup.drop_leases")
    for row in ended:
        journal.append(tx, "lease.expired", row.id, agent=row.agent, task=row.task, reason=reason)
    tx.count("backup.doubt_calls")
    return len(ended)


def carry(database: Database, carried: Carried) -> None:
    """Keep what the replaced state knew to be spent, and which slots it had given."""
    with database.transaction() as tx:
        tx.count("backup.carry_spend", rows=encode(carried.spend).decode())
        tx.count("backup.carry_meters", rows=encode(carried.meters).decode())
        tx.count("backup.carry_calendar", at_ms=carried.calendar_ms)


def copy_into(database: SqliteDatabase, journal: Journal, target: Path, *, name: str, memory: str | None) -> None:
    """Copy the state as of one instant into `target`, an empty file. name: what it will be called, for the journal.

    memory: SHA-256 of the memory that was copied before it, by which a restore knows it again.
    """
    with database.transaction() as tx:
        journal.append(tx, "state.backed_up", "fleet", file=name, memory=memory)
    database.backup(target)
