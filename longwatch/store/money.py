"""What tasks brought in, and what calls cost beside it: added up by the engine, as of one instant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from longwatch.db.connection import Database, Row
from longwatch.errors import ConfigError
from longwatch.policy.money import Money
from longwatch.policy.window import Span
from longwatch.store.journal import Journal

MOST = 100_000  # rows of one answer
QUARTER_MS = 900_000
BY = ("budget", "agent", "service", "model", "kind", "day")
S = TypeVar("S", bound=msgspec.Struct)
encode = msgspec.json.Encoder().encode


class Cost(msgspec.Struct, frozen=True):
    """Calls added up by what was asked for; what was not is None. Money in micro-units of the fleet's currency.

    kind: of the task. day: since 1970, by the zone's clocks. settled: of known cost; unknown: charged at the hold,
    `doubts` calls; held: by calls that are open. tokens: of ended calls.
    """

    budget: str | None
    agent: str | None
    service: str | None
    model: str | None
    kind: str | None
    day: int | None
    calls: int
    doubts: int
    settled: int
    unknown: int
    held: int
    tokens: int


class Earned(msgspec.Struct, frozen=True):
    """Earnings added up. micros: in `currency`. each: of a currency that is not the fleet's, every one of `entries`."""

    budget: str | None
    agent: str | None
    kind: str | None
    day: int | None
    currency: str
    each: int
    entries: int
    micros: int


@dataclass(frozen=True)
class Earnings:
    database: Database
    journal: Journal

    def earn(self, key: str, amount: Money, note: str, *, task: str, agent: str, budget: str | None) -> None:
        """Write down what the task brought in. The same key again: the last amount counts."""
        with self.database.transaction(part="tasks") as tx:
            note = self.journal.redactor.clean(note)
            facts: dict[str, str | int] = {"micros": amount.micros, "currency": amount.currency, "note": note}
            changed = tx.count("money.earn", key=key, task=task, agent=agent, budget=budget, **facts)
            if changed:
                self.journal.append(tx, "money.earned", task, agent=agent, task=task, budget=budget, **facts)

    def added_up(self, by: Iterable[str], spans: Sequence[Span], currency: str) -> tuple[list[Cost], list[Earned]]:
        """Costs and earnings, by names of BY. spans: the time they are of, cut where the clocks of the days change.

        Errors: ConfigError when there are too many.
        """
        wanted = set(by)
        asked: dict[str, str | int] = {f"by_{name}": int(name in wanted) for name in BY}
        zones = encode([_zone(span) for span in spans]).decode()
        asked |= {"zones": zones, "since_ms": spans[0].starts_ms, "until_ms": spans[-1].ends_ms, "limit": MOST + 1}
        with self.database.read() as tx:
            costs, earned = tx.several(("money.costs", asked), ("money.earned", asked | {"currency": currency}))
        if max(len(costs), len(earned)) > MOST:
            raise ConfigError(
                f"that is more than {MOST} rows", hint="Ask for a shorter time (--since, --until), or by less (--by)."
            )
        return _all(Cost, costs), _all(Earned, earned)


def _zone(span: Span) -> str:
    """From the beginning of the quarter of an hour in which it starts: no clock changes within one."""
    return f"{span.starts_ms - span.starts_ms % QUARTER_MS:016d}{span.ends_ms:016d}{span.offset_ms:016d}"


def _all(kind: type[S], rows: Iterable[Row]) -> list[S]:
    return [kind(**row._asdict()) for row in rows]
