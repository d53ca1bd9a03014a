"""Has snapshots written by a model, one at a time, after the offline ones were made: nobody ever waits for it.

A snapshot is there at once, and says that it is offline, and why. Whoever has the turn asks for the one that was asked for
least often, the newest of those, because the newest are read longest and a budget that runs out leaves the oldest. Before a
model is asked, everybody's pause is written down, and an answer ends it: who dies between asking and writing has cost a call
and a pause, and the repetition has the same key. An answer that has not the shape is asked for once more; then the offline
text stands for good. What has not come to an answer (no money, no key, no service) is tried again.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

from longwatch.errors import LeaseLost, StoreUnavailable
from longwatch.policy.authoring import Asked, Kept, ask, check, written
from longwatch.policy.backoff import Backoff
from longwatch.policy.memory import Record
from longwatch.policy.snapshot import range_digest
from longwatch.runtime.memory import Memories
from longwatch.runtime.persist import persist
from longwatch.store.rewriting import Rewriting, Turn
from longwatch.store.snapshots import Snapshot

logger = logging.getLogger("longwatch")

AT_ONCE = 2  # snapshots that a round of upkeep asks for
BY_HAND = 20  # and `memory compact`
LEASE_MS = 60_000  # longer than any one request may take
PAUSE = Backoff(first_ms=60_000, most_ms=3_600_000)
TRIES = 2  # for an answer of the shape


class NotNow(Exception):
    """There was no answer. Its text says why, and nothing of what was asked."""


class Reply(NamedTuple):
    """answer: the tool's input, None: there was none. model: that wrote it. micros: what it cost."""

    answer: object
    model: str
    micros: int


class Author(Protocol):
    """A model, reached and paid for like any other call of the fleet."""

    model: str

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
            return self._written(author, turn, agent, most, told)
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
        pause = self.rewriting.pause()
        return not (pause.pauses or pause.asks) and self.rewriting.next() is not None

    def _is_unable(self, author: Author) -> bool:
        why = author.unable()
        if why is not None and self.memories.first_time(why):
            logger.warning("snapshots are written offline, not by %s: %s", author.model, why)
        return why is not None

    def _written(self, author: Author, turn: Turn, agent: str | None, most: int, told: Callable[[str], None]) -> int:
        made = 0
        for _ in range(most):
            snapshot = self.rewriting.next(agent)
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
    """For one snapshot."""

    authoring: Authoring
    author: Author
    turn: Turn
    snapshot: Snapshot
    micros: int = 0

    def answered(self) -> bool:
        """Whether it is the model's now. Errors: NotNow, LeaseLost."""
        snapshot, memories = self.snapshot, self.authoring.memories
        records = list(memories.whole.records(snapshot.agent, snapshot.first_place, snapshot.last_place))
        if len(records) != snapshot.records or range_digest(records) != snapshot.sha256:
            return self._leave("not all of its records can be read as they were")
        asked = ask(records)
        if not asked.records:
            return self._leave("none of its records is live")
        kept, model = self._asked(asked)
        if kept is None:
            return self._leave(f"{TRIES} answers of {self.author.model} had not the shape")
        if not kept.facts and not kept.narrative:
            return self._leave(f"no claim of {self.author.model} was kept", dropped=kept.dropped)
        return self._write(records, kept, model)

    def _asked(self, asked: Asked) -> tuple[Kept | None, str]:
        clean, model = self.authoring.memories.journal.redactor.clean, ""
        for number in range(1, TRIES + 1):
            reply = self._reply(asked, number)
            self.micros, model = self.micros + reply.micros, reply.model
            kept = check(asked, reply.answer, clean)
            if kept is not None:
                return kept, model
        return None, model

    def _reply(self, asked: Asked, number: int) -> Reply:
        snapshot, world = self.snapshot, self.authoring.memories.world
        delay_ms = PAUSE.delay_ms(self.turn.failures + 1, fraction=world.fraction())
        self.authoring.rewriting.begin(self.turn, snapshot.id, lease_ms=LEASE_MS, delay_ms=delay_ms)
        place = f"{snapshot.first_place}-{snapshot.last_place}"
        key = f"snapshot/{snapshot.agent}/{place}/{snapshot.sha256[:16]}/{number}"
        try:
            reply = self.author.ask(asked, agent=snapshot.agent, key=key)
        except NotNow as error:
            why = str(error)
            persist(lambda: self.authoring.rewriting.put_off(snapshot, self.turn, why, micros=self.micros))
            raise
        world.reach("memory.answered")
        return reply

    def _write(self, records: list[Record], kept: Kept, model: str) -> bool:
        shape, world = written(records, kept, self.snapshot.shape.numbers), self.authoring.memories.world
        about = {"micros": self.micros, "dropped": kept.dropped, "lease_ms": LEASE_MS}
        made = self.authoring.rewriting.write(self.snapshot, shape, self.turn, author=model, **about)
        world.reach("memory.written")
        return made

    def _leave(self, why: str, *, dropped: int = 0) -> bool:
        about = {"micros": self.micros, "dropped": dropped}
        persist(lambda: self.authoring.rewriting.leave(self.snapshot, self.turn, why, **about))
        return False


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
