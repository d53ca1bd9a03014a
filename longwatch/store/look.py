"""What people look at: pages of tasks, what runs longest, the story of one task. Reads only, each as of one instant."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from longwatch.db.connection import Database, Row
from longwatch.errors import NotFound
from longwatch.store.moves import Task, read_task, task_of

S = TypeVar("S", bound=msgspec.Struct)
MANY = 1_000  # rows of one list in a story: more is cut off


class Tried(msgspec.Struct, frozen=True):
    """One attempt at a task. Instants: epoch milliseconds. outcome: None while it goes on."""

    id: str
    task: str
    fence: int
    owner: str
    agent: str
    started_ms: int
    ended_ms: int | None
    outcome: str | None
    error: str | None


class StepRow(msgspec.Struct, frozen=True):
    """A named part of a task. result: JSON, None while it is only begun."""

    name: str
    sort: str
    state: str
    result: str | None
    started_ms: int
    stored_ms: int | None


class Link(msgspec.Struct, frozen=True):
    """A task that is needed, or that needs. fate: of the one that needs, when the other does not succeed."""

    id: str
    fate: str
    met: int
    state: str
    kind: str


class Going(msgspec.Struct, frozen=True):
    """A run that goes on."""

    id: str
    task: str
    agent: str
    started_ms: int
    kind: str
    owner: str


class Waiting(msgspec.Struct, frozen=True):
    """Ready tasks of one kind; since_ms: the earliest instant one of them could have started."""

    kind: str
    tasks: int
    since_ms: int


class BatchRow(msgspec.Struct, frozen=True):
    id: str
    name: str
    submitted_ms: int
    counts: dict[str, int] = {}


class Vitals(msgspec.Struct, frozen=True):
    """The fleet and its clocks at one instant. steady_ms, calendar_ms: now, by either. fence: the last one given."""

    name: str
    created_ms: int
    epoch: int
    fence: int
    boot_id: str
    engine: str
    steady_ms: int
    calendar_ms: int


class Paid(msgspec.Struct, frozen=True):
    """Calls added up by who is charged. money: micro-units of the fleet's currency; places: how many calls."""

    budget: str | None
    agent: str
    service: str
    places: int
    money: int
    calls: int
    tokens: int


@dataclass(frozen=True)
class Story:
    """Everything about one task but its journal."""

    task: Task
    runs: list[Tried]
    steps: list[StepRow]
    needs: list[Link]
    needed_by: list[Link]


@dataclass(frozen=True)
class Look:
    database: Database

    def vitals(self) -> Vitals:
        with self.database.read() as tx:
            return _as(Vitals, tx.one("look.lives"))

    def counts(self) -> dict[str, int]:
        """How many tasks stand in which state; states without a task are absent."""
        with self.database.read() as tx:
            return {row.state: row.tasks for row in tx.all("look.counts")}

    def ready(self, *, limit: int = 10) -> list[Waiting]:
        with self.database.read() as tx:
            return _all(Waiting, tx.all("look.ready_by_kind", limit=limit))

    def tasks(self, *, limit: int, before: int | None = None, **filters: str | None) -> list[Task]:
        """Up to `limit` tasks, newest first. Filters: state, kind, batch, agent. before: only places below it."""
        every: dict[str, str | None] = {"state": None, "kind": None, "batch": None, "agent": None}
        with self.database.read() as tx:
            return [task_of(row) for row in tx.all("look.tasks", limit=limit, before=before, **(every | filters))]

    def running(self, *, limit: int = 5) -> list[Going]:
        with self.database.read() as tx:
            return _all(Going, tx.all("look.running", limit=limit))

    def run(self, id: str) -> Tried:
        """Errors: NotFound."""
        with self.database.read() as tx:
            row = tx.one("look.run_by_id", id=id)
        if row is None:
            hint = f"longwatch show TASK lists the runs of a task, longwatch archive find {id} finds one that has left."
            raise NotFound(f"there is no run {id}", hint=hint)
        return _as(Tried, row)

    def story(self, task: str) -> Story:
        """Errors: NotFound."""
        with self.database.read() as tx:
            return Story(
                task=read_task(tx, task),
                runs=_all(Tried, reversed(tx.all("look.runs_of", task=task, limit=MANY))),
                steps=_all(StepRow, tx.all("look.steps_of", task=task, limit=MANY)),
                needs=_all(Link, tx.all("look.needs_of", task=task, limit=MANY)),
                needed_by=_all(Link, tx.all("look.needed_by", task=task, limit=MANY)),
            )

    def batches(self, *, limit: int) -> list[BatchRow]:
        """Newest first, each with how many of its tasks stand where."""
        with self.database.read() as tx:
            rows = _all(BatchRow, tx.all("look.batches", limit=limit))
            return [
                msgspec.structs.replace(
                    row, counts={count.state: count.tasks for count in tx.all("look.batch_counts", batch=row.id)}
                )
                for row in rows
            ]

    def batch(self, wanted: str) -> BatchRow:
        """By id or name. Errors: NotFound."""
        with self.database.read() as tx:
            row = tx.one("look.batch", wanted=wanted)
            if row is None:
                raise NotFound(f"there is no batch {wanted}", hint="longwatch batch list shows them.")
            counts = {count.state: count.tasks for count in tx.all("look.batch_counts", batch=row.id)}
            return msgspec.structs.replace(_as(BatchRow, row), counts=counts)

    def unended(self, batch: str, *, limit: int = MANY) -> list[str]:
        """Ids of the batch's tasks that have no outcome yet, the newest first, so that dependants come before needs."""
        with self.database.read() as tx:
            return [row.id for row in tx.all("look.silent_of", batch=batch, limit=limit)]

    def paid(self, *, since_ms: int, limit: int = 100) -> list[Paid]:
        """What ended calls since the instant (of the calendar) have cost."""
        with self.database.read() as tx:
            return _all(Paid, tx.all("look.paid", since_ms=since_ms, limit=limit))

    def held(self, *, limit: int = 100) -> list[Paid]:
        """What open calls hold now."""
        with self.database.read() as tx:
            return _all(Paid, tx.all("look.held", limit=limit))

    def lately(self, *, limit: int = 500) -> dict[str, int]:
        """How long the newest settled calls of each service took on average, in ms. limit: of how many calls in all."""
        with self.database.read() as tx:
            return {row.service: row.took_ms for row in tx.all("look.lately", limit=limit)}


def _as(kind: type[S], row: Row) -> S:
    """The row as this struct, by the names of its columns; fields that are no column keep their default."""
    return kind(**{name: getattr(row, name) for name in kind.__struct_fields__ if name in row._fields})


def _all(kind: type[S], rows: Iterable[Row]) -> list[S]:
    return [_as(kind, row) for row in rows]
