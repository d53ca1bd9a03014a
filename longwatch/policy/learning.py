"""What the answers of a service have taught about its limits: one rate per service, model and dimension, for the fleet.

published: a header has said it. The slowest that was said lately counts; a faster one only once nobody has repeated the slow
one for a minute, so that two keys with different limits do not take turns.

found: nobody says it. The first call that is refused sets a rate of half of what left in the last second. From then on a
refusal lowers the rate to a half, or to nine tenths of what got through since the one before if that was more: between two
refusals a provider's bucket was empty twice, so that no more than its limit can have got through. Each clean second in
which calls had to wait for the rate raises it: to double while no second refusal has come, then by a tenth of the
ceiling up to that, and by a five-hundredth from there, so that the limit is asked for only now and then. The ceiling is
half-way between the rate that was refused and what is believed to get through. What calls say that left before everybody
went by the last lowering is old news: fifteen processes that are refused at one instant lower it once.

A learned rate never raises what is allowed: it counts where it is slower than the configured one, or where there is none. It
is an ordinary gauge of the call, of the same meter whatever the rate is.

All instants: the fleet's steady clock, milliseconds.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from longwatch.policy.gauge import Gauge
from longwatch.policy.limits import DIMENSIONS, Rate
from longwatch.policy.told import QUOTA, Told

Source = Literal["published", "found"]
Key = tuple[str, str, str]
"""Service, model ("": calls that name none, and models of which nothing is known), dimension."""
Rates = Mapping[Key, Rate]

MINUTE_MS = 60_000
SEEN_MS = 30_000  # evidence that repeats what is known is written down this often
STEADY_MS = 60_000  # a faster limit is believed once the slower one was not repeated for so long
LATELY_MS = 1_000  # what left in this time before the first refusal is the first measure
HEARD_MS = 1_000  # after a lowering, until every process goes by it
MEASURED_MS = 2_000  # two refusals nearer to each other than that measure nothing
NOTHING = 1  # calls since the refusal before: none got through, which a lower rate would not change
CLEAN = "calls had to wait, and none was refused"
CLEAN_MS, CLEAN_CALLS = 1_000, 5  # a rate is raised at most this often, and after so many calls at it
SEARCH_CALLS = 1  # the same while the limit was never met: what the first calls were refused at may be far below
LEAST = 60  # a minute, tried first: of what others have just sent, not all may be written down


class Learned(NamedTuple):
    """amount per per_ms, burst at once. ceiling: half-way to the rate that was refused last, per minute; 0: only once refused.

    since_ms: this rate since; lowered_ms: last refusal that lowered it; seen_ms: last time that it was said. told: the amount
    that the journal told of last. version: how often it was written.
    """

    service: str
    model: str
    dimension: str
    source: Source
    amount: int
    per_ms: int
    burst: int
    ceiling: int = 0
    since_ms: int = 0
    lowered_ms: int = 0
    seen_ms: int = 0
    told: int = 0
    evidence: str = ""
    version: int = 0

    @property
    def key(self) -> Key:
        return self.service, self.model, self.dimension

    @property
    def rate(self) -> Rate:
        return Rate(self.amount, self.per_ms, self.burst)


def rates_of(learned: Sequence[Learned]) -> dict[Key, Rate]:
    return {each.key: each.rate for each in learned}


# -- learning ----------------------------------------------------------------------------------------------------------------


def published(before: Learned | None, key: Key, told: Rate, *, evidence: str, now_ms: int) -> Learned:
    """What is known once a header has said this; the same as before when that is no news."""
    if before is None or before.source == "found":
        version = 0 if before is None else before.version
        return _published(key, told, evidence, now_ms, version)
    if told == before.rate:
        fresh = now_ms - before.seen_ms < SEEN_MS
        return before if fresh else before._replace(seen_ms=now_ms, version=before.version + 1)
    if not slower(told, before.rate) and now_ms - before.seen_ms < STEADY_MS:
        return before
    return _published(key, told, evidence, now_ms, before.version)._replace(told=before.told)


def _published(key: Key, told: Rate, evidence: str, now_ms: int, version: int) -> Learned:
    found = Learned(*key, "published", told.amount, told.per_ms, told.burst, evidence=evidence, version=version + 1)
    return found._replace(since_ms=now_ms, seen_ms=now_ms)


def lowered(
    before: Learned | None, key: Key, *, passed: int, most: Rate | None, left_ms: int, evidence: str, now_ms: int
) -> Learned:
    """After a refusal that names no limit; the same as before: it is no news. most: the configured rate.

    passed: calls since the last lowering, or, the first time, in the last second.
    """
    if before is None:
        amount = max(LEAST, passed * MINUTE_MS // LATELY_MS // 2)
        if most is not None:
            amount = min(amount, per_minute(most) // 2)
        found = Learned(*key, "found", max(1, amount), MINUTE_MS, 1)
    elif before.source == "published" or left_ms <= before.lowered_ms + HEARD_MS:
        return before
    else:
        found = _lowered(before, passed, now_ms - before.lowered_ms)
    return found._replace(
        since_ms=now_ms, lowered_ms=now_ms, seen_ms=now_ms, evidence=evidence, version=found.version + 1
    )


def _lowered(before: Learned, passed: int, took_ms: int) -> Learned:
    """The limit lies between what got through and the rate that was refused: a ceiling half-way, which is asked for slowly."""
    if passed <= NOTHING:
        return before  # the service takes nothing at all for a while
    measured = min(before.amount, passed * MINUTE_MS // max(1, took_ms)) if took_ms >= MEASURED_MS else 0
    half = max(1, before.amount // 2)
    far = before.ceiling > 0 and took_ms >= MEASURED_MS and measured < half // 2  # else the rate has just been doubled
    amount = max(1, measured, half // 8) if far else max(half, measured * 9 // 10)
    return before._replace(amount=amount, ceiling=max(amount, (max(measured, amount) + before.amount) // 2))


def raised(before: Learned, *, most: Rate | None, left_ms: int, now_ms: int) -> Learned:
    """After a call that had to wait for this rate and was answered; the same when it is not time yet."""
    if before.source != "found" or left_ms <= before.since_ms or now_ms - before.since_ms < clean_ms(before):
        return before
    amount = before.amount + _step(before)
    if most is not None:
        amount = min(amount, per_minute(most))
    if amount <= before.amount:
        return before
    return before._replace(amount=amount, since_ms=now_ms, seen_ms=now_ms, evidence=CLEAN, version=before.version + 1)


def clean_ms(found: Learned) -> int:
    calls = CLEAN_CALLS if found.ceiling else SEARCH_CALLS
    return max(CLEAN_MS, calls * found.per_ms // found.amount)


def _step(found: Learned) -> int:
    if found.ceiling == 0:
        return found.amount
    if found.amount < found.ceiling:
        return min(max(1, found.ceiling // 10), found.ceiling - found.amount)
    return max(1, found.ceiling // 500)


def is_material(found: Learned) -> bool:
    """Whether it is far enough from what the journal has told: by a quarter up, or a fifth down."""
    return found.told == 0 or found.amount * 5 <= found.told * 4 or found.amount * 4 >= found.told * 5


# -- what counts -------------------------------------------------------------------------------------------------------------


def slower(one: Rate, other: Rate) -> bool:
    return one.amount * other.per_ms < other.amount * one.per_ms


def per_minute(rate: Rate) -> int:
    return max(1, rate.amount * MINUTE_MS // rate.per_ms)


def quota_meter(service: str) -> str:
    return f"{service}/{QUOTA}"


def found_for(learned: Mapping[Key, Learned], service: str, model: str, dimension: str) -> Learned | None:
    return learned.get((service, model, dimension)) or learned.get((service, "", dimension))


def with_learned(gauges: tuple[Gauge, ...], learned: Rates, service: str, model: str | None) -> tuple[Gauge, ...]:
    """The gauges of a call with what was learned: the slower rate of each counts, on the meter of the configured one."""
    if not learned:
        return gauges
    found = {gauge.dimension: gauge for gauge in gauges}
    for dimension in DIMENSIONS:
        rate, name = learned.get((service, model or "", dimension)), f"{service}/{model}/{dimension}"
        if rate is None or not model:
            rate, name = learned.get((service, "", dimension)), f"{service}/{dimension}"
        if rate is not None:
            found[dimension] = _lesser(found.get(dimension), Gauge(name, dimension, rate))
    quota = learned.get((service, "", QUOTA))
    beside = () if quota is None else (Gauge(quota_meter(service), "requests", quota),)
    return (*found.values(), *beside)


def _lesser(configured: Gauge | None, learned: Gauge) -> Gauge:
    if configured is None:
        return learned
    if not slower(learned.rate, configured.rate):
        return configured
    rate = learned.rate
    return configured._replace(rate=Rate(rate.amount, rate.per_ms, min(rate.burst, configured.rate.burst)))


def gauge_for(told: Told, rates: Sequence[Gauge], service: str) -> Gauge | None:
    """Which of a call's rates has to heed what was said."""
    quota = quota_meter(service)
    if told.dimension == QUOTA:
        return next((gauge for gauge in rates if gauge.meter == quota), None)
    return next((gauge for gauge in rates if gauge.dimension == told.dimension and gauge.meter != quota), None)
