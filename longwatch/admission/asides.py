"""What batches have set aside, in an open transaction: kept, drawn on and given back. Policy: policy/aside.py.

What is left is the amount less what the calls that draw on it are charged. That sum is a column, moved by exactly what
a call's charge moves by; so it is right whatever becomes of the calls, and in whatever order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from longwatch.admission import refusals, standing
from longwatch.admission.in_force import InForce
from longwatch.admission.keys import Charge
from longwatch.db.connection import Database, Row, Transaction
from longwatch.policy import aside as policy
from longwatch.policy.aside import TURNS, Missing, Want, name_of
from longwatch.store.journal import Journal

NOTHING = Charge(0, 0, 0)


Earmark = Callable[[Transaction, str], int | None]
"""Told the id of a new batch in the transaction that submits it, it sets aside what the batch needs: from when its tasks
may run, by the fleet's clock; None: at once. Errors: BudgetExceeded, LimitRefused: there is no room."""


class Aside(NamedTuple):
    """What a batch has set aside at one service. money in micro-units; used_*: of calls that drew on it, held or charged."""

    id: str
    batch: str
    service: str
    budget: str | None
    agent: str
    calendar_ms: int
    ended_ms: int | None
    money: int
    calls: int
    tokens: int
    used_money: int
    used_calls: int
    used_tokens: int

    def left(self, dimension: str) -> int:
        return max(0, int(getattr(self, dimension)) - int(getattr(self, f"used_{dimension}")))


def of_row(row: Row) -> Aside:
    return Aside(*(getattr(row, name) for name in Aside._fields))


# -- drawing on it ---------------------------------------------------------------------------------------------------------


def use(tx: Transaction, aside: str, by: Charge) -> None:
    """A call's charge has changed by so much."""
    if by != NOTHING:
        tx.count("aside.use", id=aside, money=by.money, calls=by.calls, tokens=by.tokens)


def recharge(tx: Transaction, row: Row, charge: Charge) -> None:
    """The call of the row, as it was before, is charged this from now on."""
    if row.aside is not None:
        use(tx, row.aside, Charge(charge.money - row.money, charge.calls - row.calls, charge.tokens - row.tokens))


# -- setting aside ---------------------------------------------------------------------------------------------------------


class Placed(NamedTuple):
    """Where there is room. at_ms: of the calendar; now_ms: the calendar's present instant; rules: of the limits."""

    at_ms: int
    now_ms: int
    rules: int

    def due_ms(self, tx: Transaction) -> int | None:
        """The same by the fleet's clock; None: now."""
        return None if self.at_ms <= self.now_ms else tx.now_ms + self.at_ms - tx.wall_ms


def place(tx: Transaction, force: InForce, wants: Sequence[Want], *, later: bool) -> Placed | Missing:
    """The first instant in whose windows everything has room; Missing: there is none, or not now and not `later`."""
    stored = tx.one("spend.calendar")
    assert stored is not None
    now_ms = at_ms = standing.turned(tx, stored.at_ms)
    found = _missing(tx, force.at(at_ms), wants, at_ms)
    for _ in range(TURNS):
        if found is None:
            return Placed(at_ms, now_ms, force.rules)
        if found.never or not later:
            break
        at_ms = found.standing.ends_ms
        found = _missing(tx, force.at(at_ms), wants, at_ms)
    return found or Placed(at_ms, now_ms, force.rules)


def _missing(tx: Transaction, force: InForce, wants: Sequence[Want], at_ms: int) -> Missing | None:
    needs = policy.needs_of(force.scoped(wants))
    return policy.missing([(standing.at(tx, cap, force.zone, at_ms), need) for cap, need in needs.items()])


def keep(tx: Transaction, journal: Journal, batch: str, wants: Sequence[Want], placed: Placed) -> bool:
    """Set it aside; False when other limits are in force by now."""
    for want in wants:
        kept = tx.count(
            "aside.keep",
            id=name_of(batch, want.service),
            batch=batch,
            service=want.service,
            budget=want.budget,
            agent=want.agent,
            calendar_ms=placed.at_ms,
            money=want.money,
            calls=want.calls,
            tokens=want.tokens,
            rules=placed.rules,
        )
        if not kept:
            return False
        amounts = {"money": want.money, "calls": want.calls, "tokens": want.tokens}
        facts = {"service": want.service, "budget": want.budget, "from_ms": placed.at_ms} | amounts
        journal.append(tx, "aside.kept", batch, agent=want.agent, task=None, **facts)
    return True


# -- giving it back --------------------------------------------------------------------------------------------------------


def over(tx: Transaction) -> list[str]:
    """Batches that have ended and have something set aside."""
    return [str(row.batch) for row in tx.all("aside.over")]


def end_over(tx: Transaction, journal: Journal) -> int:
    """Give back what batches that have ended did not use; how many batches."""
    batches = over(tx)
    for batch in batches:
        for row in tx.all("aside.end", batch=batch):
            _tell_ended(tx, journal, row)
    return len(batches)


def forget(tx: Transaction, journal: Journal) -> None:
    """Nobody knows what was drawn: everything ends, and what is left of it is no longer held for anybody."""
    for row in tx.all("aside.forget"):
        _tell_ended(tx, journal, row)


def _tell_ended(tx: Transaction, journal: Journal, row: Row) -> None:
    left = {name: max(0, getattr(row, name) - getattr(row, f"used_{name}")) for name in ("money", "calls", "tokens")}
    facts = {"service": row.service, "budget": row.budget} | left
    journal.append(tx, "aside.ended", row.batch, agent=row.agent, task=None, **facts)


# -- of a fleet ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asides:
    """Where the state itself decides. force: the limits in force. Safe in threads."""

    database: Database
    journal: Journal
    force: Callable[[], InForce]

    def earmark(self, wants: Sequence[Want], *, later: bool = False) -> Earmark:
        """What a batch sets aside before its calls. later: where there is no room now, in the first windows that have some.

        Errors: ConfigError for names that the limits do not know.
        """
        force = self.force()
        force.scoped(wants)
        self.give_back()  # also for whoever waits for it, should there be no room for this batch
        return lambda tx, batch: self._set_aside(tx, force, batch, wants, later=later)

    def _set_aside(
        self, tx: Transaction, force: InForce, batch: str, wants: Sequence[Want], *, later: bool
    ) -> int | None:
        end_over(tx, self.journal)
        placed = place(tx, force, wants, later=later)
        if isinstance(placed, Missing):
            raise refusals.no_room(placed, force.limits, wall_ms=tx.wall_ms)
        if not keep(tx, self.journal, batch, wants, placed):
            raise refusals.overruled()
        return placed.due_ms(tx)

    def give_back(self) -> int:
        """What batches that have ended did not use is anybody's again; how many batches."""
        with self.database.read() as tx:
            if not over(tx):
                return 0
        with self.database.transaction() as tx:
            return end_over(tx, self.journal)

    def all(self, batch: str | None = None) -> list[Aside]:
        """What is set aside; or everything that the batch had set aside, also when it has ended."""
        with self.database.read() as tx:
            rows = tx.all("aside.every") if batch is None else tx.all("aside.of_batch", batch=batch)
            return [of_row(row) for row in rows]
