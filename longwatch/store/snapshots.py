"""Snapshots as they are kept: one transaction writes one, under the compactor's fence, and says how far memory is compacted.

Whoever makes them reads records in pages, without keeping any writer out, and thinks about them outside of any transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from longwatch.db.connection import Database, Transaction
from longwatch.errors import LeaseLost
from longwatch.policy.memory import Record
from longwatch.policy.snapshot import Shape
from longwatch.store.memory import MOST, encode, record_of

PAGE = 200  # snapshots that are looked at in one go


class Snapshot(msgspec.Struct, frozen=True):
    """level: 1 of records, above of ten of the level below. body: JSON of a Shape. parent: the one that it is part of."""

    id: str
    agent: str
    level: int
    first_place: int
    last_place: int
    records: int
    tasks: int
    sha256: str
    starts_ms: int
    ends_ms: int
    made_ms: int
    author: str
    body: str
    parent: str | None = None

    @property
    def shape(self) -> Shape:
        return msgspec.json.decode(self.body, type=Shape)


@dataclass(frozen=True)
class Snapshots:
    database: Database

    # -- who makes them ----------------------------------------------------------------------------------------------------

    def take(self, holder: str, *, lease_ms: int) -> int | None:
        """The fence of who may make snapshots now; None while another process does."""
        with self.database.transaction(part="memory", durable=False) as tx:
            row = tx.one("memory.take_compactor", holder=holder, lease_ms=lease_ms)
            return None if row is None else int(row.fence)

    def give_back(self, fence: int) -> None:
        with self.database.transaction(part="memory", durable=False) as tx:
            tx.count("memory.drop_compactor", fence=fence)

    # -- writing -----------------------------------------------------------------------------------------------------------

    def add(self, snapshot: Snapshot, *, fence: int, lease_ms: int) -> bool:
        """Keep one of records; False when what it covers is covered already. Errors: LeaseLost."""
        with self.database.transaction(part="memory") as tx:
            _hold(tx, fence, lease_ms)
            if not _insert(tx, snapshot):
                return False
            moved = tx.count(
                "memory.compacted",
                agent=snapshot.agent,
                first_place=snapshot.first_place,
                last_place=snapshot.last_place,
                tasks_total=snapshot.tasks,
            )
            assert moved == 1, f"{snapshot.agent} was not compacted up to {snapshot.first_place - 1}"
            return True

    def add_over(self, snapshot: Snapshot, children: list[str], *, fence: int, lease_ms: int) -> bool:
        """Keep one of snapshots; False when these are part of one already. Errors: LeaseLost."""
        with self.database.transaction(part="memory") as tx:
            _hold(tx, fence, lease_ms)
            if not _insert(tx, snapshot):
                return False
            adopted = tx.count("memory.adopt", parent=snapshot.id, ids=encode(children).decode())
            assert adopted == len(children), f"{adopted} of {len(children)} snapshots were part of none"
            return True

    # -- reading -----------------------------------------------------------------------------------------------------------

    def tops(self, agent: str) -> list[Snapshot]:
        """Those that are part of no other, from coarse to fresh: at most nine of a level, and one more on the way up."""
        with self.database.read() as tx:
            return [Snapshot(*row) for row in tx.all("memory.tops", agent=agent)]

    def of_level(self, agent: str, level: int) -> Iterator[Snapshot]:
        """All of them, in their order."""
        after = 0
        while True:
            with self.database.read() as tx:
                rows = tx.all("memory.snapshots", agent=agent, level=level, after=after, limit=PAGE)
            yield from (Snapshot(*row) for row in rows)
            if len(rows) < PAGE:
                return
            after = rows[-1].first_place

    def levels(self, agent: str) -> int:
        with self.database.read() as tx:
            row = tx.one("memory.levels", agent=agent)
            return 0 if row is None else int(row.level)

    def gone(self, agent: str, places: set[int]) -> set[int]:
        """Which of these places hold a record that is not live any more."""
        with self.database.read() as tx:
            rows = tx.all("memory.gone", agent=agent, listed=encode(sorted(places)).decode())
            return {row.place for row in rows}

    def spread(self, agent: str, first: int, last: int) -> tuple[int, int, int]:
        """How many records there are between two places, and the places of the first and the last of them."""
        with self.database.read() as tx:
            row = tx.one("memory.spread", agent=agent, first_place=first, last_place=last)
            assert row is not None
            return int(row.records), int(row.first_place or 0), int(row.last_place or 0)

    def records(self, agent: str, first: int, last: int) -> Iterator[Record]:
        """From one place to another, in their order, a page at a time."""
        while first <= last:
            with self.database.read() as tx:
                rows = tx.all("memory.range", agent=agent, first_place=first, last_place=last, limit=MOST)
            yield from (record_of(row) for row in rows)
            if len(rows) < MOST:
                return
            first = rows[-1].place + 1


def _hold(tx: Transaction, fence: int, lease_ms: int) -> None:
    if not tx.count("memory.push_compactor", fence=fence, lease_ms=lease_ms):
        raise LeaseLost(
            f"another process makes snapshots now (fence {fence} was overtaken)", hint="Stop; nothing was written."
        )


def _insert(tx: Transaction, snapshot: Snapshot) -> bool:
    added = tx.count(
        "memory.add_snapshot",
        id=snapshot.id,
        agent=snapshot.agent,
        level=snapshot.level,
        first_place=snapshot.first_place,
        last_place=snapshot.last_place,
        records=snapshot.records,
        tasks_total=snapshot.tasks,
        sha=snapshot.sha256,
        starts_ms=snapshot.starts_ms,
        ends_ms=snapshot.ends_ms,
        author=snapshot.author,
        body=snapshot.body,
    )
    return bool(added)
