"""What a batch sets aside before its calls are made: of quotas and budgets, so that it never fails for what others took.

Something set aside counts as held, in the windows in which it was set aside, less what the calls that draw on it are
charged: their holds while they are open, what they cost from then on. So a call takes its hold out of what is set aside
before it takes anything else, and what it leaves over goes back there. Once the amount is used up, the batch's calls hold
like any other.

Why no cap can be passed: setting aside is decided like a hold; a call that draws on it makes it smaller by what it
holds itself; and an end of a call never makes more of it than the end gives back. All of it belongs to one account (service,
budget, agent): a call on another account draws nothing, else what it gave back would come to a purse that never held it.
"""

from typing import NamedTuple

from longwatch.policy.budget import Standing
from longwatch.policy.scope import PurseCap, Scope
from longwatch.policy.window import LAST_MS

TURNS = 64  # windows ahead in which a batch is looked for room, at most


class Want(NamedTuple):
    """What a batch needs of one service, on one account. money: micro-units of the fleet's currency."""

    service: str
    model: str | None
    budget: str | None
    agent: str
    money: int
    calls: int
    tokens: int

    def of(self, dimension: str) -> int:
        return int(getattr(self, dimension))


class Missing(NamedTuple):
    """The cap has no room for the need in the window that holds the instant at which it was looked at."""

    standing: Standing
    need: int

    @property
    def never(self) -> bool:
        """No window to come has room either."""
        return self.need > self.standing.cap.amount or self.standing.ends_ms >= LAST_MS


def name_of(batch: str, service: str) -> str:
    return f"{batch}/{service}"


def needs_of(wants: list[tuple[Want, Scope]]) -> dict[PurseCap, int]:
    """What all of it together needs of each cap."""
    needs: dict[PurseCap, int] = {}
    for want, scope in wants:
        for cap in scope.caps:
            if want.of(cap.dimension):
                needs[cap] = needs.get(cap, 0) + want.of(cap.dimension)
    return needs


def missing(standings: list[tuple[Standing, int]]) -> Missing | None:
    """Of several caps without room, the one that stays so the longest."""
    found = [Missing(*each) for each in standings if not _fits(*each)]
    return max(found, key=lambda each: (each.never, each.standing.ends_ms), default=None)


def _fits(standing: Standing, need: int) -> bool:
    return standing.spent + standing.held + standing.aside + need <= standing.cap.amount
