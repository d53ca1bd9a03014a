"""What a model call costs: dated list prices of the providers, per token, and the cost of a usage.

A row holds for the model it names and for dated or aliased releases of it ("claude-haiku-4-5-20251001"), but not for a
longer name that happens to begin alike: "gpt-5" says nothing about "gpt-5-pro". An unknown model is UnknownPrice, never 0.
Prices change: every row has the day from which it holds, the newest that has begun counts, and before the first day of a
model its first row does.

Writing to the prompt cache costs 1.25 times the input price for five minutes and twice for an hour. A prompt longer than
`above_tokens` is billed at the long prices as a whole. A cost is rounded up to a whole micro-unit of the currency.
"""

import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from longwatch.errors import UnknownPrice, nearest

Caching = Literal["none", "5m", "1h"]
RELEASE = re.compile(r"([-@](latest|\d{4,8}(-\d{2}-\d{2})?))?")


class Usage(NamedTuple):
    """Tokens of one call, none of them counted twice; the prompt is all but the output."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    write_5m: int = 0
    write_1h: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.write_5m + self.write_1h

    @property
    def total(self) -> int:
        return self.prompt + self.output


class PerToken(NamedTuple):
    """Nano-units of the currency per token: 1,000 of them are one unit per million tokens."""

    input: int
    output: int
    cache_read: int


class Price(NamedTuple):
    """One row of the table. since: the day, UTC, from which it holds. long: for prompts of more than above_tokens."""

    service: str
    model: str
    since: str
    base: PerToken
    above_tokens: int | None = None
    long: PerToken | None = None
    currency: str = "USD"


BATCHED = 50
"""Percent of the list price that Anthropic takes for a request in a message batch, whichever the tokens."""

NOV = "2026-11-01"
PRICES: tuple[Price, ...] = (
    Price("anthropic", "claude-opus-5-5", NOV, PerToken(4_000, 20_000, 200)),
    Price("anthropic", "claude-sonnet-5-5", NOV, PerToken(2_000, 10_000, 100)),
    Price("anthropic", "claude-haiku-5-5", NOV, PerToken(100, 500, 10), 100_000, PerToken(500, 2_500, 50)),
    Price("anthropic", "claude-fable-5-2", NOV, PerToken(8_000, 40_000, 200)),
    Price("anthropic", "claude-opus-4-8", NOV, PerToken(5_000, 25_000, 500)),
    Price("anthropic", "claude-sonnet-4-6", NOV, PerToken(3_000, 15_000, 300)),
    Price("anthropic", "claude-haiku-4-5", NOV, PerToken(1_000, 5_000, 100)),
    Price("openai", "gpt-4o", NOV, PerToken(2_500, 10_000, 1_250)),
    Price("openai", "gpt-4o-mini", NOV, PerToken(150, 600, 75)),
    Price("openai", "gpt-5", NOV, PerToken(1_250, 10_000, 125)),
    Price("openai", "gpt-5-mini", NOV, PerToken(250, 2_000, 25)),
)


def has_prices(service: str, prices: tuple[Price, ...] = PRICES) -> bool:
    """Whether calls of this service are priced by model; then an unknown model is refused."""
    return any(price.service == service for price in prices)


def find(service: str, model: str | None, *, at_ms: int, prices: tuple[Price, ...] = PRICES) -> Price:
    """The row that holds at this instant (epoch milliseconds). Errors: UnknownPrice."""
    rows = [price for price in prices if price.service == service and model is not None and _names(price, model)]
    if not rows:
        raise _unknown(service, model, prices)
    rows.sort(key=lambda price: (len(price.model), price.since))
    rows = [price for price in rows if price.model == rows[-1].model]
    begun = [price for price in rows if _since_ms(price) <= at_ms]
    return begun[-1] if begun else rows[0]


def cost_micros(price: Price, usage: Usage, *, percent: int = 100) -> int:
    """Micro-units of the price's currency, rounded up. percent: of the list price, such as BATCHED."""
    row = price.base
    if price.long is not None and price.above_tokens is not None and usage.prompt > price.above_tokens:
        row = price.long
    quarters = (
        4 * (usage.input * row.input + usage.cache_read * row.cache_read + usage.output * row.output)
        + 5 * usage.write_5m * row.input
        + 8 * usage.write_1h * row.input
    )
    return -(-quarters * percent // 400_000)


def worst_case_micros(
    price: Price, *, input_tokens: int, max_tokens: int, caching: Caching = "none", percent: int = 100
) -> int:
    """The most a call can cost: nothing read from the cache, all that may be written is, the answer as long as allowed.

    caching: for how long the request asks the prompt to be cached.
    """
    prompt = {"none": Usage(input=input_tokens), "5m": Usage(write_5m=input_tokens), "1h": Usage(write_1h=input_tokens)}
    return cost_micros(price, prompt[caching]._replace(output=max_tokens), percent=percent)


def _names(price: Price, model: str) -> bool:
    return model.startswith(price.model) and RELEASE.fullmatch(model[len(price.model) :]) is not None


def _since_ms(price: Price) -> int:
    return round(datetime.fromisoformat(price.since).replace(tzinfo=UTC).timestamp()) * 1000


def _unknown(service: str, model: str | None, prices: tuple[Price, ...]) -> UnknownPrice:
    if model is None:
        return UnknownPrice(
            f"{service} is priced by model, and this call names none",
            hint='Give model=, or money= with what the call costs at most, such as "0.20 USD".',
        )
    known = [price.model for price in prices if price.service == service]
    return UnknownPrice(
        f"no price is known for {service} model {model}{nearest(model, known)}",
        hint='Give money= with what the call costs at most, such as "0.20 USD".',
    )
