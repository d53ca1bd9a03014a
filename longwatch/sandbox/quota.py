"""How much a provider admits: token buckets with continuous refill, and fixed windows.

A bucket of `burst` units refills at `amount` units per `per_ms`. In any window of w milliseconds it therefore admits at
most burst + amount * w / per_ms units. The level is kept in units x nanoseconds of the period, so that refilling is exact
integer arithmetic and no fraction of a unit is ever lost or won. A fixed window admits `amount` units and opens again
`per_ms` after its first use, which is how GitHub counts its hour.

Nothing here reads a clock: instants are nanoseconds of the caller's monotonic clock.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec

NS_PER_MS = 1_000_000

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`amount` units per `per_ms`, of which `burst` may come at once (all of `amount` when it is not given)."""

    amount: Positive
    per_ms: Positive = 60_000
    burst: Positive | None = None

    @property
    def capacity(self) -> int:
        return self.burst or self.amount


class Bucket:
    """One rate as it stands at an instant. Starts full."""

    __slots__ = ("_at_ns", "_level", "_period_ns", "rate")

    def __init__(self, rate: Rate, now_ns: int) -> None:
        self.rate = rate
        self._period_ns = rate.per_ms * NS_PER_MS
        self._level = rate.capacity * self._period_ns
        self._at_ns = now_ns

    def _refill(self, now_ns: int) -> None:
        if now_ns > self._at_ns:
            full = self.rate.capacity * self._period_ns
            self._level = min(full, self._level + (now_ns - self._at_ns) * self.rate.amount)
            self._at_ns = now_ns

    def remaining(self, now_ns: int) -> int:
        """Whole units that could be taken now."""
        self._refill(now_ns)
        return self._level // self._period_ns

    def wait_ns(self, units: int, now_ns: int) -> int | None:
        """Nanoseconds until `units` fit: 0 is now, None is never (more than the bucket holds)."""
        if units > self.rate.capacity:
            return None
        self._refill(now_ns)
        return self._refill_ns(units)

    def full_ns(self, now_ns: int) -> int:
        """Nanoseconds until the bucket is full again."""
        self._refill(now_ns)
        return self._refill_ns(self.rate.capacity)

    def _refill_ns(self, units: int) -> int:
        missing = units * self._period_ns - self._level
        return max(0, -(-missing // self.rate.amount))

    def take(self, units: int, now_ns: int) -> None:
        """Take units; an empty bucket stays empty. Ask `wait_ns` first."""
        self._refill(now_ns)
        self._level = max(0, self._level - units * self._period_ns)


class Window:
    """A fixed window: `amount` units from its first use until `per_ms` later."""

    __slots__ = ("_ends_ns", "rate", "used")

    def __init__(self, rate: Rate, now_ns: int) -> None:
        self.rate = rate
        self.used = 0
        self._ends_ns = now_ns

    def remaining(self, now_ns: int) -> int:
        self._turn(now_ns)
        return self.rate.amount - self.used

    def take(self, units: int, now_ns: int) -> None:
        self._turn(now_ns)
        self.used = min(self.rate.amount, self.used + units)

    def ends_ns(self, now_ns: int) -> int:
        """Nanoseconds until the window opens again."""
        self._turn(now_ns)
        return self._ends_ns - now_ns

    def _turn(self, now_ns: int) -> None:
        if now_ns >= self._ends_ns:
            self.used = 0
            self._ends_ns = now_ns + self.rate.per_ms * NS_PER_MS


class Need(NamedTuple):
    """What one request takes of one bucket."""

    name: str
    bucket: Bucket
    units: int


class Short(NamedTuple):
    """The need that does not fit; `wait_ns` is None when it never will."""

    need: Need
    wait_ns: int | None


def admit(needs: Sequence[Need], now_ns: int) -> Short | None:
    """Take all needs, or none of them and say which one has the longest wait."""
    worst = _worst(needs, now_ns)
    if worst is not None:
        return worst
    for need in needs:
        need.bucket.take(need.units, now_ns)
    return None


def _worst(needs: Sequence[Need], now_ns: int) -> Short | None:
    worst: Short | None = None
    for need in needs:
        wait_ns = need.bucket.wait_ns(need.units, now_ns)
        if wait_ns is None:
            return Short(need, None)
        if wait_ns and (worst is None or wait_ns > (worst.wait_ns or 0)):
            worst = Short(need, wait_ns)
    return worst


def buckets(rates: Mapping[str, Rate | None], before: Mapping[str, Bucket], now_ns: int) -> dict[str, Bucket]:
    """A bucket for each rate there is. One whose rate has not changed goes on as it stands, a new one starts full."""
    return {
        name: before[name] if name in before and before[name].rate == rate else Bucket(rate, now_ns)
        for name, rate in rates.items()
        if rate is not None
    }


def windows(rates: Mapping[str, Rate | None], before: Mapping[str, Window], now_ns: int) -> dict[str, Window]:
    """As `buckets`, for fixed windows."""
    return {
        name: before[name] if name in before and before[name].rate == rate else Window(rate, now_ns)
        for name, rate in rates.items()
        if rate is not None
    }


def seconds(wait_ns: int | None) -> int:
    """A wait as a `retry-after` header says it: whole seconds, rounded up, at least 1; a minute for never."""
    return 60 if wait_ns is None else max(1, -(-wait_ns // 1_000_000_000))
