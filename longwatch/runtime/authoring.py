"""Has snapshots written by a model, one at a time, after the offline ones were made: nobody ever waits for it.

A snapshot is there at once, and says that it is offline, and why. Whoever has the turn asks for the one that was asked for
least often, the newest of those, because the newest are read longest and a budget that runs out leaves the oldest. Before a
model is asked, everybody's pause is written down, and an answer ends it: who dies between asking and writing has cost a call
and a pause, and the repetition has the same key. An answer that has not the shape is asked for once more; then the offline
text stands for good. What has not come to an answer (no money, no key, no service) is tried again. Where the config says so
it is asked in batches, whose answers come later (batching.py).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from longwatch.errors import LeaseLost, StoreUnavailable
from longwatch.policy.authoring import Asked, Kept, ask, check, written
from longwatch.policy.backoff import Backoff
from longwatch.policy.memory import Record
from longwatch.policy.snapshot import range_digest
from longwatch.runtime.memory import Memories
from longwatch.runtime.persist import persist
from longwatch.store.rewriting import Rewriting, Turn
from longwatch.store.snapshots import Snapshot

if TYPE_CHECKING:
    from longwatch.runtime.batching import Batching, BatchService

logger = logging.getLogger("longwatch")

AT_ONCE = 2  # snapshots that a round of upkeep asks for
BY_HAND = 20  # and `memory compact`
LEASE_MS = 60_000  # longer than any one request may take
PAUSE = Backoff(first_ms=60_000, most_ms=3_600_000)
TRIES = 2  # for an answer of the shape
NOBODY = Turn(0, 0)


class NotNow(Exception):
    """There was no answer. Its text says why, and nothing of what was asked."""


class Reply(NamedTuple):
    """answer: the tool's input, None: there was none. model: that wrote it. micros: what it cost."""

    answer: object
    model: str
    micros: int


class Told(NamedTuple):
    """records: of the snapshot's range. asked: what a model is told of them."""

    records: list[Record]
    asked: Asked


class Author(Protocol):
    """A model, reached and paid for like any other call of the fleet.

    batch: whether it is asked in batches from now on. batches: those that there are, also while it is not.
    """

    model: str
    batch: bool

    @property
    def batches(self) -> "BatchService": ...

    def unable(self) -> str | None:
        """Why it cannot be asked at all, with what to do; None: it can."""
        ...

    def ask(self, asked: Asked, *, agent: str, key: str) -> Reply:
        """Errors: NotNow."""
        ...


@dataclass
class Authoring:
    memories: Memories

    def step(
        self, *, agent: str | None = None, most: int = AT_ONCE, told: Callable[[str], None] = lambda _: None
    ) -> int:
        """Have up to `most` offline snapshots written, until one comes to no answer; how many were.

        Errors: LeaseLost when one took longer than the lease and another process asks.
        """
        author = self.memories.author
        if author is None or self._is_unable(author):
            return 0
        turn = self.rewriting.take(self.memories.world.new_id("author"), lease_ms=LEASE_MS)
        if turn is None:
            return 0
        try:
            return self.batching(author, turn).go_on(told) + self._written(author, turn, agent, most, told)
        except NotNow as error:
            logger.info("batches were looked at: %s", error)
            return 0
        finally:
            self.rewriting.give_back(turn)

    @cached_property
    def rewriting(self) -> Rewriting:
        return Rewriting(self.memories.store.database)

    def is_due(self) -> bool:
        """Whether somebody may ask now, and there is something to ask for."""
        author = self.memories.author
        if author is None or self._is_unable(author):
            return False
        pause, batching = self.rewriting.pause(), self.batching(author)
        if pause.pauses or pause.asks:
            return False
        return batching.is_due() or (batching.has_room() and self.rewriting.next() is not None)

    def batching(self, author: Author, turn: Turn = NOBODY) -> "Batching":
        from longwatch.runtime.batching import Batching

        return Batching(self, author, turn)

    def _is_unable(self, author: Author) -> bool:
        why = author.unable()
        if why is not None and self.memories.first_time(why):
            logger.warning("snapshots are written offline, not by %s: %s", author.model, why)
        return why is not None

    def _written(self, author: Author, turn: Turn, agent: str | None, most: int, told: Callable[[str], None]) -> int:
        made, batching = 0, self.batching(author, turn)
        for _ in range(most):
            snapshot = self.rewriting.next(agent) if batching.has_room() else None
            if snapshot is None:
                break
            told(f"{snapshot.agent}: asking {author.model} for r{snapshot.first_place} to r{snapshot.last_place}")
            try:
                made += Request(self, author, turn, snapshot).answered()
            except NotNow as error:
                logger.info("%s stays offline for now: %s", snapshot.id, error)
                break
            turn = turn._replace(failures=0)
        return made


@dataclass
class Request:
    """For one snapshot. batch: the request of a batch that is over with what comes of it."""

    authoring: Authoring
    author: Author
    turn: Turn
    snapshot: Snapshot
    micros: int = 0
    batch: str | None = None

    def answered(self) -> bool:
        """Whether it is the model's now; in a batch it never is at once. Errors: NotNow, LeaseLost."""
        told = self.told()
        if told is None:
            return False
        if self.author.batch:
            self.authoring.batching(self.author, self.turn).submit(self.snapshot, told.asked)
            return False
        return self.kept(told.records, *self._asked(told.asked))

    def told(self) -> "Told | None":
        """What to ask, of which records; None: nothing, and that is written down."""
        snapshot, memories = self.snapshot, self.authoring.memories
        records = list(memories.whole.records(snapshot.agent, snapshot.first_place, snapshot.last_place))
        if len(records) != snapshot.records or range_digest(records) != snapshot.sha256:
            self._leave("not all of its records can be read as they were")
            return None
        asked = ask(records)
        if not asked.records:
            self._leave("none of its records is live")
            return None
        return Told(records, asked)

    def believed(self, asked: Asked, reply: Reply) -> Kept | None:
        """None: it has not the shape."""
        return check(asked, reply.answer, self.authoring.memories.journal.redactor.clean)

    def kept(self, records: list[Record], kept: Kept | None, model: str) -> bool:
        """Whether it is the model's now."""
        if kept is None:
            self._leave(f"{TRIES} answers of {self.author.model} had not the shape")
        elif not kept.facts and not kept.narrative:
            self._leave(f"no claim of {self.author.model} was kept", dropped=kept.dropped)
        else:
            return self._write(records, kept, model)
        return False

    def _asked(self, asked: Asked) -> tuple[Kept | None, str]:
        model = ""
        for number in range(1, TRIES + 1):
            reply = self._reply(asked, number)
            self.micros, model = self.micros + reply.micros, reply.model
            kept = self.believed(asked, reply)
            if kept is not None:
                return kept, model
        return None, model

    def _reply(self, asked: Asked, number: int) -> Reply:
        snapshot, world = self.snapshot, self.authoring.memories.world
        delay_ms = PAUSE.delay_ms(self.turn.failures + 1, fraction=world.fraction())
        self.authoring.rewriting.begin(self.turn, snapshot.id, lease_ms=LEASE_MS, delay_ms=delay_ms)
        try:
            reply = self.author.ask(asked, agent=snapshot.agent, key=key_of(snapshot, number))
        except NotNow as error:
            why = str(error)
            persist(lambda: self.authoring.rewriting.put_off(snapshot, self.turn, why, micros=self.micros))
            raise
        world.reach("memory.answered")
        return reply

    def _write(self, records: list[Record], kept: Kept, model: str) -> bool:
        shape, world = written(records, kept, self.snapshot.shape.numbers), self.authoring.memories.world
        about = {"micros": self.micros, "dropped": kept.dropped, "lease_ms": LEASE_MS}
        rewriting = self.authoring.rewriting
        made = rewriting.write(self.snapshot, shape, self.turn, author=model, batch=self.batch, **about)
        world.reach("memory.written")
        return made

    def _leave(self, why: str, *, dropped: int = 0) -> None:
        about = {"micros": self.micros, "dropped": dropped}
        persist(lambda: self.authoring.rewriting.leave(self.snapshot, self.turn, why, batch=self.batch, **about))


def key_of(snapshot: Snapshot, number: int) -> str:
    """Of the call that asks for it for the number-th time: the same after a crash."""
    place = f"{snapshot.first_place}-{snapshot.last_place}"
    return f"snapshot/{snapshot.agent}/{place}/{snapshot.sha256[:16]}/{number}"


def why_offline(memories: Memories) -> str | None:
    """Why a snapshot that is made now is offline; None: nobody else is to write it."""
    if memories.author is None:
        return None
    return memories.author.unable() or Rewriting(memories.store.database).pause().why or "nobody was asked yet"


def write_quietly(memories: Memories) -> None:
    """A round of upkeep, in a thread of its own."""
    try:
        Authoring(memories).step()
    except (LeaseLost, StoreUnavailable):  # it took too long, or the fleet was closed: whoever comes next does it
        pass
    except Exception:  # there is nobody who would hear of it
        logger.exception("snapshots could not be written; the next round tries again")
