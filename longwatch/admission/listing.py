"""Every limit and budget as it stands, for people to look at: `longwatch limit list` and `budget list`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from longwatch.admission.standing import held_by, holding
from longwatch.db.connection import Row, Transaction
from longwatch.policy import meter, override
from longwatch.policy.away import meter_of_share, parts_of
from longwatch.policy.learning import Learned, quota_meter, rates_of, with_learned
from longwatch.policy.limits import Limits, Override, Service
from longwatch.policy.meter import NEW, Meter
from longwatch.policy.naming import resolve_service
from longwatch.policy.scope import Gauge, PurseCap, caps_of, gauges_of
from longwatch.policy.told import QUOTA
from longwatch.policy.window import LAST_MS, calendar_at, calendar_minute, parted, window_of, zone_of


@dataclass(frozen=True)
class RateState:
    """One rate. free: units that could leave now, negative when later slots are taken; next_ms: steady, of the next one;
    full_us: steady microseconds, from when the whole burst is free. learned: what has taught it, None: it is configured.
    model: of whom it is, where it was learned of one; "" else."""

    service: str
    meter: str
    dimension: str
    amount: int
    per_ms: int
    burst: int
    usable_burst: int
    free: int
    next_ms: int
    full_us: int
    learned: Learned | None = None
    model: str = ""


@dataclass(frozen=True)
class PlaceState:
    """Concurrency of one service: open calls, and how many may be."""

    service: str
    used: int
    most: int


@dataclass(frozen=True)
class CapState:
    """One cap of one purse. Money in micro-units of the fleet's currency. resets_at: epoch milliseconds, None: never.

    aside: what batches have set aside and not drawn yet. override: where the cap was set by hand; configured: what the
    config has instead, None: no cap.
    """

    purse: str
    dimension: str
    window: str
    cap: int
    spent: int
    held: int
    calls: int
    resets_at: int | None
    aside: int = 0
    override: Override | None = None
    configured: int | None = None


@dataclass(frozen=True)
class Standings:
    """All of it as of one instant. clocks_parted: the wall clock is not believed, and no budget's window will open.

    shares: of the rates, what the state decides by while the engine beside it is away. They are no part of `rates`.
    """

    rates: list[RateState]
    places: list[PlaceState]
    caps: list[CapState]
    clocks_parted: bool
    shares: list[RateState] = field(default_factory=list[RateState])


def with_known(limits: Limits, services: Iterable[str]) -> Limits:
    """The limits with these services too, which may be known without being named. Errors: ConfigError for unknown ones."""
    more = {name: resolve_service(limits, name) for name in services if name not in limits.services}
    return replace(limits, services=limits.services | more) if more else limits


def standings(tx: Transaction, limits: Limits, *, meters: dict[str, Meter] | None = None) -> Standings:
    """Reads only. meters: where another engine keeps them."""
    groups = tx.all("call.groups")
    kept = {row.name: Meter(row.free_us, row.last_us, row.total) for row in tx.all("meter.every")}
    meters = kept if meters is None else meters
    services, learned = list(limits.services.values()), [Learned(*row) for row in tx.all("learned.every")]
    rates = [
        (replace(_rate(service, rest, meters.get(rest.meter, NEW), tx.now_ms), learned=by, model=model), share)
        for service in services
        for gauge, by, model in _gauges(service, [each for each in learned if each.service == service.name])
        for rest, share in [_parts(gauge, limits.away)]
    ]
    return Standings(
        rates=[rate for rate, _ in rates],
        places=[
            PlaceState(service.name, sum(group.places for group in groups if group.service == service.name), most)
            for service in services
            if (most := service.concurrency) is not None
        ],
        caps=_caps(tx, limits, groups),
        clocks_parted=parted(tx.wall_ms, steady_ms=tx.now_ms),
        shares=[
            _rate(limits.services[rate.service], share, kept.get(share.meter, NEW), tx.now_ms)
            for rate, share in rates
            if share is not None
        ],
    )


def _parts(gauge: Gauge, percent: int) -> tuple[Gauge, Gauge | None]:
    """What is decided by, and the share of it that is kept for when the engine beside the state is away."""
    rest, share = parts_of(gauge.rate, percent)
    own = None if share is None else Gauge(meter_of_share(gauge.meter), gauge.dimension, share)
    return gauge._replace(rate=rest), own


def _gauges(service: Service, learned: Sequence[Learned]) -> list[tuple[Gauge, Learned | None, str]]:
    """The service's rates and those of its models, with what has taught them and of which model; each as it counts."""
    configured = _configured(service)
    found: list[tuple[Gauge, Learned | None, str]] = []
    lessons, rates = {each.key: each for each in learned}, rates_of(learned)
    for model in sorted({each.model for each in learned} | {""}):
        for gauge in with_learned(gauges_of(service, model or None), rates, service.name, model or None):
            dimension = QUOTA if gauge.meter == quota_meter(service.name) else gauge.dimension
            by = lessons.get((service.name, "" if dimension == QUOTA else model, dimension))
            if by is not None and gauge.rate.amount == by.amount and (model == by.model):
                found.append((gauge, by, model))
    taught = {gauge.meter for gauge, _, _ in found}
    return [(gauge, None, "") for gauge in configured if gauge.meter not in taught] + found


def _configured(service: Service) -> list[Gauge]:
    named = [
        Gauge(f"{service.name}/{pattern}/{name}", name, rate)
        for pattern, rates in service.models.items()
        for name, rate in rates.items()
    ]
    return [*gauges_of(service, None), *named]


def _rate(service: Service, gauge: Gauge, found: Meter, now_ms: int) -> RateState:
    next_us = meter.earliest_us(found, gauge.rate, weight=1, now_us=now_ms * 1000)
    return RateState(
        service=service.name,
        meter=gauge.meter,
        dimension=gauge.dimension,
        amount=gauge.rate.amount,
        per_ms=gauge.rate.per_ms,
        burst=gauge.rate.burst,
        usable_burst=meter.usable_burst(gauge.rate),
        free=meter.free_units(found, gauge.rate, now_us=now_ms * 1000),
        next_ms=-(-next_us // 1000),
        full_us=found.free_us,
    )


def _caps(tx: Transaction, limits: Limits, groups: Sequence[Row]) -> list[CapState]:
    minute_ms = calendar_minute(tx.wall_ms, steady_ms=tx.now_ms)
    stored = tx.one("spend.calendar")
    assert stored is not None
    calendar_ms = calendar_at(stored.at_ms, wall_ms=tx.wall_ms, steady_ms=tx.now_ms)
    asides = tx.all("aside.going")
    windows = {(row.purse, row.dimension, row.per): row for row in tx.all("spend.every", minute_ms=minute_ms)}
    by_hand = {
        (f"budget:{each.budget}", "money", each.cap.window): each for each in override.standing(limits, calendar_ms)
    }
    found: list[CapState] = []
    for cap in caps_of(override.at(limits, calendar_ms)):
        place = (cap.purse, cap.dimension, cap.cap.window)
        state = _cap(cap, windows.get(place), groups, asides, limits, calendar_ms)
        if (by := by_hand.get(place)) is not None:
            instead = override.configured(limits, by.budget, by.cap.window)
            state = replace(state, override=by, configured=None if instead is None else instead.amount)
        found.append(state)
    return found


def _cap(
    cap: PurseCap, row: Row | None, groups: Sequence[Row], asides: Sequence[Row], limits: Limits, calendar_ms: int
) -> CapState:
    """row: the present window, None while nothing was asked of it yet."""
    if row is None:
        starts_ms, ends_ms = window_of(calendar_ms, cap.cap.window, zone_of(limits.timezone))
    else:
        starts_ms, ends_ms = row.starts_ms, row.ends_ms
    whose = holding(cap.purse, cap.dimension)
    held, calls = held_by(groups, whose, starts_ms=starts_ms, ends_ms=ends_ms)
    return CapState(
        purse=cap.purse,
        dimension=cap.dimension,
        window=cap.cap.window,
        cap=cap.cap.amount,
        spent=0 if row is None else row.settled,
        held=held,
        calls=calls,
        resets_at=None if ends_ms >= LAST_MS else ends_ms,
        aside=held_by(asides, whose, starts_ms=starts_ms, ends_ms=ends_ms)[0],
    )
