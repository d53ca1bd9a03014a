"""The archivist: what the hot state needs no more goes into segments, and old segments go when their time has come.

One process of the fleet is at it at a time, in a thread of its own beside a worker's beats, so that nobody waits for it:
pages are read without a lock, segments are written outside of any transaction, and rows are dropped in small transactions.
Whoever dies, at whatever line, leaves every record in at least one place, and whoever comes next takes up what was begun:

1. a source is written down as begun;
2. its segment is written, synced, read back, compared, and listed by the archive, under the name of the source;
3. the source is written down as listed;
4. rows are dropped that are, byte for byte, what the segment has;
5. the source is struck off.

Up to 2 everything is in the state; from 2 on it is in the archive too; 4 is repeated until nothing is left of it.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from longwatch.db.connection import Transaction
from longwatch.errors import LeaseLost, LongwatchError, StoreUnavailable
from longwatch.policy.retention import Close, Facts, Kept, Rules, closing, dropping, is_pressed
from longwatch.runtime.loop import Joinable, Sleeper
from longwatch.runtime.memory import Memories
from longwatch.runtime.output import Outputs
from longwatch.runtime.persist import persist
from longwatch.runtime.world import World
from longwatch.store.archive import Archive, Entry, Segment
from longwatch.store.archive.manifest import Move
from longwatch.store.archivist import SORTS, Archivists, Begun, Sort
from longwatch.store.left import Leaving
from longwatch.store.restoring import Found, Restored, restore
from longwatch.store.retire import LAST, Retirement, digest_of, kept_of

LEASE_MS = 120_000
AGAIN_MS = 60_000  # after a round that failed: it may have written much before it found the disk full
SEGMENT_MOST = 64 << 20  # bytes of bodies in a segment; what is more goes into the next one
ROUNDS = 1_000  # segments of one sort in one round
TOLD_MS = 3_600_000  # a failure that lasts is written down so often
CLOSES_S = 20  # for a round to end when its process does: a store that does not answer would keep it for minutes

Told = Callable[[str], None]


class Archived(NamedTuple):
    """What a round did. entries: that left the hot state. freed: names of segments dropped. busy: another one was at it."""

    segments: tuple[str, ...] = ()
    entries: int = 0
    freed: tuple[str, ...] = ()
    busy: bool = False


class Round(NamedTuple):
    """fence: of the archivist. age_ms: what was younger when the round began, at began_ms (steady), stays. fed: up to where
    memory had read the journal then."""

    fence: int
    age_ms: int
    began_ms: int
    fed: int
    told: Told


@dataclass(eq=False)
class Archives:
    """Of one fleet. open: opens the archive, and makes it if there is none. folder: where it lies, None: in a store.

    state: the state's file, whose disk is watched; None on a server. outputs: what processes of this host printed.
    """

    retirement: Retirement
    archivists: Archivists
    memories: Memories
    world: World
    sleeper: Sleeper
    rules: Rules
    open: Callable[[], Archive]
    folder: Path | None
    state: Path | None = None
    outputs: Outputs | None = None

    def __post_init__(self) -> None:
        self.holder = self.world.new_id("archivist")
        self.failure: LongwatchError | None = None
        self._again_ms = 0
        self._archive: Archive | None = None
        self._thread: Joinable | None = None
        self._guard, self._working, self._over = threading.Lock(), threading.Event(), threading.Event()

    @property
    def leaving(self) -> Leaving:
        """Errors: StoreUnavailable."""
        return Leaving(self.memories.store.database)

    @property
    def archive(self) -> Archive:
        """Errors: StoreUnavailable, ConfigError."""
        with self._guard:
            if self._archive is None:
                self._archive = self.open()
            return self._archive

    def opened(self) -> Archive | None:
        """None: there is none. Errors: StoreUnavailable, ConfigError."""
        return self.archive if self.exists() else None

    def exists(self) -> bool:
        """Whether there is an archive, or may be."""
        return self.folder is None or self.folder.exists()

    # -- when ----------------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Begin a round beside the caller, if one is due and none is going on here; whether it was begun."""
        if self._working.is_set() or (self.failure is not None and self.world.steady_ms() < self._again_ms):
            return False
        if self.outputs is not None:
            self.outputs.cut()
        due = self.due()
        if due is None:
            return False
        self._working.set()
        self._thread = self.sleeper.start("archive", lambda: self._beside(due))
        return True

    def due(self) -> Close | None:
        return closing(self.rules, self.facts())

    def facts(self) -> Facts:
        standing = self.archivists.standing()
        return Facts(
            now_ms=self.world.steady_ms() + self.retirement.database.offset_ms,
            wall_ms=self.world.wall_ms(),
            closed_ms=standing.closed_ms,
            free=self.free(),
            begun=bool(self.archivists.begun()),
        )

    def free(self) -> int | None:
        """Bytes free on the state's disk."""
        if self.state is None:
            return None
        found = os.statvfs(self.state.parent)
        return found.f_bavail * found.f_frsize

    def beside_state(self) -> bool:
        """Whether segments lie on the state's disk."""
        if self.state is None or self.folder is None or not self.folder.exists():
            return False
        return self.folder.stat().st_dev == self.state.parent.stat().st_dev

    def pressed(self) -> bool:
        return is_pressed(self.rules, self.free())

    def _beside(self, due: Close) -> None:
        """What fails is tried again after a while; the journal, doctor and status tell of it."""
        try:
            self.round(due)
            self.failure = None
        except LongwatchError as error:
            self.failure, self._again_ms = error, self.world.steady_ms() + AGAIN_MS
            if not isinstance(error, LeaseLost):
                with contextlib.suppress(StoreUnavailable):
                    self.archivists.failed(error.message, hint=error.hint, again_ms=TOLD_MS)
        finally:
            self._working.clear()

    def rest(self, *, most_s: float | None = None) -> None:
        """Wait until no round goes on beside the caller."""
        if self._thread is not None:
            self._thread.join(most_s)

    def close(self) -> None:
        """Let a round that goes on here end where it may be ended; one that is kept waiting is left, and loses nothing."""
        self._over.set()
        self.rest(most_s=CLOSES_S)
        if self._archive is not None:
            self._archive.close()

    # -- a round -------------------------------------------------------------------------------------------------------------

    def round(self, due: Close, told: Told = lambda _: None) -> Archived:
        """Finish what was begun, archive what is due, drop segments whose time has come.

        Errors: LeaseLost, StoreUnavailable.
        """
        fence = self.archivists.take(self.holder, lease_ms=LEASE_MS)
        if fence is None:
            return Archived(busy=True)
        try:
            return self._round(Round(fence, due.age_ms, self.world.steady_ms(), self._fed(fence), told))
        finally:
            self.archivists.give_back(fence)

    def _fed(self, fence: int) -> int:
        self.memories.catch_up(still=self._lease(fence))
        return self.memories.read_up_to()

    def _round(self, going: Round) -> Archived:
        made: list[str] = []
        entries = self._send_back(going)
        self.retirement.name_kinds()
        self.leaving.check(age_ms=going.age_ms, told=going.told)
        for begun in self.archivists.begun():
            names, gone = self._one(begun, going)
            made, entries = [*made, *names], entries + gone
        for sort in SORTS:
            for _ in range(ROUNDS):
                if not self._any(sort, going):
                    break
                begun = self.archivists.begin(sort, going.fence)
                self.world.reach("archive.begun")
                names, gone = self._one(begun, going)
                made, entries = [*made, *names], entries + gone
                if gone == 0:
                    break  # all of it has changed meanwhile, or may not leave any more
        self.retirement.add_up()
        freed = self.free_segments(going.told)
        self.archivists.close(going.fence)
        return Archived(tuple(made), entries, freed)

    def _send_back(self, going: Round) -> int:
        """Tasks that were brought back go again, where they are as the archive has them; how many entries."""
        over = self.archivists.overstayed()
        here = {each.name: each for each in self.segments()} if over else {}
        gone = 0
        for name in sorted(over, key=lambda each: here[each].number if each in here else 0):
            if name in here:
                sort = sort_of(here[name])
                gone += self.retirement.drop(sort, kept_of(sort, self._readable(here[name])))
        for name in over:
            self.archivists.went_back(name)
        return gone

    def _readable(self, segment: Segment) -> Iterator[Entry]:
        """What can be read of it: rows whose copies were damaged since stay, and are archived anew."""
        return self.archive.entries(segment, damaged=lambda _: None)

    def _any(self, sort: Sort, going: Round) -> bool:
        return next(iter(self._pages(sort, going)), None) is not None

    def _pages(self, sort: Sort, going: Round) -> Iterable[list[Entry]]:
        age_ms = going.age_ms + self.world.steady_ms() - going.began_ms
        if sort == "records":
            return self.leaving.entries(age_ms=age_ms)
        if sort == "logs":
            return () if self.outputs is None else self.outputs.entries(before_ms=self.world.wall_ms() - age_ms)
        return self.retirement.entries(sort, age_ms=age_ms, fed=going.fed if sort == "journal" else LAST)

    def _one(self, begun: Begun, going: Round) -> tuple[list[str], int]:
        """From wherever it was left to its end: the segment, and how many entries left the hot state."""
        segment = self._written(begun, going)
        if segment is None:
            self.archivists.finish(begun.source)
            return [], 0
        persist(lambda: self.archivists.listed(begun.source, segment.name))
        self.world.reach("archive.known")
        gone = self._dropped(begun, segment, going)
        self.archivists.finish(begun.source, segment.name, entries=segment.count, bytes=segment.bytes, dropped=gone)
        self.world.reach("archive.finished")
        return [segment.name], gone

    def _written(self, begun: Begun, going: Round) -> Segment | None:
        """Its segment, verified and listed; None: there is none, and nothing is due any more."""
        known = self.archive.manifest().of_source(begun.source) if self.exists() else None
        if known is not None:
            return None if known.dropped else known
        stream = self._stream(begun.sort, going)
        first = next(stream, None)
        return None if first is None else self.archive.write(chain((first,), stream), source=begun.source)

    def _stream(self, sort: Sort, going: Round) -> Iterator[Entry]:
        size, count, lease = 0, 0, self._lease(going.fence)
        for page in self._pages(sort, going):
            lease()
            yield from page
            size, count = size + sum(len(entry.body) for entry in page), count + len(page)
            going.told(f"{sort}: {count:,} entries written")
            if size >= SEGMENT_MOST:
                return

    def _dropped(self, begun: Begun, segment: Segment, going: Round) -> int:
        entries = self._readable(segment)
        if begun.sort == "logs":
            return 0 if self.outputs is None else self.outputs.drop({digest_of(entry) for entry in entries})
        kept = kept_of(begun.sort, entries)
        self.archivists.renew(going.fence, lease_ms=LEASE_MS)
        lease = self._lease(going.fence)

        def dropped(gone: int) -> None:
            self.world.reach("archive.dropping")
            going.told(f"{begun.sort}: {gone:,} of {segment.count:,} entries left the state")
            lease()

        if begun.sort == "records":
            return self.leaving.drop(kept, source=begun.source, dropped=dropped)
        return self.retirement.drop(begun.sort, kept, dropped=dropped)

    def _lease(self, fence: int) -> Callable[[], None]:
        """To be called now and then. Errors: LeaseLost."""
        renewed_ms = self.world.steady_ms()

        def lease() -> None:
            nonlocal renewed_ms
            self._go_on()
            if self.world.steady_ms() - renewed_ms > LEASE_MS // 4:
                self.archivists.renew(fence, lease_ms=LEASE_MS)
                renewed_ms = self.world.steady_ms()

        return lease

    def _go_on(self) -> None:
        """Errors: LeaseLost when this process is about to end."""
        if self._over.is_set():
            raise LeaseLost("this process ends: the next archivist goes on", hint="Nothing is lost.")

    # -- bringing back ---------------------------------------------------------------------------------------------------------

    def restore(self, found: Found, *, who: str) -> Restored:
        """Tasks as they were, with their runs, steps, calls and journal; they stay as long as what is young."""
        journal = self.archivists.journal

        def told(tx: Transaction, task: str) -> None:
            journal.append(tx, "archive.restored", task, task=task, who=who)

        return restore(self.retirement, found, keep_ms=self.rules.every_ms, told=told)

    def located(self, heads: Iterable[Entry], entries: Iterable[Entry], told: Told = lambda _: None) -> Found:
        """All entries of these tasks, each with its segment. entries: which tell in what time to look for them."""
        tasks = {entry.id for entry in heads}
        times = [entry.at_ms for entry in entries]
        for segment in self.segments():
            if times and segment.from_ms <= max(times) and segment.to_ms >= min(times):
                told(f"reading {segment.name}")
                yield from ((segment.name, entry) for entry in self._readable(segment) if entry.task in tasks)

    # -- segments whose time has come ------------------------------------------------------------------------------------------

    def free_segments(self, told: Told = lambda _: None) -> tuple[str, ...]:
        """Drop what is older than it is kept, or more than there shall be; their names."""
        segments = self.segments()
        kept = [Kept(each.name, self._ends_ms(each), each.bytes, each.pinned) for each in segments]
        free = self.free() if self.beside_state() else None  # elsewhere no segment makes room for the state
        drops = dropping(self.rules, kept, wall_ms=self._certain_ms(), free=free)
        for drop in drops:
            self.drop(drop.name, drop.why, who="retention")
            told(f"dropped {drop.name}: {drop.why}")
        return tuple(drop.name for drop in drops)

    def _ends_ms(self, segment: Segment) -> int:
        """From when on its time is counted. What is remembered may be of long ago, and have been told only now."""
        if sort_of(segment) != "records":
            return segment.to_ms
        moves = self.archive.manifest().moves
        return max([segment.to_ms, *(move.at_ms for move in moves if _adds(move, segment))])

    def segments(self) -> list[Segment]:
        """Those that are there, oldest first."""
        return self.archive.segments() if self.exists() else []

    def drop(self, name: str, why: str, *, who: str) -> Segment:
        """Drop a segment for good, and say so in the journal. Errors: NotFound, LongwatchError for one that is pinned."""
        segment = self.archive.drop(name, why, who=who)
        before_ms = min([self._certain_ms() - self.rules.keep_ms, *(each.from_ms for each in self._with_tasks())])
        if sort_of(segment) == "records":
            self.leaving.forget(before_ms=self._certain_ms() - self.rules.keep_ms)
        self.archivists.dropped(name, why, who=who, entries=segment.count, keys_before_ms=before_ms)
        return segment

    def _certain_ms(self) -> int:
        """So late it is for certain: what a wall clock that is set ahead calls old is not dropped for good."""
        return min(self.world.wall_ms(), self.world.steady_ms() + self.retirement.database.offset_ms)

    def _with_tasks(self) -> list[Segment]:
        return [each for each in self.segments() if "task" in each.entries]


def _adds(move: Move, segment: Segment) -> bool:
    return move.move == "add" and move.segment is not None and move.segment.number == segment.number


def sort_of(segment: Segment) -> str:
    """Of what it was made: the first part of its source."""
    return segment.source.partition("/")[0]
