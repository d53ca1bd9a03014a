"""The limiter over Redis: the same methods as the state's own, each one decision of the script."""

from collections.abc import Iterable

from longwatch.admission import keys, refusals
from longwatch.admission.calls import (
    HOLD_MS,
    Admitted,
    CallRequest,
    admitted,
    check,
    whole_ms,
)
from longwatch.admission.in_force import InForce
from longwatch.admission.limiter import PAGE, held_up, lacks_money
from longwatch.admission.listing import Standings, standings, with_known
from longwatch.admission.redis.away import GoingOn, is_beginning
from longwatch.admission.redis.link import EngineAway, unless_away
from longwatch.admission.redis.memory import undecided
from longwatch.admission.redis.values import (
    Caps,
    Known,
    Said,
    admitted_of,
    asked_of,
    caps_at,
    is_heavy,
    is_keyed,
    known,
    later,
    meters_of,
    said_of,
    spent,
    text,
)
from longwatch.admission.standing import Prepared
from longwatch.errors import LongwatchError
from longwatch.policy.admission import Later, Shut, Spent, TooHeavy
from longwatch.policy.call import burial
from longwatch.policy.limits import DIMENSIONS
from longwatch.policy.meter import Meter

ROUNDS = 12  # of what Redis has to be told before it can answer one question


class RedisLimiter(GoingOn):
    """Admission decided in Redis, written down in `database`. Safe in threads."""

    # -- in ----------------------------------------------------------------------------------------------------------------

    def admit(self, request: CallRequest) -> Admitted | Later:
        check(request)
        if not self.limits.away:
            return self._usual(request) or self._admit_here(request)
        if (before := self.before(request)) is not None:
            return before
        if self.cut.is_due(left=True):
            self.ask_again()
        if self.cut.holds:
            return self.by_share(request)
        try:
            self.meet()
            answer = self._usual(request) or self._admit_here(request)
        except EngineAway as error:
            self.cut.failed(error)
            self.in_vain(request.id)
            return self.by_share(request)
        if not is_beginning(answer):
            return answer
        self.cut.failed(self.beginning())
        return self.by_share(request)

    def _admit_here(self, request: CallRequest) -> Admitted | Later:
        force = self._force
        prepared = self._scope_of(force, request)
        refused = self._forgotten(prepared, request) if is_keyed(prepared, request) else None
        if request.id in self._recent and (before := self._before(request, refused)) is not None:
            return before
        answer = refused or self._decided(request)
        expired = isinstance(answer, Later) and answer.reason != "rate" and self.expire()
        if expired or (lacks_money(answer) and self.asides.give_back()):
            answer = self._decided(request)
        if held_up(answer) and (self._refresh(force) or self._caps_moved(request)):
            return self._admit_here(request)
        if isinstance(answer, Admitted | Later):
            return answer
        raise self._refusal(answer, self._clock.wall_ms())

    def _usual(self, request: CallRequest) -> Admitted | None:
        """Of a call that nothing but rates limits, where its slot is near. Errors: ConfigError."""
        recent, generation = self._recent, self._memory.generation
        if request.id in recent.new or request.id in recent.old or not generation:
            return None
        call = self._rates.admit(self._force, request, generation)
        if call is None:
            return None
        recent.keep(call)
        self._records.keep(call)
        return call.answer()

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
        prepared = self._scope_of(force, request)
        asked, is_told = asked_of(force, prepared, request, dry=dry), False
        needs = {"money": request.money, "calls": request.calls, "tokens": request.tokens}
        for _ in range(ROUNDS):
            caps = self._caps_of(prepared)
            asked["caps"] = caps.needing(needs)
            kind, said, shift_us = self._run("admit", asked)
            if self._lacks(kind, said) and not is_told:
                is_told = True
                if self._memory.tell_untold(caps):
                    continue
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
                    if self._caps_moved(request):
                        return self._decided(request, dry=dry)
                case "rebuild":
                    self._records.flush()
                    self._memory.fill()
                case _:
                    if not self._memory.adopt(force.rules):
                        if not self._refresh(force):
                            return refusals.overruled()
                        return self._decided(request, dry=dry)
        raise undecided(self.link, ROUNDS)

    def _scope_of(self, force: InForce, request: CallRequest) -> Prepared:
        """Every limit and purse of such a call, with its task's."""
        prepared, task = force.asked(request), request.charged_task
        return prepared if task is None else self._of_tasks.scope(prepared, task)

    def _caps_moved(self, request: CallRequest) -> bool:
        """Whether a person has moved the caps of the call's task since this process read them."""
        return request.charged_task is not None and self._of_tasks.learn(request.charged_task)

    def _lacks(self, kind: str, said: Said) -> bool:
        """Whether a cap stands in the way, of which calls beside Redis may have given something back."""
        return bool(self.limits.away) and (kind == "spent" or (kind == "later" and said["reason"] == "budget"))

    def _caps_of(self, prepared: Prepared) -> Caps:
        found = self._caps.get(id(prepared))
        if found is None or found[0] is not prepared or found[1].calendar_ms != self._calendar_ms:
            if len(self._caps) >= 1024:
                self._caps = {}
            found = self._caps[id(prepared)] = prepared, caps_at(prepared, self._calendar_ms)
        return found[1]

    def _admitted(self, request: CallRequest, prepared: Prepared, said: Said, shift_us: int) -> Admitted:
        call = admitted_of(prepared, request, said, shift_us, generation=self._memory.generation)
        at_once = call.who.keyed or request.once or is_heavy(prepared, request.weights)
        return self._remember(call, at_once=at_once, durable=request.once)

    def _remember(self, call: Known, *, at_once: bool, durable: bool = False) -> Admitted:
        self._recent.keep(call)
        if at_once:
            self._records.write(call, durable=durable)
        else:
            self._records.keep(call)
        return Admitted(call.id, call.who.key, whole_ms(call.slot_us), call.hold.money, call.hold.tokens)

    # -- looking after calls ---------------------------------------------------------------------------------------------

    def beat(self, owner: str) -> int:
        beaten = unless_away(lambda: self._beat(owner))
        super().beat(owner)
        return beaten

    def expire(self, *, limit: int = PAGE) -> int:
        return self.share.expire(limit=limit) + unless_away(lambda: self._expire_due(limit))

    def bury(self, owner: str) -> int:
        self.cut.bury(owner)
        return self.share.bury(owner) + unless_away(lambda: self._bury_all(owner))

    def _beat(self, owner: str) -> int:
        _, said, _ = self._run("beat", {"owner": owner, "hold": HOLD_MS})
        if self._refresh(self._force):
            self.announce()  # whoever changed the rules may have died before he could
        self._records.flush()
        self.tell_disowned()
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
            own = {row.id for row in tx.all("away.overdue", limit=limit)}
            rows = [
                tx.one("allotment.by_id", id=row.id) for row in tx.all("call.overdue", limit=limit) if row.id not in own
            ]
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
        meters = self._meters_seen()
        with self.database.read() as tx:
            return standings(tx, limits, meters=meters)

    def _meters_seen(self) -> dict[str, Meter] | None:
        """None: Redis is away; the state has them as they were written down last."""
        try:
            _, said, shift_us = self._run("look", {})
        except EngineAway:
            if self.limits.away:
                return None
            raise
        return meters_of(said["meters"], shift_us)

    def close(self) -> None:
        try:
            self._records.flush()
            self.cut.leave()
        finally:
            self.link.close()
