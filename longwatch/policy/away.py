"""What of every limit is kept in the state, for processes that cannot reach the engine that decides about calls.

A limit is split once and for all: the engine decides by the rest of it whether or not anybody is cut off, and the state by
the share. So a process that sees the engine and one that does not can never exceed the limit together: of a rate, of its
burst, of what may leave at once behind the headroom, and of places each pair comes to no more than the whole. What nobody
is cut off for stays unused; that is the price.

A burst of which only one unit may leave at once and a single place cannot be split: there the share is nothing. Caps are not
split here: what the engine may spend of them is allotted to it anyway.
"""

from dataclasses import replace
from typing import NamedTuple

from longwatch.policy.gauge import Gauge
from longwatch.policy.limits import Rate
from longwatch.policy.meter import headroom, usable_burst
from longwatch.policy.scope import GATE, LINE, Scope, line_gauge

SUFFIX = "@away"  # of the meters and lines of the share
MOST_PERCENT = 50


class Parts(NamedTuple):
    """rest: what the engine decides by. share: what the state does, None: nothing."""

    rest: Rate
    share: Rate | None


def parts_of(rate: Rate, percent: int) -> Parts:
    """percent: of the share, 0 to MOST_PERCENT."""
    usable = usable_burst(rate)
    if percent == 0 or usable < 2:
        return Parts(rate, None)
    less = max(1, usable * percent // 100)
    share = _with_burst(_slower(rate, percent), less, most=rate.burst)
    return Parts(_with_burst(_slower(rate, 100 - percent), usable - less, most=rate.burst - share.burst), share)


def places_of(most: int, percent: int) -> tuple[int, int]:
    """(the rest, the share) of so many places."""
    share = 0 if percent == 0 or most < 2 else max(1, most * percent // 100)
    return most - share, share


def _slower(rate: Rate, percent: int) -> Rate:
    """So much of the rate, or a little less. Its amount is no more than that part: it says how heavy a call may be."""
    amount = max(1, rate.amount * percent // 100)
    return Rate(amount, -(-amount * rate.per_ms * 100 // (rate.amount * percent)), 1)


def _with_burst(rate: Rate, usable: int, *, most: int) -> Rate:
    """Of which no more than `usable` units may leave at once."""
    return replace(rate, burst=1 if usable == 1 else min(most, usable + headroom(rate)))


# -- of a call ---------------------------------------------------------------------------------------------------------------


def rest_of(scope: Scope, percent: int) -> Scope:
    """What the engine decides by."""
    if percent == 0:
        return scope
    most = scope.service.concurrency
    gauges = tuple(_paced(gauge, parts_of(gauge.rate, percent).rest) for gauge in scope.gauges)
    return _scope(scope, gauges, None if most is None else places_of(most, percent)[0])


def share_of(scope: Scope, percent: int) -> Scope:
    """What the state decides by: meters and a line of its own, the gates of everybody. Ask `lacking` first."""
    most = scope.service.concurrency
    gauges = tuple(_own(gauge, percent) for gauge in scope.gauges)
    line = None if scope.line is None else scope.line + SUFFIX
    return _scope(scope, gauges, None if most is None else places_of(most, percent)[1])._replace(line=line)


def lacking(scope: Scope, percent: int) -> str:
    """The limit of which the share is nothing, in words; "": there is a share of each. scope: whole."""
    most = scope.service.concurrency
    if most is not None and places_of(most, percent)[1] == 0:
        return f"the concurrency of {scope.service.name}, {most}"
    for gauge in scope.rates:
        if parts_of(gauge.rate, percent).share is None:
            return f"the burst of {gauge.meter}, {gauge.rate.burst}"
    return ""


def is_of_share(name: str) -> bool:
    """Whether a meter or a line is one of the share."""
    return name.endswith((SUFFIX, f"{SUFFIX}/{LINE}"))


def meter_of_share(meter: str) -> str:
    """Of a rate."""
    return meter + SUFFIX


def _own(gauge: Gauge, percent: int) -> Gauge:
    if gauge.dimension == GATE:
        return gauge
    if gauge.dimension == LINE:
        return line_gauge(gauge.meter.removesuffix(f"/{LINE}") + SUFFIX)
    rate = parts_of(gauge.rate, percent).share
    return Gauge(meter_of_share(gauge.meter), gauge.dimension, rate or gauge.rate)


def _paced(gauge: Gauge, rate: Rate) -> Gauge:
    return gauge if gauge.dimension in (GATE, LINE) else gauge._replace(rate=rate)


def _scope(scope: Scope, gauges: tuple[Gauge, ...], places: int | None) -> Scope:
    return scope._replace(service=replace(scope.service, concurrency=places), gauges=gauges)
