"""All that a sandbox knows at a time: its providers, what is in flight, counts, bill, effects and faults.

A reset makes a new one; requests still in flight end in the old one and leave no trace in the new.
"""

from collections import Counter
from typing import Any

from longwatch.sandbox.anthropic import Anthropic
from longwatch.sandbox.effects import Effects
from longwatch.sandbox.exchange import Instant, Provider
from longwatch.sandbox.faults import Faults
from longwatch.sandbox.github import GitHub
from longwatch.sandbox.openai import OpenAI
from longwatch.sandbox.settings import Section, Settings, merged
from longwatch.sandbox.stripe import Stripe
from longwatch.sandbox.tally import Tally

NS_PER_MS = 1_000_000
SPREAD = 2_654_435_761  # Knuth's multiplier: consecutive numbers far apart


class State:
    """One sandbox between two resets."""

    def __init__(self, settings: Settings, now: Instant) -> None:
        self.settings = settings
        fee_currency = settings.stripe.fee_currency
        self.tally = Tally({"anthropic": "USD", "openai": "USD", "stripe": fee_currency, "github": "USD"})
        self.effects = Effects()
        self.faults = Faults()
        self.in_flight: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()
        accounts = self.tally.accounts
        self._anthropic = Anthropic(settings.anthropic, accounts["anthropic"], self.effects, now)
        self._openai = OpenAI(settings.openai, accounts["openai"], self.effects, now)
        self._stripe = Stripe(settings.stripe, accounts["stripe"], self.effects, now)
        self._github = GitHub(settings.github, self.effects, now)
        self.providers: dict[str, Provider] = {
            "anthropic": self._anthropic,
            "openai": self._openai,
            "stripe": self._stripe,
            "github": self._github,
        }
        self._sections: dict[str, Section] = _sections(settings)

    def change(self, changes: dict[str, dict[str, Any]], now: Instant) -> None:
        """Replace single settings. A rate that changes starts full, the others go on as they stand."""
        self.settings = merged(self.settings, changes)
        self._sections = _sections(self.settings)
        self._anthropic.change(self.settings.anthropic, now)
        self._openai.change(self.settings.openai, now)
        self._stripe.change(self.settings.stripe, now)
        self._github.change(self.settings.github, now)
        self.tally.accounts["stripe"].currency = self.settings.stripe.fee_currency

    def bill(self, now: Instant) -> dict[str, Any]:
        """With what has gone on by itself until now."""
        self._anthropic.go_on(now)
        return self.tally.bill()

    def latency_s(self, service: str) -> float:
        """What the next request takes: the base, and a share of the jitter that depends on its number only."""
        section = self._sections[service]
        self._begun[service] += 1
        share = (self._begun[service] * SPREAD % 2**32) / 2**32
        return (section.latency_ms + share * section.jitter_ms) / 1_000


def _sections(settings: Settings) -> dict[str, Section]:
    return {
        "anthropic": settings.anthropic,
        "openai": settings.openai,
        "stripe": settings.stripe,
        "github": settings.github,
    }
