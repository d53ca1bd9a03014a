"""Which model takes the place of one that a budget has no room for: `then = "cheaper"` and its list of models.

A call that its budget refuses for money is asked for again with the next model of the list, and the next, until one
fits. Only a model that holds less than the one before it is a help; one that has no price at the call's service is not
that service's. Nothing is degraded but on a refusal: a call that waits for what other calls hold goes on waiting.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from longwatch.errors import BudgetExceeded, LongwatchError, UnknownPrice


class Way(NamedTuple):
    """A model that may take the place of the one that was asked for, and what the call would hold with it, micro-units."""

    model: str
    micros: int


def ways_down(models: Sequence[str], asked: str, *, micros: int, most: Callable[[str], int]) -> tuple[Way, ...]:
    """Those behind the model that was asked for, or all where the list does not have it, each cheaper than the one before.

    micros: what the call holds as it was asked for. most: the same with another model; UnknownPrice leaves it out.
    """
    ways: list[Way] = []
    for model in models[models.index(asked) + 1 :] if asked in models else models:
        try:
            way = Way(model, most(model))
        except UnknownPrice:
            continue
        if way.micros < (ways[-1].micros if ways else micros):
            ways.append(way)
    return tuple(ways)


def helps(refusal: LongwatchError) -> bool:
    """Whether a cheaper model may get what was refused: money it may, calls and tokens are as many with any model."""
    return isinstance(refusal, BudgetExceeded) and refusal.dimension == "money"
