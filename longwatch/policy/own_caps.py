"""What a single task may cost over its whole life, as people write it: with its kind, and when it is submitted.

    {"money": "2 GBP", "calls": 50, "tokens": 200_000}

Each of them may be left out; what a task is submitted with counts instead of what its kind has. An amount of 0 allows
nothing that costs.
"""

from typing import Any

from longwatch.errors import ConfigError
from longwatch.policy.limits import Limits
from longwatch.policy.money import Money
from longwatch.policy.rate import parse_money_cap

LARGEST = 10**15  # micro-units, calls or tokens: more is a mistake
EXAMPLE = 'money="2 GBP", calls=50, tokens=200_000'

OwnCaps = dict[str, Any]
"""By name: counts are integers, money is text. Fit to be stored as JSON."""


def own_caps(*, money: str | Money | None = None, calls: int | None = None, tokens: int | None = None) -> OwnCaps:
    """Checked, as they are kept. Errors: ConfigError for amounts that cannot be meant."""
    found: OwnCaps = {} if money is None else {"money": str(Money.parse(_plain(money)))}
    for name, count in (("calls", calls), ("tokens", tokens)):
        if count is not None:
            found[name] = _count(name, count)
    return found


def own_amounts(of_kind: OwnCaps, given: OwnCaps, limits: Limits) -> tuple[tuple[str, int], ...]:
    """By dimension; money in micro-units of the fleet's currency, rounded down. Errors: ConfigError."""
    caps = of_kind | given
    return tuple((name, _amount(name, caps[name], limits)) for name in ("money", "calls", "tokens") if name in caps)


def _plain(money: str | Money) -> str | Money:
    """Without "total", which is what it means anyway."""
    return money.strip().removesuffix(" total") if isinstance(money, str) else money


def _amount(name: str, value: object, limits: Limits) -> int:
    if name != "money":
        return _count(name, value)
    cap = parse_money_cap(f"{value} total", currency=limits.currency, exchange=limits.exchange)
    return _small(f"money={value!r}", cap.amount)


def _count(name: str, value: object) -> int:
    if type(value) is not int:  # nor one of its kinds: True is no amount
        raise ConfigError(f"{name}={value!r} is not a whole number", hint=f"A task's own caps: {EXAMPLE}.")
    return _small(f"{name}={value}", value)


def _small(said: str, amount: int) -> int:
    if not 0 <= amount <= LARGEST:
        raise ConfigError(f"{said} is outside 0 to a billion", hint=f"A task's own caps: {EXAMPLE}.")
    return amount
