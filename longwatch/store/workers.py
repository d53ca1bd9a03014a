"""Worker processes of the fleet, and the kinds of task they know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from longwatch.db import statements
from longwatch.db.connection import Database, Value
from longwatch.db.migrate import refuse_unwelcome
from longwatch.errors import ConfigError
from longwatch.policy.task import CRASH_LIMIT
from longwatch.store import fleet
from longwatch.store.journal import Journal

encode = msgspec.json.Encoder().encode


class Manner(msgspec.Struct, frozen=True):
    """How a kind of task is run. required, optional: the names of its arguments. needs: what a task needs of services.
    caps: on what all its calls may cost."""

    retries: int = 0
    crashes: int = CRASH_LIMIT
    timeout_ms: int | None = None
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    needs: dict[str, dict[str, Any]] = {}
    caps: dict[str, Any] = {}


class Kind(msgspec.Struct, frozen=True):
    """A kind of task. module: where its handler is found."""

    name: str
    module: str
    manner: Manner


class Enrolled(msgspec.Struct, frozen=True):
    """A worker process. owner: random. (pid, start_ticks, boot_id) name it for ever.

    boot_id: of the machine, and where its pids count. name: of which only one may work. schema: the last migration that
    its code knows, 0 of code that does not say.
    """

    owner: str
    agent: str
    pid: int
    start_ticks: int
    boot_id: str
    name: str | None
    since_ms: int
    beat_ms: int
    schema: int = 0


decode_manner = msgspec.json.Decoder(Manner).decode


@dataclass(frozen=True)
class Workers:
    database: Database
    journal: Journal

    def enrol(
        self, owner: str, *, agent: str, pid: int, start_ticks: int, boot_id: str, name: str | None = None
    ) -> None:
        """Make the worker known, so that others can tell when its process is gone. Twice does no harm.

        name: only one may have it at a time; the dead have to be buried before. Errors: ConfigError when it is taken;
        StoreUnavailable when the schema was taken further since the state was opened, than this code can follow.
        """
        schema = statements.newest()
        with self.database.transaction(durable=False) as tx:
            refuse_unwelcome(fleet.schema(tx), schema, "of this fleet")
            rival = tx.one("tasks.named_worker", name=name, owner=owner) if name else None
            if rival is not None:
                raise ConfigError(
                    f"workers named {name!r} are at work already: process {rival.pid}, agent {rival.agent}",
                    hint="Give these another name, or stop those first; without --name any number may work.",
                )
            process: dict[str, Value] = {"pid": pid, "start_ticks": start_ticks, "boot_id": boot_id, "schema": schema}
            if tx.count("tasks.enrol", owner=owner, agent=agent, name=name, **process):
                self.journal.append(tx, "worker.enrolled", owner, agent=agent, pid=pid, name=name)

    def dismiss(self, owner: str) -> None:
        with self.database.transaction(durable=False) as tx:
            if tx.count("tasks.dismiss", owner=owner):
                self.journal.append(tx, "worker.dismissed", owner)

    def all(self) -> list[Enrolled]:
        with self.database.read() as tx:
            rows = tx.all("tasks.workers")
        return [Enrolled(*[getattr(row, field) for field in Enrolled.__struct_fields__]) for row in rows]

    def last_fence(self) -> int:
        """Whatever is claimed from now on has a greater one."""
        with self.database.read() as tx:
            return fleet.last_fence(tx)

    def tally(self, owners: Sequence[str], *, after: int) -> dict[str, int]:
        """How many of the tasks that these workers ran, under fences past `after`, now stand in which state."""
        with self.database.read() as tx:
            rows = tx.all("tasks.tally", owners=encode(owners).decode(), after=after)
            return {row.state: row.tasks for row in rows}

    def learn_kinds(self, kinds: Iterable[Kind]) -> None:
        """Remember handlers, so that any process may submit by name."""
        with self.database.transaction(durable=False) as tx:
            for kind in kinds:
                tx.count("tasks.know_kind", name=kind.name, module=kind.module, manner=encode(kind.manner).decode())

    def kinds(self) -> dict[str, Kind]:
        """Every handler the fleet has ever had, as it was last seen, by the name of its kind."""
        with self.database.read() as tx:
            rows = tx.all("tasks.kinds")
        return {row.name: Kind(row.name, row.module, decode_manner(row.manner)) for row in rows}

    def end_all(self) -> None:
        """The machine started anew or the state was restored: nobody holds anything any more."""
        with self.database.transaction() as tx:
            tx.count("tasks.end_all_leases")
            for row in tx.all("tasks.workers"):
                tx.count("tasks.dismiss", owner=row.owner)
