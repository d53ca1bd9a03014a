"""Makes snapshots, by one process of the fleet at a time, and finds out whether anything is missing.

A compaction reads, thinks, and writes one transaction; whoever dies before it has changed nothing, and whoever comes next
begins again. So it can be repeated by anybody, and is never in anybody's way: the lease says who may, the fence in the
transaction that nobody else has since, and the place at which a snapshot begins that there is only one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec

from longwatch.policy.memory import Record, charter_digest
from longwatch.policy.snapshot import TEN, Shape, digest_of, due, fold, places_of, range_digest, summarise, taken
from longwatch.runtime.authoring import why_offline
from longwatch.runtime.memory import Memories
from longwatch.runtime.persist import persist
from longwatch.store.archive import Archive, Segment
from longwatch.store.left import among
from longwatch.store.memory import Remembering
from longwatch.store.snapshots import OFFLINE, Snapshot, Snapshots, author_of

LEASE_MS = 60_000
Summariser = Callable[[Sequence[Record]], tuple[Shape, str]]


def offline(records: Sequence[Record]) -> tuple[Shape, str]:
    return summarise(records), OFFLINE


class Made(NamedTuple):
    """snapshots: of records, folds: of snapshots. busy: another process was at it."""

    snapshots: int = 0
    folds: int = 0
    busy: bool = False


class Problem(NamedTuple):
    """agent: whose memory. what: in words, with the places that it concerns."""

    agent: str
    what: str


@dataclass
class Compaction:
    memories: Memories
    summariser: Summariser = offline

    @property
    def snapshots(self) -> Snapshots:
        return Snapshots(self.memories.store.database)

    def step(
        self,
        *,
        agent: str | None = None,
        most: int = 1,
        forced: bool = False,
        told: Callable[[str], None] = lambda _: None,
    ) -> Made:
        """Make up to `most` snapshots of records that are due, and what they fold into. forced: due or not.

        told: what is being done, for people. Errors: LeaseLost when it took longer than the lease and another one began.
        """
        fence = self.snapshots.take(self.memories.holder, lease_ms=LEASE_MS)
        if fence is None:
            return Made(busy=True)
        try:
            return self._made(fence, agent, most, forced, told)
        finally:
            self.snapshots.give_back(fence)

    def _made(self, fence: int, agent: str | None, most: int, forced: bool, told: Callable[[str], None]) -> Made:
        made = folds = 0
        for each in self.memories.store.agents():
            if agent is not None and each.agent != agent:
                continue
            while made < most and self._one(each, fence, forced=forced):
                made += 1
                each = self.memories.store.agent(each.agent)
                told(f"{each.agent}: {each.compacted:,} of {each.places:,} records in snapshots")
            folds += self._fold_up(each.agent, fence)
        return Made(made, folds)

    def _one(self, agent: Remembering, fence: int, *, forced: bool) -> bool:
        """One snapshot of what none covers yet, if that is due."""
        first, records = agent.compacted + 1, agent.places - agent.compacted
        ahead = self.memories.store.range(agent.agent, first, first, limit=1)
        limit = due(
            tasks=agent.tasks - agent.compacted_tasks,
            records=records,
            oldest_ms=ahead[0].at_ms if ahead else None,
            now_ms=self.memories.world.wall_ms(),
            every=self.memories.snapshot_every,
            forced=forced,
        )
        if limit is None:
            return False
        last = min(agent.places, agent.compacted + limit.records)
        chosen = taken(list(self.snapshots.records(agent.agent, first, last)), limit)
        self.memories.world.reach("memory.read")
        shape, author = self.summariser(chosen)
        self.memories.world.reach("memory.summarised")
        snapshot = self._snapshot(1, chosen[0].place, chosen[-1].place, chosen, shape, author)
        persist(lambda: self.snapshots.add(snapshot, fence=fence, lease_ms=LEASE_MS))
        self.memories.world.reach("memory.compacted")
        return True

    def _snapshot(
        self, level: int, first: int, last: int, records: Sequence[Record], shape: Shape, author: str
    ) -> Snapshot:
        return Snapshot(
            id=self.memories.world.new_id("snap"),
            agent=records[0].agent,
            level=level,
            first_place=first,
            last_place=last,
            records=len(records),
            tasks=shape.numbers.tasks,
            sha256=range_digest(records),
            starts_ms=min(record.at_ms for record in records),
            ends_ms=max(record.at_ms for record in records),
            made_ms=0,
            author=author,
            body=msgspec.json.encode(shape).decode(),
            why=why_offline(self.memories) if author == OFFLINE else None,
        )

    def _fold_up(self, agent: str, fence: int) -> int:
        """Ten snapshots of a level that are part of none become one of the next, as far up as that goes."""
        folds = 0
        while True:
            tops = self.snapshots.tops(agent)
            levels = sorted({each.level for each in tops})
            ready = next((level for level in levels if sum(each.level == level for each in tops) >= TEN), None)
            if ready is None:
                return folds
            children = [each for each in tops if each.level == ready][:TEN]
            parent = self._over(children)
            self.memories.world.reach("memory.folded")
            kept = persist(
                lambda parent=parent, children=children: self.snapshots.add_over(  # type: ignore[misc]
                    parent, children, fence=fence, lease_ms=LEASE_MS
                )
            )
            self.memories.world.reach("memory.fold_kept")
            folds += kept

    def _over(self, children: Sequence[Snapshot]) -> Snapshot:
        shapes, agent = [each.shape for each in children], children[0].agent
        gone = self.snapshots.gone(agent, set[int]().union(*(places_of(shape) for shape in shapes)))
        shape = fold(shapes, gone=gone)
        return Snapshot(
            id=self.memories.world.new_id("snap"),
            agent=agent,
            level=children[0].level + 1,
            first_place=children[0].first_place,
            last_place=children[-1].last_place,
            records=sum(each.records for each in children),
            tasks=sum(each.tasks for each in children),
            sha256=digest_of(each.sha256 for each in children),
            starts_ms=min(each.starts_ms for each in children),
            ends_ms=max(each.ends_ms for each in children),
            made_ms=0,
            author=author_of(children),
            body=msgspec.json.encode(shape).decode(),
        )

    # -- whether anything is missing -----------------------------------------------------------------------------------------

    def verify(
        self, *, agent: str | None = None, whole: bool = False, told: Callable[[str], None] = lambda _: None
    ) -> list[Problem]:
        """What is wrong with memory: records or snapshots that are missing, changed or covered twice, charters that are not
        what they were; of the memory tool's files, the same.

        Places in the archive are counted, and their segments looked up in its manifest and by their size; whole: what is in
        them is read and compared too.
        """
        found: list[Problem] = []
        checked = Segments(self.memories.archive)
        for each in self.memories.store.agents():
            if agent is None or each.agent == agent:
                told(f"{each.agent}: {each.places:,} records")
                found += [Problem(each.agent, what) for what in self._wrong(each, checked, whole, told)]
        return found

    def _wrong(self, agent: Remembering, segments: "Segments", whole: bool, told: Callable[[str], None]) -> list[str]:
        found = self._wrong_charter(agent.agent) + self.memories.files.wrong(agent.agent)
        found += segments.wrong(self.memories.whole.leaving.sources(agent.agent))
        below: list[Snapshot] = list(self.snapshots.of_level(agent.agent, 1))
        covered = 0
        for snapshot in below:
            found += _gap(covered, snapshot)
            covered = max(covered, snapshot.last_place)
            found += self._wrong_range(snapshot, segments, whole)
            told(f"{agent.agent}: {covered:,} of {agent.places:,} records looked at")
        if covered != agent.compacted:
            found.append(f"snapshots end at r{covered}, and should at r{agent.compacted}")
        found += self._lost(agent, covered)
        for level in range(2, self.snapshots.levels(agent.agent) + 1):
            over = list(self.snapshots.of_level(agent.agent, level))
            found += [what for each in over for what in _wrong_parent(each, below)]
            below = over
        return found

    def _wrong_charter(self, agent: str) -> list[str]:
        charter = self.memories.store.charter(agent)
        changed = charter is not None and charter_digest(charter.body) != charter.sha256
        return ["its charter is not what was set: its digest differs"] if changed else []

    def _wrong_range(self, snapshot: Snapshot, segments: "Segments", whole: bool) -> list[str]:
        records = list(self.snapshots.records(snapshot.agent, snapshot.first_place, snapshot.last_place))
        left = self.memories.whole.leaving.ranges(snapshot.agent, snapshot.first_place, snapshot.last_place)
        named = f"r{snapshot.first_place} to r{snapshot.last_place} ({snapshot.id})"
        every = range(snapshot.first_place, snapshot.last_place + 1)
        missing = sorted(set(every) - {record.place for record in records} - among(left, every))
        if missing:
            return [f"{len(missing)} records of {named} are missing: {_listed(missing)}"]
        if left and (not whole or any(segments.are_gone(each.source) for each in left)):
            return []
        if left:
            records = list(self.memories.whole.records(snapshot.agent, snapshot.first_place, snapshot.last_place))
            missing = sorted(set(every) - {record.place for record in records})
            if missing:
                return [f"{len(missing)} records of {named} cannot be read in the archive: {_listed(missing)}"]
        changed = range_digest(records) != snapshot.sha256
        return [f"a record of {named} was changed: the digest of the range differs"] if changed else []

    def _lost(self, agent: Remembering, covered: int) -> list[str]:
        """Of what no snapshot covers yet, only that it is there can be told."""
        count, _, _ = self.snapshots.spread(agent.agent, covered + 1, agent.places)
        lost = agent.places - covered - count
        return [f"{lost} records between r{covered + 1} and r{agent.places} are missing"] if lost else []


@dataclass
class Segments:
    """Those of memory's records, as the manifest has them, and the files that are there."""

    archive: Callable[[], Archive | None]

    @cached_property
    def found(self) -> tuple[dict[str, Segment], dict[str, int]]:
        archive = self.archive()
        if archive is None:
            return {}, {}
        return {each.source: each for each in archive.manifest().segments.values()}, archive.place.sizes()

    def are_gone(self, source: str) -> bool:
        """Dropped with their age, or out of reach."""
        return source not in self.found[0] or self.found[0][source].dropped

    def wrong(self, sources: dict[str, int]) -> list[str]:
        """sources: how many records are in each."""
        return [what for source, count in sources.items() if (what := self._wrong(source, count))]

    def _wrong(self, source: str, count: int) -> str | None:
        by_source, sizes = self.found
        segment = by_source.get(source)
        if segment is None:
            return f"{count} records went into the archive as {source}, which its manifest does not list"
        if segment.dropped:
            return None
        if sizes.get(segment.name) != segment.bytes:
            have = sizes.get(segment.name, 0)
            return f"{count} records are in {segment.name}, of which {have:,} of {segment.bytes:,} bytes are there"
        kept = segment.entries.get("record", 0)
        return f"{count} records are to be in {segment.name}, which has {kept}" if kept < count else None


def _listed(places: Sequence[int]) -> str:
    return ", ".join(f"r{place}" for place in places[:5]) + (", ..." if len(places) > 5 else "")


def _gap(covered: int, snapshot: Snapshot) -> list[str]:
    if snapshot.first_place == covered + 1:
        return []
    return [f"snapshot {snapshot.id} begins at r{snapshot.first_place}, and the one before it ends at r{covered}"]


def _wrong_parent(parent: Snapshot, below: Sequence[Snapshot]) -> list[str]:
    children = [each for each in below if each.parent == parent.id]
    same = digest_of(each.sha256 for each in children) == parent.sha256
    if same and len(children) == TEN:
        return []
    return [
        f"snapshot {parent.id} is of {TEN} others, of which {len(children)} are there"
        + ("" if same else " or as they were")
    ]
