"""A whole fleet from one state into another, empty one, whatever engines keep them: all of it or nothing.

Every table is copied in one transaction, read as of one instant, and read back before the commit: rows and checksums have
to agree. In the same transaction the copy becomes a state of its own: its fences are of a new epoch, leases are over, and
what ran there has crashed. The old state is left as it is, for as long as somebody wants it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from longwatch.admission.limiter import Limiter
from longwatch.db import statements, tables
from longwatch.db.connection import Clock, Database, Transaction
from longwatch.db.sqlite import tables as every_table
from longwatch.db.tables import Filled, Plain, Sum, Table
from longwatch.errors import ConfigError, StoreUnavailable
from longwatch.policy.difference import limits_from_json
from longwatch.policy.redact import Redactor
from longwatch.runtime.backup import until_nothing
from longwatch.runtime.memory_copy import MemoryCopy
from longwatch.runtime.world import World, pids_of, start_ticks
from longwatch.store import backup, fleet
from longwatch.store.journal import Journal
from longwatch.store.look import Look
from longwatch.store.runs import Runs
from longwatch.store.workers import Enrolled, Workers

SILENT_MS = 60_000  # a worker of another host that has not beaten for longer is taken for gone


class End(Protocol):
    """One of the two states. clock: its fleet's."""

    @property
    def database(self) -> Database: ...
    @property
    def clock(self) -> Clock: ...


@dataclass
class Progress:
    """How far it has got: rows."""

    total: int = 0
    before: int = 0
    here: int = 0
    table: str = ""

    @property
    def done(self) -> int:
        return self.before + self.here

    def told(self, rows: int) -> None:
        self.here = rows

    def next(self, table: str) -> None:
        self.before, self.here, self.table = self.done, 0, table


@dataclass(frozen=True)
class Copied:
    """tables: what each holds, as it was read and read back. tasks: by state, once what ran has crashed."""

    epoch: int
    tables: Mapping[str, Sum] = field(default_factory=dict[str, Sum])
    tasks: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def rows(self) -> int:
        return sum(found.rows for found in self.tables.values())


def copy_state(
    world: World, old: End, new: End, *, source: str, target: str, progress: Progress, memory: MemoryCopy | None
) -> Copied:
    """memory: None where nothing is remembered.

    Errors: ConfigError while the fleet is at work, or when the target is not empty; StoreUnavailable. All or nothing.
    """
    _refuse_ahead(old, source)
    _refuse_at_work(world, old, source)
    found: dict[str, Sum] = {}
    with old.database.read() as reading, new.database.transaction() as tx:
        kept = reading.one("fleet.found")
        assert kept is not None
        if tx.one("fleet.found") is not None:
            raise ConfigError(f"{target} holds a fleet already", hint="Copy into a state that nobody has used yet.")
        names = every_table()
        progress.total = sum(tables.count(cast("Plain", reading), table) for table in names)
        progress.total += 0 if memory is None else memory.rows()
        for table in names:
            progress.next(table.name)
            found[table.name] = _copied(reading, tx, table, progress.told, target)
        journal = Journal(new.database, Redactor(kept.redaction_key.encode()))
        epoch = int(kept.epoch) + 1
        ended = backup.overtake_in(tx, journal, epoch=epoch, reason="state copied")
        journal.append(tx, "state.copied", "fleet", source=source, epoch=epoch, leases=ended)
        tx.count("tasks.end_all_leases")
        if memory is not None:
            found |= memory.fill(tx, epoch=epoch, next_table=progress.next, told=progress.told, target=target)
            world.reach("state.memory_copied")
    world.reach("state.copied")
    if memory is not None:
        memory.settle(epoch)
    return Copied(epoch, found, _settled(new, journal))


def _copied(reading: Transaction, tx: Transaction, table: Table, told: Callable[[int], None], target: str) -> Sum:
    new = cast("Filled", tx)
    read = tables.copy(cast("Plain", reading), new, table, told)
    if tables.summed(new, table) != read:
        raise StoreUnavailable(
            f"the copy in {target} is not what was read: table {table.name}",
            hint="Nothing was written there. Please report this, with the versions of both engines.",
        )
    return read


def _settled(new: End, journal: Journal) -> Mapping[str, int]:
    """Where the tasks stand once what ran has crashed and open calls are unknown; a fleet that opens it does the same."""
    joined = fleet.enter(new.database, new.clock, name="", redaction_key="")
    Workers(new.database, journal).end_all()
    until_nothing(Runs(new.database, journal).sweep)
    until_nothing(Limiter(new.database, journal, limits_from_json(joined.config)).expire)
    return Look(new.database).counts()


def _refuse_ahead(old: End, source: str) -> None:
    """The tables are copied as this code knows them: what newer code has added would be left behind."""
    with old.database.read() as tx:
        found = fleet.schema(tx)
    if found > statements.newest():
        raise ConfigError(
            f"the schema of {source} is number {found}, this Longwatch knows up to {statements.newest()}",
            hint="Copy it with the newer Longwatch that has been at work on it.",
        )


def _refuse_at_work(world: World, old: End, source: str) -> None:
    with old.database.read() as tx:
        if tx.one("fleet.found") is None:
            raise ConfigError(f"{source} holds no fleet", hint="Name the state to copy first, then the empty one.")
    fleet.enter(old.database, old.clock, name="", redaction_key="")  # a fleet's clock is known to who has entered it
    with old.database.read() as tx:
        now_ms = tx.now_ms
    workers = Workers(old.database, Journal(old.database, Redactor(b""))).all()
    at_work = [worker for worker in workers if _is_at_work(world, worker, now_ms)]
    if at_work:
        raise ConfigError(
            f"{len(at_work)} workers are at work on {source}: what they did meanwhile would not be in the copy",
            hint="Stop them first; longwatch status lists them.",
        )


def _is_at_work(world: World, worker: Enrolled, now_ms: int) -> bool:
    """For certain, where it is a process of this host; else by its last beat."""
    if worker.boot_id == pids_of(world.boot_id()):
        return start_ticks(worker.pid) == worker.start_ticks
    return now_ms - worker.beat_ms < SILENT_MS
