"""What a sandbox enforces and charges: one frozen tree, read from JSON, every field with a default.

Rates are `{"amount": 50, "per_ms": 60000, "burst": 5}`; a rate or concurrency of null is unlimited. Latencies are what a
successful request takes, plus up to `jitter_ms` that depend on the request's number only.
"""

import re
from typing import Annotated, Any

import msgspec

from longwatch.sandbox.prices import Price
from longwatch.sandbox.quota import Rate

Count = Annotated[int, msgspec.Meta(ge=0)]
Limit = Annotated[int, msgspec.Meta(ge=1)]

UNKNOWN = re.compile(r"unknown field `(\w+)`")
HOUR_MS = 3_600_000
MINUTE_MS = 60_000


class SettingsError(ValueError):
    """A setting is unknown or has a wrong value. `key` is its dotted name; correct it there."""

    code = "sandbox_settings"

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"sandbox setting {key}: {problem}")
        self.key = key


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every service has."""

    latency_ms: Count = 0
    jitter_ms: Count = 0


class Anthropic(Section, frozen=True):
    """The limits of the highest self-service tier, prompt caching and the price table."""

    requests: Rate | None = Rate(4_000)
    input_tokens: Rate | None = Rate(2_000_000)  # cache reads do not count
    output_tokens: Rate | None = Rate(400_000)
    counts: Rate | None = Rate(8_000)  # of count_tokens alone, apart from the others
    concurrency: Limit | None = None
    spend_cap_micros: Count | None = None  # from this bill on: 429 without retry-after. 0: at once
    cache_tokens_min: Count = 1_024  # a shorter prefix is not cached
    chunk_ms: Count = 0  # between two events of a stream
    batch_ms: Count = 0  # what a batch takes; changed, it counts for those that go on too
    batch_expiry_ms: Limit = 24 * HOUR_MS
    batch_errors: bool = False  # its requests end in error
    prices: dict[str, Price] = {}  # before the built-in table
    tools: dict[str, dict[str, Any]] = {}  # what a tool is used with, by its name, where the prompt does not say it


class OpenAI(Section, frozen=True):
    """A request counts its prompt and its completion against one token rate."""

    requests: Rate | None = Rate(10_000)
    tokens: Rate | None = Rate(2_000_000)
    concurrency: Limit | None = None
    chunk_ms: Count = 0
    prices: dict[str, Price] = {}


class Stripe(Section, frozen=True):
    """The limits of test mode."""

    requests: Rate | None = Rate(25, per_ms=1_000)
    endpoint: Rate | None = Rate(25, per_ms=1_000)  # of each resource
    concurrency: Limit | None = 100
    endpoint_concurrency: Limit | None = None
    key_ms: Limit = 24 * HOUR_MS  # how long an idempotency key is remembered
    fee_micros: Count = 200_000  # of each successful charge or payment intent
    fee_currency: str = "GBP"


class GitHub(Section, frozen=True):
    """The primary limit is a fixed window, the secondary limits are buckets."""

    primary: Rate | None = Rate(5_000, per_ms=HOUR_MS)
    search: Rate | None = Rate(30, per_ms=MINUTE_MS)
    points: Rate | None = Rate(900, per_ms=MINUTE_MS)
    read_points: Limit = 1
    write_points: Limit = 5
    content: Rate | None = Rate(80, per_ms=MINUTE_MS)  # requests that create content
    concurrency: Limit | None = 100
    search_lag_ms: Count = 0  # how long a new issue is not found by search


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole sandbox."""

    anthropic: Anthropic = Anthropic()
    openai: OpenAI = OpenAI()
    stripe: Stripe = Stripe()
    github: GitHub = GitHub()


def parse(text: str | bytes) -> Settings:
    """Settings from JSON; raises SettingsError naming the key."""
    try:
        return msgspec.json.decode(text, type=Settings)
    except msgspec.ValidationError as error:
        raise _named(error) from error
    except msgspec.DecodeError as error:
        raise SettingsError("$", f"not JSON: {error}") from error


def merged(settings: Settings, changes: dict[str, dict[str, Any]]) -> Settings:
    """Settings with single fields replaced: {"stripe": {"requests": {"amount": 50, "per_ms": 1000}}}."""
    tree: dict[str, Any] = msgspec.to_builtins(settings)
    for section, fields in changes.items():
        tree[section] = {**tree.get(section, {}), **fields}
    return parse(msgspec.json.encode(tree))


def _named(error: msgspec.ValidationError) -> SettingsError:
    problem, _, path = str(error).partition(" - at `$")
    unknown = UNKNOWN.search(problem)
    keys = [path.strip("`."), unknown[1] if unknown else ""]
    problem = "there is no such setting" if unknown else problem[:1].lower() + problem[1:]
    return SettingsError(".".join(key for key in keys if key) or "$", problem)
