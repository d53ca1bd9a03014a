"""The limits that decide, as of one instant of the budgets' calendar, and what is made from them once.

Replaced as a whole when other limits are adopted or an override ends, so that whoever has one decides by nothing else: a
decision names the `rules` it was made by, and the state refuses it when they are not its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from zoneinfo import ZoneInfo

from longwatch.admission import standing
from longwatch.admission.calls import CallRequest
from longwatch.admission.standing import Prepared
from longwatch.db.connection import Row
from longwatch.errors import ConfigError
from longwatch.policy import away, override
from longwatch.policy.aside import Want
from longwatch.policy.learning import Key, Rates
from longwatch.policy.limits import Limits, Rate, Service
from longwatch.policy.scope import Scope, purses_of, scope_of
from longwatch.policy.window import zone_of

KNOWN = 1024  # scopes kept; there are as many as combinations of service, model, budget and agent in use

Part = Literal["whole", "rest", "share"]
"""Which part of every limit is decided by: all of it, what an engine beside the state does, or what is kept for when it is
away."""

Asked = tuple[str, str | None, str | None, str, str | None, bool]
"""Service, model, budget and agent, the gate that is passed, and whether it may ask before others."""


class Outdated:
    """As a decision: the state has other rules by now."""


@dataclass(frozen=True)
class InForce:
    """limits: with the caps that count. kept: as the state keeps them. turns_ms: from here on other caps count.

    learned: rates beside the configured ones.
    """

    kept: Limits
    limits: Limits
    rules: int
    turns_ms: int
    zone: ZoneInfo
    learned: Rates = field(default_factory=dict[Key, Rate])
    scopes: dict[Asked, Prepared] = field(default_factory=dict[Asked, Prepared])
    part: Part = "whole"

    @classmethod
    def of(cls, kept: Limits, rules: int, *, at_ms: int, learned: Rates, part: Part = "whole") -> "InForce":
        """at_ms: of the calendar; 0: as far as anybody knows no override has ended."""
        limits, turns_ms = override.at(kept, at_ms), override.turns_ms(kept, at_ms)
        return cls(kept, limits, rules, turns_ms, zone_of(kept.timezone), learned, part=part)

    def at(self, calendar_ms: int) -> "InForce":
        if calendar_ms < self.turns_ms:
            return self
        return InForce.of(self.kept, self.rules, at_ms=calendar_ms, learned=self.learned, part=self.part)

    def with_learned(self, learned: Rates) -> "InForce":
        return replace(self, learned=learned, scopes={})

    def scope(
        self,
        service: str,
        model: str | None,
        budget: str | None,
        agent: str,
        past: str | None = None,
        *,
        turn: bool = False,
    ) -> Prepared:
        """Every limit and purse of such a call. Errors: ConfigError for names that the limits do not know."""
        key = (service, model, budget, agent, past, turn)
        found = self.scopes.get(key)
        if found is None:
            scope = scope_of(
                self.limits,
                service=service,
                model=model,
                budget=budget,
                agent=agent,
                past=past,
                turn=turn,
                learned=self.learned,
            )
            if len(self.scopes) >= KNOWN:
                self.scopes.clear()
            found = self.scopes[key] = self._prepared(scope)
        return found

    def asked(self, request: CallRequest) -> Prepared:
        """Errors: ConfigError."""
        who = request.service, request.model, request.budget, request.agent
        return self.scope(*who, request.past, turn=request.turn)

    def _prepared(self, scope: Scope) -> Prepared:
        percent = self.kept.away
        if self.part == "share":
            return standing.prepare(away.share_of(scope, percent), self.zone, away.lacking(scope, percent))
        return standing.prepare(scope if self.part == "whole" else away.rest_of(scope, percent), self.zone)

    def scoped(self, wants: Sequence[Want]) -> list[tuple[Want, Scope]]:
        """What batches want, each with the limits and purses of its calls."""
        return [(want, self.scope(want.service, want.model, want.budget, want.agent).scope) for want in wants]

    def scope_of_row(self, row: Row) -> Prepared:
        """The limits may have changed since the call was admitted; where they do not know its names, nothing limits it."""
        try:
            return self.scope(row.service, row.model, row.budget, row.agent, turn=True)
        except ConfigError:
            purses = purses_of(service=row.service, budget=row.budget, agent=row.agent)
            return standing.prepare(Scope(Service(row.service), (), (), purses), self.zone)
