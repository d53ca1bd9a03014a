"""What may be used: the settings of services and budgets, as config reads them and admission decides by them.

Frozen and plain, so that a fleet can keep them with its state as JSON and every process can compare them.
"""

from dataclasses import dataclass, field

from longwatch.policy.price import PerToken

DIMENSIONS = ("requests", "input_tokens", "output_tokens")
WINDOWS = ("minute", "hour", "day", "week", "month", "total")
LANES = ("urgent", "normal", "batch")
COUNT_TOKENS = "count_tokens"  # as a model: a call that asks a provider what a prompt weighs, at a rate of its own
KNOWN_SERVICES = ("anthropic", "openai", "stripe", "github")


@dataclass(frozen=True)
class Rate:
    """`amount` per `per_ms` milliseconds, sustained; up to `burst` at once. amount and burst in units of the dimension."""

    amount: int
    per_ms: int
    burst: int


COUNTING = Rate(100, 60_000, 20)  # of such calls, where no config says: what Anthropic gives whoever begins


@dataclass(frozen=True)
class Cap:
    """At most `amount` per calendar window. Money in micro-units of the fleet's currency; calls and tokens plain."""

    amount: int
    window: str  # one of WINDOWS


@dataclass(frozen=True)
class ModelPrice:
    """What a model costs: nano-units of the fleet's currency per token. long: for prompts of more than above_tokens."""

    base: PerToken
    above_tokens: int | None = None
    long: PerToken | None = None


@dataclass(frozen=True)
class Service:
    """An API called from here. A limit that is None or absent does not exist."""

    name: str
    rates: dict[str, Rate] = field(default_factory=dict[str, Rate])  # by dimension
    concurrency: int | None = None
    quota: Cap | None = None  # calls per calendar window
    price_micros: int | None = None  # of one call when money= is not given, in the fleet's currency
    models: dict[str, dict[str, Rate]] = field(default_factory=dict[str, dict[str, Rate]])  # rates by model pattern
    prices: dict[str, ModelPrice] = field(default_factory=dict[str, ModelPrice])  # before the list's, by model pattern
    key_memory_ms: int | None = None  # how long the provider remembers an idempotency key


@dataclass(frozen=True)
class Budget:
    """Who pays: a named purse. caps by dimension (money, calls, tokens); warn: fractions of a cap, ascending; models: to
    fall back on when the money is spent, dearest first, none: the call is refused."""

    name: str
    caps: dict[str, tuple[Cap, ...]] = field(default_factory=dict[str, tuple[Cap, ...]])
    warn: tuple[float, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Override:
    """A cap on a budget's money that was set by hand. until_ms: by the calendar, epoch; None: until it is cleared."""

    budget: str
    cap: Cap
    until_ms: int | None = None


@dataclass(frozen=True)
class Limits:
    """All of it. money: caps of the whole fleet. An empty mapping of services or budgets: none is named, none refused.
    overrides: of the budgets, which are as the config has them; the config itself has none."""

    currency: str = "USD"
    exchange: dict[str, int] = field(default_factory=dict[str, int])  # micro-units of currency per unit of another
    timezone: str = "UTC"
    fleet_money: tuple[Cap, ...] = ()
    services: dict[str, Service] = field(default_factory=dict[str, Service])
    budgets: dict[str, Budget] = field(default_factory=dict[str, Budget])
    agents: dict[str, Budget] = field(default_factory=dict[str, Budget])  # caps of single agents
    admission: str = ""  # the engine that decides, "redis"; empty: the state's own
    overrides: tuple[Override, ...] = ()
    away: int = 0  # percent of every limit that the state keeps for processes that cannot reach the engine
