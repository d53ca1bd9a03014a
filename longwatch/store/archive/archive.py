"""The archive of a fleet: what fills the disk, in closed segments that can be searched, checked, restored and dropped.

A segment is written under a name that nobody looks at, synced, named after its own hash, read back from the disk and
compared, and only then listed in the manifest: what `write` returns is safe, and whoever dies before has written nothing. A
file that was to go and is still there, because its remover died, is removed by the next writer; so is an unlisted one of a
source that a whole file is listed for. No other file is ever removed: it may be all that is left of a manifest that lost
its end.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from longwatch.db import connection
from longwatch.errors import LongwatchError, NotFound, StoreUnavailable
from longwatch.store.archive import parquet, reading, search, verification
from longwatch.store.archive.entry import FAR_MS, Entry, Kind, day_number, day_of, entries_of
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.frames import Writer, Written
from longwatch.store.archive.index import Cost, Facts, Index, facts_of
from longwatch.store.archive.manifest import Manifest, Move, MoveKind, Segment, line_of_move, read_manifest
from longwatch.store.archive.places import Draft, OutOfReach, Place
from longwatch.store.archive.reading import Part, parts_of
from longwatch.store.archive.recall import Asked, Recalled, recall
from longwatch.store.archive.search import Found, Query
from longwatch.store.archive.verification import Progress, Told


class Receipt(msgspec.Struct, frozen=True):
    """What a redaction did. replaced: the segments that went, and what stands in place of each. entries: how many changed."""

    replaced: dict[str, str]
    entries: int


class Change(NamedTuple):
    """What a redaction does to an entry."""

    replace: Callable[[Entry], Entry]
    ids: frozenset[str]
    text: str

    def __call__(self, entry: Entry) -> Entry:
        asked = entry.id in self.ids or (bool(self.text) and search.holds(entry, self.text))
        return self.replace(entry) if asked or not (self.ids or self.text) else entry


T = TypeVar("T")


class Clock(connection.Clock, Protocol):
    """What a world is asked for here."""

    def reach(self, mark: str) -> None: ...


class Archive:
    """place: where it lies. Safe for any number of readers beside one writer, also in other processes."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self.place, self._clock = place, clock
        self._index = Index(place.index, clock)

    def close(self) -> None:
        """Let go of the side index. Twice does no harm, and it may be used again."""
        self._index.close()

    # -- writing -----------------------------------------------------------------------------------------------------------

    def write(self, entries: Iterable[Entry], *, source: str) -> Segment:
        """A segment of them, verified and listed. source: what they are; one that is listed already is returned as it is.

        Errors: NotStorable, before anything is listed; ValueError for no entries; StoreUnavailable.
        """
        with self.place.writing():
            manifest = self._whole()
            known = manifest.of_source(source)
            if known is not None:
                return known
            self._sweep(manifest)
            facts: list[Facts] = []
            segment = self._file(entries, source, facts, number=manifest.next_number())
            listed = self._list(manifest, "add", segment.name, segment=segment)
            self._note(listed, facts)
            return listed

    def _file(self, entries: Iterable[Entry], source: str, facts: list[Facts], *, number: int) -> Segment:
        """A file that is in place and was read back, and that no line lists yet. facts: filled, for the index."""
        draft = self.place.draft()
        try:
            counts, written = self._fill(draft, entries, source)
            first = day_of(min(frame.from_ms for frame in written.table.frames)).isoformat().replace("-", "")
            name = f"{first}-{written.sha256[:16]}.jsonl.zst"
            self._clock.reach("archive.written")
            draft.publish(name)
        finally:
            draft.discard()
        self._clock.reach("archive.published")
        segment = _segment_of(written, counts, name=name, number=number)
        faults = verification.check_segment(self.place, segment, _into(facts))
        if faults:
            self.place.remove(name)
            raise StoreUnavailable(
                f"a segment was written to {self.place.title}, and read back it is not the same: {faults[0].what}",
                hint="The disk or the store does not keep what it is given: look at it. Nothing was taken out of the state.",
            )
        self._clock.reach("archive.verified")
        return segment

    def _fill(self, draft: Draft, entries: Iterable[Entry], source: str) -> tuple[Counter[str], Written]:
        counts: Counter[str] = Counter()
        writer = Writer(draft.file, source)
        for entry in entries:
            writer.add(entry)
            counts[entry.kind] += 1
        if not counts:
            raise ValueError(f"{source}: a segment needs entries")
        return counts, writer.close()

    def _list(
        self,
        manifest: Manifest,
        kind: MoveKind,
        name: str,
        *,
        segment: Segment | None = None,
        sha256: str = "",
        reason: str = "",
        who: str = "",
    ) -> Segment:
        """Append a move; the segment as it stands after it."""
        n, before = manifest.head
        move = Move(
            n + 1, kind, self._clock.wall_ms(), name, before, segment=segment, sha256=sha256, reason=reason, who=who
        )
        line = line_of_move(move)
        self.place.append(line, n=move.n, good_bytes=manifest.good_bytes)
        self._clock.reach("archive.listed")
        return self.manifest().segments[name if segment is None else segment.name]

    # -- changing what is there ----------------------------------------------------------------------------------------

    def drop(self, name: str, why: str, *, who: str = "") -> Segment:
        """Twice does no harm. Errors: NotFound; LongwatchError for one that is pinned; StoreUnavailable."""
        with self.place.writing():
            manifest = self._whole()
            segment = _known(manifest, name)
            if segment.pinned:
                raise LongwatchError(
                    f"{name} is pinned", hint=f"Unpin it first, if it may go: it holds {segment.source}."
                )
            if not segment.dropped:
                segment = self._list(manifest, "drop", name, sha256=segment.sha256, reason=why, who=who)
            self._sweep(self._whole())
            return segment

    def pin(self, name: str, why: str = "", *, who: str = "") -> Segment:
        """Keep it from being dropped. Errors: NotFound, also for one that is dropped; StoreUnavailable."""
        return self._pinned(name, "pin", why, who)

    def unpin(self, name: str, why: str = "", *, who: str = "") -> Segment:
        """The opposite."""
        return self._pinned(name, "unpin", why, who)

    def _pinned(self, name: str, kind: MoveKind, why: str, who: str) -> Segment:
        with self.place.writing():
            manifest = self._whole()
            segment = _known(manifest, name)
            if segment.dropped:
                raise NotFound(f"{name} was dropped")
            if segment.pinned == (kind == "pin"):
                return segment
            return self._list(manifest, kind, name, reason=why, who=who)

    def redact(
        self, replace: Callable[[Entry], Entry], *, ids: Sequence[str] = (), text: str = "", reason: str, who: str
    ) -> Receipt:
        """Put in place of entries what `replace` makes of them, in files written anew; the old files are removed.

        replace: is asked for each entry that has one of the ids or holds the text, or for all of them without either; the kind
        and the id stay. Twice does no harm. Errors: NotStorable; StoreUnavailable, also for a segment that is damaged.
        """
        change = Change(replace, frozenset(ids), text)
        replaced: dict[str, str] = {}
        count = 0
        with self.place.writing():
            self._sweep(self._whole())
            names = self._indexed(lambda index: search.holding(self.place, index, ids, text))
            for old in [segment for segment in self._whole().standing if segment.name in names]:
                if changed := sum(change(entry) != entry for entry in self.entries(old)):
                    replaced[old.name] = self._rewrite(old, change, reason=reason, who=who)
                    count += changed
        return Receipt(replaced, count)

    def _rewrite(self, old: Segment, change: Change, *, reason: str, who: str) -> str:
        facts: list[Facts] = []
        made = self._file((change(entry) for entry in self.entries(old)), old.source, facts, number=old.number)
        self._list(self._whole(), "redact", old.name, segment=made, sha256=old.sha256, reason=reason, who=who)
        self._sweep(self._whole())
        self._note(made, facts)
        return made.name

    def sweep(self) -> list[str]:
        """Remove what writers that died left behind; which files."""
        with self.place.writing():
            return self._sweep(self._whole())

    def _sweep(self, manifest: Manifest) -> list[str]:
        swept, sizes = self.place.sweep(), self.place.sizes()
        late = sorted(manifest.gone & set(sizes)) + reading.overtaken(self.place, manifest, sizes)
        for name in late:
            self.place.remove(name)
        return [*swept, *late]

    # -- reading -----------------------------------------------------------------------------------------------------------

    def manifest(self) -> Manifest:
        return read_manifest(self.place.moves())

    def segments(self) -> list[Segment]:
        """Those that are there, oldest first."""
        return self.manifest().standing

    def entries(self, segment: Segment, *, damaged: Callable[[Finding], None] | None = None) -> Iterator[Entry]:
        """All of a segment's: agent by agent in pieces of about half a mebibyte, each agent's in the order they were given.

        damaged: told of each part that cannot be read, and the rest follows. Without it such a part ends the reading.
        Errors: StoreUnavailable.
        """
        for part in parts_of(self.place, segment):
            if isinstance(part, Part):
                yield from entries_of(part.raw)
            elif damaged is None:
                raise StoreUnavailable(f"{segment.name}: {part.what}", hint="longwatch archive verify names all of it.")
            else:
                damaged(part)

    def verify(self, progress: Progress | None = None) -> list[Finding]:
        """Everything that is wrong, each by name; none when all is as it was written. Reads all of it.

        progress: told how many bytes of how many have been looked at.
        """
        manifest = self.manifest()
        findings = verification.check_all(self.place, manifest, progress)
        return [*findings, *verification.check_end(manifest, self._remembered())]

    def find(
        self,
        *,
        task: str | None = None,
        text: str | None = None,
        agent: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        kind: Kind | None = None,
        limit: int = 100,
    ) -> Found:
        """The newest `limit` entries for which all of it holds, oldest first; see search.Query."""
        query = Query(task, text, agent, since_ms, until_ms, kind)
        return self._indexed(lambda index: search.find(self.place, index, query, limit=limit))

    def show(self, name: str) -> Found:
        """Every entry with this id, and all of the task of this id, oldest first; none when there is no such thing."""
        return self._indexed(lambda index: search.show(self.place, index, name))

    def of_key(self, key: str) -> Found:
        """Every copy of every task that was given this key when it was submitted, oldest first."""
        return self._indexed(lambda index: search.of_key(self.place, index, key))

    def records(self, agent: str, first: int, last: int) -> Found:
        """What agents remember, by place: those between two of them, in their order, each as it was archived last."""
        return self._indexed(lambda index: search.records(self.place, index, agent, first, last))

    def recall(self, asked: Asked, *, limit: int) -> Recalled:
        """What agents remembered, by its words; see recall.py."""
        return self._indexed(lambda index: recall(self.place, index, asked, limit=limit))

    def costs(self, *, since_ms: int = -FAR_MS, until_ms: int = FAR_MS, agent: str | None = None) -> list[Cost]:
        """What each agent's calls came to on each day in UTC that has any of the time from since_ms to until_ms."""
        first, last = day_number(since_ms), day_number(until_ms - 1)
        costs = self._indexed(lambda index: index.costs(first_day=first, last_day=last))
        return costs if agent is None else [cost for cost in costs if cost.agent == agent]

    def export_parquet(self, to: Path, *, damaged: Callable[[Finding], None] | None = None) -> list[Path]:
        """Every segment as a file of Parquet in the folder `to`; see parquet.py. damaged: as of `entries`."""
        return parquet.export_parquet(self.place, self.segments(), to, damaged)

    def rebuild_index(self) -> None:
        """Make the side index anew, from the segments; reads all of them."""
        self._index.remove()
        self._indexed(lambda index: None)

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _indexed(self, ask: Callable[[Index], T]) -> T:
        """What an index answers that knows all segments; one that cannot be read is made anew.

        Where it is the segments that are out of reach it stays: to make it anew means to read all of them.
        """
        try:
            self._index.take_in(self.manifest(), self._facts)
            return ask(self._index)
        except OutOfReach:
            raise
        except StoreUnavailable:
            self._index.remove()
            self._index.take_in(self.manifest(), self._facts)
            return ask(self._index)

    def _remembered(self) -> tuple[int, str] | None:
        """How far the side index has seen the manifest; None where it cannot be read: it is made anew by whoever asks it."""
        with contextlib.suppress(StoreUnavailable):
            return self._index.head()
        return None

    def _facts(self, segment: Segment) -> list[Facts]:
        """Of those frames that can be read."""
        facts: list[Facts] = []
        verification.check_segment(self.place, segment, _into(facts))
        return facts

    def _note(self, listed: Segment, facts: list[Facts]) -> None:
        """Of what was just read back: it need not be read once more. Where this fails, the next reader does it."""
        with contextlib.suppress(StoreUnavailable):
            self._index.take_in(
                self.manifest(), lambda segment: facts if segment.name == listed.name else self._facts(segment)
            )

    def _whole(self) -> Manifest:
        """To be written to. Errors: StoreUnavailable when it is broken: what is appended would vouch for what is not known."""
        manifest = self.manifest()
        if manifest.faults:
            line, what = manifest.faults[0]
            raise StoreUnavailable(
                f"line {line} of the manifest of {self.place.title} is broken: {what}",
                hint="Put back a copy of the manifest. Everything can still be read; nothing was taken out of the state.",
            )
        return manifest


def _known(manifest: Manifest, name: str) -> Segment:
    try:
        return manifest.segments[name]
    except KeyError:
        raise NotFound(f"there is no segment {name}", hint="longwatch archive list shows them.") from None


def _into(facts: list[Facts]) -> Told:
    return lambda frame, entries, raw: facts.append(facts_of(frame, entries, raw))


def _segment_of(written: Written, counts: Counter[str], *, name: str, number: int) -> Segment:
    frames = written.table.frames
    return Segment(
        name=name,
        source=written.table.source,
        number=number,
        from_ms=min(frame.from_ms for frame in frames),
        to_ms=max(frame.to_ms for frame in frames),
        entries=dict(sorted(counts.items())),
        raw_bytes=sum(frame.raw for frame in frames),
        bytes=written.bytes,
        sha256=written.sha256,
    )
