"""May this call leave now? Rates, concurrency, quota and budgets of a call in one transaction, shared by all processes.

`admit` reserves slot and money; `settle`, `release` and `unknown` end the call. Each is one transaction, repeatable by id.
"""

from collections.abc import Callable, Iterable, Mapping

from longwatch.admission import asides, keys, refusals, standing
from longwatch.admission.asides import Asides
from longwatch.admission.calls import (
    HOLD_MS,
    Admitted,
    Call,
    CallRequest,
    Doubt,
    Word,
    admitted,
    call_of,
    check,
    check_amount,
    check_told,
    doubt_of,
    weights_of,
)
from longwatch.admission.gates import Gates, shut
from longwatch.admission.in_force import InForce, Outdated, Part
from longwatch.admission.keys import Charge
from longwatch.admission.learned import LearnedLimits
from longwatch.admission.ledger import Ledger
from longwatch.admission.lines import Lines
from longwatch.admission.listing import Standings, standings, with_known
from longwatch.admission.standing import Prepared, Read
from longwatch.admission.task_caps import TaskCaps
from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import LongwatchError
from longwatch.policy import admission
from longwatch.policy.admission import Ask, Decision, Later, Metered, Shut, Slot, Spent, TooHeavy
from longwatch.policy.call import MOST_SHARING, Reconciling, State, burial
from longwatch.policy.difference import limits_from_json, limits_to_json
from longwatch.policy.learning import Rates, with_learned
from longwatch.policy.limits import Limits, Service
from longwatch.policy.meter import NEW, Meter
from longwatch.policy.override import bare
from longwatch.policy.scope import Gauge, gate_of_meter, gauges_of
from longwatch.store.fleet import kept_config
from longwatch.store.journal import Journal

PAGE = 500
Answer = Decision | Admitted | Outdated | LongwatchError


class Limiter:
    """Admission under `limits`, kept in `database`. Safe in threads."""

    part: Part = "whole"

    def __init__(self, database: Database, journal: Journal, limits: Limits, *, rules: int = 0) -> None:
        """rules: how often the fleet's limits had been changed by then; others are not decided by."""
        self.database, self.journal = database, journal
        self.pending: Callable[[], None] = lambda: None  # is told that there is something to `flush`
        self._ledger = Ledger(journal, self._scope_of_row)
        self.gates, self.lines = Gates(database, journal, self._slow), Lines(database, self._slow)
        self.learned = LearnedLimits(database, journal, self.flush)
        self._learned: Rates = {}
        self.asides = Asides(database, journal, self._in_force)
        self.task_caps: TaskCaps = TaskCaps(database, journal)
        self.adopt(limits, rules)

    def adopt(self, limits: Limits, rules: int) -> None:
        """From now on decide by these limits; what is reserved, held and spent stays."""
        self._force = InForce.of(limits, rules, at_ms=0, learned=self._learned, part=self.part)
        self.rules, self.limits = rules, limits

    def heed(self, learned: Rates) -> None:
        """From now on decide by these rates too, where they are slower than the configured ones or there are none."""
        if learned != self._learned:
            self._learned = learned
            self._force = self._force.with_learned(learned)

    def hold_back(self, floors: Mapping[str, int]) -> None:
        """These meters stand at these instants at least (steady microseconds): a provider has said what remains."""
        names = dict(zip(standing.METERS, floors, strict=False))
        with self.database.read() as tx:
            found = {
                row.name: row.free_us for row in tx.all("meter.several", **(dict.fromkeys(standing.METERS) | names))
            }
        ahead = {name: us for name, us in floors.items() if us > found.get(name, 0)}
        if ahead:
            with self.database.transaction(part="calls", durable=False) as tx:
                for name, free_us in ahead.items():
                    tx.count("gate.slow", name=name, free_us=free_us)
        self._slow({}, dict(floors))

    # -- in ----------------------------------------------------------------------------------------------------------------

    def admit(self, request: CallRequest) -> Admitted | Later:
        """A slot with everything reserved and held, or when to ask again; nothing was reserved then.

        Errors: LimitRefused (never, or the quota is spent), ServicePaused, BudgetExceeded, KeyForgotten, ConfigError.
        """
        check(request)
        force = self._force
        prepared = force.asked(request)
        answer, wall_ms = self.database.hopefully(
            lambda tx: (self._admit(tx, force, prepared, request), tx.wall_ms), part="calls", durable=request.once
        )
        if held_up(answer) and self._refresh(force):
            return self.admit(request)
        if isinstance(answer, Admitted | Later):
            return answer
        raise self._refusal(answer, wall_ms)

    def _admit(self, tx: Transaction, force: InForce, prepared: Prepared, request: CallRequest) -> Answer:
        used = keys.uses(tx, prepared, request)
        answer = keys.forgotten(tx, prepared, request, used) or self._decide(tx, force, request, used)
        if isinstance(answer, Later | Spent) and self._freed(tx, answer):
            answer = self._decide(tx, force, request, used)
        if isinstance(answer, TooHeavy | Spent | Shut | Later | LongwatchError):
            row = tx.one("call.by_id", id=request.id)  # a repetition is held up by nothing, least of all by itself
            answer = answer if row is None else admitted(row)
        return answer

    def _freed(self, tx: Transaction, answer: Later | Spent) -> bool:
        """Whether what it lacks was held by somebody long gone, or set aside for a batch that has ended."""
        expired = isinstance(answer, Later) and answer.reason != "rate" and self._expire(tx, PAGE)
        ended = lacks_money(answer) and asides.end_over(tx, self.journal)
        return bool(expired or ended)

    def _decide(self, tx: Transaction, force: InForce, request: CallRequest, used: Row | None) -> Answer:
        read = self._read(tx, force.asked(request), request)
        if read.calendar_ms >= force.turns_ms:
            force = self._turn(force, read.calendar_ms)
            read = self._read(tx, force.asked(request), request)
        decision = admission.decide(read.ask)
        if not isinstance(decision, Slot):
            return decision
        sharing = keys.sharing(used)
        if self._ledger.add(tx, request, read, decision, rules=force.rules, hold_ms=HOLD_MS, sharing=sharing):
            slot_ms = -(-decision.at_us // 1000)
            return Admitted(request.id, request.key, slot_ms, request.money, request.tokens)
        before = tx.one("call.by_id", id=request.id)
        return Outdated() if before is None else admitted(before)

    def _read(self, tx: Transaction, prepared: Prepared, request: CallRequest) -> Read:
        return standing.read(tx, prepared, request)

    def _turn(self, force: InForce, calendar_ms: int) -> InForce:
        """An override has ended: without it."""
        turned = force.at(calendar_ms)
        if self._force is force:
            self._force = turned
        return turned

    def _in_force(self) -> InForce:
        """As far as is known when it is asked for."""
        self._refresh(self._force)
        return self._force

    def _refresh(self, force: InForce) -> bool:
        """Whether others have changed only overrides since these were in force; what they changed is then adopted."""
        config, rules = kept_config(self.database)
        if rules == force.rules:
            return False
        kept = limits_from_json(config)
        if limits_to_json(bare(kept)) != limits_to_json(bare(force.kept)):
            return False
        self.adopt(kept, rules)
        return True

    def announce(self) -> None:
        """Other rules are in force than before: whatever decides beside the state is told. Errors: StoreUnavailable."""

    def _refusal(self, answer: object, wall_ms: int) -> LongwatchError:
        match answer:
            case LongwatchError():
                return answer
            case Outdated():
                return refusals.overruled()
            case TooHeavy():
                return refusals.too_heavy(answer)
            case Spent():
                return refusals.spent(answer, self.limits, wall_ms=wall_ms)
            case Shut():
                return self._shut(answer)
            case _:
                raise AssertionError(f"{answer} is no refusal")

    def _shut(self, answer: Shut) -> LongwatchError:
        return shut(self.gates.find(gate_of_meter(answer.gate) or answer.gate), now_ms=self.fleet_ms())

    def fleet_ms(self) -> int:
        """Now, by the fleet's steady clock."""
        with self.database.read() as tx:
            return tx.now_ms

    def reslot(self, call: str, *, owner: str) -> Admitted:
        """The call missed its slot by more than the meters allow for: take another one, at once or later.

        Errors: NotFound.
        """
        with self.database.transaction(part="calls", durable=False) as tx:
            row = self._own(tx, call, owner)
            prepared, weights = self._scope_of_row(row), weights_of(row)
            found = standing.meters(tx, prepared)
            metered = tuple(
                Metered(name, rate, found.get(name, NEW), weights.get(name, (0, 0))[0])
                for name, _, rate in prepared.scope.gauges
            )
            slot = admission.next_slot(Ask(tx.now_ms * 1000, None, metered, None, ()))
            self._ledger.move_slot(tx, row, slot)
            return Admitted(row.id, row.key, -(-slot.at_us // 1000), row.held_money, row.held_tokens)

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
        """The call was made. money: micro-units it cost; tokens: of budgets; used: actual units by dimension.

        What is None stands at the estimate. Twice replaces; the last counts, also after the hold has expired.
        Errors: NotFound for a call that does not exist or is somebody else's; ConfigError for amounts that cannot be.
        """
        check_told(money, tokens, used)
        with self.database.transaction(part="calls", durable=False) as tx:
            row = self._own(tx, call, owner)
            charge = Charge(
                row.held_money if money is None else money,
                row.held_calls,
                row.held_tokens if tokens is None else tokens,
            )
            self._ledger.settle(tx, row, charge, used or {})

    def release(self, call: str, *, owner: str) -> None:
        """The call was certainly not sent: everything is given back. Errors: NotFound; ConfigError once it is settled."""
        with self.database.transaction(part="calls", durable=False) as tx:
            self._ledger.release(tx, self._own(tx, call, owner), "release")

    def unknown(self, call: str, *, owner: str) -> None:
        """Nobody can tell what became of the call: it is charged at its hold. Errors: NotFound."""
        with self.database.transaction(part="calls", durable=False) as tx:
            self._ledger.lose(tx, self._own(tx, call, owner), "lose")

    # -- by a person -------------------------------------------------------------------------------------------------------

    def reconcile(self, call: str, word: Word) -> Reconciling:
        """A person, who owns no call, says what it cost; what came of it. Twice does no harm.

        Errors: NotFound; ConfigError for amounts that cannot be.
        """
        check_amount("money", word.money or 0)
        with self.database.transaction(part="calls") as tx:
            row = tx.one("call.doubt", id=call)
            if row is None:
                raise refusals.no_such_call(call)
            return self._ledger.hear(tx, row, word)

    def doubts(self, *, state: State = "unknown", limit: int = PAGE) -> list[Doubt]:
        """Calls in this state, newest first."""
        self.flush()
        with self.database.read() as tx:
            return [doubt_of(row) for row in tx.all("call.doubts", state=state, limit=limit)]

    def named(self, name: str, *, limit: int = MOST_SHARING + 1) -> list[Doubt]:
        """The call of this id, or the first calls with this key, oldest first."""
        with self.database.read() as tx:
            row = tx.one("call.doubt", id=name)
            rows = tx.all("call.doubts_of_key", key=name, limit=limit) if row is None else [row]
            return [doubt_of(row) for row in rows]

    # -- looking after calls -----------------------------------------------------------------------------------------------

    def beat(self, owner: str) -> int:
        """The owner is alive: its open calls' holds are pushed on; how many."""
        with self.database.transaction(part="calls", durable=False) as tx:
            return tx.count("call.beat", owner=owner, hold_ms=HOLD_MS)

    def expire(self, *, limit: int = PAGE) -> int:
        """Calls whose owner has been silent for too long become unknown, at most `limit` of them; how many."""
        with self.database.transaction(part="calls", durable=False) as tx:
            return self._expire(tx, limit)

    def _expire(self, tx: Transaction, limit: int) -> int:
        rows = tx.all("call.overdue", limit=limit)
        for row in rows:
            self._ledger.lose(tx, row, "expire")
        return len(rows)

    def bury(self, owner: str) -> int:
        """The owner's process is confirmed dead. Its calls before their slot are released, the others unknown."""
        buried = 0
        while True:
            with self.database.transaction(part="calls", durable=False) as tx:
                rows = tx.all("call.owned", owner=owner, limit=PAGE)
                for row in rows:
                    self._bury(tx, row)
            buried += len(rows)
            if len(rows) < PAGE:
                return buried

    def _bury(self, tx: Transaction, row: Row) -> None:
        move = burial(slot_us=row.slot_us, now_us=tx.now_ms * 1000)
        if move == "bury_waiting":
            self._ledger.release(tx, row, move)
        else:
            self._ledger.lose(tx, row, move)

    # -- looking -----------------------------------------------------------------------------------------------------------

    def peek(self, also: Iterable[str] = ()) -> Standings:
        """Every rate, concurrency, quota and budget as it stands. also: services that are known without being named."""
        limits = with_known(self.limits, also)
        with self.database.read() as tx:
            return standings(tx, limits)

    def find(self, call: str) -> Call:
        """Errors: NotFound."""
        self.flush()
        with self.database.read() as tx:
            row = tx.one("call.by_id", id=call)
            if row is None:
                raise refusals.no_such_call(call)
            return call_of(row, tx.now_ms)

    def open_calls(self, *, service: str | None = None, limit: int = PAGE) -> list[Call]:
        """Calls that are waiting for their slot or may be on their way, oldest first."""
        self.flush()
        with self.database.read() as tx:
            return [call_of(row, tx.now_ms) for row in tx.all("call.open", service=service, limit=limit)]

    def of_task(self, task: str, *, limit: int = PAGE) -> list[Call]:
        """Every call of one task, oldest first."""
        self.flush()
        with self.database.read() as tx:
            return [call_of(row, tx.now_ms) for row in tx.all("call.of_task", task=task, limit=limit)]

    def engine(self) -> str:
        """Which engine beside the state decides, in words; empty when the state does. Errors: StoreUnavailable."""
        return ""

    @property
    def unwritten(self) -> int:
        """Calls that `flush` has to write down."""
        return 0

    def flush(self) -> bool:
        """Write down what is not written yet; whether there was anything. Here every method writes at once."""
        return False

    @property
    def away(self) -> bool:
        """Whether an engine beside the state cannot be reached, and calls go by the share that is kept for that."""
        return False

    def ask_again(self) -> None:
        """Find out whether an engine that is away is back."""

    def close(self) -> None:
        """What an engine beside the state has open; the state is closed by whoever opened it."""

    # -- scopes ------------------------------------------------------------------------------------------------------------

    def scope(self, service: str, model: str | None, budget: str | None, agent: str) -> Prepared:
        """Every limit and purse of such a call. Errors: ConfigError for names that the limits do not know."""
        return self._force.scope(service, model, budget, agent)

    def rates_of(self, service: str, model: str | None) -> tuple[Gauge, ...]:
        """Every rate of such a call; none of a service that the limits do not know."""
        configured = self.limits.services.get(service, Service(service))
        return with_learned(gauges_of(configured, model), self._learned, service, model)

    def _scope_of_row(self, row: Row) -> Prepared:
        return self._force.scope_of_row(row)

    def _slow(self, gates: dict[str, Meter], slowed: dict[str, int]) -> None:
        """What an engine beside the state has to be told of; here the state itself has it."""

    def _own(self, tx: Transaction, call: str, owner: str) -> Row:
        row = tx.one("call.by_id", id=call)
        if row is None or row.owner != owner:
            raise refusals.no_such_call(call)
        return row


def held_up(answer: object) -> bool:
    """Whether other caps might have answered otherwise: then it is looked whether there are any by now."""
    return lacks_money(answer) or not isinstance(answer, Admitted | LongwatchError | Later | Shut)


def lacks_money(answer: object) -> bool:
    """Whether a cap stands in the way, of which something may be set aside."""
    return isinstance(answer, Spent) or (isinstance(answer, Later) and answer.reason == "budget")
