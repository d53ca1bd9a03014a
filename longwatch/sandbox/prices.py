"""What a model call costs: list prices, in nano-USD per token (1,000 of them are $1 per million tokens).

A row is found by the longest prefix of the model's name, so that dated names find their family. A row with `above_tokens`
holds for prompts longer than that; the whole call is then billed at it. Writing to the prompt cache costs 1.25 times the
input price for five minutes and twice the input price for an hour. A call's cost is rounded up to a whole micro-USD.

Prices change every few weeks: a test that depends on one sets its own (`Settings.anthropic.prices`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

BATCHED = 50
"""Percent of the list price that a request in a batch costs."""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nano-USD per token. `long`: the prices that hold for prompts of more than `above_tokens`."""

    input: int
    output: int
    cache_read: int
    above_tokens: int | None = None
    long: "Price | None" = None


class Usage(NamedTuple):
    """Tokens of one call; the prompt is the sum of the first four."""

    input: int
    write_5m: int
    write_1h: int
    read: int
    output: int

    @property
    def prompt(self) -> int:
        return self.input + self.write_5m + self.write_1h + self.read


ANTHROPIC = {
    "claude-opus-5-5": Price(4_000, 20_000, 200),
    "claude-sonnet-5-5": Price(2_000, 10_000, 100),
    "claude-haiku-5-5": Price(100, 500, 10, above_tokens=100_000, long=Price(500, 2_500, 50)),
    "claude-sonnet-4-6": Price(3_000, 15_000, 300),
    "claude-opus-4-8": Price(5_000, 25_000, 500),
    "claude-haiku-4-5": Price(1_000, 5_000, 100),
    "claude-fable-5-2": Price(8_000, 40_000, 200),
}

OPENAI = {
    "gpt-4o": Price(2_500, 10_000, 1_250),
    "gpt-4o-mini": Price(150, 600, 75),
    "gpt-5": Price(1_250, 10_000, 125),
    "gpt-5-mini": Price(250, 2_000, 25),
}


def find(model: str, *tables: Mapping[str, Price]) -> Price | None:
    """The row of a model in the first table that knows it; None when no table does."""
    for table in tables:
        names = [name for name in table if model.startswith(name)]
        if names:
            return table[max(names, key=len)]
    return None


def cost_micros(price: Price, usage: Usage, *, percent: int = 100) -> int:
    """Micro-USD for one call, rounded up. percent: of the list price."""
    row = price
    if price.long is not None and price.above_tokens is not None and usage.prompt > price.above_tokens:
        row = price.long
    quarters = (
        4 * (usage.input * row.input + usage.read * row.cache_read + usage.output * row.output)
        + 5 * usage.write_5m * row.input
        + 8 * usage.write_1h * row.input
    )
    return -(-quarters * percent // 400_000)
