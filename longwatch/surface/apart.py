"""What batches have set aside, as JSON and in words."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from longwatch.admission.asides import Aside
from longwatch.policy.limits import Limits
from longwatch.policy.money import Money
from longwatch.policy.window import describe
from longwatch.surface.output import table
from longwatch.surface.wire import Json, at

HEADINGS = ("set aside at", "", "amount", "used", "left", "from")
DIMENSIONS = ("money", "calls", "tokens")


def aside_json(asides: Sequence[Aside], currency: str) -> list[Json]:
    """used: what the batch's calls are charged, or hold; left: given back once the batch has ended."""
    return [
        {
            "service": aside.service,
            "budget": aside.budget,
            "agent": aside.agent,
            "from_at": at(aside.calendar_ms),
            "given_back": aside.ended_ms is not None,
            "money_micros": aside.money,
            "used_micros": aside.used_money,
            "left_micros": aside.left("money"),
            "currency": currency,
            "calls": aside.calls,
            "used_calls": aside.used_calls,
            "left_calls": aside.left("calls"),
            "tokens": aside.tokens,
            "used_tokens": aside.used_tokens,
            "left_tokens": aside.left("tokens"),
        }
        for aside in asides
    ]


def aside_words(asides: Sequence[Aside], limits: Limits) -> list[RenderableType]:
    """Nothing where nothing is set aside."""
    rows = [_row(aside, dimension, limits) for aside in asides for dimension in DIMENSIONS if getattr(aside, dimension)]
    return [Text(""), table(HEADINGS, rows, empty="")] if rows else []


def _row(aside: Aside, dimension: str, limits: Limits) -> tuple[str, ...]:
    whole, used, left = (
        _amount(amount, dimension, limits)
        for amount in (getattr(aside, dimension), getattr(aside, f"used_{dimension}"), aside.left(dimension))
    )
    ended = " given back" if aside.ended_ms is not None else ""
    return (
        aside.service,
        aside.budget or "",
        whole,
        used,
        f"{left}{ended}",
        describe(aside.calendar_ms, limits.timezone),
    )


def _amount(value: int, dimension: str, limits: Limits) -> str:
    return str(Money(value, limits.currency)) if dimension == "money" else f"{value} {dimension}"
