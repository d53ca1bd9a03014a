"""Limits as a fleet keeps them with its state, and how two of them differ, in words.

A process that opens a fleet with other limits is told what differs. "wider" lets more through or past, "narrower"
less; a change that is neither, or whose direction cannot be told, says only what it was and is.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import msgspec

from longwatch.errors import ConfigError
from longwatch.policy.duration import format_ms
from longwatch.policy.limits import Budget, Cap, Limits, ModelPrice, Rate, Service
from longwatch.policy.money import Money
from longwatch.policy.naming import resolve_budget, resolve_service
from longwatch.policy.rate import format_rate, format_window

T = TypeVar("T")


def limits_to_json(limits: Limits) -> str:
    """The same text for equal limits, in whichever order they were made."""
    return msgspec.json.encode(limits, order="sorted").decode()


def limits_from_json(text: str) -> Limits:
    """The inverse of `limits_to_json`; unknown fields of a newer version are left out. Errors: ConfigError."""
    try:
        return msgspec.json.decode(text, type=Limits)
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"the limits kept with the state cannot be read: {error}",
            hint="Open the state with a config to replace them.",
        ) from error


def difference(old: Limits, new: Limits) -> list[str]:
    """One line per change, such as "budget.growth money 50 -> 5000 GBP/month (wider)"; empty when nothing differs."""
    return [
        *_changed("fleet currency", old.currency, new.currency),
        *_changed("fleet timezone", old.timezone, new.timezone),
        *_changed("fleet admission", old.admission or "by the state", new.admission or "by the state"),
        *_changed("fleet away", _percent(old.away), _percent(new.away)),
        *_exchange(old, new),
        *_money("fleet", old.fleet_money, new.fleet_money, old.currency, new.currency),
        *_services(old, new),
        *_budgets(old, new),
        *_agents(old, new),
    ]


def _services(old: Limits, new: Limits) -> Iterator[str]:
    yield from _others("service", old.services, new.services)
    for name in _either(old.services, new.services):
        before, after = _known(resolve_service, old, name), _known(resolve_service, new, name)
        if before is None or after is None:
            yield from _refused(f"service.{name}", before, after)
        else:
            yield from _service(f"service.{name}", before, after, new.currency)


def _service(at: str, before: Service, after: Service, currency: str) -> Iterator[str]:
    yield from _rates(at, before.rates, after.rates)
    for pattern in _either(before.models, after.models):
        yield from _rates(f'{at}.model."{pattern}"', before.models.get(pattern, {}), after.models.get(pattern, {}))
    for pattern in _either(before.prices, after.prices):
        yield from _price(
            f'{at}.model."{pattern}" price', before.prices.get(pattern), after.prices.get(pattern), currency
        )
    yield from _most(f"{at} concurrency", before.concurrency, after.concurrency)
    quotas = [() if quota is None else (quota,) for quota in (before.quota, after.quota)]
    yield from _counts(f"{at} quota", quotas[0], quotas[1])
    if before.price_micros != after.price_micros:
        prices = [_amount(price, currency) for price in (before.price_micros, after.price_micros)]
        yield f"{at} price {prices[0]} -> {prices[1]}{_direction(after.price_micros or 0, before.price_micros or 0)}"
    yield from _changed(f"{at} key memory", _length(before.key_memory_ms), _length(after.key_memory_ms))


def _price(at: str, before: ModelPrice | None, after: ModelPrice | None, currency: str) -> Iterator[str]:
    """Of a million tokens. Without one the list's holds, or the model is refused."""
    if before == after:
        return
    written = [_priced(price, currency) for price in (before, after)]
    lower = before is not None and after is not None and _all_prices(after) < _all_prices(before)
    yield f"{at} {written[0]} -> {written[1]}{' (wider)' if lower else ''}"


def _all_prices(price: ModelPrice) -> tuple[int, ...]:
    return (*price.base, *(price.long or price.base))


def _priced(price: ModelPrice | None, currency: str) -> str:
    if price is None:
        return "by the list"
    words = [f"{name} {_amount(nanos * 1000, currency)}" for name, nanos in price.base._asdict().items()]
    if price.long is not None:
        words += [f"above {price.above_tokens} tokens"]
        words += [f"{name} {_amount(nanos * 1000, currency)}" for name, nanos in price.long._asdict().items()]
    return ", ".join(words)


def _rates(at: str, old: Mapping[str, Rate], new: Mapping[str, Rate]) -> Iterator[str]:
    for dimension in _either(old, new):
        before, after = old.get(dimension), new.get(dimension)
        if before is None or after is None:
            written = ["none" if rate is None else format_rate(rate) for rate in (before, after)]
            yield f"{at} rate {dimension} {written[0]} -> {written[1]} ({'wider' if after is None else 'narrower'})"
            continue
        if (before.amount, before.per_ms) != (after.amount, after.per_ms):
            speeds = before.amount * after.per_ms, after.amount * before.per_ms
            yield f"{at} rate {dimension} {format_rate(before)} -> {format_rate(after)}{_direction(*speeds)}"
        yield from _most(f"{at} burst {dimension}", before.burst, after.burst)


def _budgets(old: Limits, new: Limits) -> Iterator[str]:
    yield from _others("budget", old.budgets, new.budgets)
    for name in _either(old.budgets, new.budgets):
        before, after = _known(resolve_budget, old, name), _known(resolve_budget, new, name)
        if before is None or after is None:
            yield from _refused(f"budget.{name}", before, after)
        else:
            yield from _budget(f"budget.{name}", before, after, old.currency, new.currency)


def _agents(old: Limits, new: Limits) -> Iterator[str]:
    for name in _either(old.agents, new.agents):
        before, after = (limits.agents.get(name, Budget(name)) for limits in (old, new))
        yield from _budget(f"agent.{name}", before, after, old.currency, new.currency)


def _budget(at: str, before: Budget, after: Budget, currency_before: str, currency: str) -> Iterator[str]:
    for dimension in _either(before.caps, after.caps):
        caps = before.caps.get(dimension, ()), after.caps.get(dimension, ())
        if dimension == "money":
            yield from _money(at, *caps, currency_before, currency)
        else:
            yield from _counts(f"{at} {dimension}", *caps)
    yield from _changed(f"{at} warn", _list(before.warn), _list(after.warn))
    yield from _changed(f"{at} then", _then(before), _then(after))


def _money(at: str, old: tuple[Cap, ...], new: tuple[Cap, ...], currency_before: str, currency: str) -> Iterator[str]:
    for window, before, after in _windows(old, new):
        written = _amount(before, currency_before), _amount(after, currency)
        if currency_before != currency:
            yield f"{at} money {written[0]} -> {written[1]}{format_window(window)}"
        elif before != after:
            amount = written[0] if after is None else written[0].removesuffix(f" {currency}")
            yield f"{at} money {amount} -> {written[1]}{format_window(window)}{_room(before, after)}"


def _counts(at: str, old: tuple[Cap, ...], new: tuple[Cap, ...]) -> Iterator[str]:
    for window, before, after in _windows(old, new):
        if before != after:
            yield f"{at} {_none(before)} -> {_none(after)}{format_window(window)}{_room(before, after)}"


def _exchange(old: Limits, new: Limits) -> Iterator[str]:
    for foreign in _either(old.exchange, new.exchange):
        before, after = old.exchange.get(foreign), new.exchange.get(foreign)
        written = _amount(before, old.currency), _amount(after, new.currency)
        comparable = before is not None and after is not None and old.currency == new.currency
        if before != after:
            yield f"fleet exchange {foreign} {written[0]} -> {written[1]}" + (
                _direction(after or 0, before or 0) if comparable else ""
            )


def _windows(old: tuple[Cap, ...], new: tuple[Cap, ...]) -> Iterator[tuple[str, int | None, int | None]]:
    before, after = {cap.window: cap.amount for cap in old}, {cap.window: cap.amount for cap in new}
    for window in _either(before, after):
        yield window, before.get(window), after.get(window)


def _others(sort: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    if bool(old) != bool(new):
        yield f"a {sort} that is not named: " + (
            "refused -> allowed (wider)" if old else "allowed -> refused (narrower)"
        )


def _refused(at: str, before: object, after: object) -> Iterator[str]:
    if before is None and after is not None:
        yield f"{at} is new, it was refused before (wider)"
    elif after is None and before is not None:
        yield f"{at} is gone, it is refused now (narrower)"


def _known(resolve: Callable[[Limits, str], T], limits: Limits, name: str) -> T | None:
    try:
        return resolve(limits, name)
    except ConfigError:
        return None


def _most(at: str, before: int | None, after: int | None) -> Iterator[str]:
    if before != after:
        yield f"{at} {_none(before)} -> {_none(after)}{_room(before, after)}"


def _changed(at: str, before: str, after: str) -> Iterator[str]:
    if before != after:
        yield f"{at} {before} -> {after}"


def _room(before: int | None, after: int | None) -> str:
    """None is no limit at all."""
    return " (wider)" if after is None or (before is not None and after > before) else " (narrower)"


def _direction(before: int, after: int) -> str:
    if before == after:
        return ""
    return " (wider)" if after > before else " (narrower)"


def _either(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return list(dict.fromkeys([*old, *new]))


def _amount(micros: int | None, currency: str) -> str:
    return "none" if micros is None else str(Money(micros, currency)).replace(".00 ", " ")


def _length(milliseconds: int | None) -> str:
    return "none" if milliseconds is None else format_ms(milliseconds)


def _percent(share: int) -> str:
    return f"{share}%" if share else "none"


def _list(fractions: tuple[float, ...]) -> str:
    return ", ".join(map(str, fractions)) or "none"


def _then(budget: Budget) -> str:
    return f"cheaper: {', '.join(budget.models)}" if budget.models else "stop"


def _none(amount: int | None) -> str:
    return "none" if amount is None else str(amount)
