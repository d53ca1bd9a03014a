"""Memory as one, whether a record is here or in the archive.

What is asked for by name or by place is looked for in memory's own tables, and where it has left them, in the segments. A
record that something is to happen to is brought back first. Only places that are written down as having left are taken from
the archive, so that it says nothing of another memory that had the same names.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from longwatch.errors import NotFound
from longwatch.policy.memory import Record, place_of
from longwatch.store.archive import Archive, Entry
from longwatch.store.archive.recall import Asked
from longwatch.store.left import Leaving, Range, among, decode_record
from longwatch.store.memory import LAST, MemoryStore
from longwatch.store.search import Wanted
from longwatch.store.snapshots import Snapshots

AT_ONCE = 1_000  # places


class Away(NamedTuple):
    """Likely records of the archive, and what stands beside them, by place. having: how many records have each term, nearly."""

    records: dict[int, Record]
    having: Mapping[str, int]


NOTHING = Away({}, {})


@dataclass(frozen=True)
class Whole:
    """archive: opens it, None: there is none."""

    store: MemoryStore
    archive: Callable[[], Archive | None]

    @property
    def leaving(self) -> Leaving:
        return Leaving(self.store.database)

    def get(self, agent: str, ref: str) -> Record:
        """By id, or by the short name that briefs use. Errors: NotFound; StoreUnavailable for an archive out of reach."""
        try:
            return self.store.get(agent, ref)
        except NotFound:
            found = self._away(agent, ref)
            if found is None:
                raise
            return found

    def back(self, agent: str, ref: str) -> Record:
        """The same, in memory's tables, for something to happen to it. Errors: as `get`."""
        try:
            return self.store.get(agent, ref)
        except NotFound:
            found = self.get(agent, ref)
            self.leaving.bring_back(found)
            return found

    def back_by_key(self, agent: str, keys: Collection[str | None]) -> None:
        """Whatever has one of these keys and is in the archive; what was dropped there stays away."""
        for place in self.store.keys_left(agent, list(keys)).values():
            for record in self.away(agent, place, place):
                self.leaving.bring_back(record)

    def records(self, agent: str, first: int, last: int) -> Iterator[Record]:
        """From one place to another, in their order; what the archive does not have is left out."""
        for start in range(first, last + 1, AT_ONCE):
            end = min(last, start + AT_ONCE - 1)
            here = {record.place: record for record in self.store.range(agent, start, end, limit=AT_ONCE)}
            found = {record.place: record for record in self.away(agent, start, end)} | here
            yield from (found[place] for place in sorted(found))

    def away(self, agent: str, first: int, last: int) -> list[Record]:
        """Those between two places that have left, in their order."""
        return self.of(agent, self.leaving.ranges(agent, first, last), first=first, last=last)

    def of(self, agent: str, left: Sequence[Range], *, first: int = 0, last: int = LAST) -> list[Record]:
        """Those of places that have left."""
        archive = self.archive() if left else None
        if archive is None:
            return []
        found = archive.records(agent, max(first, left[0].first), min(last, left[-1].last)).entries
        known = among(left, [entry.place for entry in found])
        return [remembered(entry) for entry in found if entry.place in known]

    def recalled(self, wanted: Wanted, *, limit: int) -> Away:
        """What of it the archive has. Errors: StoreUnavailable."""
        archive = self.archive() if self.leaving.any() else None
        if archive is None:
            return NOTHING
        asked = Asked(wanted.agent, wanted.terms, wanted.kinds, wanted.since_ms, wanted.until_ms)
        found = archive.recall(asked, limit=limit)
        known = self.leaving.among(wanted.agent, [entry.place for entry in found.entries])
        records = {entry.place: remembered(entry) for entry in found.entries if entry.place in known}
        gone = Snapshots(self.store.database).gone(wanted.agent, set(records))
        for place in (each for each in gone if each in records and records[each].state == "live"):
            records |= {each.place: each for each in self.away(wanted.agent, place, place)}  # a later copy of it
        return Away(records, found.having)

    def _away(self, agent: str, ref: str) -> Record | None:
        place = place_of(ref)
        if place is not None:
            return next(iter(self.away(agent, place, place)), None)
        archive = self.archive() if self.leaving.any() else None
        named = [] if archive is None else archive.show(ref).entries
        known = next((each for each in named if each.kind == "record" and each.id == ref), None)
        return None if known is None else next(iter(self.away(known.agent, known.place, known.place)), None)


def remembered(entry: Entry) -> Record:
    return decode_record(entry.body)
