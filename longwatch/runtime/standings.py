"""How every cap and every rate in force stands now: for people to see, nothing is written and nothing is reserved."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from longwatch.admission.standing import held_by
from longwatch.db.connection import Row, Transaction
from longwatch.policy.budget import Standing
from longwatch.policy.limits import Limits, Rate, Service
from longwatch.policy.meter import NEW, Meter, free_units
from longwatch.policy.naming import resolve_service
from longwatch.policy.scope import FLEET, PurseCap
from longwatch.policy.window import calendar_at, calendar_minute, window_of, zone_of
from longwatch.runtime.parts import Parts

GROUPS = 10_000  # of ended calls added up for a window that no call has opened yet


@dataclass(frozen=True)
class Gauged:
    """One rate of a service. model: a pattern, None for the service's own. free: units that could leave now; below 0,
    so many are promised to later slots. next_ms: the instant (fleet's clock) from which something is free again."""

    service: str
    model: str | None
    dimension: str
    rate: Rate
    free: int
    next_ms: int


@dataclass(frozen=True)
class Served:
    """One service: open calls and the most it takes at once (None: no limit)."""

    service: Service
    open: int


@dataclass(frozen=True)
class Standings:
    purses: list[Standing]
    gauges: list[Gauged]
    services: list[Served]
    calendar_ms: int


def standings(parts: Parts) -> Standings:
    """Of all limits in force, as of one instant."""
    limits = parts.calls.limiter.limits
    with parts.database.read() as tx:
        groups, calendar_ms = tx.all("call.groups"), _calendar(tx)
        meters = {row.name: Meter(row.free_us, row.last_us, row.total) for row in tx.all("meter.every")}
        minute_ms = calendar_minute(tx.wall_ms, steady_ms=tx.now_ms)
        windows = {(row.purse, row.dimension, row.per): row for row in tx.all("spend.every", minute_ms=minute_ms)}
        purses = [_purse(tx, limits, cap, groups, windows, calendar_ms) for cap in caps(limits)]
        now_ms = tx.now_ms
    services = [resolve_service(limits, name) for name in limits.services]
    return Standings(
        purses=purses,
        gauges=[gauge for service in services for gauge in _gauges(service, meters, now_ms)],
        services=[Served(service, sum(g.places for g in groups if g.service == service.name)) for service in services],
        calendar_ms=calendar_ms,
    )


def caps(limits: Limits) -> Iterator[PurseCap]:
    """Every cap in force, the fleet's first."""
    for cap in limits.fleet_money:
        yield PurseCap(FLEET, "money", cap, ())
    for sort, named in (("budget", limits.budgets), ("agent", limits.agents)):
        for name, purse in named.items():
            for dimension, several in purse.caps.items():
                for cap in several:
                    yield PurseCap(f"{sort}:{name}", dimension, cap, purse.warn)
    for name in limits.services:
        quota = resolve_service(limits, name).quota
        if quota is not None:
            yield PurseCap(f"service:{name}", "calls", quota, ())


def _calendar(tx: Transaction) -> int:
    row = tx.one("spend.current", purses="[]", minute_ms=0)
    return calendar_at(0 if row is None else int(row.at_ms), wall_ms=tx.wall_ms, steady_ms=tx.now_ms)


def _purse(
    tx: Transaction,
    limits: Limits,
    cap: PurseCap,
    groups: Sequence[Row],
    windows: dict[tuple[str, str, str], Row],
    calendar_ms: int,
) -> Standing:
    row = windows.get((cap.purse, cap.dimension, cap.cap.window))
    if row is not None:
        starts_ms, ends_ms, spent = int(row.starts_ms), int(row.ends_ms), int(row.settled)
    else:
        starts_ms, ends_ms = window_of(calendar_ms, cap.cap.window, zone_of(limits.timezone))
        spent = _spent(tx, cap, starts_ms)
    held, places = held_by(groups, cap.purse, cap.dimension, starts_ms=starts_ms, ends_ms=ends_ms)
    return Standing(cap.purse, cap.dimension, cap.cap, starts_ms, ends_ms, spent, held, places)


def _spent(tx: Transaction, cap: PurseCap, since_ms: int) -> int:
    """What ended calls have cost in a window that no call was decided in yet, because the cap is new."""
    sort, _, name = cap.purse.partition(":")
    rows = tx.all("look.paid", since_ms=since_ms, limit=GROUPS)
    return sum(getattr(row, cap.dimension) for row in rows if sort == FLEET or getattr(row, sort) == name)


def _gauges(service: Service, meters: dict[str, Meter], now_ms: int) -> Iterator[Gauged]:
    for dimension, rate in service.rates.items():
        yield _gauge(service.name, None, dimension, rate, meters, now_ms)
    for pattern, rates in service.models.items():
        for dimension, rate in rates.items():
            yield _gauge(service.name, pattern, dimension, rate, meters, now_ms)


def _gauge(
    service: str, model: str | None, dimension: str, rate: Rate, meters: dict[str, Meter], now_ms: int
) -> Gauged:
    name = f"{service}/{dimension}" if model is None else f"{service}/{model}/{dimension}"
    meter = meters.get(name, NEW)
    free = free_units(meter, rate, now_us=now_ms * 1000)
    next_ms = now_ms if free > 0 else now_ms + -(-(1 - free) * rate.per_ms // rate.amount)
    return Gauged(service, model, dimension, rate, free, next_ms)
