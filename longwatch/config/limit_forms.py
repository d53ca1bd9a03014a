"""How rates, bursts, caps and prices are written. Money becomes micro-units of the fleet's currency."""

import re
from typing import cast

from longwatch.config.forms import Context, Form, Schema, as_table, as_text, inside, known, pattern, whole
from longwatch.errors import ConfigError
from longwatch.policy.away import MOST_PERCENT
from longwatch.policy.limits import DIMENSIONS, Cap, ModelPrice, Rate
from longwatch.policy.money import Money
from longwatch.policy.price import PerToken
from longwatch.policy.rate import MOST, parse_cap, parse_money_cap, parse_rate

RATE_EXAMPLE = '"25/s" or { requests = "50/min", input_tokens = "40000/min" }'
BURST = whole(1, MOST)
CURRENCY = pattern(r"[A-Z]{3}", "a currency", 'a code of ISO 4217: "GBP"')
MONEY_PATTERN = r"\d{1,12}(?:\.\d{1,6})?\s*[A-Z]{3}"
WINDOW_PATTERN = r"(?:\s*/\s*(?:min|minute|h|hour|d|day|week|month|total)|\s+total)"
TOKEN_PRICES = ("input", "output", "cache_read")
MODEL_PRICE_EXAMPLE = '{ input = "3 USD", output = "15 USD", cache_read = "0.30 USD" }'
HIGHEST_EXCHANGE = 10**6 * 10**6  # micro-units of the fleet's currency for one unit of another


def _parse_rates(raw: object, context: Context) -> dict[str, Rate]:
    if isinstance(raw, str):
        return {"requests": parse_rate(raw)}
    rates: dict[str, Rate] = {}
    for dimension, text in as_table(raw, "a rate or a table of rates", RATE_EXAMPLE).items():
        with inside(dimension):
            rates[known(dimension, DIMENSIONS, "rate")] = parse_rate(cast("str", text), dimension=dimension)
    return rates


def _parse_bursts(raw: object, context: Context) -> dict[str, int]:
    """By dimension. A number alone is the burst of requests."""
    if isinstance(raw, int):
        return {"requests": BURST.parse(raw, context)}
    bursts: dict[str, int] = {}
    for dimension, burst in as_table(raw, "a burst or a table of bursts", "5 or { requests = 5 }").items():
        with inside(dimension):
            bursts[known(dimension, DIMENSIONS, "burst")] = BURST.parse(burst, context)
    return bursts


def _parse_money_cap(raw: object, context: Context) -> Cap:
    return parse_money_cap(cast("str", raw), currency=context.currency, exchange=dict(context.exchange or {}))


def _parse_count_cap(raw: object, context: Context) -> Cap:
    return parse_cap(cast("str", raw))


def _caps(one: Form[Cap]) -> Form[tuple[Cap, ...]]:
    """A cap, or a list of caps over different windows."""

    def parse(raw: object, context: Context) -> tuple[Cap, ...]:
        if not isinstance(raw, list | tuple):
            return (one.parse(raw, context),)
        caps: dict[str, Cap] = {}
        for number, text in enumerate(cast("list[object]", raw)):
            with inside(f"[{number}]"):
                cap = one.parse(text, context)
                if cap.window in caps:
                    raise ConfigError(f"{text!r} is a second cap per {cap.window}", hint="Keep one cap per window.")
                caps[cap.window] = cap
        return tuple(caps.values())

    return Form(parse, {"anyOf": [one.schema, {"type": "array", "items": one.schema}]})


def _parse_away(raw: object, context: Context) -> int:
    """Whole percents."""
    found = re.fullmatch(r"\s*(\d{1,3})\s*%\s*", raw, re.ASCII) if isinstance(raw, str) else None
    if found is None or not 1 <= int(found[1]) <= MOST_PERCENT:
        raise ConfigError(
            f"{raw!r} is not a part of a limit, 1% to {MOST_PERCENT}%",
            hint='Write "10%"; left out, calls wait while the admission engine is away.',
        )
    return int(found[1])


def _parse_price(raw: object, context: Context) -> int:
    amount = Money.parse(cast("str", raw))
    if amount.micros < 0:
        raise ConfigError(f"{raw} is below zero", hint=f'Write "0.20 {context.currency}".')
    return _micros(amount, context)


def _parse_model_price(raw: object, context: Context) -> ModelPrice:
    given = dict(as_table(raw, "a price of a model", MODEL_PRICE_EXAMPLE))
    long, above = given.pop("long", None), given.pop("above", None)
    if (long is None) != (above is None):
        raise ConfigError(
            "above and long belong together", hint="above: tokens of a prompt; long: the price of a longer one."
        )
    if long is None:
        return ModelPrice(_parse_per_token(given, context))
    with inside("above"):
        most = whole(1, MOST).parse(above, context)
    with inside("long"):
        return ModelPrice(_parse_per_token(given, context), most, _parse_per_token(long, context))


def _parse_per_token(raw: object, context: Context) -> PerToken:
    """Nano-units per token: thousandths of the micro-units of a million. What is read from the cache costs no more than
    what is not."""
    prices: dict[str, int] = {}
    for name, text in as_table(raw, "a price of a model", MODEL_PRICE_EXAMPLE).items():
        with inside(name):
            prices[known(name, TOKEN_PRICES, "price")] = -(
                -_parse_price(as_text(text, "a price", '"3 USD"'), context) // 1000
            )
    for name in ("input", "output"):
        if name not in prices:
            raise ConfigError(f"the price of {name} is missing", hint=f"Write {MODEL_PRICE_EXAMPLE}.")
    return PerToken(prices["input"], prices["output"], prices.get("cache_read", prices["input"]))


def _micros(amount: Money, context: Context) -> int:
    """Rounded up: a price is never understated."""
    if amount.currency == context.currency:
        return amount.micros
    rate = (context.exchange or {}).get(amount.currency)
    if rate is None:
        raise ConfigError(
            f"{amount.currency} has no exchange rate to the fleet's {context.currency}",
            hint=f'Add it: [fleet] exchange = {{ {amount.currency} = "0.80 {context.currency}" }}.',
        )
    return -(-amount.micros * rate // 1_000_000)


def _parse_exchange(raw: object, context: Context) -> dict[str, int]:
    example = f'{{ USD = "0.80 {context.currency}" }}'
    rates: dict[str, int] = {}
    for currency, text in as_table(raw, "a table of exchange rates", example).items():
        with inside(currency):
            CURRENCY.parse(currency, context)
            amount = Money.parse(as_text(text, "an exchange rate", f'"0.80 {context.currency}"'))
            if amount.currency != context.currency or currency == context.currency:
                raise ConfigError(
                    f"{text!r} is no rate from {currency} to the fleet's {context.currency}",
                    hint=f"Write what one unit of another currency costs you in {context.currency}: {example}.",
                )
            if not 0 < amount.micros <= HIGHEST_EXCHANGE:
                raise ConfigError(f"{text!r} is not an exchange rate", hint=f"Write {example}.")
            rates[currency] = amount.micros
    return rates


def _by_dimension(one: Schema) -> Schema:
    properties = dict.fromkeys(DIMENSIONS, one)
    return {"anyOf": [one, {"type": "object", "properties": properties, "additionalProperties": False}]}


AWAY = Form(_parse_away, {"type": "string", "pattern": r"^\s*(?:[1-9]|[1-4]\d|50)\s*%\s*$"})
RATES = Form(_parse_rates, _by_dimension({"type": "string", "pattern": r"^\s*\d+\s*/\s*[a-z]+\s*$"}))
BURSTS = Form(_parse_bursts, _by_dimension(BURST.schema))
COUNT_CAP = Form(_parse_count_cap, {"type": "string", "pattern": rf"^\s*\d+{WINDOW_PATTERN}\s*$"})
COUNT_CAPS = _caps(COUNT_CAP)
MONEY_CAPS = _caps(Form(_parse_money_cap, {"type": "string", "pattern": rf"^\s*{MONEY_PATTERN}{WINDOW_PATTERN}\s*$"}))
AMOUNT: Schema = {"type": "string", "pattern": rf"^\s*{MONEY_PATTERN}\s*$"}
PER_TOKEN: Schema = {
    "type": "object",
    "properties": dict.fromkeys(TOKEN_PRICES, AMOUNT),
    "required": ["input", "output"],
}
MODEL_PRICE = Form(
    _parse_model_price,
    {
        **PER_TOKEN,
        "properties": {
            **dict.fromkeys(TOKEN_PRICES, AMOUNT),
            "above": {"type": "integer", "minimum": 1, "maximum": MOST},
            "long": {**PER_TOKEN, "additionalProperties": False},
        },
        "additionalProperties": False,
    },
)
PRICE = Form(_parse_price, {"type": "string", "pattern": rf"^\s*{MONEY_PATTERN}\s*$"})
EXCHANGE = Form(
    _parse_exchange,
    {"type": "object", "additionalProperties": {"type": "string", "pattern": rf"^\s*{MONEY_PATTERN}\s*$"}},
)
