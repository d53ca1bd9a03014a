"""What is in force beside what is written: a fleet keeps its limits with its state, and a changed file waits outside.

A program that opens the fleet alone brings a changed config into force; until then the state's limits count, and
`config show` says so at each key where the two differ.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from longwatch.config.forms import render
from longwatch.config.lines import KeyPath, dotted
from longwatch.config.load import show
from longwatch.config.settings import Settings
from longwatch.errors import ConfigError
from longwatch.policy import override
from longwatch.policy.limits import DIMENSIONS, Budget, Cap, Limits, ModelPrice, Override, Rate, Service
from longwatch.policy.money import Money
from longwatch.policy.naming import resolve_service
from longwatch.policy.price import PerToken
from longwatch.policy.rate import format_rate, format_window
from longwatch.policy.window import describe

STATE = "state"


@dataclass(frozen=True)
class Shown:
    """One value and where it is from. instead_of: what the config says that is not in force, and where it says so."""

    key: str
    value: str
    origin: str
    instead_of: tuple[str, str] | None = None


def in_force(settings: Settings, kept: Limits | None, at_ms: int = 0) -> list[Shown]:
    """Every key with the value that counts. kept: the limits that the state has; None: there is none to ask. at_ms: now."""
    rows = [Shown(*row) for row in show(settings)]
    if kept is None:
        return rows
    named = [*settings.limits.services, *kept.services]
    here, there = dict(_limits(settings.limits, named)), dict(_limits(override.at(kept, at_ms), named))
    by_hand = {dotted(("budget", each.budget, "money")): _set(each, kept) for each in override.standing(kept, at_ms)}
    other = {
        key: (there.get(key, ""), by_hand.get(key, STATE))
        for key in [*here, *there]
        if here.get(key) != there.get(key) or key in by_hand
    }
    known = {row.key for row in rows}
    changed = [_instead(row, other) for row in rows]
    return [*changed, *(Shown(key, *found) for key, found in other.items() if key not in known)]


def _instead(row: Shown, other: dict[str, tuple[str, str]]) -> Shown:
    if row.key not in other:
        return row
    return Shown(row.key, *other[row.key], instead_of=(row.value, row.origin))


def _set(by: Override, limits: Limits) -> str:
    """Where a cap is from that was set by hand."""
    ends = "" if by.until_ms is None else f", until {describe(by.until_ms, limits.timezone)}"
    return f"longwatch budget set{ends}"


def _limits(limits: Limits, services: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Every limit that there is, by its key, as it is written. services: a known one has limits also without a name."""
    yield "fleet.currency", limits.currency
    yield "fleet.timezone", limits.timezone
    yield "fleet.exchange", render({name: _money(micros, limits) for name, micros in sorted(limits.exchange.items())})
    yield from _caps(("fleet",), {"money": limits.fleet_money}, limits)
    for name in services:
        with contextlib.suppress(ConfigError):  # it is refused by these
            yield from _service(("service", name), resolve_service(limits, name), limits)
    for sort, purses in (("budget", limits.budgets), ("agent", limits.agents)):
        for purse in purses.values():
            yield from _purse((sort, purse.name), purse, limits)


def _service(at: KeyPath, service: Service, limits: Limits) -> Iterator[tuple[str, str]]:
    yield from _rates(at, service.rates)
    for pattern, rates in service.models.items():
        yield from _rates((*at, "model", pattern), rates)
    for pattern, price in service.prices.items():
        yield dotted((*at, "model", pattern, "price")), render(_price(price, limits))
    quota = service.quota
    found = {
        "concurrency": service.concurrency,
        "quota": None if quota is None else f"{quota.amount}{format_window(quota.window)}",
        "price": None if service.price_micros is None else _money(service.price_micros, limits),
    }
    yield from ((dotted((*at, key)), render(value)) for key, value in found.items() if value is not None)


def _rates(at: KeyPath, rates: dict[str, Rate]) -> Iterator[tuple[str, str]]:
    if not rates:
        return
    rates = {dimension: rates[dimension] for dimension in sorted(rates, key=_place)}  # the state's order is another one
    written = {dimension: format_rate(rate) for dimension, rate in rates.items()}
    yield dotted((*at, "rate")), render(written["requests"] if [*written] == ["requests"] else written)
    yield dotted((*at, "burst")), render({dimension: rate.burst for dimension, rate in rates.items()})


def _price(price: ModelPrice, limits: Limits) -> dict[str, object]:
    """As it is written: of a million tokens."""

    def of(row: PerToken) -> dict[str, object]:
        return {name: _money(nanos * 1000, limits) for name, nanos in row._asdict().items()}

    long = {} if price.long is None else {"above": price.above_tokens, "long": of(price.long)}
    return of(price.base) | long


def _place(dimension: str) -> tuple[int, str]:
    """Known ones in their order, then by name."""
    return DIMENSIONS.index(dimension) if dimension in DIMENSIONS else len(DIMENSIONS), dimension


def _purse(at: KeyPath, purse: Budget, limits: Limits) -> Iterator[tuple[str, str]]:
    yield from _caps(at, purse.caps, limits)
    if at[0] == "budget":
        yield dotted((*at, "warn")), render(list(purse.warn))
        yield dotted((*at, "then")), "cheaper" if purse.models else "stop"
        if purse.models:
            yield dotted((*at, "models")), render(list(purse.models))


def _caps(at: KeyPath, caps: dict[str, tuple[Cap, ...]], limits: Limits) -> Iterator[tuple[str, str]]:
    for dimension, each in caps.items():
        amounts = [_money(cap.amount, limits) if dimension == "money" else str(cap.amount) for cap in each]
        written = [f"{amount}{format_window(cap.window)}" for amount, cap in zip(amounts, each, strict=True)]
        if written:
            yield dotted((*at, dimension)), render(written[0] if len(written) == 1 else written)


def _money(micros: int, limits: Limits) -> str:
    return str(Money(micros, limits.currency)).replace(".00 ", " ")
