"""What a purse may hold: caps on money, calls and tokens per calendar window.

Promise: spent + held <= cap at every instant. A hold is the worst case of a call and is made before the call leaves; the
actual replaces it. An actual above its hold is recorded whole, never clipped, and can break the cap: that is told.

Money is in micro-units of the fleet's currency, calls and tokens are counts.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from longwatch.policy.limits import Cap

MILLION = 1_000_000
BROKEN = 1 << 40  # as a mark of what was told: the cap itself was passed

Verdict = Literal["fits", "waits", "exceeded"]


class Standing(NamedTuple):
    """One cap of one purse, as it stands. spent: ended calls; held: open ones, `places` of them. ends_ms: of the window.
    aside: what is left of what batches have set aside."""

    purse: str
    dimension: str
    cap: Cap
    starts_ms: int
    ends_ms: int
    spent: int
    held: int
    places: int
    aside: int = 0


def decide(standing: Standing, need: int) -> Verdict:
    """fits: hold it. waits: it fits once other calls give back what they hold. exceeded: not in this window.

    A need of 0 always fits: a free call is no matter of a budget. What is set aside is taken for spent: nobody can tell
    when its batch will end.
    """
    taken = standing.spent + standing.aside
    if need == 0 or taken + standing.held + need <= standing.cap.amount:
        return "fits"
    return "waits" if taken + need <= standing.cap.amount else "exceeded"


def mark(fraction: float) -> int:
    """A threshold as an integer: millionths of the cap."""
    return round(fraction * MILLION)


def first_told(warn: Sequence[float], cap: int) -> int:
    """The least amount spent at which there is anything to tell of."""
    return min((-(-mark(fraction) * cap // MILLION) for fraction in warn), default=cap + 1)


def marks_of(warn: Sequence[float], cap: int) -> list[tuple[int, int]]:
    """Every mark, and the least amount spent that reaches it; BROKEN is reached above the cap."""
    return [(mark(fraction), -(-mark(fraction) * cap // MILLION)) for fraction in warn] + [(BROKEN, cap + 1)]


def newly_reached(warn: Sequence[float], *, cap: int, spent: int, told: int) -> list[int]:
    """Marks of the thresholds that `spent` has reached and that were not told of in this window yet, ascending.

    told: the highest mark told of so far. The last mark is BROKEN when the cap itself was passed.
    """
    reached = [mark(fraction) for fraction in warn if spent * MILLION >= mark(fraction) * cap]
    if spent > cap:
        reached.append(BROKEN)
    return sorted(found for found in reached if found > told)
