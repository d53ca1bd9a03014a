"""Admission by the share of every limit that is kept in the state, for processes that cannot reach the engine beside it.

The engine decides by the rest of each limit (policy/away.py), so nobody has to know who is cut off. Its money it has from
the state: everything that it was allotted in a window counts here as spent or held, whether or not it is written down, and
what is left of the cap may be held. What is held and spent here the engine is never told of as its own; it is told what that
comes to when it asks for more.

Calls are the state's ordinary ones, with a mark. Whoever looks after them, after a loss of the engine's memory too, goes by
the mark. They do not draw on what their batch has set aside, because the engine goes on drawing on that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from longwatch.admission import standing
from longwatch.admission.calls import Admitted, CallRequest, admitted, check
from longwatch.admission.in_force import Part
from longwatch.admission.ledger import Ledger
from longwatch.admission.limiter import PAGE, Limiter
from longwatch.admission.standing import Prepared, Read, held_by, holding
from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import LongwatchError, StoreUnavailable
from longwatch.policy import admission
from longwatch.policy.admission import Ask, Later, Metered, Places, Purse, Spent, TooHeavy
from longwatch.policy.away import meter_of_share
from longwatch.policy.limits import Limits
from longwatch.policy.meter import NEW
from longwatch.policy.scope import LINE
from longwatch.store.journal import Journal

SILENT_MS = 60_000  # a process that has not said for so long that it goes by the share does not

Refuse = Callable[[str], StoreUnavailable]
"""The error of whoever has to wait for the engine. Told why the share is of no use to it."""


@dataclass(frozen=True)
class CutOff:
    """A process that goes by the share. owner, agent: of the first call that was decided so. since_ms: the fleet's clock."""

    owner: str
    agent: str
    since_ms: int
    reason: str


class ShareLimiter(Limiter):
    """Safe in threads."""

    part: Part = "share"

    def __init__(self, database: Database, journal: Journal, limits: Limits, *, refuse: Refuse, rules: int = 0) -> None:
        super().__init__(database, journal, limits, rules=rules)
        self._ledger = Ledger(journal, self._scope_of_row, away=True)
        self._refuse = refuse

    # -- in ----------------------------------------------------------------------------------------------------------------

    def admit(self, request: CallRequest) -> Admitted | Later:
        """Errors: StoreUnavailable, which waits, where the share is nothing or has no room."""
        check(request)
        force = self._force
        lacking = force.asked(request).lacking
        if lacking:
            raise self._refuse(f"{lacking}, is too small to be split: there is no share of it")
        if request.charged_task is not None:
            raise self._refuse("its task has caps of its own, of which there is no share")
        answer = super().admit(replace(request, batch=None))
        if isinstance(answer, Later) and answer.reason == "budget":
            raise self._refuse(f"what is left of {answer.what} is allotted to the engine, or held by other calls")
        return answer

    def admitted(self, call: str) -> Admitted | None:
        """The answer of a call that was admitted here, and may have ended."""
        with self.database.read() as tx:
            row = tx.one("call.by_id", id=call) if self._marked(tx, call) else None
        return None if row is None else admitted(row)

    def has(self, call: str) -> bool:
        """Whether the call was admitted here."""
        with self.database.read() as tx:
            return self._marked(tx, call)

    def _marked(self, tx: Transaction, call: str) -> bool:
        row = tx.one("away.by_id", id=call)
        return row is not None and bool(row.away)

    def _read(self, tx: Transaction, prepared: Prepared, request: CallRequest) -> Read:
        """As of the share: its places alone, and of every cap what was not allotted to the engine."""
        found = super()._read(tx, prepared, request)
        groups, rows = tx.several(("away.groups", {}), ("away.windows", {"at_ms": found.calendar_ms}))
        allotted = {(row.purse, row.dimension, row.per, row.ends_ms): row for row in rows}
        places, service = found.ask.places, prepared.scope.service.name
        if places is not None:
            used = sum(int(group.places) for group in groups if group.service == service)
            places = Places(used, places.most)
        purses = tuple(_beside(purse, groups, allotted) for purse in found.ask.purses)
        return found._replace(ask=found.ask._replace(places=places, purses=purses))

    def _freed(self, tx: Transaction, answer: Later | Spent) -> bool:
        """What batches have set aside is the engine's to give back."""
        return isinstance(answer, Later) and answer.reason != "rate" and bool(self._expire(tx, PAGE))

    def _refusal(self, answer: object, wall_ms: int) -> LongwatchError:
        if isinstance(answer, TooHeavy):
            return self._refuse(f"it weighs {answer.weight} at {answer.name}, whose share takes {answer.most} at most")
        return super()._refusal(answer, wall_ms)

    def late(self, prepared: Prepared, weights: Mapping[str, int]) -> int:
        """Another slot, of the share's, for a call that the engine admitted (microseconds). weights: by dimension.

        Errors: StoreUnavailable, which waits, where there is no share.
        """
        if prepared.lacking:
            raise self._refuse(f"{prepared.lacking}, is too small to be split: there is no share of it")
        with self.database.transaction(part="calls", durable=False) as tx:
            found = standing.meters(tx, prepared)
            metered = tuple(
                Metered(name, rate, found.get(name, NEW), weights.get(dimension, 0))
                for name, dimension, rate in prepared.scope.gauges
            )
            slot = admission.next_slot(Ask(tx.now_ms * 1000, None, metered, None, ()))
            standing.keep_meters(tx, slot.meters)
            return slot.at_us

    def slow(self, floors: dict[str, int]) -> None:
        """Meters of rates give no slot before these instants (steady microseconds): nor do those of their shares."""
        rates = {meter_of_share(name): us for name, us in floors.items() if not name.endswith(f"/{LINE}")}
        if rates:
            with self.database.transaction(part="calls", durable=False) as tx:
                for name, free_us in rates.items():
                    tx.count("gate.slow", name=name, free_us=free_us)

    # -- looking after calls -----------------------------------------------------------------------------------------------

    def expire(self, *, limit: int = PAGE) -> int:
        with self.database.read() as tx:
            if not tx.all("away.overdue", limit=1):
                return 0
        return super().expire(limit=limit)

    def _expire(self, tx: Transaction, limit: int) -> int:
        rows = tx.all("away.overdue", limit=limit)
        for row in rows:
            self._ledger.lose(tx, row, "expire")
        return len(rows)

    def bury(self, owner: str) -> int:
        buried = 0
        while True:
            with self.database.read() as tx:
                rows = tx.all("away.owned", owner=owner, limit=PAGE)
            if not rows:
                return buried
            buried += self._bury_some(owner)

    def _bury_some(self, owner: str) -> int:
        with self.database.transaction(part="calls", durable=False) as tx:
            rows = tx.all("away.owned", owner=owner, limit=PAGE)
            for row in rows:
                self._bury(tx, row)
        return len(rows)


def _beside(purse: Purse, groups: Sequence[Row], allotted: Mapping[tuple[str, str, str, int], Row]) -> Purse:
    """With everything that the engine was allotted taken for spent or held by it."""
    standing = purse.standing
    row = allotted.get((standing.purse, standing.dimension, standing.cap.window, standing.ends_ms))
    if row is None:
        return purse
    whose = holding(standing.purse, standing.dimension)
    own, _ = held_by(groups, whose, starts_ms=standing.starts_ms, ends_ms=standing.ends_ms)
    engines = int(row.settled) - int(row.away) + standing.held - own + standing.aside
    return purse._replace(standing=standing._replace(held=standing.held + max(0, int(row.amount) - engines)))


def untold(tx: Transaction, purse: str, dimension: str, per: str, *, starts_ms: int, ends_ms: int) -> tuple[int, int]:
    """(spent, held) in a window by calls that the state decided about, and that its engine does not count."""
    row = tx.one("away.standing", purse=purse, dimension=dimension, per=per, ends_ms=ends_ms)
    groups = tx.all("away.groups")
    held, _ = held_by(groups, holding(purse, dimension), starts_ms=starts_ms, ends_ms=ends_ms)
    return 0 if row is None else int(row.away), int(held)


def cut_off(database: Database) -> list[CutOff]:
    """Every process of the fleet that goes by the share."""
    with database.read() as tx:
        rows = tx.all("away.every", silent_ms=SILENT_MS)
    return [CutOff(row.owner, row.agent, row.since_ms, row.reason) for row in rows]
