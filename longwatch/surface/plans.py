"""What `lw.plan` hands out: whether a batch fits, when it would run, what binds and what to change. A table in a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from longwatch.policy.money import Money
from longwatch.policy.paces import Origin

HEADINGS = ("limit", "needs", "left now", "at most", "origin", "fits", "ends")


@dataclass(frozen=True)
class PlannedLimit:
    """One limit that the batch meets. name: as the config names it. Money in micro-units of the plan's currency.

    needs: of the whole batch. left: what could be used now. most: the rate or cap, as it is written. fits: no call is
    refused because of it. wanted: the cap with which it would fit, None where it does. ends_at: of a rate, when it alone
    would let the last call leave; of a cap, when its present window ends, None: never. origin: configured, or learned from the
    service's answers.
    """

    name: str
    dimension: str
    needs: int
    left: int
    most: str
    fits: bool
    wanted: int | None
    ends_at: datetime | None
    origin: Origin = "configured"


@dataclass(frozen=True)
class HeldBack:
    """A service, or one model of it, that pushes back: name. state: cooling, open, parked or paused, as `limit list` says.

    until_at: when calls may leave again, or when it is asked next; None: when a person resumes it. reason: what it said.
    """

    name: str
    state: str
    until_at: datetime | None
    reason: str

    def __str__(self) -> str:
        until = "" if self.until_at is None else f" until {shown(self.until_at)}"
        if self.state in ("open", "parked"):
            until = "" if self.until_at is None else f", asked again at {shown(self.until_at)}"
        return f"{self.name} is {self.state}{until}{f': {self.reason}' if self.reason else ''}"


@dataclass(frozen=True)
class Plan:
    """A batch against what is left now. feasible: submitted now, no call of it is refused by a limit.

    cost: the most that it can cost. starts_at, ends_at: of its first and last call; if it is not feasible, spread over
    windows as the caps allow; None: it never can. binds: the limit that decides, None when nothing does; origin: whether that
    was configured or learned. change: what to do when it is not feasible, else empty. undeclared: kinds of task that declare
    no needs, and so count for nothing here. held_back: services that push back; the batch starts no sooner than they let it.
    """

    feasible: bool
    tasks: int
    cost: Money
    starts_at: datetime | None
    ends_at: datetime | None
    binds: str | None
    change: str
    limits: tuple[PlannedLimit, ...]
    undeclared: tuple[str, ...] = ()
    origin: Origin | None = None
    held_back: tuple[HeldBack, ...] = ()

    def rows(self) -> list[tuple[str, ...]]:
        """The limits as a table for people, under HEADINGS."""
        return [
            (
                limit.name,
                self._amount(limit, limit.needs),
                self._amount(limit, limit.left),
                limit.most,
                limit.origin,
                "yes" if limit.fits else "no",
                "" if limit.ends_at is None else shown(limit.ends_at),
            )
            for limit in self.limits
        ]

    def facts(self) -> list[tuple[str, str]]:
        """What is said above the table, as name and words."""
        found = [
            ("feasible", "yes" if self.feasible else "no"),
            ("tasks", str(self.tasks)),
            ("cost", f"at most {self.cost}"),
            ("starts", "never" if self.starts_at is None else shown(self.starts_at)),
            ("ends", "never" if self.ends_at is None else shown(self.ends_at)),
            ("binds", self.binds or ""),
            ("change", self.change),
            ("held back", "; ".join(map(str, self.held_back))),
            ("not counted", ", ".join(f"{kind} (declares no needs)" for kind in self.undeclared)),
        ]
        return [(name, words) for name, words in found if words]

    def _amount(self, limit: PlannedLimit, amount: int) -> str:
        return str(Money(amount, self.cost.currency)) if limit.dimension == "money" else str(amount)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return _table((), self.facts()) + (_table(HEADINGS, self.rows()) if self.limits else "")


def shown(instant: datetime) -> str:
    """To the second, with its time zone."""
    return f"{instant:%Y-%m-%d %H:%M:%S} {instant.tzname()}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
