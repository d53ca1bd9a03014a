"""One decision over all limits of a call: a slot, a time to ask again, or a refusal.

Nothing advances unless the call gets its slot, and every meter advances as of that common slot. A slot beyond the
horizon is not given: whoever asks again near it gets it. (That is the place where a queue would come in: `Later` is all
that a caller beyond the horizon is told, so an order among those who wait can be added behind it.)

Order: what can never be, what is spent, what others hold, and only then the clock.
"""

from typing import Literal, NamedTuple

from longwatch.policy import budget, meter
from longwatch.policy.breaker import is_shut
from longwatch.policy.budget import Standing, Verdict
from longwatch.policy.limits import Rate
from longwatch.policy.meter import Meter

HORIZONS_US = {"urgent": 1_500_000, "normal": 1_250_000, "batch": 1_000_000}
"""How far ahead slots are given, by lane: whoever comes gets in before what the lanes below have not been given yet."""
HORIZON_US = max(HORIZONS_US.values())
SOONEST_US = 5_000  # nobody is told to ask again sooner than this


class Metered(NamedTuple):
    """One rate, the meter as it stands, and the call's weight on it in units."""

    name: str
    rate: Rate
    meter: Meter
    weight: int


class Places(NamedTuple):
    """Concurrency: calls of the service that are open, and how many may be."""

    used: int
    most: int


class Purse(NamedTuple):
    """One cap, and what the call has to hold of it."""

    standing: Standing
    need: int


class Ask(NamedTuple):
    """Everything a decision is made from. until_us: the latest slot of use to the caller; None: any. horizon_us: of its
    lane."""

    now_us: int
    until_us: int | None
    metered: tuple[Metered, ...]
    places: Places | None
    purses: tuple[Purse, ...]
    horizon_us: int = HORIZON_US


class Slot(NamedTuple):
    """The call may leave at `at_us`. meters: by name, as they stand after it."""

    at_us: int
    meters: dict[str, Meter]


class Later(NamedTuple):
    """Nothing was reserved. Ask again at `at_us`, or (None) when somebody may have given something back."""

    at_us: int | None
    reason: Literal["rate", "concurrency", "budget"]
    what: str  # name of the meter, the service's places, or the purse


class TooHeavy(NamedTuple):
    """The weight is above what the limit can ever accept."""

    name: str
    weight: int
    most: int


class Spent(NamedTuple):
    """The cap has no room for the need until its window ends, whatever other calls give back."""

    standing: Standing
    need: int


class Shut(NamedTuple):
    """A gate that only a person opens."""

    gate: str


Decision = Slot | Later | TooHeavy | Spent | Shut


def decide(ask: Ask) -> Decision:
    """The one answer. Slot.at_us is never before now, nor after until_us."""
    verdicts: list[Verdict] = [budget.decide(*purse) for purse in ask.purses]
    return _impossible(ask) or _spent(ask, verdicts) or _held(ask, verdicts) or _slot(ask)


def _impossible(ask: Ask) -> TooHeavy | None:
    for name, rate, _, weight in ask.metered:
        if weight > meter.ceiling(rate):
            return TooHeavy(name, weight, meter.ceiling(rate))
    return None


def _spent(ask: Ask, verdicts: list[Verdict]) -> Spent | None:
    """Of several caps that are spent, the one that stays so the longest."""
    if "exceeded" not in verdicts:
        return None
    spent = [Spent(*purse) for purse, verdict in zip(ask.purses, verdicts, strict=True) if verdict == "exceeded"]
    return max(spent, key=lambda found: found.standing.ends_ms)


def _held(ask: Ask, verdicts: list[Verdict]) -> Later | None:
    if ask.places is not None and ask.places.used >= ask.places.most:
        return Later(None, "concurrency", "concurrency")
    if "waits" not in verdicts:
        return None
    return Later(None, "budget", ask.purses[verdicts.index("waits")].standing.purse)


def _slot(ask: Ask) -> Slot | Later | Shut:
    slot_us, slowest = _common(ask)
    if ask.until_us is not None and slot_us > max(ask.until_us, ask.now_us):  # nobody waits in vain to be kept apart
        slot_us, slowest = _common(ask, apart=False)
    far = too_far(slot_us, slowest, now_us=ask.now_us, horizon_us=ask.horizon_us, until_us=ask.until_us)
    return far or _reserved(ask, slot_us)


def too_far(slot_us: int, slowest: str, *, now_us: int, horizon_us: int, until_us: int | None) -> Later | Shut | None:
    """Where the slot is not given. slowest: the name of the meter that decides it."""
    if is_shut(slot_us):
        return Shut(slowest)
    if slot_us > now_us + horizon_us:
        return Later(max(slot_us - horizon_us, now_us + SOONEST_US), "rate", slowest)
    if until_us is not None and slot_us > max(until_us, now_us):
        return Later(slot_us, "rate", slowest)
    return None


def next_slot(ask: Ask) -> Slot:
    """A slot however far away: for a call that was admitted already and missed the one it had."""
    return _reserved(ask, _common(ask)[0])


def _common(ask: Ask, *, apart: bool = True) -> tuple[int, str]:
    """The first instant that suits every meter, and the name of the one that decides it. apart: from the last slots."""
    slot_us, slowest = ask.now_us, ""
    for name, rate, found, weight in ask.metered:
        at_us = meter.earliest_us(found, rate, weight=weight, now_us=ask.now_us, apart=apart)
        if at_us > slot_us:
            slot_us, slowest = at_us, name
    return slot_us, slowest


def _reserved(ask: Ask, slot_us: int) -> Slot:
    return Slot(
        slot_us,
        {
            name: meter.reserve(found, rate, weight=weight, slot_us=slot_us)
            for name, rate, found, weight in ask.metered
            if weight
        },
    )
