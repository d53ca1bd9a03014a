"""Rates and caps as people write them: "25/s" "50/min" for a rate, "5000/month" "50 GBP/month" "5 GBP total" for a cap.

A rate is how fast, and needs a burst: how much at once. Left out, the burst is the smallest that a provider is known to
enforce. For requests that is one second's worth of the rate, at least 1 ("50/min" may be enforced as one a second). A
token limit is spent by few big calls instead of many small ones, so a rate of tokens per minute may be used up at once,
as providers count it; per second, hour or day it is one second's worth.
"""

import re

from longwatch.errors import ConfigError, nearest
from longwatch.policy.limits import WINDOWS, Cap, Rate
from longwatch.policy.money import MICRO, Money

UNITS_MS = {"s": 1000, "min": 60_000, "h": 3_600_000, "day": 86_400_000}
UNIT_NAMES = {
    "s": "s", "sec": "s", "second": "s", "min": "min", "minute": "min", "h": "h", "hour": "h", "d": "day", "day": "day",
}  # fmt: skip
WINDOW_NAMES = {name: name for name in WINDOWS} | {"min": "minute", "h": "hour", "d": "day"}
MOST = 10**9  # of a rate, per its unit, and of a burst
MOST_COUNTED = 10**15  # of a cap on calls or tokens
RATE = re.compile(r"(\d{1,15})\s*/\s*([A-Za-z]+)", re.ASCII)
CAP = re.compile(r"(\S.*?)\s*(?:/\s*([A-Za-z]+)|\s(total))", re.ASCII)
COUNT = re.compile(r"\d{1,18}", re.ASCII)
RATE_HINT = 'Write a whole number per unit: "25/s", "50/min", "1000/h" or "1000/day".'


def parse_rate(text: str, *, dimension: str = "requests", burst: int | None = None) -> Rate:
    """A rate above zero; burst in units of the dimension, or None for the default. Errors: ConfigError."""
    found = RATE.fullmatch(text.strip()) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        raise ConfigError(f"{text!r} is not a rate", hint=RATE_HINT)
    amount, unit = int(found[1]), UNIT_NAMES.get(found[2])
    if unit is None:
        raise _bad_unit(text, found[2])
    if not 1 <= amount <= MOST:
        raise ConfigError(f"{text!r} is not a rate: {amount} is not between 1 and {MOST}", hint=RATE_HINT)
    return Rate(amount, UNITS_MS[unit], default_burst(amount, unit, dimension) if burst is None else burst)


def default_burst(amount: int, unit: str, dimension: str) -> int:
    """What may leave at once when nobody says: see the top of this module."""
    if dimension != "requests" and unit == "min":
        return amount
    return max(1, amount * 1000 // UNITS_MS[unit])


def parse_cap(text: str) -> Cap:
    """Calls or tokens per calendar window: "5000/month", "1000 total". 0 forbids. Errors: ConfigError."""
    amount, window = _split(text, example="5000/month")
    if COUNT.fullmatch(amount) is None or int(amount) > MOST_COUNTED:
        raise ConfigError(
            f"{text!r}: {amount!r} is not a whole number up to {MOST_COUNTED}",
            hint='Write "5000/month", "1000/day" or "1000 total".',
        )
    return Cap(int(amount), window)


def parse_money_cap(text: str, *, currency: str, exchange: dict[str, int]) -> Cap:
    """Money per calendar window, as micro-units of `currency`: "50 GBP/month", "5 GBP total". 0 forbids.

    exchange: micro-units of `currency` per unit of each other one; a cap is rounded down. Errors: ConfigError.
    """
    amount, window = _split(text, example=f"50 {currency}/month")
    money = Money.parse(amount)
    if money.micros < 0:
        raise ConfigError(f"{text!r} is below zero", hint=f'Write "50 {currency}/month"; 0 allows nothing.')
    return Cap(_in_currency(money, currency, exchange), window)


def format_rate(rate: Rate) -> str:
    """As it is written: "25/s"; of another period, about what it comes to: "22.5/s". The burst is not shown."""
    for unit, per_ms in UNITS_MS.items():
        if per_ms == rate.per_ms:
            return f"{rate.amount}/{unit}"
    for unit, per_ms in UNITS_MS.items():
        if rate.amount * per_ms >= rate.per_ms:
            return f"{rate.amount * per_ms / rate.per_ms:.4g}/{unit}"
    return f"{rate.amount}/{rate.per_ms}ms"


def format_window(window: str) -> str:
    """What follows the amount: "/month", or " total"."""
    return " total" if window == "total" else f"/{window}"


def _split(text: str, *, example: str) -> tuple[str, str]:
    found = CAP.fullmatch(text.strip()) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    hint = f'Write "{example}" or "{example.split("/")[0]} total"; windows: {", ".join(WINDOWS)}.'
    if found is None:
        raise ConfigError(f"{text!r} is not an amount per calendar window", hint=hint)
    window = WINDOW_NAMES.get(found[2] or found[3])
    if window is None:
        name = found[2]
        raise ConfigError(f"{text!r}: {name!r} is not a calendar window{nearest(name, WINDOWS)}", hint=hint)
    return found[1], window


def _in_currency(money: Money, currency: str, exchange: dict[str, int]) -> int:
    if money.currency == currency:
        return money.micros
    rate = exchange.get(money.currency)
    if rate is None:
        raise ConfigError(
            f"{money.currency} has no exchange rate to the fleet's {currency}",
            hint=f'Write the amount in {currency}, or add [fleet] exchange = {{ {money.currency} = "0.80 {currency}" }}.',
        )
    return money.micros * rate // MICRO


def _bad_unit(text: str, unit: str) -> ConfigError:
    if unit == "m":
        return ConfigError(f"{text!r} is not a rate: m may be a minute or a month", hint='Write "25/min".')
    if unit in ("w", "week", "month"):
        return ConfigError(
            f"{text!r} is not a rate: a calendar window is a quota",
            hint=f'Write quota = "{text}", and a rate per second.',
        )
    return ConfigError(f"{text!r} is not a rate: unknown unit {unit}{nearest(unit, UNIT_NAMES)}", hint=RATE_HINT)
