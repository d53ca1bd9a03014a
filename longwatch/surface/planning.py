"""Plans of batches: what is needed of each limit, put beside what is left of it; and the answer in words."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from longwatch.admission.listing import CapState, Standings
from longwatch.policy.aside import Want
from longwatch.policy.breaker import SHUT, Gate, keeps_back
from longwatch.policy.learning import quota_meter, rates_of
from longwatch.policy.limits import Cap, Limits, Service
from longwatch.policy.money import Money
from longwatch.policy.needs import Demand, Needs, demand_of
from longwatch.policy.paces import Met, Origin, Shares, rates_met
from longwatch.policy.plan import Found, Pace, Purse, Stream, plan
from longwatch.policy.rate import format_rate, format_window
from longwatch.policy.scope import gate_of_meter
from longwatch.policy.window import LAST_MS, describe, zone_of
from longwatch.runtime.parts import Parts
from longwatch.store.look import Look
from longwatch.surface.handles import instant
from longwatch.surface.plans import HeldBack, Plan, PlannedLimit


class Wanted(NamedTuple):
    """So many tasks of one kind, and what each of them needs."""

    kind: str
    needs: Needs
    tasks: int


class Told(NamedTuple):
    """Everything that the answer is told from. streams and purses: what was asked; met: its rates; stand: what is left."""

    limits: Limits
    now_ms: int
    stand: Standings
    met: Mapping[str, Met]
    streams: Sequence[Stream]
    purses: Sequence[Purse]
    found: Found
    held_back: Sequence[HeldBack]


def plan_of(parts: Parts, wanted: Sequence[Wanted], total: Needs | None, *, agent: str, budget: str | None) -> Plan:
    """The plan of tasks on this account. total: what all of them need, instead of what they declare.

    Errors: ConfigError for services and budgets that are not known, UnknownPrice.
    """
    tasks, look = sum(each.tasks for each in wanted), Look(parts.database)
    limits, vitals = parts.calls.limiter.limits, look.vitals()
    at_ms, learned = vitals.calendar_ms, rates_of(parts.calls.limiter.learned.all())

    def demands(needs: Needs, requests: int) -> list[Demand]:
        return [
            demand_of(
                service, need, limits, requests=requests, budget=budget, agent=agent, at_ms=at_ms, learned=learned
            )
            for service, need in needs.items()
        ]

    if total is not None:
        shares = [(demand, 1) for demand in demands(total, max(1, tasks))]
    else:
        shares = [(demand, each.tasks) for each in wanted for demand in demands(each.needs, 1) if each.tasks]
    stand = parts.calls.limiter.peek(sorted({demand.scope.service.name for demand, _ in shares}))
    purses = _purses(shares, stand)
    full_us = {rate.meter: rate.full_us for rate in stand.rates}
    now_us, ahead_us = vitals.steady_ms * 1000, (at_ms - vitals.steady_ms) * 1000
    met = rates_met(shares, full_us, now_us=now_us, ahead_us=ahead_us, away=limits.away)
    gates = {gate.name: gate for gate in parts.calls.limiter.gates.all() if keeps_back(gate, now_ms=vitals.steady_ms)}
    held = _gates_met(shares, gates)
    streams = [
        stream._replace(from_us=_from_us(held[stream.name], ahead_us=ahead_us))
        for stream in _streams(shares, met, purses, took_ms=look.lately())
    ]
    held_back = [_held_back(gate, ahead_us=ahead_us) for met_by in held.values() for gate in met_by]
    found = plan(at_ms * 1000, streams, purses, zone_of(limits.timezone))
    cost = Money(sum(demand.money * times for demand, times in shares), limits.currency)
    undeclared = () if total is not None else tuple(each.kind for each in wanted if not each.needs)
    rates = {each.meter: each for each in met}
    return _answer(
        Told(limits, at_ms, stand, rates, streams, purses, found, held_back),
        tasks=tasks,
        cost=cost,
        undeclared=undeclared,
    )


def wants_of(parts: Parts, needs: Needs, *, tasks: int, agent: str, budget: str | None) -> list[Want]:
    """What so many tasks set aside together, by service. Errors: ConfigError for names that are not known, UnknownPrice."""
    limits, at_ms = parts.calls.limiter.limits, parts.world.wall_ms()
    found: list[Want] = []
    for service, need in needs.items():
        demand = demand_of(service, need, limits, requests=max(1, tasks), budget=budget, agent=agent, at_ms=at_ms)
        amounts = demand.money, demand.of("calls"), demand.of("tokens")
        found.append(Want(service, need.get("model"), need.get("budget", budget), agent, *amounts))
    return found


# -- the question --------------------------------------------------------------------------------------------------------


def _purses(shares: Shares, stand: Standings) -> list[Purse]:
    """Every cap that something is needed of."""
    return [purse for purse in (_purse(cap, shares) for cap in stand.caps) if purse.need]


def _purse(cap: CapState, shares: Shares) -> Purse:
    drawing = [(demand, times) for demand, times in shares if _draws(demand, cap)]
    return Purse(
        cap.purse,
        cap.dimension,
        Cap(cap.cap, cap.window),
        cap.spent + cap.held + cap.aside,
        LAST_MS if cap.resets_at is None else cap.resets_at,
        sum(demand.of(cap.dimension) * times for demand, times in drawing),
        max((demand.one(cap.dimension) for demand, _ in drawing), default=0),
    )


def _draws(demand: Demand, cap: CapState | Purse) -> bool:
    purse = cap.purse if isinstance(cap, CapState) else cap.name
    return any(each.purse == purse and each.dimension == cap.dimension for each in demand.scope.caps)


def _streams(shares: Shares, met: Sequence[Met], purses: Sequence[Purse], *, took_ms: dict[str, int]) -> list[Stream]:
    """The calls of each service."""
    services = {demand.scope.service.name: demand.scope.service for demand, _ in shares}
    streams: list[Stream] = []
    for name, service in services.items():
        own = [(demand, times) for demand, times in shares if demand.scope.service.name == name]
        calls = sum(demand.requests * times for demand, times in own)
        meters = {gauge.meter for demand, _ in own for gauge in demand.scope.rates}
        paces = [each.pace for each in met if each.meter in meters]
        took_us = took_ms.get(name, 0) * 1000
        if service.concurrency is not None and took_us:
            paces.append(_places(service, service.concurrency, calls, took_us))
        draws = [sum(d.of(purse.dimension) * times for d, times in own if _draws(d, purse)) for purse in purses]
        streams.append(Stream(name, calls, tuple(paces), tuple(draws), took_us))
    return streams


def _places(service: Service, most: int, calls: int, took_us: int) -> Pace:
    """Concurrency as a pace: so many calls in the time that one takes."""
    return Pace(f"{service.name}/concurrency", most, took_us, most, most, 0, calls, 1)


def _gates_met(shares: Shares, gates: Mapping[str, Gate]) -> dict[str, list[Gate]]:
    """By service, those that keep back some of its calls."""
    met: dict[str, dict[str, Gate]] = {}
    for demand, _ in shares:
        named = (gate_of_meter(gauge.meter) for gauge in demand.scope.gauges)
        found = {name: gates[name] for name in named if name is not None and name in gates}
        met.setdefault(demand.scope.service.name, {}).update(found)
    return {service: list(found.values()) for service, found in met.items()}


def _from_us(met: Sequence[Gate], *, ahead_us: int) -> int | None:
    """Before when no call of a service leaves, by the wall clock: where one model is kept back, all of them wait for it."""
    if any(gate.state in SHUT for gate in met):
        return None
    return max(((gate.until_ms or 0) * 1000 + ahead_us for gate in met), default=0)


def _held_back(gate: Gate, *, ahead_us: int) -> HeldBack:
    until_at = None if gate.until_ms is None else instant(gate.until_ms + ahead_us // 1000)
    return HeldBack(gate.name, gate.state, until_at, gate.reason)


# -- the answer ----------------------------------------------------------------------------------------------------------


def _answer(told: Told, *, tasks: int, cost: Money, undeclared: tuple[str, ...]) -> Plan:
    found = told.found
    limits = [*_planned_paces(told), *_planned_places(told), *_planned_purses(told)]
    binds = _binds(told)
    return Plan(
        feasible=found.feasible,
        tasks=tasks,
        cost=cost,
        starts_at=None if found.starts_us is None else instant(found.starts_us // 1000),
        ends_at=None if found.ends_us is None else instant(-(-found.ends_us // 1000)),
        binds=None if binds is None else binds[0],
        change="" if found.feasible else _change(told),
        limits=tuple(limits),
        undeclared=undeclared,
        origin=None if binds is None else binds[1],
        held_back=tuple(told.held_back),
    )


def _planned_paces(told: Told) -> list[PlannedLimit]:
    planned: list[PlannedLimit] = []
    for stream, fates in zip(told.streams, told.found.paces, strict=True):
        for pace, fate in zip(stream.paces, fates, strict=True):
            if (met := told.met.get(pace.name)) is not None:
                ends_at, left, most = instant(-(-fate.ends_us // 1000)), max(0, met.left), format_rate(met.rate)
                amounts = met.dimension, met.needs, left, most
                planned.append(PlannedLimit(_pace_name(pace), *amounts, fate.fits, None, ends_at, met.origin))
    return planned


def _planned_places(told: Told) -> list[PlannedLimit]:
    calls = {stream.name: stream.calls for stream in told.streams}
    ends_us = {
        pace.name: fate.ends_us
        for stream, fates in zip(told.streams, told.found.paces, strict=True)
        for pace, fate in zip(stream.paces, fates, strict=True)
    }
    planned: list[PlannedLimit] = []
    for place in told.stand.places:
        if place.service in calls:
            ends = ends_us.get(f"{place.service}/concurrency")
            ends_at = None if ends is None else instant(-(-ends // 1000))
            name, left = f"[service.{place.service}] concurrency", max(0, place.most - place.used)
            most = f"{place.most} at once"
            planned.append(PlannedLimit(name, "calls", calls[place.service], left, most, True, None, ends_at))
    return planned


def _planned_purses(told: Told) -> list[PlannedLimit]:
    return [
        PlannedLimit(
            _purse_name(purse),
            purse.dimension,
            purse.need,
            max(0, purse.cap.amount - purse.used),
            _cap_text(told, purse, purse.cap.amount),
            found.fits,
            None if found.fits else found.wanted,
            None if purse.ends_ms >= LAST_MS else instant(purse.ends_ms),
        )
        for purse, found in zip(told.purses, told.found.purses, strict=True)
    ]


def _pace_name(pace: Pace) -> str:
    service, _, inner = pace.name.partition("/")
    model, _, dimension = inner.rpartition("/")
    if pace.name == quota_meter(service):
        return f"[service.{service}] quota"
    where = f'[service.{service}.model."{model}"]' if model else f"[service.{service}]"
    return f"{where} concurrency" if dimension == "concurrency" else f"{where} rate {dimension}"


def _purse_name(purse: Purse) -> str:
    sort, _, name = purse.name.partition(":")
    if sort == "service":
        return f"[service.{name}] quota"
    return f"[{sort}.{name}] {purse.dimension}" if name else f"[{sort}] {purse.dimension}"


def _cap_text(told: Told, purse: Purse, amount: int) -> str:
    shown = str(Money(amount, told.limits.currency)) if purse.dimension == "money" else str(amount)
    return f"{shown}{format_window(purse.cap.window)}"


def _pace_text(told: Told, pace: Pace) -> str:
    met = told.met.get(pace.name)
    if met is None:
        return f"{_pace_name(pace)} = {pace.amount}"
    return f"{_pace_name(pace)} = {format_rate(met.rate)}{' (learned)' if met.origin == 'learned' else ''}"


def _pace_origin(told: Told, pace: Pace) -> Origin:
    met = told.met.get(pace.name)
    return "configured" if met is None else met.origin


def _shut(told: Told) -> HeldBack | None:
    """A service that refuses calls."""
    return next((each for each in told.held_back if each.state in SHUT), None)


def _too_heavy(told: Told) -> Pace | None:
    paces = (pace for stream in told.streams for pace in stream.paces)
    fates = (fate for each in told.found.paces for fate in each)
    return next((pace for pace, fate in zip(paces, fates, strict=True) if not fate.fits), None)


def _slowest(told: Told) -> tuple[int, Pace] | None:
    """The pace that would let the last call leave the latest, and when."""
    paces = [pace for stream in told.streams for pace in stream.paces]
    ends_us = [fate.ends_us for each in told.found.paces for fate in each]
    last = max(range(len(paces)), key=lambda place: ends_us[place], default=None)
    return None if last is None else (ends_us[last], paces[last])


def _short(told: Told) -> list[int]:
    """Places of the caps that have no room, the one that binds first: what can never be, then the longest window."""
    places = [place for place, found in enumerate(told.found.purses) if not found.fits]
    return sorted(places, key=lambda place: _urgency(told.purses[place]), reverse=True)


def _urgency(purse: Purse) -> tuple[bool, int]:
    return purse.heaviest > purse.cap.amount, purse.ends_ms


def _binds(told: Told) -> tuple[str, Origin] | None:
    """The limit that decides, and where it is from."""
    if (shut := _shut(told)) is not None:
        return f"[service.{shut.name}] {shut.state}", "configured"
    if (heavy := _too_heavy(told)) is not None:
        return _pace_text(told, heavy), _pace_origin(told, heavy)
    if short := _short(told):
        purse = told.purses[short[0]]
        return f"{_purse_name(purse)} = {_cap_text(told, purse, purse.cap.amount)}", "configured"
    slowest = _slowest(told)
    from_us = max((stream.from_us or 0 for stream in told.streams), default=0)
    if slowest is None or slowest[0] <= max(told.now_ms * 1000, from_us):
        gates = [f"[service.{each.name}] {each.state}" for each in told.held_back]
        return (gates[0], "configured") if gates else None
    return _pace_text(told, slowest[1]), _pace_origin(told, slowest[1])


def _change(told: Told) -> str:
    """What to do, for a batch that is not feasible."""
    if (shut := _shut(told)) is not None:
        service, _, _ = shut.name.partition("/")
        first = f"raise the cap at {service}, then " if shut.state == "parked" else ""
        return f"{first}longwatch service resume {service}"
    if (heavy := _too_heavy(told)) is not None:
        weight = f"{heavy.heaviest} {heavy.name.rpartition('/')[2]}"
        return f"split the calls: one weighs {weight}, {_pace_text(told, heavy)} takes {heavy.most} at most"
    short = _short(told)
    if not short:
        slowest = _slowest(told)
        assert slowest is not None, "without a pace and with room in every cap nothing takes a hundred years"
        if _pace_origin(told, slowest[1]) == "learned":
            return f"make it smaller: by {_pace_text(told, slowest[1])} the batch takes more than a hundred years"
        return f"raise {_pace_name(slowest[1])}: as it is, the batch takes more than a hundred years"
    raises = [
        f"{_purse_name(told.purses[place])} to {_cap_text(told, told.purses[place], told.found.purses[place].wanted)}"
        for place in short
    ]
    return f"raise {' and '.join(raises)}{_spread(told, short[0])}"


def _spread(told: Told, place: int) -> str:
    """The other way: to spread it over windows, or wait for the next one."""
    purse, windows = told.purses[place], told.found.windows[place]
    if told.found.ends_us is None or told.found.starts_us is None:
        return ""
    later = told.found.starts_us >= purse.ends_ms * 1000
    start = describe(purse.ends_ms, told.limits.timezone)
    if windows <= 1:
        return f", or wait until {start}"
    return f", or split over {windows} {purse.cap.window}s" + (f" from {start}" if later else "")
