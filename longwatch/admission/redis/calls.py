"""What becomes of calls that Redis has admitted: each change of one is one decision of the script."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from longwatch.admission.calls import (
    Admitted,
    Word,
    check_amount,
    check_told,
    whole_ms,
)
from longwatch.admission.in_force import Part
from longwatch.admission.ledger import tokens_known
from longwatch.admission.limiter import Limiter
from longwatch.admission.redis.asides import RedisAsides
from longwatch.admission.redis.book import Book
from longwatch.admission.redis.cut import Cut
from longwatch.admission.redis.engine_clock import EngineClock
from longwatch.admission.redis.link import EngineAway, Link
from longwatch.admission.redis.memory import Memory, forgot
from longwatch.admission.redis.rates import Rates
from longwatch.admission.redis.recent import Recent
from longwatch.admission.redis.records import Records
from longwatch.admission.redis.task_caps import RedisTaskCaps
from longwatch.admission.redis.values import (
    Caps,
    Heard,
    Known,
    Move,
    Said,
    gauge,
    known,
    listed,
    said_of,
    text,
)
from longwatch.admission.refusals import no_such_call
from longwatch.admission.share import ShareLimiter
from longwatch.admission.standing import Prepared
from longwatch.db.connection import Clock, Database
from longwatch.errors import ConfigError, StoreUnavailable
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.away import is_of_share
from longwatch.policy.call import MOVES, Reconciling, reconciling
from longwatch.policy.learning import Rates as Learned
from longwatch.policy.limits import DIMENSIONS, Limits
from longwatch.policy.meter import Meter
from longwatch.policy.window import PARTED_MS
from longwatch.store.journal import Journal

LOOSE_MS = 30_000  # an ended call that its process has not written down by then is anybody's to write


class CallsInRedis(Limiter):
    """Admitted in Redis, written down in `database`. Safe in threads."""

    part: Part = "rest"

    def __init__(
        self,
        database: Database,
        journal: Journal,
        limits: Limits,
        *,
        link: Link,
        clock: Clock,
        new_token: Callable[[], str],
        rules: int = 0,
        given: bool = False,
    ) -> None:
        """clock: of the machine. given: decide by it, not by the server's."""
        self.share = ShareLimiter(database, journal, limits, rules=rules, refuse=self._unshared)
        super().__init__(database, journal, limits, rules=rules)
        self.link = link
        self._clock, self._given = clock, given
        self.cut = Cut(database, journal, link.place, self._fleet_ms, new_token, lambda: self.limits.away)
        self._beside: OrderedDict[str, None] = OrderedDict()  # calls that the state was asked about
        self._vain: OrderedDict[str, None] = OrderedDict()  # calls that Redis was asked about, and did not answer
        self._disowned: dict[str, int] = {}  # calls that are not Redis's, and how often it is to be told so
        self._owed: dict[str, int] = {}  # meters that Redis has to be told of
        self._records = Records(database, Book(self._ledger), self._run, lambda: self.pending())
        self._memory = Memory(database, journal, link, new_token, self._now)
        self.asides = RedisAsides(database, journal, self._in_force, self._memory, self._run, self._records.flush)
        self.task_caps = self._of_tasks = RedisTaskCaps(database, journal, self._memory, self._records.flush)
        self._engine = EngineClock()
        self._rates = Rates(link, clock, self._fleet_ms, self._engine, given)
        self._recent = Recent()
        link.greet = self._memory.greet
        self._calendar_ms = self.asides.calendar_ms()
        self._caps: dict[int, tuple[Prepared, Caps]] = {}

    def adopt(self, limits: Limits, rules: int) -> None:
        super().adopt(limits, rules)
        self.share.adopt(limits, rules)
        self._caps = {}

    def heed(self, learned: Learned) -> None:
        super().heed(learned)
        self.share.heed(learned)

    # -- asking ------------------------------------------------------------------------------------------------------------

    def _fleet_ms(self) -> int:
        return self._clock.steady_ms() + self.database.offset_ms

    def _now(self) -> Said:
        steady_ms = self._fleet_ms()
        if not self._given:
            return {"steady": steady_ms, "parted": PARTED_MS}
        return {"steady": steady_ms, "parted": PARTED_MS, "now": steady_ms * 1000, "wall": self._clock.wall_ms()}

    def _run(self, operation: str, arguments: Said) -> tuple[str, Said, int]:
        """(kind, answer, what the engine's clock needs added to read as the fleet's). Errors: StoreUnavailable.

        While it is away, and there is a share to go by, it is not asked.
        """
        self.cut.check()
        try:
            return self._asked(operation, arguments)
        except EngineAway as error:
            self.cut.failed(error)
            raise

    def _asked(self, operation: str, arguments: Said) -> tuple[str, Said, int]:
        for _ in range(3):
            if not self._memory.generation:
                self.link.renew()
            now = self._now()
            said = self.link.run(operation, now | {"gen": self._memory.generation} | arguments)
            kind = text(said["k"])
            if kind != "lost":
                return kind, said, self._shift_us(said, asked_ms=now["steady"])
            self._memory.generation = ""
        raise forgot(self.link)

    def _shift_us(self, said: Said, *, asked_ms: int) -> int:
        if self._given:
            return 0
        return self._engine.shift_us(said["now"], asked_ms=asked_ms, heard_ms=self._fleet_ms())

    def reslot(self, call: str, *, owner: str) -> Admitted:
        kept = self._kept(call, owner)
        gauges = [gauge(each) for each in self._prepared(kept).scope.gauges]
        said, shift_us = self._on("reslot", call, owner, {"gauges": gauges, "horizon": HORIZON_US})
        moved = known(call, said["c"], shift_us, Move("late", "open", said["late"]))
        self._records.keep(moved)  # it is not the time to wait for a write
        return Admitted(call, moved.who.key, whole_ms(moved.slot_us), moved.hold.money, moved.hold.tokens)

    def _unshared(self, why: str) -> StoreUnavailable:
        error = self.cut.error
        said = f"the admission engine at {self.link.place} is away" if error is None else error.message
        return EngineAway(
            f"{said}\n  calls go by {self.limits.away}% of every limit meanwhile, and {why}.",
            hint="Start it, or check [fleet] admission; this call waits for it as long as it may.",
        )

    # -- out ---------------------------------------------------------------------------------------------------------------

    def settle(
        self,
        call: str,
        *,
        owner: str,
        money: int | None = None,
        tokens: int | None = None,
        used: Mapping[str, int] | None = None,
    ) -> None:
        check_told(money, tokens, used)
        kept = self._kept(call, owner)
        self._end(kept, "settle", owner, {"money": money, "tokens": tokens}, used or {})

    def release(self, call: str, *, owner: str) -> None:
        self._end(self._kept(call, owner), "release", owner, {}, dict.fromkeys(DIMENSIONS, 0))

    def unknown(self, call: str, *, owner: str) -> None:
        self._end(self._kept(call, owner), "lose", owner, {}, {})

    def reconcile(self, call: str, word: Word) -> Reconciling:
        check_amount("money", word.money or 0)
        self._records.flush()
        with self.database.read() as tx:
            row = tx.one("call.doubt", id=call)
        if row is None:
            raise no_such_call(call)
        move = reconciling(row.state, row.told_money, word.money, correct=word.correct)
        if move in MOVES:
            used: dict[str, int] = dict.fromkeys(DIMENSIONS, 0) if move == "reconcile_unsent" else {}
            what, heard = {"money": word.money, "tokens": tokens_known(row)}, Heard(word, row.told_money, row.state)
            self._end(known(call, said_of(row, 0), 0), move, None, what, used, heard=heard)
            self._records.flush(durable=True)
        return move

    def _end(
        self, kept: Known, move: str, owner: str | None, what: Said, used: Mapping[str, int], heard: Heard | None = None
    ) -> bool:
        """Whether the call has changed. Errors: NotFound; ConfigError where the table of moves has no such move."""
        prepared = self._prepared(kept)
        gauges = [gauge(each, used=used[each.dimension]) for each in prepared.scope.gauges if each.dimension in used]
        arguments = {"move": move, "moves": MOVES[move], "gauges": gauges, "loose": LOOSE_MS, "horizon": HORIZON_US}
        said, shift_us = self._on("end", kept.id, owner, arguments | what)
        if text(said["k"]) == "refused":
            raise ConfigError(f"{kept.id} is {text(said['s'])}: it cannot be changed by {move} any more")
        if text(said["k"]) == "same":
            return False
        ended = known(kept.id, said["c"], shift_us, Move(move, text(said["c"]["s"]), said["c"]["ch"][0], heard))
        if ended.who.keyed:
            self._records.write(ended, durable=False)
        else:
            self._records.keep(ended)
        return True

    def _on(self, operation: str, call: str, owner: str | None, arguments: Said) -> tuple[Said, int]:
        """An operation on one call, which the ledger may have to bring back. Errors: NotFound."""
        for _ in range(3):
            kind, said, shift_us = self._run(operation, {"id": call, "owner": owner, "loose": LOOSE_MS} | arguments)
            if kind != "missing":
                return said, shift_us
            if said["known"]:
                break
            self._bring_back(call, owner)
        raise no_such_call(call)

    def _bring_back(self, call: str, owner: str | None) -> None:
        self._records.flush()
        with self.database.read() as tx:
            row = tx.one("allotment.by_id", id=call)
            if row is None or (owner is not None and row.owner != owner):
                raise no_such_call(call)
            shift_us = self._memory.shift_us(tx, self.link.run("state", self._now())["now"])
        self._run("load", {"id": call, "c": said_of(row, shift_us), "loose": LOOSE_MS})

    def _kept(self, call: str, owner: str) -> Known:
        """Whose call it is and what it is of: as this process knows it, or else the ledger. Errors: NotFound."""
        if (found := self._recent.find(call) or self._records.book.find(call)) is None:
            self._records.flush()
            with self.database.read() as tx:
                row = tx.one("allotment.by_id", id=call)
            found = None if row is None else known(call, said_of(row, 0), 0)
        if found is None:
            found = next((each for each in self._listed({"owner": owner, "ended": True}) if each.id == call), None)
        if found is None or found.owner != owner:
            raise no_such_call(call)
        return found

    def _slow(self, gates: dict[str, Meter], slowed: dict[str, int]) -> None:
        """Errors: StoreUnavailable; what is told then has to be told again. With a share, by whoever reaches it."""
        if not self.limits.away:
            return self._bar(gates, slowed)
        slowed = {name: us for name, us in slowed.items() if not is_of_share(name)}
        self.share.slow(slowed)
        try:
            self._bar(gates, slowed)
        except EngineAway:
            self._owed |= slowed

    def _bar(self, gates: dict[str, Meter], slowed: dict[str, int]) -> None:
        now_ms = self._fleet_ms()
        meters = {name: [found.free_us, 0, found.total] for name, found in gates.items()}
        self._run("bar", {"meters": meters, "slowed": slowed, "fleet": now_ms * 1000})

    def _prepared(self, call: Known) -> Prepared:
        return self._scope_of_row(call.who_row())

    def _listed(self, which: Said) -> list[Known]:
        _, said, shift_us = self._run("list", which)
        return [listed(each, shift_us) for each in said["calls"] or () if each.get("c")]
