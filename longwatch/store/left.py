"""What leaves memory for the archive: records that a snapshot covers and that do not stand, once a segment has them.

Before any record of a snapshot leaves, the snapshot is compared with its records. A row is dropped in a transaction that
reads it again, and only if it is, byte for byte, what a verified segment has, and may still leave. What is left behind: the
places, so that nothing seems lost; its key, so that nothing is remembered twice; that it was not live, so that nothing closed
comes back. A record that something is to happen to is brought back first, to its own place.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from longwatch.db.connection import Database, Row, Transaction
from longwatch.policy.brief import LATER
from longwatch.policy.memory import Record
from longwatch.policy.snapshot import range_digest
from longwatch.policy.window import DAY_MS
from longwatch.store import retire, taken
from longwatch.store.archive import Entry
from longwatch.store.memory import encode, tag_of
from longwatch.store.retire import Kept, digest_of
from longwatch.store.snapshots import Snapshot, Snapshots

CHECKED = 50  # snapshots that are looked up in one go
decode_record = msgspec.json.Decoder(Record).decode


class Range(NamedTuple):
    """Places that left together. source: names their segment."""

    first: int
    last: int
    source: str


@dataclass(frozen=True)
class Leaving:
    """database: memory's. Safe in threads."""

    database: Database

    # -- leaving -----------------------------------------------------------------------------------------------------------

    def check(self, *, age_ms: int, told: Callable[[str], None] = lambda _: None) -> int:
        """Compare snapshots that are older with what they cover; how many may be relied on now. One that differs keeps its
        records here, and verify tells of it."""
        good, after = 0, ("", 0)
        snapshots = Snapshots(self.database)
        while True:
            with self.database.read() as tx:
                about = {"age_ms": age_ms, "limit": CHECKED}
                rows = tx.all("left.unchecked", agent=after[0], first_place=after[1], **about)
            page = [Snapshot(*row) for row in rows]
            for each in page:
                if range_digest(snapshots.records(each.agent, each.first_place, each.last_place)) == each.sha256:
                    with self.database.transaction(part="memory", durable=False) as tx:
                        good += tx.count("left.check", id=each.id, sha=each.sha256)
                told(f"memory of {each.agent}: r{each.last_place} compared")
            if len(page) < CHECKED:
                return good
            after = (page[-1].agent, page[-1].first_place)

    def entries(self, *, age_ms: int) -> Iterator[list[Entry]]:
        """All records that may leave, in pages. age_ms: what is younger stays."""
        place = 0
        while True:
            with self.database.read() as tx:
                page = self._page(tx, after=place, upto=retire.LAST, age_ms=age_ms)
            if page:
                yield [entry_of(row) for row in page]
                place = page[-1].seq
            if len(page) < retire.PAGE:
                return

    def _page(self, tx: Transaction, *, after: int, upto: int, age_ms: int) -> Sequence[Row]:
        about = {"age_ms": age_ms, "newest": LATER - 1, "limit": retire.PAGE}
        return tx.all("left.records", after=after, upto=upto, **about)

    def drop(self, kept: Kept, *, source: str, dropped: Callable[[int], None] = lambda _: None) -> int:
        """Drop the records that the archive has; how many went. kept: what a verified segment says. source: its own.

        dropped: told how many went, after each transaction.
        """
        gone, place, more = 0, kept.after, True
        while more:
            with self.database.transaction(part="memory") as tx:
                page = self._page(tx, after=place, upto=kept.upto, age_ms=0)
                same = [row for row in page if digest_of(entry_of(row)) in kept.digests]
                if same:
                    _leave(tx, same, source)
            gone += len(same)
            place, more = page[-1].seq if page else place, len(page) == retire.PAGE
            dropped(gone)
        return gone

    def forget(self, *, before_ms: int) -> None:
        """Keys of records that left before are free again: their segments were dropped with their age."""
        with self.database.transaction(part="memory") as tx:
            tx.count("left.forget_keys", left_day=before_ms // DAY_MS)

    # -- coming back -------------------------------------------------------------------------------------------------------

    def bring_back(self, record: Record) -> bool:
        """Put it where it was; whether it was away. The archive keeps its copy. Twice does no harm."""
        with self.database.transaction(part="memory") as tx:
            found = ranges(tx, record.agent, record.place, record.place)
            for each in found:
                _split(tx, record.agent, each, record.place)
            if found:
                tx.count("left.restore", **msgspec.structs.asdict(record))
                if record.state != "redacted":
                    place = {"first_place": record.place, "last_place": record.place}
                    tx.count("memory.add_words", agent=record.agent, tag=tag_of(record.agent), **place)
                tx.count("left.forget_gone", agent=record.agent, place=record.place)
                if record.key is not None:
                    tx.count("left.forget_key", short=taken.short(record.agent, record.key))
            return bool(found)

    # -- reading -----------------------------------------------------------------------------------------------------------

    def ranges(self, agent: str, first: int, last: int) -> list[Range]:
        """What has left between two places, in their order."""
        with self.database.read() as tx:
            return ranges(tx, agent, first, last)

    def among(self, agent: str, places: Collection[int]) -> set[int]:
        """Which of these places have left."""
        with self.database.read() as tx:
            rows = tx.all("left.among", agent=agent, listed=encode(sorted(places)).decode())
            return {int(row.place) for row in rows}

    def sources(self, agent: str) -> dict[str, int]:
        """How many places have left with each."""
        with self.database.read() as tx:
            return {row.source: int(row.places) for row in tx.all("left.sources", agent=agent)}

    def any(self) -> bool:
        """Whether anything of anybody has left."""
        with self.database.read() as tx:
            return tx.one("left.left") is not None


def ranges(tx: Transaction, agent: str, first: int, last: int) -> list[Range]:
    return [Range(*row) for row in tx.all("left.ranges", agent=agent, first_place=first, last_place=last)]


def entry_of(row: Row) -> Entry:
    """A record as the archive has it."""
    return Entry("record", row.id, row.at_ms, row.agent, row.task or "", encode(row._asdict()), place=row.place)


def _leave(tx: Transaction, rows: Sequence[Row], source: str) -> None:
    listed = encode([row.seq for row in rows]).decode()
    tx.count("left.drop_words", listed=listed)
    tx.count("left.drop", listed=listed)
    for row in rows:
        if row.key is not None:
            day = tx.wall_ms // DAY_MS
            tx.count("left.keep_key", short=taken.short(row.agent, row.key), place=row.place, left_day=day)
        if row.state != "live":
            tx.count("left.keep_gone", agent=row.agent, place=row.place)
    for agent in dict.fromkeys(row.agent for row in rows):
        for first, last in stretches(row.place for row in rows if row.agent == agent):
            place = {"agent": agent, "first_place": first, "last_place": last, "source": source}
            if not tx.count("left.extend", **place):
                tx.count("left.keep", **place)


def stretches(places: Iterable[int]) -> list[tuple[int, int]]:
    """The first and last of each row of places without a gap."""
    found: list[tuple[int, int]] = []
    for place in sorted(places):
        if found and found[-1][1] == place - 1:
            found[-1] = (found[-1][0], place)
        else:
            found.append((place, place))
    return found


def among(found: Sequence[Range], places: Iterable[int]) -> set[int]:
    """Which of these places have left. found: in their order."""
    firsts = [each.first for each in found]
    return {place for place in places if (at := bisect_right(firsts, place)) and place <= found[at - 1].last}


def _split(tx: Transaction, agent: str, whole: Range, place: int) -> None:
    """The range without the place."""
    tx.count("left.forget", agent=agent, first_place=whole.first)
    for first, last in ((whole.first, place - 1), (place + 1, whole.last)):
        if first <= last:
            tx.count("left.keep", agent=agent, first_place=first, last_place=last, source=whole.source)
