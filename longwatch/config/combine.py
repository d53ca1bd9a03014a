"""What several keys say together: rate and burst make a limit, caps make a budget, and some keys need each other."""

from collections.abc import Iterator
from dataclasses import replace

from longwatch.config.lines import KeyPath
from longwatch.config.reader import Reader
from longwatch.config.settings import AgentSettings, BudgetSettings, FileSettings, MemorySettings, ServiceSettings
from longwatch.errors import ConfigError, UnknownPrice
from longwatch.policy.estimate import check_priced
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.policy.naming import resolve_budget
from longwatch.policy.profiles import PROFILES, complete

WARN = (0.5, 0.8, 1.0)  # of the caps of an agent


def limits_of(reader: Reader, read: FileSettings) -> Limits:
    """What admission decides by. Errors: ConfigError, at the key that does not fit the others."""
    limits = Limits(
        currency=read.fleet.currency,
        exchange=read.fleet.exchange,
        timezone=read.fleet.timezone,
        fleet_money=read.fleet.money,
        services={name: _service(reader, service) for name, service in read.services.items()},
        budgets={name: _budget(reader, budget) for name, budget in read.budgets.items()},
        agents=dict(_agent_caps(read)),
        admission="redis" if read.fleet.admission else "",
        away=read.fleet.away or 0,
    )
    if limits.away and not limits.admission:
        raise reader.refuse(
            ("fleet", "away"),
            f"{limits.away}% of every limit is kept for when the admission engine is away, and none is named",
            hint="Leave it out, or name the engine: [fleet] admission.",
        )
    for budget in read.budgets.values():
        _check_models(reader, budget, limits)
    for agent in read.agents.values():
        _check_agent(reader, agent, limits)
    _check_writer(reader, read.memory, limits)
    return limits


def reached(service: ServiceSettings) -> ServiceSettings:
    """A well-known service is where it is known to be, unless the config says otherwise."""
    if service.base_url is None and service.name in PROFILES:
        return replace(service, base_url=PROFILES[service.name].base_url)
    return service


def _service(reader: Reader, service: ServiceSettings) -> Service:
    path = ("service", service.name)
    return complete(
        Service(
            service.name,
            rates=_rates(reader, path, service.rate, service.burst),
            concurrency=service.concurrency,
            quota=service.quota,
            price_micros=service.price_micros,
            models={
                name: _rates(reader, (*path, "model", name), model.rate, model.burst)
                for name, model in service.models.items()
            },
            prices={name: model.price for name, model in service.models.items() if model.price is not None},
        )
    )


def _rates(reader: Reader, path: KeyPath, rates: dict[str, Rate], bursts: dict[str, int]) -> dict[str, Rate]:
    for dimension in bursts:
        if dimension not in rates:
            raise reader.refuse(
                (*path, "burst"),
                f"a burst of {dimension} without a rate of {dimension}",
                hint="Add the rate, or leave the burst out.",
            )
    return {dimension: replace(rate, burst=bursts.get(dimension, rate.burst)) for dimension, rate in rates.items()}


def _budget(reader: Reader, budget: BudgetSettings) -> Budget:
    if budget.then == "cheaper" and len(budget.models) < 2:
        raise reader.refuse(
            ("budget", budget.name, "then"),
            "cheaper needs two models at least to choose from",
            hint='Add models = ["claude-sonnet-5-5", "claude-haiku-5-5"], dearest first.',
        )
    return Budget(budget.name, _caps(budget), budget.warn, budget.models if budget.then == "cheaper" else ())


def _check_models(reader: Reader, budget: BudgetSettings, limits: Limits) -> None:
    for place, model in enumerate(budget.models):
        try:
            check_priced(model, limits)
        except UnknownPrice as error:
            raise reader.refuse(
                ("budget", budget.name, "models", f"[{place}]"), error.message, hint=error.hint
            ) from error


def _agent_caps(read: FileSettings) -> Iterator[tuple[str, Budget]]:
    for name, agent in read.agents.items():
        if caps := _caps(agent):
            yield name, Budget(name, caps, WARN)


def _caps(purse: BudgetSettings | AgentSettings) -> dict[str, tuple[Cap, ...]]:
    caps = {"money": purse.money, "calls": purse.calls, "tokens": purse.tokens}
    return {dimension: each for dimension, each in caps.items() if each}


def _check_agent(reader: Reader, agent: AgentSettings, limits: Limits) -> None:
    path = ("agent", agent.name)
    if agent.missed == "run_if_within" and agent.missed_within_ms is None:
        raise reader.refuse(
            (*path, "missed"), "run_if_within needs to know how late is too late", hint='Add missed_within = "2h".'
        )
    _check_budget(reader, path, agent.budget, limits)


def _check_writer(reader: Reader, memory: MemorySettings, limits: Limits) -> None:
    """The model that writes snapshots has a price, and somebody pays it."""
    if memory.writer is not None:
        try:
            check_priced(memory.writer, limits)
        except UnknownPrice as error:
            raise reader.refuse(("memory", "writer"), error.message, hint=error.hint) from error
    _check_budget(reader, ("memory",), memory.budget, limits)


def _check_budget(reader: Reader, path: KeyPath, budget: str | None, limits: Limits) -> None:
    if budget is not None:
        try:
            resolve_budget(limits, budget)
        except ConfigError as error:
            raise reader.refuse((*path, "budget"), error.message, hint=error.hint) from error
