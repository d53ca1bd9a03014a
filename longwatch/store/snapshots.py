"""Snapshots as they are kept: one transaction writes one, under the compactor's fence, and says how far memory is compacted.

Whoever makes them reads records in pages, without keeping any writer out, and thinks about them outside of any transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter

import msgspec

from longwatch.db.connection import Database, Transaction
from longwatch.errors import LeaseLost, NotFound
from longwatch.policy.brief import FILES_READ, LATER, LATEST, Kept, Material, Told, Top, told_of
from longwatch.policy.memory import Record
from longwatch.policy.memory_files import sized
from longwatch.policy.memory_paths import shown
from longwatch.policy.snapshot import Shape
from longwatch.store.memory import LAST, MOST, encode, record_of
from longwatch.store.memory_versions import File, extent, newest_files

PAGE = 200  # snapshots that are looked at in one go
OFFLINE, MIXED = "offline", "mixed"


class Snapshot(msgspec.Struct, frozen=True):
    """level: 1 of records, above of ten of the level below. body: JSON of a Shape. parent: the one that it is part of.

    author: OFFLINE, the model that wrote it, or MIXED for one of others that several wrote. why: it is offline. micros: what
    the answers to it have cost. dropped: claims that were not kept. stands: 1, it is not asked for any more. changes: of body.
    """

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
    why: str | None = None
    micros: int = 0
    dropped: int = 0
    tries: int = 0
    stands: int = 0
    changes: int = 0

    @property
    def shape(self) -> Shape:
        return _shape(self.id, self.body)


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

    def add_over(self, snapshot: Snapshot, children: Sequence[Snapshot], *, fence: int, lease_ms: int) -> bool:
        """Keep one of snapshots; False when these are part of one already, or have changed since. Errors: LeaseLost."""
        ids = encode([each.id for each in children]).decode()
        with self.database.transaction(part="memory") as tx:
            _hold(tx, fence, lease_ms)
            changes = tx.one("memory.changes", ids=ids)
            assert changes is not None
            if int(changes.changes) != sum(each.changes for each in children):
                return False
            if not _insert(tx, snapshot):
                return False
            adopted = tx.count("memory.adopt", parent=snapshot.id, ids=ids)
            assert adopted == len(children), f"{adopted} of {len(children)} snapshots were part of none"
            return True

    # -- reading -----------------------------------------------------------------------------------------------------------

    def get(self, id: str) -> tuple[Snapshot, tuple[str, ...]]:
        """One of them, whosever it is, and the ids of those that it is made of. Errors: NotFound."""
        with self.database.read() as tx:
            row = tx.one("memory.snapshot", id=id)
            if row is None:
                raise NotFound(
                    f"there is no snapshot {id}", hint="longwatch memory snapshots shows an agent's snapshots."
                )
            return Snapshot(*row), tuple(below.id for below in tx.all("memory.children", parent=id))

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

    def material(self, agent: str, most: Mapping[str, int]) -> Material:
        """What a brief is made of, as of one instant. most: records that are read of each part."""
        with self.database.read() as tx:
            counts = {(row.kind, row.state): int(row.records) for row in tx.all("memory.counts", agent=agent)}
            charter, places = tx.one("memory.charter", agent=agent), tx.one("memory.agent", agent=agent)
            tops = [_top(Snapshot(*row)) for row in tx.all("memory.tops", agent=agent)]
            told = {place for top in tops for place, _ in top.told.items}
            listed = encode(sorted(told)).decode()
            gone = [row.place for row in tx.all("memory.gone", agent=agent, listed=listed)] if told else []
            files = newest_files(tx, agent, FILES_READ)
            limits = {part: most[part] for part in PARTS}
            limits |= {kind: min(LATER, most[LATEST] * share // 10 + 1) for kind, share in DONE.items()}
            read = {
                part: (_oldest if part in OLDEST else _newest)(tx, agent, PARTS.get(part, part), limit)
                for part, limit in limits.items()
            }
            latest = [record for kind in DONE for record in read[kind]]
            return Material(
                agent=agent,
                charter=None if charter is None else charter.body,
                lessons=read["lessons"],
                tops=tops,
                goals=read["goals"],
                commitments=read["commitments"],
                decisions=read["decisions"],
                latest=sorted(latest, key=attrgetter("place")),
                counts={part: counts.get((kind, "live"), 0) for part, kind in PARTS.items()}
                | {
                    LATEST: sum(min(LATER, counts.get((kind, "live"), 0)) for kind in DONE),
                    "records": 0 if places is None else int(places.places),
                    "files": extent(tx, agent)[0] if files else 0,
                },
                gone=frozenset(gone),
                files=[_kept(file) for file in files],
                cut=frozenset(
                    [name for name, limit in limits.items() if len(read[name]) == limit and _may_grow(name, limit)]
                ),
            )

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


def author_of(children: Iterable[Snapshot]) -> str:
    """Of a snapshot of these."""
    authors = {each.author for each in children}
    return authors.pop() if len(authors) == 1 else MIXED


DONE = {"result": 5, "failure": 2, "fact": 3}  # in tenths of what is read of the latest
OLDEST = ("goals", "commitments")  # of which the oldest are read; of all others the newest
PARTS = {"lessons": "lesson", "goals": "goal", "commitments": "commitment", "decisions": "decision"}


def _may_grow(name: str, limit: int) -> bool:
    return name in PARTS or limit < LATER


def _newest(tx: Transaction, agent: str, kind: str, limit: int) -> list[Record]:
    """Oldest first."""
    rows = tx.all("memory.newest_of", agent=agent, kind=kind, state="live", before=LAST, limit=limit)
    return [record_of(row) for row in reversed(rows)]


def _oldest(tx: Transaction, agent: str, kind: str, limit: int) -> list[Record]:
    return [record_of(row) for row in tx.all("memory.oldest_of", agent=agent, kind=kind, state="live", limit=limit)]


def _kept(file: File) -> Kept:
    day = datetime.fromtimestamp(file.at_ms / 1000, UTC).strftime("%Y-%m-%d")
    return Kept(shown(file.path), sized(file.bytes), day, file.run or file.who)


def _top(snapshot: Snapshot) -> Top:
    starts, ends = (_day(at_ms) for at_ms in (snapshot.starts_ms, snapshot.ends_ms))
    days = starts if starts == ends else f"{starts} to {ends}"
    return Top(snapshot.first_place, snapshot.last_place, days, _told(snapshot.id, snapshot.body))


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()


@lru_cache(200)
def _shape(_id: str, body: str) -> Shape:
    """Read once: a snapshot never changes, unless something in it is redacted."""
    return msgspec.json.decode(body, type=Shape)


@lru_cache(200)
def _told(_id: str, body: str) -> Told:
    return told_of(_shape(_id, body))


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
        why=snapshot.why,
    )
    return bool(added)
