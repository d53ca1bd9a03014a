"""What the demo plays with: rates that are really enforced, budgets that really bind, faults, and when they strike.

The sandbox enforces the limits of the real services in their documented shape. Stripe's and Anthropic's requests are the
documented figures; tokens and GitHub's content are scaled so that pacing is needed within a minute.
"""

import random
from dataclasses import dataclass, replace

from longwatch.demo.director import Fault, Outage
from longwatch.policy.money import MICRO
from longwatch.sandbox import Anthropic, GitHub, Rate, Settings, Stripe
from longwatch.sandbox.prices import ANTHROPIC

LEASE_S = 5
LONGEST_EDIT_S = 5.0  # for the home-made lock; the five minutes of the evening's program, scaled as the lease is
FROZEN_S = 8.0

REQUESTS, INPUT_TOKENS, OUTPUT_TOKENS = Rate(1_500, burst=25), Rate(1_200_000, burst=100_000), Rate(400_000, burst=40_000)
STRIPE = Rate(25, per_ms=1_000)
SEARCH, CONTENT, POINTS = Rate(10, per_ms=1_000), Rate(240, burst=12), Rate(5_400)
SEARCHES_PER_MIN = 600

LIMITS_PER_S = {
    "anthropic": REQUESTS.amount / 60,
    "stripe": float(STRIPE.amount),
    "github": SEARCHES_PER_MIN / 60,
    "github-content": CONTENT.amount / 60,
}

REVIEW_PRICE = (ANTHROPIC["claude-sonnet-5-5"].input, ANTHROPIC["claude-sonnet-5-5"].output)  # nano-dollars a token
FEE_MICROS = 250_000  # of a payment, 0.20 GBP at 1.25 dollars


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
            requests=REQUESTS,
            input_tokens=INPUT_TOKENS,
            output_tokens=OUTPUT_TOKENS,
            latency_ms=350,
            jitter_ms=250,
        ),
        stripe=Stripe(requests=STRIPE, endpoint=STRIPE, latency_ms=120, jitter_ms=80),
        github=GitHub(
            search=Rate(SEARCHES_PER_MIN), content=CONTENT, points=POINTS, latency_ms=100, jitter_ms=50
        ),
    )


LIVE_RATE = '{ requests = "50/min", input_tokens = "50000/min", output_tokens = "10000/min" }'
LIVE_BURST = "{ requests = 3, input_tokens = 10000, output_tokens = 2000 }"
SANDBOX_RATE = (
    f'{{ requests = "{REQUESTS.amount}/min", input_tokens = "{INPUT_TOKENS.amount}/min", '
    f'output_tokens = "{OUTPUT_TOKENS.amount}/min" }}'
)
SANDBOX_BURST = (
    f"{{ requests = {REQUESTS.burst}, input_tokens = {INPUT_TOKENS.burst}, output_tokens = {OUTPUT_TOKENS.burst} }}"
)


def longwatch_toml(agents: dict[str, str], caps: Purses, *, live: bool) -> str:
    """The fleet's configuration. agents: charter file by name."""
    return f"""\
# Written by `longwatch demo`. These limits are shared by every process of every agent.
[fleet]
name = "library"
currency = "USD"
exchange = {{ GBP = "1.25 USD" }}
money = "{dollars(caps.total)} USD total"
lease = "{LEASE_S}s"

[service.anthropic]
key = {{ env = "ANTHROPIC_API_KEY" }}
rate = {LIVE_RATE if live else SANDBOX_RATE}
burst = {LIVE_BURST if live else SANDBOX_BURST}

[service.stripe]
key = {{ env = "STRIPE_API_KEY" }}
rate = "{STRIPE.amount}/s"

[service.github]
key = {{ env = "GITHUB_TOKEN" }}
rate = "{SEARCHES_PER_MIN}/min"

[service.github-content]
rate = "{CONTENT.amount}/min"
burst = {CONTENT.burst}

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

FIRST_S, SECOND_S = 1.5, 20.0
SECOND_FROM = 120  # tasks; a smaller batch is over before


def plan(seed: int, tasks: int) -> tuple[list[Fault], list[Outage]]:
    """The same faults at the same seconds for either program; a big batch sees a second round of them."""
    faults, outages = _round(random.Random(seed), FIRST_S)
    if tasks >= SECOND_FROM:
        more, again = _round(random.Random(seed + 1), SECOND_S)
        faults, outages = faults + more, outages + again
    return faults, outages


def _round(dice: random.Random, from_s: float) -> tuple[list[Fault], list[Outage]]:
    faults = [
        Fault(0.0, "kill", "editing"),
        Fault(1.0, "kill", "stripe-answered"),
        Fault(2.0, "kill", "claude-answered"),
        Fault(3.0, "freeze", "editing", FROZEN_S),
    ]
    moved = [replace(fault, at_s=from_s + fault.at_s + dice.uniform(0, 0.5)) for fault in faults]
    return moved, [Outage(from_s + 4.0, "anthropic", 529, 4.0), Outage(from_s + 6.0, "stripe", 503, 2.0)]
