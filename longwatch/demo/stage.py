"""What the demo plays with: rates that are really enforced, budgets that really bind, faults, and when they strike."""

import random
from dataclasses import dataclass, replace

from longwatch.demo.director import Fault, Outage
from longwatch.demo.figures import (
    CONTENT_BURST,
    CONTENT_PER_MIN,
    FEE_MICROS,
    INPUT_TOKENS_BURST,
    INPUT_TOKENS_PER_MIN,
    LEASE_S,
    OUTPUT_TOKENS_BURST,
    OUTPUT_TOKENS_PER_MIN,
    POINTS_PER_MIN,
    REQUESTS_BURST,
    REQUESTS_PER_MIN,
    SEARCHES_PER_MIN,
    STRIPE_PER_S,
)
from longwatch.policy.money import MICRO
from longwatch.sandbox import Anthropic, GitHub, Rate, Settings, Stripe


@dataclass(frozen=True)
class Purses:
    """Caps in micro-dollars. Only that of second opinions is meant to bind; the others leave room for what is repeated."""

    bookings: int
    summaries: int
    reviews: int

    @property
    def total(self) -> int:
        return self.bookings + self.summaries + self.reviews


def purses(tasks: int, claude_micros: int | None = None) -> Purses:
    """claude_micros: all that Claude may cost, when a person said so: four fifths for summaries, the rest for reviews."""
    bookings = tasks * FEE_MICROS + max(10, tasks // 10) * FEE_MICROS
    if claude_micros is None:
        return Purses(bookings, summaries=tasks * 2_000, reviews=max(30_000, tasks * 2_500))
    return Purses(bookings, claude_micros * 4 // 5, claude_micros // 5)


def sandbox_settings() -> Settings:
    return Settings(
        anthropic=Anthropic(
            requests=Rate(REQUESTS_PER_MIN, burst=REQUESTS_BURST),
            input_tokens=Rate(INPUT_TOKENS_PER_MIN, burst=INPUT_TOKENS_BURST),
            output_tokens=Rate(OUTPUT_TOKENS_PER_MIN, burst=OUTPUT_TOKENS_BURST),
            latency_ms=350,
            jitter_ms=250,
        ),
        stripe=Stripe(
            requests=Rate(STRIPE_PER_S, per_ms=1_000),
            endpoint=Rate(STRIPE_PER_S, per_ms=1_000),
            latency_ms=120,
            jitter_ms=80,
        ),
        github=GitHub(
            search=Rate(SEARCHES_PER_MIN),
            content=Rate(CONTENT_PER_MIN, burst=CONTENT_BURST),
            points=Rate(POINTS_PER_MIN),
            latency_ms=100,
            jitter_ms=50,
        ),
    )


MARGIN = 60  # percent of a provider's burst that is used: on a busy machine requests arrive later than they left

LIVE_RATE = '{ requests = "50/min", input_tokens = "50000/min", output_tokens = "10000/min" }'
LIVE_BURST = "{ requests = 3, input_tokens = 10000, output_tokens = 2000 }"
SANDBOX_RATE = (
    f'{{ requests = "{REQUESTS_PER_MIN}/min", input_tokens = "{INPUT_TOKENS_PER_MIN}/min", '
    f'output_tokens = "{OUTPUT_TOKENS_PER_MIN}/min" }}'
)
SANDBOX_BURST = (
    f"{{ requests = {REQUESTS_BURST * MARGIN // 100}, input_tokens = {INPUT_TOKENS_BURST * MARGIN // 100}, "
    f"output_tokens = {OUTPUT_TOKENS_BURST * MARGIN // 100} }}"
)


def longwatch_toml(agents: dict[str, str], caps: Purses, *, live: bool, engines: str) -> str:
    """The fleet's configuration. agents: charter file by name. engines: where state and admission are, as lines."""
    return f"""\
# Written by `longwatch demo`. These limits are shared by every process of every agent.
[fleet]
name = "library"
currency = "USD"
exchange = {{ GBP = "1.25 USD" }}
money = "{dollars(caps.total)} USD total"
lease = "{LEASE_S}s"
{engines}
[service.anthropic]
key = {{ env = "ANTHROPIC_API_KEY" }}
rate = {LIVE_RATE if live else SANDBOX_RATE}
burst = {LIVE_BURST if live else SANDBOX_BURST}

[service.stripe]
key = {{ env = "STRIPE_API_KEY" }}
rate = "{STRIPE_PER_S}/s"
burst = {STRIPE_PER_S * MARGIN // 100}

[service.github]
key = {{ env = "GITHUB_TOKEN" }}
rate = "{SEARCHES_PER_MIN}/min"
burst = {SEARCHES_PER_MIN * MARGIN // 6000}

[service.github-content]
rate = "{CONTENT_PER_MIN}/min"
burst = {CONTENT_BURST * MARGIN // 100}

[budget.bookings]
money = "{dollars(caps.bookings)} USD total"

[budget.summaries]
money = "{dollars(caps.summaries)} USD total"

[budget.reviews]
money = "{dollars(caps.reviews)} USD total"
""" + "".join(f'\n[agent.{name}]\ncharter = "{charter}"\n' for name, charter in agents.items())


def dollars(micros: int) -> str:
    return f"{micros // MICRO}.{micros % MICRO:06d}"


# -- faults --------------------------------------------------------------------------------------------------------------

FROZEN_S = 8.0
FIRST_S, SECOND_S = 1.5, 20.0
SECOND_FROM = 120  # tasks; a smaller batch is over before


def plan(seed: int, tasks: int) -> tuple[list[Fault], list[Outage]]:
    """The same faults at the same seconds for either program; a big batch has more of them later."""
    dice = random.Random(seed)
    faults = [
        Fault(FIRST_S, "kill", "editing"),
        Fault(FIRST_S + 1, "kill", "stripe-answered"),
        Fault(FIRST_S + 2, "kill", "claude-answered"),
        Fault(FIRST_S + 3, "freeze", "editing", FROZEN_S),
    ]
    outages = [Outage(FIRST_S + 4, "anthropic", 529, 4.0), Outage(FIRST_S + 6, "stripe", 503, 2.0)]
    if tasks >= SECOND_FROM:
        faults += [Fault(SECOND_S, "kill", "editing"), Fault(SECOND_S + 3, "kill", "stripe-answered")]
        outages += [Outage(SECOND_S + 5, "stripe", 503, 3.0)]
    return [replace(fault, at_s=fault.at_s + dice.uniform(0, 0.5)) for fault in faults], outages
