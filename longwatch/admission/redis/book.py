"""Calls that Redis has decided about and the ledger does not have yet, and how they are written down.

A process keeps what it did itself, and writes it in batches of one transaction. Versions make every write repeatable and
the order of several writers of one call irrelevant: the ledger never goes back to an older version of a call.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from longwatch.admission import asides, keys
from longwatch.admission.calls import CallRequest
from longwatch.admission.keys import APART, TOGETHER, Charge
from longwatch.admission.ledger import COUNTED, NOTHING, Ledger, spent_on
from longwatch.admission.redis.values import CANONICAL, Known, Move
from longwatch.admission.standing import encode, keep_meters_later
from longwatch.db.connection import Row, Transaction
from longwatch.policy.call import moved
from longwatch.policy.meter import Meter
from longwatch.policy.scope import purses_of

BATCH = 200  # calls of one transaction


@dataclass(frozen=True)
class Adjust:
    """What a window's spending differs from what Redis believes, because calls with one key are billed once."""

    purses: tuple[str, ...]
    calendar_ms: int
    amounts: Charge
    aside: str | None


class Book:
    """Safe in threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._guard = threading.Lock()
        self._calls: dict[str, Known] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call: str) -> bool:
        return call in self._calls

    def find(self, call: str) -> Known | None:
        with self._guard:
            return self._calls.get(call)

    def put(self, call: Known) -> int:
        """How many calls are to be written down, with this one."""
        with self._guard:
            before = self._calls.get(call.id)
            if before is None or before.version < call.version:
                self._calls[call.id] = call.after(before)
            return len(self._calls)

    def take(self, limit: int = BATCH) -> list[Known]:
        with self._guard:
            return [self._calls.pop(id) for id in list(self._calls)[:limit]]

    def put_back(self, calls: Sequence[Known]) -> None:
        """They could not be written."""
        with self._guard:
            for call in calls:
                later = self._calls.get(call.id)
                self._calls[call.id] = call if later is None else later.after(call)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def write(self, tx: Transaction, calls: Sequence[Known], meters: dict[str, Meter]) -> list[Adjust]:
        """Bring the ledger to these versions of the calls."""
        rows = {row.id: row for row in tx.all("allotment.several", ids=encode([call.id for call in calls]).decode())}
        adjusts: list[Adjust] = []
        spent: dict[tuple[tuple[str | None, ...], int], tuple[Row, Charge]] = {}
        tx.count("spend.turn", at_ms=max(call.calendar_ms for call in calls))
        engine = tx.one("allotment.generation")
        for call in calls:
            row = rows.get(call.id)
            if row is None:
                if call.generation and engine is not None and call.generation != engine.generation:
                    self._unpark(tx, call)
                row = self._add(tx, call, spent)
            if row is not None and row.version < call.version:
                self._change(tx, row, call, adjusts)
        for row, charge in spent.values():
            self._ledger.spend(tx, row, charge)
        keep_meters_later(tx, meters)
        return adjusts

    def _add(
        self, tx: Transaction, call: Known, spent: dict[tuple[tuple[str | None, ...], int], tuple[Row, Charge]]
    ) -> Row | None:
        """Write a new call. None: it is written as it stands. A row: its end is still to be written."""
        sharing = self._sharing(tx, call)
        whole = sharing != TOGETHER
        written = Written.of(call, sharing) if whole else Written.of_open(call, sharing)
        tx.count("allotment.write", **written.values())
        if call.aside is not None:
            asides.use(tx, call.aside, Charge(written.money, written.calls, written.tokens))
        self._tell_admitted(tx, call)
        if not whole:
            keys.join(tx, request_of(call))
            return written if call.state != "open" else None
        self._tell_moves(tx, call)
        self._tell_heard(tx, written, call.moves)
        if call.state in COUNTED:
            who = call.who
            place = (who.service, who.budget, who.agent), call.calendar_ms
            before = spent[place][1] if place in spent else NOTHING
            told = call.told
            amounts = Charge(before.money + told.money, before.calls + told.calls, before.tokens + told.tokens)
            spent[place] = written.as_open(), amounts
        return None

    def _unpark(self, tx: Transaction, call: Known) -> None:
        """It was admitted before the engine lost its memory, and counts as spent already if it was not written by then."""
        who = call.who
        purses = encode(purses_of(service=who.service, budget=who.budget, agent=who.agent)).decode()
        charge = call.hold if call.state == "open" else call.told
        for row in tx.all("allotment.parked", purses=purses, at_ms=call.calendar_ms):
            back = min(int(row.parked), int(getattr(charge, row.dimension)))
            window = {"purse": row.purse, "ends_ms": row.ends_ms, "dimension": row.dimension, "per": row.per}
            tx.count("allotment.park", amount=-back, **window)
            tx.count("allotment.remember", amount=-back, **window)

    def _sharing(self, tx: Transaction, call: Known) -> int:
        return keys.sharing(keys.used(tx, request_of(call))) if call.who.keyed else APART

    def _change(self, tx: Transaction, row: Row, call: Known, adjusts: list[Adjust]) -> None:
        ends = [move for move in call.moves if move.name != "late"]
        if call.state != "open" and ends:
            last = ends[-1].name
            move = last if moved(last, row.state) == call.state else CANONICAL[call.state]
            changed = self._ledger.move(tx, row, move, call.told, weights=call.weights)
            believed = call.told if call.state in COUNTED else NOTHING
            self._tell_heard(tx, row, ends)
            adjusts += [
                Adjust(
                    purses_of(service=found.service, budget=found.budget, agent=found.agent),
                    found.calendar_ms,
                    by,
                    found.aside,
                )
                for found, charge in changed
                for by in [difference(charge, believed if found.id == row.id else spent_on(found))]
                if by != NOTHING
            ]
        tx.count(
            "allotment.seen",
            id=call.id,
            slot_us=call.slot_us,
            until_ms=call.until_ms,
            ended_ms=call.ended_ms,
            weights=encode(call.weights).decode(),
            version=call.version,
        )
        for late in (move for move in call.moves if move.name == "late"):
            self._ledger.journal.append(
                tx, "call.late", call.id, agent=call.who.agent, task=call.who.task, late_ms=late.money
            )

    def _tell_admitted(self, tx: Transaction, call: Known) -> None:
        who, wait_ms = call.who, max(0, call.slot_us // 1000 - call.admitted_ms)
        facts = {"service": who.service, "budget": who.budget, "key": who.key, "money": call.hold.money}
        if who.model:
            facts["model"] = who.model
        if who.instead_of:
            facts["instead_of"] = who.instead_of
        self._ledger.journal.append(
            tx, "call.admitted", call.id, agent=who.agent, task=who.task, wait_ms=wait_ms, **facts
        )
        self._ledger.tell_degraded(tx, request_of(call))

    def _tell_moves(self, tx: Transaction, call: Known) -> None:
        who = call.who
        for move in call.moves:
            if move.name == "late":
                self._ledger.journal.append(
                    tx, "call.late", call.id, agent=who.agent, task=who.task, late_ms=move.money
                )
                continue
            facts = {"money": move.money, "held": call.hold.money, "service": who.service, "budget": who.budget}
            self._ledger.journal.append(
                tx, f"call.{move.state}", call.id, agent=who.agent, task=who.task, move=move.name, **facts
            )

    def _tell_heard(self, tx: Transaction, row: Row, moves: Sequence[Move]) -> None:
        for heard in (move.heard for move in moves if move.heard is not None):
            self._ledger.tell_heard(tx, row, heard.word, before=heard.before, state=heard.state)


def difference(one: Charge, other: Charge) -> Charge:
    return Charge(one.money - other.money, one.calls - other.calls, one.tokens - other.tokens)


def request_of(call: Known) -> CallRequest:
    """As far as its key and its model are concerned."""
    who = call.who
    return CallRequest(
        call.id,
        who.key,
        who.service,
        who.agent,
        call.owner,
        model=who.model,
        budget=who.budget,
        task=who.task,
        run=who.run,
        instead_of=who.instead_of,
    )


@dataclass(frozen=True)
class Written:
    """The row of a call, before it is one."""

    id: str
    key: str
    state: str
    service: str
    model: str | None
    agent: str
    budget: str | None
    owner: str
    task: str | None
    run: str | None
    step: str | None
    lane: str
    slot_us: int
    admitted_ms: int
    calendar_ms: int
    until_ms: int
    ended_ms: int | None
    weights: str
    money: int
    calls: int
    tokens: int
    held_money: int
    held_calls: int
    held_tokens: int
    sharing: int
    version: int
    aside: str | None

    @classmethod
    def of(cls, call: Known, sharing: int) -> "Written":
        charge = call.hold if call.state == "open" else call.told
        return cls._made(call, call.state, charge, call.ended_ms, sharing, call.version)

    @classmethod
    def of_open(cls, call: Known, sharing: int) -> "Written":
        """As it was before it ended, so that its end can be shared with the calls that have its key."""
        return cls._made(call, "open", call.hold, None, sharing, 1 if call.state == "open" else 0)

    @classmethod
    def _made(
        cls, call: Known, state: str, charge: Charge, ended_ms: int | None, sharing: int, version: int
    ) -> "Written":
        who, hold = call.who, call.hold
        return cls(
            call.id, who.key, state, who.service, who.model, who.agent, who.budget, call.owner, who.task, who.run,
            who.step, who.lane, call.slot_us, call.admitted_ms, call.calendar_ms, call.until_ms, ended_ms,
            encode(call.weights).decode(), charge.money, charge.calls, charge.tokens, hold.money, hold.calls,
            hold.tokens, sharing, version, call.aside,
        )  # fmt: skip

    def values(self) -> dict[str, str | int | None]:
        return dict(vars(self))

    def as_open(self) -> "Written":
        return replace(self, state="open")
