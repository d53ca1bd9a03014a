"""The limiter over Redis: the same methods as the state's own, each one decision of the script."""

from collections.abc import Callable, Iterable, Mapping

from longwatch.admission import keys, refusals
from longwatch.admission.calls import (
    HOLD_MS,
    Admitted,
    CallRequest,
    Word,
    admitted,
    check,
    check_amount,
    check_weights,
    whole_ms,
)
from longwatch.admission.ledger import tokens_known
from longwatch.admission.limiter import PAGE, Limiter, held_up, lacks_money, no_such_call, scope_asked
from longwatch.admission.listing import Standings, standings, with_known
from longwatch.admission.redis.asides import RedisAsides
from longwatch.admission.redis.book import Book
from longwatch.admission.redis.link import Link, unless_away
from longwatch.admission.redis.memory import Memory, forgot, undecided
from longwatch.admission.redis.records import Records
from longwatch.admission.redis.values import (
    Caps,
    Heard,
    Known,
    Move,
    Said,
    admitted_of,
    asked_of,
    caps_at,
    gauge,
    is_heavy,
    is_keyed,
    known,
    later,
    listed,
    meters_of,
    said_of,
    spent,
    text,
)
from longwatch.admission.standing import Prepared
from longwatch.db.connection import Clock, Database
from longwatch.errors import ConfigError, LongwatchError
from longwatch.policy.admission import HORIZON_US, Later, Shut, Spent, TooHeavy
from longwatch.policy.call import MOVES, Reconciling, burial, reconciling
from longwatch.policy.limits import DIMENSIONS, Limits
from longwatch.policy.meter import Meter
from longwatch.policy.window import PARTED_MS
from longwatch.store.journal import Journal

LOOSE_MS = 30_000  # an ended call that its process has not written down by then is anybody's to write
REMEMBERED = 4_096  # ids of calls of this process that may be asked for again
ROUNDS = 12  # of what Redis has to be told before it can answer one question


class RedisLimiter(Limiter):
    """Admission decided in Redis, written down in `database`. Safe in threads."""

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
        super().__init__(database, journal, limits, rules=rules)
        self.link = link
        self._clock, self._given = clock, given
        self._records = Records(database, Book(self._ledger), self._run, lambda: self.pending())
        self._memory = Memory(database, journal, link, new_token, self._now)
        self.asides = RedisAsides(database, journal, self._in_force, self._memory, self._run, self._records.flush)
        self._recent: dict[str, Known] = {}  # calls of this process, as they were admitted
        link.greet = self._memory.greet
        self._calendar_ms = self.asides.calendar_ms()
        self._caps: dict[int, tuple[Prepared, Caps]] = {}

    def adopt(self, limits: Limits, rules: int) -> None:
        super().adopt(limits, rules)
        self._caps = {}

    # -- asking ------------------------------------------------------------------------------------------------------------

    def _fleet_ms(self) -> int:
        return self._clock.steady_ms() + self.database.offset_ms

    def _now(self) -> Said:
        steady_ms = self._fleet_ms()
        if not self._given:
            return {"steady": steady_ms, "parted": PARTED_MS}
        return {"steady": steady_ms, "parted": PARTED_MS, "now": steady_ms * 1000, "wall": self._clock.wall_ms()}

    def _run(self, operation: str, arguments: Said) -> tuple[str, Said, int]:
        """(kind, answer, what the engine's clock needs added to read as the fleet's). Errors: StoreUnavailable."""
        for _ in range(3):
            if not self._memory.generation:
                self.link.renew()
            said = self.link.run(operation, self._now() | {"gen": self._memory.generation} | arguments)
            kind = text(said["k"])
            if kind != "lost":
                return kind, said, 0 if self._given else (self._fleet_ms() + 1) * 1000 - said["now"]
            self._memory.generation = ""
        raise forgot(self.link)

    # -- in ----------------------------------------------------------------------------------------------------------------

    def admit(self, request: CallRequest) -> Admitted | Later:
        check(request)
        force = self._force
        prepared = scope_asked(force, request)
        refused = self._forgotten(prepared, request) if is_keyed(prepared, request) else None
        if request.id in self._recent and (before := self._before(request, refused)) is not None:
            return before
        answer = refused or self._decided(request)
        expired = isinstance(answer, Later) and answer.reason != "rate" and self.expire()
        if expired or (lacks_money(answer) and self.asides.give_back()):
            answer = self._decided(request)
        if held_up(answer) and self._refresh(force):
            return self.admit(request)
        if isinstance(answer, Admitted | Later):
            return answer
        raise self._refusal(answer, self._clock.wall_ms())

    def _before(self, request: CallRequest, refused: LongwatchError | None) -> Admitted | None:
        """The answer of a call that was admitted before, and may have ended."""
        answer = refused or self._decided(request, dry=True)
        if isinstance(answer, Later) and answer.reason != "rate":
            self.expire()
        self._records.flush()
        with self.database.read() as tx:
            row = tx.one("call.by_id", id=request.id)
        return None if row is None else admitted(row)

    def _forgotten(self, prepared: Prepared, request: CallRequest) -> LongwatchError | None:
        self._records.flush()
        with self.database.read() as tx:
            return keys.forgotten(tx, prepared, request, keys.uses(tx, prepared, request))

    def _decided(
        self, request: CallRequest, *, dry: bool = False
    ) -> Admitted | Later | Shut | Spent | TooHeavy | LongwatchError | None:
        """dry: as it would be were it not admitted already; None, where it would be."""
        force = self._force
        prepared = scope_asked(force, request)
        asked = asked_of(force, prepared, request, dry=dry)
        needs = {"money": request.money, "calls": request.calls, "tokens": request.tokens}
        for _ in range(ROUNDS):
            caps = self._caps_of(prepared)
            asked["caps"] = caps.needing(needs)
            kind, said, shift_us = self._run("admit", asked)
            match kind:
                case "admitted":
                    return self._admitted(request, prepared, said, shift_us)
                case "later":
                    return later(said, shift_us)
                case "heavy":
                    return TooHeavy(text(said["name"]), said["w"], said["most"])
                case "spent":
                    return spent(caps, said)
                case "dry":
                    return None
                case "windows":
                    self._calendar_ms = said["cal"]
                    if self._calendar_ms >= force.turns_ms:
                        self._turn(force, self._calendar_ms)
                        return self._decided(request, dry=dry)
                case "open":
                    self._memory.open(caps)
                case "raise":
                    self._memory.allot(caps, said["low"], [cap["need"] for cap in asked["caps"]])
                case "rebuild":
                    self._records.flush()
                    self._memory.fill()
                case _:
                    if not self._memory.adopt(force.rules):
                        if not self._refresh(force):
                            return refusals.overruled()
                        return self._decided(request, dry=dry)
        raise undecided(self.link, ROUNDS)

    def _caps_of(self, prepared: Prepared) -> Caps:
        found = self._caps.get(id(prepared))
        if found is None or found[0] is not prepared or found[1].calendar_ms != self._calendar_ms:
            if len(self._caps) >= 1024:
                self._caps = {}
            found = self._caps[id(prepared)] = prepared, caps_at(prepared, self._calendar_ms)
        return found[1]

    def _admitted(self, request: CallRequest, prepared: Prepared, said: Said, shift_us: int) -> Admitted:
        call = admitted_of(prepared, request, said, shift_us, generation=self._memory.generation)
        if len(self._recent) >= REMEMBERED:
            self._recent.pop(next(iter(self._recent)), None)
        self._recent[request.id] = call
        if call.who.keyed or request.once or is_heavy(prepared, request.weights):
            self._records.write(call, durable=request.once)
        else:
            self._records.keep(call)
        return Admitted(request.id, request.key, whole_ms(call.slot_us), call.hold.money, call.hold.tokens)

    def reslot(self, call: str, *, owner: str) -> Admitted:
        kept = self._kept(call, owner)
        gauges = [gauge(each) for each in self._prepared(kept).scope.gauges]
        said, shift_us = self._on("reslot", call, owner, {"gauges": gauges, "horizon": HORIZON_US})
        moved = known(call, said["c"], shift_us, Move("late", "open", said["late"]))
        self._records.write(moved, durable=False)
        return Admitted(call, moved.who.key, whole_ms(moved.slot_us), moved.hold.money, moved.hold.tokens)

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
        check_weights({dimension: units for dimension, units in (used or {}).items() if units})
        kept = self._kept(call, owner)
        for what, amount in (("money", money), ("tokens", tokens)):
            if amount is not None:
                check_amount(what, amount)
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
        if (found := self._recent.get(call) or self._records.book.find(call)) is None:
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
        """Errors: StoreUnavailable; what is told then has to be told again."""
        now_ms = self._fleet_ms()
        meters = {name: [found.free_us, 0, found.total] for name, found in gates.items()}
        self._run("bar", {"meters": meters, "slowed": slowed, "fleet": now_ms * 1000})

    def _prepared(self, call: Known) -> Prepared:
        return self._scope_of_row(call.who_row())

    # -- looking after calls ---------------------------------------------------------------------------------------------

    def beat(self, owner: str) -> int:
        return unless_away(lambda: self._beat(owner))

    def expire(self, *, limit: int = PAGE) -> int:
        return unless_away(lambda: self._expire_due(limit))

    def bury(self, owner: str) -> int:
        return unless_away(lambda: self._bury_all(owner))

    def _beat(self, owner: str) -> int:
        _, said, _ = self._run("beat", {"owner": owner, "hold": HOLD_MS})
        if self._refresh(self._force):
            self.announce()  # whoever changed the rules may have died before he could
        self._records.flush()
        super().beat(owner)
        return int(said["n"])

    def _expire_due(self, limit: int) -> int:
        expired = sum(
            self._end(call, "expire", None, {}, {}) for call in self._listed({"which": "due", "limit": limit})
        )
        expired += self._expire_written(limit)
        for call in self._listed({"which": "loose", "limit": PAGE}):
            self._records.keep(call)
        self._records.flush()
        return expired

    def _expire_written(self, limit: int) -> int:
        """Those that only the ledger knows: their process wrote them down after the engine had lost its memory."""
        with self.database.read() as tx:
            rows = [tx.one("allotment.by_id", id=row.id) for row in tx.all("call.overdue", limit=limit)]
        found = [known(row.id, said_of(row, 0), 0) for row in rows if row is not None]
        written = [call for call in found if call.id not in self._records.book]
        here = {text(id) for id in self._run("look", {"ids": True})[1].get("ids") or ()} if written else set[str]()
        return sum(self._end(call, "expire", None, {}, {}) for call in written if call.id not in here)

    def _bury_all(self, owner: str) -> int:
        calls = self._listed({"owner": owner})
        now_us = self._fleet_ms() * 1000
        for call in calls:
            move = burial(slot_us=call.slot_us, now_us=now_us)
            used: dict[str, int] = dict.fromkeys(DIMENSIONS, 0) if move == "bury_waiting" else {}
            self._end(call, move, owner, {}, used)
        for call in self._listed({"owner": owner, "ended": True}):
            self._records.keep(call)
        self._records.flush()
        return len(calls)

    def _listed(self, which: Said) -> list[Known]:
        _, said, shift_us = self._run("list", which)
        return [listed(each, shift_us) for each in said["calls"] or () if each.get("c")]

    def announce(self) -> None:
        self._run("rules", {"rules": self.rules})

    # -- writing down --------------------------------------------------------------------------------------------------

    def engine(self) -> str:
        self._run("look", {"ids": True})
        return f"Redis {self.link.version} at {self.link.place} decides"

    @property
    def unwritten(self) -> int:
        return len(self._records.book)

    def flush(self) -> bool:
        return self._records.flush()

    # -- looking -----------------------------------------------------------------------------------------------------------

    def peek(self, also: Iterable[str] = ()) -> Standings:
        limits = with_known(self.limits, also)
        self._records.flush()
        _, said, shift_us = self._run("look", {})
        with self.database.read() as tx:
            return standings(tx, limits, meters=meters_of(said["meters"], shift_us))

    def close(self) -> None:
        try:
            self._records.flush()
        finally:
            self.link.close()
