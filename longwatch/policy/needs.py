"""What a task or a batch needs of each service, as handlers and callers declare it, and what that comes to.

    {"stripe": {"requests": 1, "money": "0.20 GBP"}, "anthropic": {"input_tokens": 2000, "output_tokens": 400,
                                                                   "model": "claude-haiku-5-5"}}

`requests` are calls; a need that names none makes one call. `money` is the most that all of it can cost; left out, it is
priced as calls are, by the service's price or by model and tokens. `model` picks the limits of a model, `budget` names
who pays when it is not whoever submits. An unknown name is refused: a need that was misspelt would count for nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from longwatch.errors import ConfigError, nearest
from longwatch.policy.estimate import has_prices, micros_of, most_micros
from longwatch.policy.learning import Rates
from longwatch.policy.limits import DIMENSIONS, Limits
from longwatch.policy.money import Money
from longwatch.policy.scope import Scope, gauges_of, scope_of

FIELDS = (*DIMENSIONS, "money", "model", "budget")
MOST_UNITS = 10**15  # of one need: more is a mistake
EXAMPLE = 'Write needs={"stripe": {"requests": 1, "money": "0.20 GBP"}}.'

Needs = dict[str, dict[str, Any]]
"""By service, then by name: counts are integers, everything else is text. Fit to be stored as JSON."""


class Demand(NamedTuple):
    """What one need comes to at its service. money: micro-units of the fleet's currency. scope: what it falls under.

    learned: the meters of those rates in it that were learned, and not configured.
    """

    scope: Scope
    requests: int
    input_tokens: int
    output_tokens: int
    money: int
    learned: frozenset[str] = frozenset()

    def of(self, dimension: str) -> int:
        """Units of a rate's dimension, or what caps count: money, calls, tokens."""
        counted = {"calls": self.requests, "tokens": self.input_tokens + self.output_tokens, "money": self.money}
        return counted[dimension] if dimension in counted else int(getattr(self, dimension))

    def one(self, dimension: str) -> int:
        """The same of one of its calls, rounded up."""
        return -(-self.of(dimension) // self.requests)


def plain(given: Mapping[str, Mapping[str, Any]]) -> Needs:
    """The needs, checked, in the form in which they are kept. Errors: ConfigError for names and amounts that cannot be."""
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"needs={given!r} is not needs by service", hint=EXAMPLE)
    return {service: _plain_need(service, need) for service, need in given.items()}


def _plain_need(service: str, need: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(need, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"needs of {service}: {need!r} is not names and amounts", hint=EXAMPLE)
    return {name: _plain_value(f"needs of {service}: {name}", name, value) for name, value in need.items()}


def _plain_value(what: str, name: str, value: object) -> int | str:
    if name not in FIELDS:
        raise ConfigError(f"{what} is not known{nearest(name, FIELDS)}", hint=f"There are: {', '.join(FIELDS)}.")
    if name == "money":
        return _plain_money(what, value)
    if name in DIMENSIONS:
        least = 1 if name == "requests" else 0
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST_UNITS:
            raise ConfigError(f"{what} = {value!r} is not a whole number from {least} to {MOST_UNITS}", hint=EXAMPLE)
        return value
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{what} = {value!r} is not a name", hint=EXAMPLE)
    return value


def _plain_money(what: str, value: object) -> str:
    if not isinstance(value, str | Money):
        raise ConfigError(f"{what} = {value!r} is not an amount of money", hint='Write "0.20 GBP", never a float.')
    money = Money.parse(value)
    if money.micros < 0:
        raise ConfigError(f"{what} = {value} is below zero", hint="A need is the most that it can cost.")
    return str(money)


def demand_of(
    service: str,
    need: Mapping[str, Any],
    limits: Limits,
    *,
    requests: int = 1,
    budget: str | None,
    agent: str,
    at_ms: int,
    learned: Rates | None = None,
) -> Demand:
    """What a plain need comes to. requests: calls of a need that names none. at_ms: today, for the list of prices.

    learned: rates beside the configured ones.

    Errors: ConfigError for a service or budget that the limits do not know, and where tokens are missing; UnknownPrice.
    """
    model, paying = need.get("model"), need.get("budget", budget)
    scope = scope_of(limits, service=service, model=model, budget=paying, agent=agent, learned=learned)
    taught = frozenset({gauge.meter for gauge in set(scope.rates) - set(gauges_of(scope.service, model))})
    calls = int(need.get("requests", requests))
    prompt, answer = int(need.get("input_tokens", 0)), int(need.get("output_tokens", 0))
    priced = "money" not in need and scope.service.price_micros is None
    counted = priced or any(cap.dimension == "tokens" for cap in scope.caps)
    if counted and has_prices(scope.service) and not (prompt and answer):
        raise ConfigError(
            f"needs of {service}: what its calls can take at most cannot be told without their tokens",
            hint="Give input_tokens, output_tokens and model, or money where no budget counts tokens.",
        )
    if "money" in need:
        return Demand(scope, calls, prompt, answer, micros_of(need["money"], limits), taught)
    one = most_micros(
        scope.service,
        model,
        limits,
        prompt=-(-prompt // calls),
        longest=-(-answer // calls),
        caching="none",
        requests=1,
        at_ms=at_ms,
    )
    return Demand(scope, calls, prompt, answer, one * calls, taught)


def times(needs: Needs, tasks: int) -> Needs:
    """What so many tasks need together, of which each needs this."""
    return {service: {"requests": tasks} | _times_need(need, tasks) for service, need in needs.items()}


def _times_need(need: dict[str, Any], tasks: int) -> dict[str, Any]:
    more = {name: value * tasks for name, value in need.items() if name in DIMENSIONS}
    if "money" in need:
        one = Money.parse(need["money"])
        more["money"] = str(Money(one.micros * tasks, one.currency))
    return need | more
