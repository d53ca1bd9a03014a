"""Money: integer micro-units of one currency, never a float. "0.20 GBP" is 200,000 micro-pounds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from longwatch.errors import ConfigError, UnknownPrice

MICRO = 1_000_000
PATTERN = re.compile(r"(-?\d{1,12})(?:\.(\d{1,6}))?\s*([A-Z]{3})", re.ASCII)


@dataclass(frozen=True, order=True)
class Money:
    """An exact amount. Two amounts of different currencies do not add: convert first."""

    micros: int
    currency: str

    @classmethod
    def parse(cls, text: "str | Money") -> "Money":
        """From "0.20 GBP"; a Money is returned as it is. Errors: ConfigError."""
        if isinstance(text, Money):
            return text
        found = PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if found is None:
            raise ConfigError(f"{text!r} is not an amount of money", hint='Write "0.20 GBP", never a float.')
        units, digits, currency = found.groups()
        micros = int(units.lstrip("-")) * MICRO + int((digits or "").ljust(6, "0"))
        return cls(-micros if units.startswith("-") else micros, currency)

    def __add__(self, other: "Money") -> "Money":
        self._same(other)
        return Money(self.micros + other.micros, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        self._same(other)
        return Money(self.micros - other.micros, self.currency)

    def __str__(self) -> str:
        amount = Decimal(self.micros) / MICRO
        places = 2 if self.micros % 10_000 == 0 else 6
        return f"{amount:.{places}f} {self.currency}"

    def _same(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise ConfigError(f"{self} and {other} are of different currencies", hint="Convert one of them first.")


def convert(amount: Money, currency: str, exchange: dict[str, int]) -> Money:
    """The amount in the fleet's currency. exchange: micro-units of it for one unit of each other currency.

    Rounds up: a cost is never understated. Errors: UnknownPrice when the currency has no rate.
    """
    if amount.currency == currency:
        return amount
    rate = exchange.get(amount.currency)
    if rate is None:
        raise UnknownPrice(
            f"no exchange rate from {amount.currency} to {currency}",
            hint=f'Add it to longwatch.toml: [fleet] exchange = {{ {amount.currency} = "0.80 {currency}" }}.',
        )
    return Money(-(-amount.micros * rate // MICRO), currency)


def income(amount: Money, currency: str, exchange: Mapping[str, int]) -> Money | None:
    """An earning in the fleet's currency, as `convert` but rounded down; None when its currency has no rate."""
    if amount.currency == currency:
        return amount
    rate = exchange.get(amount.currency)
    return None if rate is None else Money(amount.micros * rate // MICRO, currency)


def decimal(micros: int) -> str:
    """The amount alone, exactly, for programs: "0.200000"."""
    whole, rest = divmod(abs(micros), MICRO)
    return f"{'-' if micros < 0 else ''}{whole}.{rest:06d}"
