"""What is asked of admission and what it answers: plain frozen values. Instants: the fleet's steady clock."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from longwatch.db.connection import Row
from longwatch.errors import ConfigError, nearest
from longwatch.policy.aside import name_of
from longwatch.policy.call import Phase, State, phase
from longwatch.policy.limits import COUNT_TOKENS, DIMENSIONS, LANES
from longwatch.policy.naming import check_name, resolve_lane

HOLD_MS = 600_000  # an open call whose owner is silent for this long is charged at its hold
LARGEST = 10**15  # above this a weight, a price or a hold is a mistake: a billion units of money in micro-units

Weights = dict[str, tuple[int, int]]
"""By meter: units reserved or used, and the meter's total just behind them."""


class CallRequest(msgspec.Struct, frozen=True):
    """One use of a service that wants to be admitted.

    id: made by the caller, so that a repetition after a lost reply finds the same admission. key: the same on every
    attempt at the same call; the id itself when nobody gave one. weights: units by dimension of the service's rates.
    money: the worst case in micro-units of the fleet's currency. tokens: the worst case, for budgets of tokens.
    until_ms: the latest slot of use to the caller, None: any. once: the admission survives a power cut. past: the gate
    that it goes through as a probe. instead_of: the model that was asked for, where the budget had no room for it and
    `model` takes its place. turn: it has stood in line, and may ask. batch: its task's, which may have something set aside.
    capped: its task has caps of its own.
    """

    id: str
    key: str
    service: str
    agent: str
    owner: str
    model: str | None = None
    budget: str | None = None
    task: str | None = None
    run: str | None = None
    step: str | None = None
    lane: str = "normal"
    weights: Mapping[str, int] = msgspec.field(default_factory=lambda: {"requests": 1})
    money: int = 0
    tokens: int = 0
    until_ms: int | None = None
    once: bool = False
    past: str | None = None
    turn: bool = False
    instead_of: str | None = None
    batch: str | None = None
    capped: bool = False

    @property
    def charged_task(self) -> str | None:
        """The task that it is charged to."""
        return self.task if self.capped else None

    @property
    def aside(self) -> str | None:
        """What it draws on, where there is such a thing."""
        return None if self.batch is None else name_of(self.batch, self.service)

    @property
    def calls(self) -> int:
        """What it counts for quotas and budgets of calls: its requests; nothing, where it only counts tokens."""
        return 0 if self.model == COUNT_TOKENS else self.weights.get("requests", 1)


def facts_of(request: CallRequest) -> dict[str, object]:
    """What the journal tells of its admission, but for its wait."""
    facts: dict[str, object] = {
        "service": request.service,
        "budget": request.budget,
        "key": request.key,
        "money": request.money,
    }
    facts |= {"model": request.model} if request.model else {}
    return facts | ({"instead_of": request.instead_of} if request.instead_of else {})


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """The call may leave at slot_ms, not before. money and tokens are held for it until it is settled or released."""

    id: str
    key: str
    slot_ms: int
    money: int
    tokens: int


@dataclass(frozen=True)
class Call:
    """One call as it is kept. money, calls, tokens: what it is charged, the hold while it is open. Instants in steady ms,
    calendar_ms in epoch milliseconds of the calendar."""

    id: str
    key: str
    phase: Phase
    service: str
    model: str | None
    agent: str
    budget: str | None
    owner: str
    task: str | None
    run: str | None
    step: str | None
    lane: str
    slot_ms: int
    admitted_ms: int
    calendar_ms: int
    until_ms: int
    ended_ms: int | None
    money: int
    calls: int
    tokens: int
    held_money: int


@dataclass(frozen=True)
class Doubt:
    """A call as a person says what it cost. money: what it is charged; told: what it would be if no other call with its
    key bore it; held: its hold. shared: its service remembers its key, and other calls have it."""

    id: str
    key: str
    state: State
    service: str
    model: str | None
    agent: str
    budget: str | None
    task: str | None
    calendar_ms: int
    until_ms: int
    money: int
    told: int
    held: int
    shared: bool


@dataclass(frozen=True)
class Word:
    """What a person says of a call. money: what it cost, in micro-units; None: it was never sent. by: who; note: how
    they know. correct: also where another amount is known already."""

    money: int | None
    by: str
    note: str = ""
    correct: bool = False


def doubt_of(row: Row) -> Doubt:
    return Doubt(
        row.id, row.key, row.state, row.service, row.model, row.agent, row.budget, row.task, row.calendar_ms,
        row.until_ms, row.money, row.told_money, row.held_money, row.sharing == 2,
    )  # fmt: skip


def call_of(row: Row, now_ms: int) -> Call:
    state: State = row.state
    return Call(
        id=row.id,
        key=row.key,
        phase=phase(state, slot_us=row.slot_us, now_us=now_ms * 1000),
        service=row.service,
        model=row.model,
        agent=row.agent,
        budget=row.budget,
        owner=row.owner,
        task=row.task,
        run=row.run,
        step=row.step,
        lane=row.lane,
        slot_ms=whole_ms(row.slot_us),
        admitted_ms=row.admitted_ms,
        calendar_ms=row.calendar_ms,
        until_ms=row.until_ms,
        ended_ms=row.ended_ms,
        money=row.money,
        calls=row.calls,
        tokens=row.tokens,
        held_money=row.held_money,
    )


def admitted(row: Row) -> Admitted:
    """The answer that the call of this row was given when it was admitted."""
    return Admitted(row.id, row.key, whole_ms(row.slot_us), row.held_money, row.held_tokens)


def whole_ms(slot_us: int) -> int:
    """Milliseconds, rounded up: a call must not leave before its slot."""
    return -(-slot_us // 1000)


_weights = msgspec.json.Decoder(Weights)


def weights_of(row: Row) -> Weights:
    return _weights.decode(row.weights)


def check(request: CallRequest) -> None:
    """Nothing is unlimited by a typo. Errors: ConfigError for amounts that cannot be meant, and for unknown names."""
    for dimension, units in request.weights.items():
        if dimension not in DIMENSIONS or type(units) is not int or not 0 < units <= LARGEST:
            check_weights(request.weights)
    if type(request.money) is not int or type(request.tokens) is not int or request.money or request.tokens:
        check_amount("money", request.money)
        check_amount("tokens", request.tokens)
    if request.lane not in LANES:
        resolve_lane(request.lane)
    check_name("the key", request.key)


def check_weights(weights: Mapping[str, int]) -> None:
    """Errors: ConfigError for a dimension that no rate has, and for weights that are not whole and positive."""
    for dimension, units in weights.items():
        if dimension not in DIMENSIONS:
            raise ConfigError(
                f"a call has no weight called {dimension!r}{nearest(dimension, DIMENSIONS)}",
                hint=f"Weights are {', '.join(DIMENSIONS)}; money goes by money=.",
            )
        check_amount(dimension, units)
        if units == 0:
            raise ConfigError(f"{dimension} weighs 0", hint="Leave it out, or give what the call will use.")


def check_told(money: int | None, tokens: int | None, used: Mapping[str, int] | None) -> None:
    """What a call is said to have cost and used, before anybody is asked whose it is. Errors: ConfigError."""
    check_weights({dimension: units for dimension, units in (used or {}).items() if units})
    for what, amount in (("money", money), ("tokens", tokens)):
        if amount is not None:
            check_amount(what, amount)


def check_amount(what: str, amount: object) -> None:
    """Errors: ConfigError unless the amount is an integer from 0 to LARGEST."""
    if type(amount) is not int:  # nor one of its kinds: True is no amount
        raise ConfigError(
            f"{what} is {amount!r}, which is not a whole number", hint='Money: "0.20 GBP", never a float.'
        )
    if not 0 <= amount <= LARGEST:
        raise ConfigError(f"{what} is {amount}, outside 0 to {LARGEST}", hint="Check its unit and its sign.")
