"""A statement of account: cost, earnings and profit by whatever is asked for, exact to the micro-unit.

Every figure is a sum of whole micro-units, and every total the sum of its rows. What calls of known cost came to (settled),
what is charged at the hold because nobody knows the outcome (unknown) and what open calls hold (held) stay apart; a purse has
spent the first two. Each earning in another currency is converted by itself, rounded down; where there is no rate for
it, it stands apart, in its own currency, and is no part of any profit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from longwatch.policy.limits import Limits
from longwatch.policy.money import Money, decimal, income
from longwatch.policy.window import Span
from longwatch.store.money import BY, Cost, Earned, Earnings
from longwatch.surface.wire import Json

EPOCH_DAY = date(1970, 1, 1).toordinal()
Place = tuple[str | int | None, ...]


class Figures(NamedTuple):
    """calls: of which `doubts` are unknown. earned: of the fleet's currency, or converted. Money in micro-units."""

    calls: int = 0
    doubts: int = 0
    settled: int = 0
    unknown: int = 0
    held: int = 0
    earned: int = 0
    tokens: int = 0

    @property
    def spent(self) -> int:
        """What purses have spent on it."""
        return self.settled + self.unknown

    @property
    def profit(self) -> int:
        return self.earned - self.spent


@dataclass(frozen=True)
class Row:
    """names: by what was asked for, in that order; None: of none (a call outside of a task has no kind)."""

    names: tuple[str | None, ...]
    figures: Figures


@dataclass(frozen=True)
class Apart:
    """What was earned in a currency that has no rate."""

    names: tuple[str | None, ...]
    amount: Money


@dataclass(frozen=True)
class Statement:
    by: tuple[str, ...]
    currency: str
    rows: list[Row]
    apart: list[Apart]

    @property
    def total(self) -> Figures:
        return added(row.figures for row in self.rows)


def added(figures: Iterable[Figures]) -> Figures:
    return Figures(*(sum(column) for column in zip(Figures(), *figures, strict=True)))


def drawn(earnings: Earnings, by: Sequence[str], spans: Sequence[Span], limits: Limits) -> Statement:
    """By names of BY, of these stretches of time; the dearest first, days in their order. Errors: ConfigError."""
    costs, earned = earnings.added_up(by, spans, limits.currency)
    found = {_place(cost, by): _figures(cost) for cost in costs}
    apart: dict[tuple[Place, str], int] = {}
    for each in earned:
        place, micros = _place(each, by), _converted(each, limits.currency, limits.exchange)
        if micros is None:
            name = place, each.currency
            apart[name] = apart.get(name, 0) + each.micros
        else:
            before = found.get(place, Figures())
            found[place] = before._replace(earned=before.earned + micros)
    rows = [
        Row(_names(place, by), figures) for place, figures in sorted(found.items(), key=lambda row: _order(row, by))
    ]
    return Statement(
        tuple(by),
        limits.currency,
        rows,
        [Apart(_names(place, by), Money(micros, currency)) for (place, currency), micros in apart.items()],
    )


def _place(row: Cost | Earned, by: Sequence[str]) -> Place:
    return tuple(getattr(row, name, None) for name in by)


def _figures(cost: Cost) -> Figures:
    return Figures(cost.calls, cost.doubts, cost.settled, cost.unknown, cost.held, earned=0, tokens=cost.tokens)


def _converted(earned: Earned, currency: str, exchange: Mapping[str, int]) -> int | None:
    if earned.currency == currency:
        return earned.micros
    one = income(Money(earned.each, earned.currency), currency, exchange)
    return None if one is None else one.micros * earned.entries


def _order(row: tuple[Place, Figures], by: Sequence[str]) -> tuple[int, int, tuple[str, ...]]:
    place, figures = row
    day = place[by.index("day")] if "day" in by else 0
    return int(day or 0), -figures.spent, tuple(str(name) for name in place)


def _names(place: Place, by: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(
        date.fromordinal(EPOCH_DAY + value).isoformat() if isinstance(value, int) else value
        for _, value in zip(by, place, strict=True)
    )


# -- as JSON, and as a sheet ----------------------------------------------------------------------------------------------


def row_json(statement: Statement, row: Row) -> Json:
    return {**dict(zip(statement.by, row.names, strict=True)), **figures_json(row.figures, statement.currency)}


def figures_json(figures: Figures, currency: str) -> Json:
    """spent_micros: settled and unknown together, as purses have spent it."""
    return {
        "calls": figures.calls,
        "spent_micros": figures.spent,
        "held_micros": figures.held,
        "tokens": figures.tokens,
        "currency": currency,
        "unknown_calls": figures.doubts,
        "settled_micros": figures.settled,
        "unknown_micros": figures.unknown,
        "earned_micros": figures.earned,
        "profit_micros": figures.profit,
    }


def apart_json(statement: Statement, apart: Apart) -> Json:
    names = dict(zip(statement.by, apart.names, strict=True))
    return {**names, "earned_micros": apart.amount.micros, "currency": apart.amount.currency}


AMOUNTS = ("settled", "unknown", "held", "earned", "profit")


def sheet(statement: Statement) -> list[list[str | int | None]]:
    """A heading and rows for a spreadsheet, amounts as exact decimals. What has no rate is a row of its own currency."""
    rows: list[list[str | int | None]] = [[*statement.by, "calls", "tokens", *AMOUNTS, "currency"]]
    for row in statement.rows:
        amounts = [decimal(getattr(row.figures, name)) for name in AMOUNTS]
        rows.append([*row.names, row.figures.calls, row.figures.tokens, *amounts, statement.currency])
    for apart in statement.apart:
        earned = decimal(apart.amount.micros)
        rows.append([*apart.names, 0, 0, *("0.000000",) * 3, earned, earned, apart.amount.currency])
    return rows


__all__ = ["BY", "Figures", "Row", "Statement", "apart_json", "drawn", "figures_json", "row_json", "sheet"]
