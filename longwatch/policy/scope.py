"""Which limits and purses a call falls under: by its service, model, budget and agent. The same call, the same scope."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from longwatch.policy.gauge import Gauge as Gauge
from longwatch.policy.learning import Rates, with_learned
from longwatch.policy.limits import COUNT_TOKENS, COUNTING, Budget, Cap, Limits, Rate, Service
from longwatch.policy.naming import resolve_budget, resolve_service

FLEET = "fleet"
GATE = "gate"  # as a dimension: nothing weighs on it, it only gives no slot before its instant
LINE = "line"  # likewise: a call whose turn it is not gets no slot while others stand in line
NO_RATE = Rate(1_000_000, 1, 1)
TASK = "task:"  # how the purse of a task begins, which holds the caps of its own
TASK_WARN = (0.5, 0.8, 1.0)  # of its caps: as budgets are told of when the config does not say


class PurseCap(NamedTuple):
    """One cap of one purse: "fleet", "budget:NAME", "agent:NAME", "task:ID", or "service:NAME" for a quota of calls."""

    purse: str
    dimension: str
    cap: Cap
    warn: tuple[float, ...]


class Scope(NamedTuple):
    """Everything that decides about a call. gauges: its rates, then its gates and its line. purses: all it is charged to,
    with or without caps. models: that its budget falls back on. line: in which it waits, None: nothing makes it wait."""

    service: Service
    gauges: tuple[Gauge, ...]
    caps: tuple[PurseCap, ...]
    purses: tuple[str, ...]
    models: tuple[str, ...] = ()
    line: str | None = None

    @property
    def rates(self) -> tuple[Gauge, ...]:
        """Those gauges on which a call has a weight."""
        return tuple(gauge for gauge in self.gauges if gauge.dimension not in (GATE, LINE))


def scope_of(
    limits: Limits,
    *,
    service: str,
    model: str | None,
    budget: str | None,
    agent: str,
    past: str | None = None,
    turn: bool = False,
    learned: Rates | None = None,
) -> Scope:
    """past: the gate that the call may pass. turn: it has stood in line, and may ask. learned: beside the limits.

    Errors: ConfigError for a service or budget that the limits do not know.
    """
    found = resolve_service(limits, service)
    caps = _fleet_caps(limits)
    models: tuple[str, ...] = ()
    if budget is not None:
        payer = resolve_budget(limits, budget)
        caps, models = caps + _purse_caps(f"budget:{budget}", payer), payer.models
    if agent in limits.agents:
        caps += _purse_caps(f"agent:{agent}", limits.agents[agent])
    caps += _quota(found)
    gates = tuple(gate_gauge(gate) for gate in gates_of(service, model) if gate != past)
    purses = purses_of(service=service, budget=budget, agent=agent)
    rates = with_learned(gauges_of(found, model), learned or {}, service, model)
    line = line_of(found, rates)
    waits = () if turn or line is None else (line_gauge(line),)
    return Scope(found, rates + gates + waits, tuple(caps), purses, models, line)


def line_of(service: Service, rates: tuple[Gauge, ...]) -> str | None:
    """In which line a call with these rates waits: that of its narrowest pattern of models, or its service's."""
    if not rates and service.concurrency is None:
        return None
    named = [
        gauge.meter.removesuffix(f"/{gauge.dimension}") for gauge in rates if gauge.meter.endswith(gauge.dimension)
    ]
    return max(named, key=len, default=service.name)


def line_gauge(line: str) -> Gauge:
    return Gauge(f"{line}/{LINE}", LINE, NO_RATE)


def gates_of(service: str, model: str | None) -> tuple[str, ...]:
    """The gates that a call goes through: its service's, and its model's."""
    return (service,) if model is None else (service, f"{service}/{model}")


def gate_gauge(gate: str) -> Gauge:
    return Gauge(f"{gate}/{GATE}", GATE, NO_RATE)


def gate_of_meter(meter: str) -> str | None:
    """The gate that a meter enforces, None of a rate's meter."""
    gate, _, dimension = meter.rpartition("/")
    return gate if dimension == GATE else None


def caps_of(limits: Limits) -> list[PurseCap]:
    """Every cap there is."""
    caps = _fleet_caps(limits)
    for name, budget in limits.budgets.items():
        caps += _purse_caps(f"budget:{name}", budget)
    for name, agent in limits.agents.items():
        caps += _purse_caps(f"agent:{name}", agent)
    for service in limits.services.values():
        caps += _quota(service)
    return caps


def purses_of(*, service: str, budget: str | None, agent: str, task: str | None = None) -> tuple[str, ...]:
    """Every purse that a call is charged to. task: its task's, where that has caps of its own."""
    named = () if budget is None else (f"budget:{budget}",)
    own = () if task is None else (f"{TASK}{task}",)
    return (FLEET, *named, f"agent:{agent}", *own, f"service:{service}")


def task_caps(task: str, amounts: Iterable[tuple[str, int]]) -> tuple[PurseCap, ...]:
    """What one task may cost over its whole life. amounts: by dimension."""
    return tuple(PurseCap(f"{TASK}{task}", dimension, Cap(most, "total"), TASK_WARN) for dimension, most in amounts)


def with_task(scope: Scope, task: str, caps: tuple[PurseCap, ...]) -> Scope:
    """The scope of a call of a task that has caps of its own."""
    *purses, service = scope.purses
    return scope._replace(caps=scope.caps + caps, purses=(*purses, f"{TASK}{task}", service))


def gauges_of(service: Service, model: str | None) -> tuple[Gauge, ...]:
    """The service's rates; for each dimension the narrowest model pattern that has one counts instead.

    A call that counts tokens has a rate of its own, and takes nothing from the others.
    """
    if model == COUNT_TOKENS:
        rates = service.models.get(COUNT_TOKENS) or {"requests": COUNTING}
        return tuple(Gauge(f"{service.name}/{COUNT_TOKENS}/{name}", name, rate) for name, rate in rates.items())
    found = {
        dimension: Gauge(f"{service.name}/{dimension}", dimension, rate) for dimension, rate in service.rates.items()
    }
    for pattern in sorted(service.models, key=_narrowness):
        if model is not None and fnmatchcase(model, pattern):
            for dimension, rate in service.models[pattern].items():
                found[dimension] = Gauge(f"{service.name}/{pattern}/{dimension}", dimension, rate)
    return tuple(found.values())


def narrowest(patterns: Iterable[str], model: str | None) -> str | None:
    """The narrowest of the patterns that fit the model."""
    fitting = [pattern for pattern in patterns if model is not None and fnmatchcase(model, pattern)]
    return max(fitting, key=_narrowness, default=None)


def _narrowness(pattern: str) -> tuple[int, str]:
    """The more letters a pattern spells out, the narrower; among equals by name, so that the order is one."""
    return (sum(letter not in "*?[]" for letter in pattern), pattern)


def _fleet_caps(limits: Limits) -> list[PurseCap]:
    return [PurseCap(FLEET, "money", cap, ()) for cap in limits.fleet_money]


def _purse_caps(purse: str, budget: Budget) -> list[PurseCap]:
    return [PurseCap(purse, dimension, cap, budget.warn) for dimension, caps in budget.caps.items() for cap in caps]


def _quota(service: Service) -> list[PurseCap]:
    return [] if service.quota is None else [PurseCap(f"service:{service.name}", "calls", service.quota, ())]
