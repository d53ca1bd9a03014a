"""How fast calls may leave: GCRA with reservation (ITU-T I.371, virtual scheduling), one instant per meter.

The provider enforces a token bucket of `burst` units that refills at the rate. The meter follows it with a smaller
burst: a process wakes late by its jitter, so that calls spaced at 40 ms may arrive closer than that. Calls whose slots lie in
a window of w milliseconds arrive within w + JITTER_MS at worst; taking rate x JITTER_MS off the burst therefore keeps the
provider's bucket from ever running dry. It comes off the burst and not off the rate: the sustained rate is the whole one.

Calls of a burst leave a little apart, so that those who ask meanwhile stand in line and take turns.

Reservation: a slot in the future is an answer, not an error. Every meter of a call is advanced as of the call's common
slot; advanced each at its own instant, a bucket would be believed to refill while it is full.

A correction (fewer tokens used than reserved, a call never sent) moves a meter back, but never behind the meter that
would stand if only the calls after the corrected one had been: what refilled into a full bucket is gone.

All instants are integer microseconds of the fleet's steady clock; a unit is one request or one token.
"""

from typing import NamedTuple

from longwatch.policy.limits import Rate

JITTER_MS = 80
LEAST_HEADROOM = 2
APART_US = 3_000  # how far apart the calls of a burst leave, at most;
APART = 3, 20  # nor further than this part of the time in which a unit refills,
BURST_US = 150_000  # nor so far that a whole burst takes longer
MS_US = 1_000  # in whole milliseconds, as slots are told: half of one would be waited for as one


class Meter(NamedTuple):
    """free_us: instant at which the whole burst is free again. last_us: latest slot given. total: units ever reserved."""

    free_us: int = 0
    last_us: int = 0
    total: int = 0


NEW = Meter()


def usable_burst(rate: Rate) -> int:
    """Units that may leave at once: the burst without its headroom, at least one."""
    return max(1, rate.burst - headroom(rate))


def headroom(rate: Rate) -> int:
    """Units that are left out of the burst, because processes wake late."""
    return max(LEAST_HEADROOM, -(-rate.amount * JITTER_MS // rate.per_ms))


def ceiling(rate: Rate) -> int:
    """The greatest weight of one call that the limit can ever accept: a burst, or all of one period."""
    return max(rate.burst, rate.amount)


def span_us(rate: Rate, units: int) -> int:
    """Microseconds in which `units` refill, rounded up."""
    return -(-units * rate.per_ms * 1000 // rate.amount)


def apart_us(rate: Rate, weight: int) -> int:
    """How far behind the last slot that of a call of such a weight is; 0: it may be the same one."""
    part, whole = APART
    found_us = min(APART_US, part * rate.per_ms * 1000 // (whole * rate.amount), BURST_US // usable_burst(rate))
    return found_us // MS_US * MS_US if weight else 0


def earliest_us(meter: Meter, rate: Rate, *, weight: int, now_us: int, apart: bool = True) -> int:
    """The slot this meter would give, apart from the last one or not. A weight above the burst waits for the whole burst and
    leaves a debt. Gaps take less than a sixth of the time in which what was given refills: a last slot that is further away
    than that is a slower meter's doing, and nobody keeps apart from it."""
    burst, (part, whole) = usable_burst(rate), APART
    spare_us = max(0, burst - weight) * rate.per_ms * 1000 // rate.amount
    found_us = max(now_us, meter.free_us - spare_us)
    if not apart or not meter.last_us or whole * (meter.last_us - now_us) > part * (meter.free_us - now_us):
        return found_us
    gap_us = apart_us(rate, weight)
    return max(found_us, meter.last_us + gap_us) if gap_us else found_us


def reserve(meter: Meter, rate: Rate, *, weight: int, slot_us: int) -> Meter:
    """The meter once `weight` units are to leave at the call's common slot, which is no earlier than `earliest_us`."""
    free_us = max(meter.free_us, slot_us) + span_us(rate, weight)
    return Meter(free_us, max(meter.last_us, slot_us), meter.total + weight)


def give_back(meter: Meter, rate: Rate, *, units: int, total_then: int) -> Meter:
    """The meter once `units` of a former reservation turn out not to be used. total_then: `total` just after it."""
    behind_us = meter.last_us + span_us(rate, meter.total - total_then)
    moved_us = meter.free_us - units * rate.per_ms * 1000 // rate.amount
    return meter._replace(free_us=min(meter.free_us, max(moved_us, behind_us)))


def owe(meter: Meter, rate: Rate, *, units: int, slot_us: int) -> Meter:
    """The meter once the call of slot_us turns out to have used `units` more than it reserved: later calls pay the debt."""
    free_us = max(meter.free_us, slot_us) + span_us(rate, units)
    return Meter(free_us, max(meter.last_us, slot_us), meter.total + units)


def correct(meter: Meter, rate: Rate, *, reserved: int, used: int, slot_us: int, total_then: int) -> Meter:
    """The meter once a former reservation of `reserved` units is known to have used `used`."""
    if used > reserved:
        return owe(meter, rate, units=used - reserved, slot_us=slot_us)
    return give_back(meter, rate, units=reserved - used, total_then=total_then)


def free_units(meter: Meter, rate: Rate, *, now_us: int) -> int:
    """Units that could leave now, for people to see; negative when later slots are taken already."""
    behind_us = max(0, meter.free_us - now_us)
    return usable_burst(rate) - -(-behind_us * rate.amount // (rate.per_ms * 1000))
