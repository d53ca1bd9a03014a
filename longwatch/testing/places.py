"""The places at which a run may be killed, what they are called, and how a process dies at one of them.

A place is what the run has just written down (a call admitted, a step stored, a commit made), or a mark that the runtime
sets where something has happened that is not written down yet. Places between two of them would tell nothing new: what
lies there is either the handler's own code, which the next place kills after, or the runtime's.
"""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from longwatch.db.connection import Certain, Database, Part, Row, Transaction, Value
from longwatch.runtime.run import current_frame, current_run
from longwatch.testing.clock import Clock

STEPS = ("tasks.store_step", "tasks.begin_step")  # the statements that name a step
AHEAD = (
    "step.returned",
    "edit.copied",
    "edit.prepared",
    "edit.locked",
    "edit.checked",
)  # marks before a step's statement
ABSENT = (
    "call.admitted",
    "lease.taken",
    "lease.released",
    "step.begun",
    "step.stored",
    "edit.committed",
    "edit.applied",
)

WORDS = {
    "call.admitted": "a call had been admitted, before its turn had come",
    "call.leaving": "a call was about to leave",
    "call.late": "a call was given another turn",
    "call.returned": "a call had come back, before it was settled",
    "once.begun": "it was written down as begun, before it began",
    "step.returned": "its function had returned, before its result was stored",
    "step.stored": "its result had been stored",
    "lease.taken": "a lease had been taken",
    "lease.leaving": "a lease was about to be given back",
    "edit.copied": "a file of the edit had been copied",
    "edit.prepared": "the edit's files were ready",
    "edit.locked": "the edit was about to be compared with what is there",
    "edit.checked": "the edit was about to be committed",
    "edit.committed": "the edit was committed, before its files were in place",
    "edit.moving": "the edit's files were being put in place",
    "edit.moved": "the edit's files were in place",
    "edit.synced": "the edit's files were in place for good",
    "edit.put_away": "the commit's folder had been put away",
    "edit.applied": "the edit was over",
    "edit.read": "files were read",
    "before the end": "the handler had returned, before the task's end was stored",
    "after the end": "the task's end had been stored",
    "after run.started": "the run had just begun",
}
WRITTEN = {
    "call.settled": "a call had been settled",
    "call.released": "a call had been released",
    "call.unknown": "the outcome of a call had been lost",
}


@dataclass
class Place:
    """what: happened. nth: time that it did. step: where, "" outside of all."""

    what: str
    nth: int
    step: str = ""

    def __str__(self) -> str:
        """As in "step 'charge', when a call had come back, before it was settled"."""
        where = f"step {self.step!r}" if self.step else "outside of a step"
        if self.step.startswith("edit "):
            where = f"the edit of {self.step.removeprefix('edit ').rpartition(' #')[0]}"
        nth = f" ({self.nth})" if self.nth > 1 and not self.step else ""
        return f"{where}, when {WORDS.get(self.what, self.what)}{nth}"


class Watch:
    """Follows the runs of one process from place to place. deadly: where the process kills itself."""

    def __init__(self, clock: Clock, deadly: Place | None = None) -> None:
        self.places: list[Place] = []
        self._clock, self._deadly = clock, deadly
        self._seen = Counter[str]()
        self._last = ""

    def reach(self, what: str) -> None:
        """The process is at a place, if this thread is one of the handler's."""
        if self._clock.is_beside():
            return
        self._seen[what] += 1
        place = Place(what, self._seen[what], self._step(what))
        if self._deadly is not None and (self._deadly.what, self._deadly.nth) == (place.what, place.nth):
            os.kill(os.getpid(), signal.SIGKILL)
        self.places.append(place)

    def around(self, database: Database) -> "Watched":
        """The same, and its commits are places."""
        return Watched(database, self)

    def mark(self, mark: str) -> None:
        """runtime.world.World.reach"""
        if current_run.get() is not None:
            self.reach(mark)

    def naming(self, step: str) -> None:
        """A transaction is about to store, or begin, this step: the marks that led here were its."""
        self._last = step
        for place in reversed(self.places):
            if place.what not in AHEAD or place.step:
                return
            place.step = step

    def _step(self, what: str) -> str:
        frame = current_frame.get()
        if what in AHEAD or (frame is not None and frame.step):
            return "" if frame is None else frame.step
        return self._last if what.startswith(("edit.", "step.", "once.")) else ""


class Watched(Certain):
    """db.connection.Database, whose commits are places."""

    def __init__(self, real: Database, watch: Watch) -> None:
        self._real, self._watch = real, watch

    @property
    def offset_ms(self) -> int:
        return self._real.offset_ms

    @offset_ms.setter
    def offset_ms(self, offset_ms: int) -> None:
        self._real.offset_ms = offset_ms

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True, part: Part = "all") -> Generator[Transaction]:
        with self._real.transaction(durable=durable, part=part) as tx:
            told = Told(tx)
            yield told
            if told.step is not None:
                self._watch.naming(told.step)
            if told.ends:
                self._watch.reach("before the end")
        if told.ends:
            self._watch.reach("after the end")
        elif "run.started" in told.records:
            self._watch.reach("after run.started")
        elif current_run.get() is not None and told.records and not set(told.records) & set(ABSENT):
            self._watch.reach(WRITTEN.get(told.records[0], f"the record {told.records[0]} had been written"))

    def read(self) -> contextlib.AbstractContextManager[Transaction]:
        return self._real.read()

    def take_killed(self) -> list[int]:
        return self._real.take_killed()

    def close(self) -> None:
        self._real.close()


class Told:
    """db.connection.Transaction. records: kinds it appends to the journal. step: it stores or begins. ends: a run."""

    def __init__(self, tx: Transaction) -> None:
        self._tx, self.now_ms, self.wall_ms = tx, tx.now_ms, tx.wall_ms
        self.records: list[str] = []
        self.step: str | None = None
        self.ends = False

    def one(self, statement: str, /, **values: Value) -> Row | None:
        return self._tx.one(statement, **values)

    def all(self, statement: str, /, **values: Value) -> list[Row]:
        return self._tx.all(statement, **values)

    def several(self, *asked: tuple[str, Mapping[str, Value]]) -> list[list[Row]]:
        return self._tx.several(*asked)

    def count(self, statement: str, /, **values: Value) -> int:
        if statement in STEPS:
            self.step = str(values["name"])
        elif statement == "tasks.end_run":
            self.ends = True
        elif statement == "journal.append":
            self.records.append(str(values["kind"]))
        return self._tx.count(statement, **values)

    def each(self, statement: str, names: tuple[str, ...], rows: Sequence[Sequence[Value]], /) -> None:
        for row in rows:
            self.count(statement, **dict(zip(names, row, strict=True)))
