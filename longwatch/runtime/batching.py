"""Snapshots that a model writes in batches: at half the price, and within a day.

A batch has no key by which its provider would know it again, and does not tell before its end whose requests it has. So the
request is written down, with an id that is used once and with the call that pays for it, before the batch is made, and
the batch's name after it. Who finds a request without a name asks the provider for the batches of those minutes: the one
whose answer has the id is it, and no other is made before all of them have ended. Should it be none of them, its call stays
charged at its hold, because a request may still have been on its way.

The call ends when the batch is made, charged at the most that its answer can cost, so that it takes no place of those in
flight for a day, and needs nobody to keep it alive. What the answer has really cost replaces that. The call is settled first,
then the answer is taken and the request forgotten in one transaction: who dies between the two settles the same amount again.

A batch is taken in whichever model was asked, and also when no more are to be made. Of a snapshot that was changed since its
records were read the answer is thrown away, and paid.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from longwatch.policy.authoring import Asked
from longwatch.policy.price import Usage
from longwatch.runtime.authoring import LEASE_MS, PAUSE, TRIES, Author, Authoring, NotNow, Reply, Request, key_of
from longwatch.runtime.persist import persist
from longwatch.store.batches import Batches, Open
from longwatch.store.rewriting import Turn
from longwatch.store.snapshots import OFFLINE, Snapshot

MOST = 20  # batches at a time
SOON_MS, SELDOM_MS = 60_000, 300_000  # between two looks at one; the longer it has taken, the seldomer
ARRIVED_MS = 2 * LEASE_MS  # a request that was sent has reached its provider after so long
APART_MS = 300_000  # that the provider's clock may differ by
LOST_MS = 25 * 3_600_000  # the provider ends every batch within 24 hours

Kind = Literal["succeeded", "errored", "canceled", "expired", "lost"]


class InDoubt(NotNow):
    """Nobody knows whether the batch was made."""


class Ended(NamedTuple):
    """lost: the provider has no such batch any more. The rest: of one that succeeded."""

    kind: Kind
    answer: object = None
    model: str = ""
    usage: Usage | None = None


class Found(NamedTuple):
    """sure: there is no other batch that it may still be."""

    batch: str | None
    sure: bool


class Sending(Protocol):
    """A request that is about to be sent. call, owner: that will pay for it."""

    @property
    def call(self) -> str: ...

    @property
    def owner(self) -> str: ...

    def send(self, custom_id: str) -> str:
        """Make a batch of it, in its turn and within its budget; the batch's name. Errors: NotNow, InDoubt."""
        ...


class BatchService(Protocol):
    """Batches of one provider, and the calls that pay for them."""

    def prepare(self, asked: Asked, *, agent: str, key: str) -> Sending:
        """Errors: NotNow."""
        ...

    def ended(self, request: Open) -> Ended | None:
        """None: it goes on. Errors: NotNow."""
        ...

    def find(self, request: Open, *, since_ms: int, until_ms: int, known: set[str]) -> Found:
        """The batch that was made of it between these instants, by the calendar, and is none of `known`. Errors: NotNow."""
        ...

    def settle(self, request: Open, ended: Ended) -> int:
        """At the price of batches; micro-units. Twice does no harm."""
        ...

    def excuse(self, request: Open) -> None:
        """It has cost nothing."""
        ...

    def lose(self, request: Open) -> None:
        """Nobody will know what it has cost."""
        ...


@dataclass
class Batching:
    authoring: Authoring
    author: Author
    turn: Turn
    _came_to_nothing: list[str] = field(default_factory=list[str])

    @cached_property
    def store(self) -> Batches:
        return Batches(self.authoring.memories.store.database)

    def is_due(self) -> bool:
        """Whether there is one to look at."""
        return bool(self.store.due(limit=1))

    def has_room(self) -> bool:
        """Whether another snapshot may be asked for."""
        return not self.author.batch or self.store.open() < MOST

    # -- made --------------------------------------------------------------------------------------------------------------

    def submit(
        self, snapshot: Snapshot, asked: Asked, *, number: int = 1, micros: int = 0, batch: str | None = None
    ) -> None:
        """Have a batch made for it. batch, micros: a request whose place it takes, and its cost. Errors: NotNow, LeaseLost."""
        memories, turn = self.authoring.memories, self.turn
        delay_ms = PAUSE.delay_ms(turn.failures + 1, fraction=memories.world.fraction())
        try:
            sending = self.author.batches.prepare(asked, agent=snapshot.agent, key=key_of(snapshot, number))
        except NotNow as error:
            self.authoring.rewriting.begin(turn, snapshot.id, lease_ms=LEASE_MS, delay_ms=delay_ms)
            self._put_off(snapshot, str(error), micros=micros, batch=batch)
            raise
        custom_id = f"{snapshot.id}-{snapshot.tries + 1}"
        facts = (sending.call, sending.owner, self.author.model, number, micros, snapshot.changes)
        request = Open(snapshot.id, custom_id, None, *facts)
        self.store.ask(turn, request, lease_ms=LEASE_MS, delay_ms=delay_ms)
        memories.world.reach("batch.asked")
        try:
            name = sending.send(custom_id)
        except InDoubt:
            raise
        except NotNow as error:
            self._put_off(snapshot, str(error), micros=micros, batch=custom_id)
            raise
        memories.world.reach("batch.made")
        persist(lambda: self.store.made(turn, request, name, lease_ms=LEASE_MS, soon_ms=SOON_MS))
        memories.world.reach("batch.written")

    # -- looked at ---------------------------------------------------------------------------------------------------------

    def go_on(self, told: Callable[[str], None]) -> int:
        """Look at those that are due; how many snapshots were written.

        Errors: NotNow, also when one came to nothing, so that no other is made now; LeaseLost.
        """
        written = 0
        for request in self.store.due(limit=MOST):
            told(f"looking at {request.batch or 'a batch that was never named'}")
            written += self._one(request)
        if self._came_to_nothing:
            raise NotNow(self._came_to_nothing[-1])
        return written

    def _one(self, request: Open) -> bool:
        """Whether its snapshot is written. It is put off before it is looked at: whoever dies over it holds up no others."""
        world, service = self.authoring.memories.world, self.author.batches
        poll_ms = world.wall_ms() + min(SELDOM_MS, max(SOON_MS, request.age_ms // 10))
        self.store.look(self.turn, request, lease_ms=LEASE_MS, poll_ms=poll_ms)
        snapshot = self.store.snapshot(request.snapshot)
        assert snapshot is not None, f"{request.snapshot} is not there"
        if request.batch is None:
            found = self._found(request)
            if found.batch is None and found.sure and request.age_ms >= ARRIVED_MS:
                return self._given_up(snapshot, request, "no batch was made of it")
            if found.batch is None:
                return self._waits(snapshot, request)
            request = self.store.made(self.turn, request, found.batch, lease_ms=LEASE_MS, soon_ms=SOON_MS)
            world.reach("batch.found")
        ended = service.ended(request)
        if ended is None:
            return self._waits(snapshot, request)
        world.reach("batch.fetched")
        if ended.kind == "lost":
            return self._given_up(snapshot, request, f"{request.batch} is not there any more")
        return self._taken(snapshot, request, ended)

    def _found(self, request: Open) -> Found:
        since_ms, until_ms = request.asked_ms - APART_MS, request.asked_ms + ARRIVED_MS + APART_MS
        return self.author.batches.find(request, since_ms=since_ms, until_ms=until_ms, known=self.store.names())

    def _waits(self, snapshot: Snapshot, request: Open) -> bool:
        late = request.age_ms >= LOST_MS
        return self._given_up(snapshot, request, f"{request.batch or 'a batch'} did not end") if late else False

    def _given_up(self, snapshot: Snapshot, request: Open, why: str) -> bool:
        """It is charged at its hold, and asked for again."""
        self.author.batches.lose(request)
        return self._failed(snapshot, request, why)

    # -- taken -------------------------------------------------------------------------------------------------------------

    def _taken(self, snapshot: Snapshot, request: Open, ended: Ended) -> bool:
        world, service = self.authoring.memories.world, self.author.batches
        if ended.kind != "succeeded":
            service.excuse(request)
            world.reach("batch.settled")
            return self._failed(snapshot, request, f"{request.batch} was {ended.kind}")
        micros = service.settle(request, ended)
        world.reach("batch.settled")
        if snapshot.changes != request.changes or snapshot.author != OFFLINE:
            total, rewriting = request.micros + micros, self.authoring.rewriting
            persist(lambda: rewriting.throw_away(snapshot, self.turn, micros=total, batch=request.custom_id))
            return False
        reply = Reply(ended.answer, ended.model, micros)
        made = self._written(snapshot, request, reply)
        world.reach("batch.taken")
        return made

    def _written(self, snapshot: Snapshot, request: Open, reply: Reply) -> bool:
        total = request.micros + reply.micros
        answer = Request(self.authoring, self.author, self.turn, snapshot, micros=total, batch=request.custom_id)
        told = answer.told()
        if told is None:
            return False
        kept = answer.believed(told.asked, reply)
        if kept is None and request.number < TRIES:
            again = {"number": request.number + 1, "micros": total}
            self.submit(snapshot, told.asked, batch=request.custom_id, **again)
            return False
        return answer.kept(told.records, kept, reply.model)

    def _failed(self, snapshot: Snapshot, request: Open, why: str) -> bool:
        """It stays offline for now, and everybody pauses."""
        delay_ms = PAUSE.delay_ms(self.turn.failures + 1, fraction=self.authoring.memories.world.fraction())
        self.authoring.rewriting.begin(self.turn, snapshot.id, lease_ms=LEASE_MS, delay_ms=delay_ms)
        self._put_off(snapshot, why, micros=request.micros, batch=request.custom_id)
        self._came_to_nothing.append(why)
        return False

    def _put_off(self, snapshot: Snapshot, why: str, *, micros: int, batch: str | None) -> None:
        persist(lambda: self.authoring.rewriting.put_off(snapshot, self.turn, why, micros=micros, batch=batch))
