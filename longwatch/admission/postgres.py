"""The state's own engine on PostgreSQL: the usual admission and the usual settlement are one statement each.

Decided here, an admission holds the lock of calls while its questions travel to the server and back. So the server decides
by itself where everything fits: the windows are open, every cap has room, the slot is near. Wherever it is not so simple it
changes nothing and says so, and the decision is made as on any other state. `policy` is what the statements restate; the
conformance programs hold them against it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from longwatch.admission.calls import (
    HOLD_MS,
    Admitted,
    CallRequest,
    check,
    check_told,
    facts_of,
    whole_ms,
)
from longwatch.admission.in_force import InForce
from longwatch.admission.limiter import Limiter
from longwatch.admission.standing import Prepared, encode
from longwatch.db.connection import Database, Part, Row, Unmet, Value
from longwatch.policy.admission import HORIZONS_US, Later, too_far
from longwatch.policy.budget import marks_of
from longwatch.policy.learning import Rates
from longwatch.policy.limits import Limits
from longwatch.policy.meter import apart_us, ceiling, usable_burst
from longwatch.policy.window import PARTED_MS
from longwatch.store.journal import Journal

LATEST_MS = 1 << 50
OPEN = 4_096  # calls of this process whose scope is kept until they are settled


class AtOnce(Database, Protocol):
    """A Database whose server can be told a whole transaction."""

    def at_once(self, procedure: str, /, *, durable: bool, part: Part, **values: Value) -> Row | None:
        """What the procedure answers; None where it cannot be made. Errors: Unmet, StoreUnavailable."""
        ...


class Told(NamedTuple):
    """A scope as the procedures are told of it, in arrays: its caps, its rates, and the marks at which there is something to
    tell of what is spent."""

    prepared: Prepared
    caps: Mapping[str, str]
    gauges: Mapping[str, str]
    marks: Mapping[str, str]


class Kept(NamedTuple):
    """Of an open call. facts: what the journal told of its admission."""

    told: Told
    facts: str


def told(prepared: Prepared) -> Told:
    caps = [(cap.purse, cap.dimension, cap.cap.window, cap.cap.amount) for cap in prepared.scope.caps]
    gauges = [
        (gauge.meter, gauge.rate.per_ms * 1000, gauge.rate.amount, usable_burst(gauge.rate))
        for gauge in prepared.scope.gauges
    ]
    marks = [
        (cap.purse, cap.dimension, cap.cap.window, amount, mark)
        for cap in prepared.scope.caps
        for mark, amount in marks_of(cap.warn, cap.cap.amount)
    ]
    return Told(
        prepared,
        columns(("purses", "dimensions", "pers", "caps"), caps),
        columns(("meters", "pers_us", "amounts", "bursts"), gauges),
        columns(("purses", "dimensions", "pers", "caps", "marks"), marks),
    )


def columns(names: Sequence[str], rows: Sequence[Sequence[int | str]]) -> dict[str, str]:
    """Each column of the rows as an array, by its name."""
    return {name: array([row[place] for row in rows]) for place, name in enumerate(names)}


def array(values: Sequence[int | str | None]) -> str:
    """As PostgreSQL reads it."""
    return "{" + ",".join(map(element, values)) + "}"


def element(value: int | str | None) -> str:
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"'
    return "null" if value is None else str(value)


def until_us(request: CallRequest) -> int | None:
    return None if request.until_ms is None else min(request.until_ms, LATEST_MS) * 1000


def too_heavy(prepared: Prepared, request: CallRequest) -> bool:
    return any(request.weights.get(gauge.dimension, 0) > ceiling(gauge.rate) for gauge in prepared.scope.gauges)


class PostgresLimiter(Limiter):
    """Safe in threads."""

    def __init__(self, database: AtOnce, journal: Journal, limits: Limits, *, rules: int = 0) -> None:
        super().__init__(database, journal, limits, rules=rules)
        self._server = database

    def adopt(self, limits: Limits, rules: int) -> None:
        super().adopt(limits, rules)
        self._told: dict[int, Told] = {}  # by the identity of what it is made from
        self._open: dict[str, Kept] = {}  # by call: a call is settled under the limits in force then

    def heed(self, learned: Rates) -> None:
        before = self._force
        super().heed(learned)
        if self._force is not before:
            self._told, self._open = {}, {}

    def admit(self, request: CallRequest) -> Admitted | Later:
        check(request)
        force = self._force
        prepared = force.scope(
            request.service, request.model, request.budget, request.agent, request.past, turn=request.turn
        )
        keyed = prepared.scope.service.key_memory_ms is not None and request.key != request.id
        if keyed or request.capped or too_heavy(prepared, request) or request.instead_of is not None:
            return super().admit(request)
        told = self._told_of(prepared)
        facts = self.journal.redactor.clean(encode(facts_of(request)).decode())
        row = self._admit_at_once(force, told, request, facts)
        if row is None or row.given_us is None:
            return super().admit(request)
        if not row.changed:
            far = HORIZONS_US[request.lane]
            answer = too_far(row.given_us, row.slowest, now_us=row.now_us, horizon_us=far, until_us=until_us(request))
            return answer if isinstance(answer, Later) else super().admit(request)
        if len(self._open) >= OPEN:
            self._open = {}
        self._open[request.id] = Kept(told, facts)
        return Admitted(request.id, request.key, whole_ms(row.given_us), request.money, request.tokens)

    def _admit_at_once(self, force: InForce, told: Told, request: CallRequest, facts: str) -> Row | None:
        rates = [(gauge.rate, request.weights.get(gauge.dimension, 0)) for gauge in told.prepared.scope.gauges]
        return self._server.at_once(
            "call.admit_at_once",
            durable=request.once,
            part="slots",
            **told.caps,
            **told.gauges,
            weights=array([weight for _, weight in rates]),
            aparts_us=array([apart_us(rate, weight) for rate, weight in rates]),
            most=told.prepared.scope.service.concurrency,
            until_us=until_us(request),
            horizon_us=HORIZONS_US[request.lane],
            parted_ms=PARTED_MS,
            hold_ms=HOLD_MS,
            rules=force.rules,
            turns_ms=force.turns_ms,
            facts=facts,
            id=request.id,
            key=request.key,
            service=request.service,
            model=request.model,
            agent=request.agent,
            budget=request.budget,
            owner=request.owner,
            task=request.task,
            run=request.run,
            step=request.step,
            lane=request.lane,
            aside=request.aside,
            money=request.money,
            calls=request.calls,
            tokens=request.tokens,
        )

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
        kept = self._open.pop(call, None)
        if kept is None or not self._settle_at_once(kept, call, owner, money, tokens, used or {}):
            super().settle(call, owner=owner, money=money, tokens=tokens, used=used)

    def _settle_at_once(
        self, kept: Kept, call: str, owner: str, money: int | None, tokens: int | None, used: Mapping[str, int]
    ) -> bool:
        """Whether it was: not where a threshold is reached, the call has ended before, or others have its key."""
        gauges = kept.told.prepared.scope.gauges
        try:
            row = self._server.at_once(
                "call.settle_at_once",
                durable=False,
                part="calls" if used else "ends",
                id=call,
                owner=owner,
                money=money,
                tokens=tokens,
                used=array([used.get(gauge.dimension) for gauge in gauges]) if used else None,
                **kept.told.gauges,
                **kept.told.marks,
                facts=kept.facts,
            )
        except Unmet:
            return False
        return row is not None and row.changed

    def release(self, call: str, *, owner: str) -> None:
        self._open.pop(call, None)
        super().release(call, owner=owner)

    def unknown(self, call: str, *, owner: str) -> None:
        self._open.pop(call, None)
        super().unknown(call, owner=owner)

    # -- what the statements are told ------------------------------------------------------------------------------------

    def _told_of(self, prepared: Prepared) -> Told:
        found = self._told.get(id(prepared))
        if found is None or found.prepared is not prepared:
            if len(self._told) >= OPEN:
                self._told = {}
            found = self._told[id(prepared)] = told(prepared)
        return found
