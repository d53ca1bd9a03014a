"""The rates that a batch meets, as its calls meet them: with what was learned, of the meter that they share.

Calls of several models may fall under one meter by different rates, where something was learned of one model only. Their units
are then counted in parts of those of the slowest rate: so many that they take as long to refill. Of their bursts the one
counts that is refilled first: calls that may not run so far ahead come last, because the others go on before them.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from longwatch.policy import meter
from longwatch.policy.away import parts_of
from longwatch.policy.learning import slower
from longwatch.policy.limits import Rate
from longwatch.policy.meter import Meter
from longwatch.policy.needs import Demand
from longwatch.policy.plan import Pace

PARTS = 1_000  # of a unit, where units of other rates are counted in it

Origin = Literal["configured", "learned"]
Shares = Sequence[tuple[Demand, int]]
"""Demands, and how often each is made."""


class Met(NamedTuple):
    """One rate: the slowest by which calls of the batch fall under the meter. needs: units of the whole batch.

    left: units that could leave now, negative when later slots are taken.
    """

    meter: str
    dimension: str
    rate: Rate
    origin: Origin
    needs: int
    left: int
    pace: Pace


class Under(NamedTuple):
    """Calls that fall under a meter, by this rate."""

    demand: Demand
    times: int
    dimension: str
    rate: Rate
    origin: Origin

    @property
    def units(self) -> int:
        return self.demand.of(self.dimension) * self.times

    @property
    def heaviest(self) -> int:
        return self.demand.one(self.dimension)


def rates_met(shares: Shares, full_us: Mapping[str, int], *, now_us: int, ahead_us: int, away: int) -> list[Met]:
    """In the order of the meters' names. full_us: by meter, on the steady clock; a meter that is missing is a new one.

    now_us: on the steady clock; ahead_us: of the wall clock before it, by which a plan is made. away: the percent of every
    rate that is kept for when the engine is away, and that nobody decides by until then.
    """
    under: dict[str, list[Under]] = {}
    for demand, times in shares:
        for gauge in demand.scope.rates:
            rate, origin = parts_of(gauge.rate, away).rest, _origin(demand, gauge.meter)
            under.setdefault(gauge.meter, []).append(Under(demand, times, gauge.dimension, rate, origin))
    return [
        _met(name, under[name], Meter(full_us.get(name, 0)), now_us=now_us, ahead_us=ahead_us) for name in sorted(under)
    ]


def _origin(demand: Demand, name: str) -> Origin:
    return "learned" if name in demand.learned else "configured"


def _met(name: str, under: Sequence[Under], found: Meter, *, now_us: int, ahead_us: int) -> Met:
    slowest = under[0]
    for each in under:
        slowest = each if slower(each.rate, slowest.rate) else slowest
    heaviest = max(under, key=lambda each: Fraction(each.heaviest, meter.ceiling(each.rate)))
    parts = 1 if all(each.rate == slowest.rate for each in under) else PARTS
    pace = Pace(
        name,
        slowest.rate.amount * parts,
        slowest.rate.per_ms * 1000,
        min(_burst_of(each, slowest.rate, parts) for each in under),
        meter.ceiling(heaviest.rate),
        found.free_us + ahead_us,
        sum(_units_of(each, slowest.rate, parts) for each in under),
        heaviest.heaviest,
    )
    needs, left = sum(each.units for each in under), meter.free_units(found, slowest.rate, now_us=now_us)
    return Met(name, slowest.dimension, slowest.rate, slowest.origin, needs, left, pace)


def _units_of(each: Under, rate: Rate, parts: int) -> int:
    """Its units in parts of units of that rate: as many as take as long to refill, rounded up."""
    return -(-each.units * parts * each.rate.per_ms * rate.amount // (each.rate.amount * rate.per_ms))


def _burst_of(each: Under, rate: Rate, parts: int) -> int:
    """Likewise what may leave at once, rounded down."""
    burst = meter.usable_burst(each.rate) * parts
    return max(1, burst * each.rate.per_ms * rate.amount // (each.rate.amount * rate.per_ms))
