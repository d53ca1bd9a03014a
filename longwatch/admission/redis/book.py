"""Calls that Redis has decided about and the ledger does not have yet, and how they are written down.

A process keeps what it did itself, and writes it in batches of one transaction. Versions make every write repeatable and
the order of several writers of one call irrelevant: the ledger never goes back to an older version of a call.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from longwatch.admission import asides, keys
from longwatch.admission.calls import CallRequest
from longwatch.admission.keys import APART, TOGETHER, Charge
from longwatch.admission.ledger import COUNTED, NOTHING, Ledger, spent_on
from longwatch.admission.redis.usual import Usual, as_known
from longwatch.admission.redis.values import CANONICAL, Heard, Known, Move
from longwatch.admission.standing import encode, keep_meters_later
from longwatch.db.connection import Row, Transaction
from longwatch.policy.call import moved
from longwatch.policy.meter import Meter
from longwatch.policy.scope import purses_of
from longwatch.store.journal import NewEntry

BATCH = 1_000  # calls of one transaction
CHUNK = 100  # of which as many are made into rows at a time
Values = tuple[Any, ...]

Spent = dict[tuple[tuple[str | None, ...], int], tuple[Row, Charge]]
"""By service, budget, agent, task if it has caps of its own, and calendar: one of the calls, and what all of them cost."""


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
        self._calls: dict[str, Known | Usual] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call: str) -> bool:
        return call in self._calls

    def find(self, call: str) -> Known | None:
        with self._guard:
            return as_known(self._calls.get(call))

    def put(self, call: Known | Usual) -> int:
        """How many calls are to be written down, with this one."""
        with self._guard:
            before = self._calls.setdefault(call.id, call)
            if before is not call and not isinstance(call, Usual):  # a usual one is new, and nothing comes before it
                known = as_known(before)
                if known.version < call.version:
                    self._calls[call.id] = call.after(known)
            return len(self._calls)

    def take(self, limit: int = BATCH) -> list[Known | Usual]:
        with self._guard:
            if len(self._calls) > limit:
                return [self._calls.pop(id) for id in list(self._calls)[:limit]]
            calls, self._calls = list(self._calls.values()), {}
            return calls

    def put_back(self, calls: Sequence[Known | Usual]) -> None:
        """They could not be written."""
        with self._guard:
            for call in calls:
                later = as_known(self._calls.get(call.id))
                self._calls[call.id] = call if later is None else later.after(as_known(call))

    # -- writing ---------------------------------------------------------------------------------------------------------

    def write(
        self, tx: Transaction, calls: Sequence[Known | Usual], meters: dict[str, Meter]
    ) -> tuple[list[Adjust], list[str]]:
        """Bring the ledger to these versions of the calls. Beside what the engine has to be told of charges: the calls that
        are not its own. The state has decided about those, because nobody heard the engine's answer.
        """
        rows = {row.id: row for row in tx.all("allotment.several", ids=encode([call.id for call in calls]).decode())}
        adjusts: list[Adjust] = []
        others = [row.id for row in rows.values() if row.away]
        calls = [call for call in calls if call.id not in others]
        if not calls:
            return [], others
        spent: Spent = {}
        tx.count("spend.turn", at_ms=max(calendar_of(call) for call in calls))
        engine = tx.one("allotment.generation")
        generation, whole = None if engine is None else engine.generation, Whole()
        for each in calls:
            if len(whole.rows) >= CHUNK:
                self._write(tx, whole)
            row = rows.get(each.id)
            if isinstance(each, Usual) and row is None and each.kind.state.generation == generation:
                whole.rows.append(each.row())
                whole.told.append(each.entry())
                continue
            call = as_known(each)
            if row is None and call.generation and engine is not None and call.generation != generation:
                self._unpark(tx, call)
            if row is None and not call.who.keyed:
                self._put(whole, call, APART, spent)
                continue
            self._write(tx, whole)  # the journal keeps the order
            row = row or self._add(tx, call, spent)
            if row is not None and row.version < call.version:
                self._change(tx, row, call, adjusts)
        self._write(tx, whole)
        for row, charge in spent.values():
            self._ledger.spend(tx, row, charge)
        keep_meters_later(tx, meters)
        return adjusts, others

    def _add(self, tx: Transaction, call: Known, spent: Spent) -> Row | None:
        """Write a new call whose key is remembered. None: it is written as it stands. A row: its end is still to be
        written."""
        sharing = keys.sharing(keys.used(tx, request_of(call)))
        whole = Whole()
        if sharing != TOGETHER:
            self._put(whole, call, sharing, spent)
            self._write(tx, whole)
            return None
        version = 1 if call.state == "open" else 0  # as it was before it ended, so that its end can be shared
        row = row_of(call, "open", call.hold, None, sharing=sharing, version=version)
        whole.add(row, call.aside, call.hold)
        whole.told.extend(told_admitted(call))
        self._write(tx, whole)
        keys.join(tx, request_of(call))
        return Written(*row) if call.state != "open" else None

    def _put(self, whole: "Whole", call: Known, sharing: int, spent: Spent) -> None:
        """To be written as it stands."""
        charge = call.hold if call.state == "open" else call.told
        row = row_of(call, call.state, charge, call.ended_ms, sharing=sharing, version=call.version)
        whole.add(row, call.aside, charge)
        whole.told.extend(told_admitted(call))
        if call.moves:
            whole.told.extend(told_move(call, move) for move in call.moves)
            whole.told.extend(told_heard(call, move.heard) for move in call.moves if move.heard is not None)
        if call.state in COUNTED:
            who = call.who
            place = (who.service, who.budget, who.agent, who.own_task), call.calendar_ms
            first, before = spent.get(place) or (opened(row), NOTHING)
            told = call.told
            amounts = Charge(before.money + told.money, before.calls + told.calls, before.tokens + told.tokens)
            spent[place] = first, amounts

    def _write(self, tx: Transaction, whole: "Whole") -> None:
        if whole.rows:
            tx.each("allotment.write", COLUMNS, whole.rows)
            self._ledger.journal.append_all(tx, whole.told)
            for aside, drawn in whole.drawn.items():
                asides.use(tx, aside, drawn)
            whole.clear()

    def _unpark(self, tx: Transaction, call: Known) -> None:
        """It was admitted before the engine lost its memory, and counts as spent already if it was not written by then."""
        who = call.who
        purses = encode(purses_of(service=who.service, budget=who.budget, agent=who.agent, task=who.task)).decode()
        charge = call.hold if call.state == "open" else call.told
        for row in tx.all("allotment.parked", purses=purses, at_ms=call.calendar_ms):
            back = min(int(row.parked), int(getattr(charge, row.dimension)))
            window = {"purse": row.purse, "ends_ms": row.ends_ms, "dimension": row.dimension, "per": row.per}
            tx.count("allotment.park", amount=-back, **window)
            tx.count("allotment.remember", amount=-back, **window)

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
                    purses_of(service=found.service, budget=found.budget, agent=found.agent, task=found.task),
                    found.calendar_ms,
                    by,
                    found.aside,
                )
                for found, charge in changed
                if not found.away
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

    def _tell_heard(self, tx: Transaction, row: Row, moves: Sequence[Move]) -> None:
        for heard in (move.heard for move in moves if move.heard is not None):
            self._ledger.tell_heard(tx, row, heard.word, before=heard.before, state=heard.state)


@dataclass(frozen=True)
class Whole:
    """Calls that are new to the ledger, and what the journal is told of them: written in one go."""

    rows: list[Values] = field(default_factory=list[Values])  # of `Written`
    told: list[NewEntry] = field(default_factory=list[NewEntry])
    drawn: dict[str, Charge] = field(default_factory=dict[str, Charge])  # by what it is taken from

    def add(self, row: Values, aside: str | None, charge: Charge) -> None:
        self.rows.append(row)
        if aside is not None:
            money, calls, tokens = self.drawn.get(aside, NOTHING)
            self.drawn[aside] = Charge(money + charge.money, calls + charge.calls, tokens + charge.tokens)

    def clear(self) -> None:
        self.rows.clear()
        self.told.clear()
        self.drawn.clear()


def told_admitted(call: Known) -> list[NewEntry]:
    who = call.who
    facts: dict[str, object] = {
        "wait_ms": max(0, call.slot_us // 1000 - call.admitted_ms),
        "service": who.service,
        "budget": who.budget,
        "key": who.key,
        "money": call.hold.money,
    }
    if who.model:
        facts["model"] = who.model
    if who.instead_of is None:
        return [NewEntry("call.admitted", call.id, who.agent, who.task, facts)]
    facts["instead_of"] = who.instead_of
    degraded: dict[str, object] = {"from": who.instead_of, "to": who.model, "budget": who.budget, "call": call.id}
    return [
        NewEntry("call.admitted", call.id, who.agent, who.task, facts),
        NewEntry("call.degraded", who.run or call.id, who.agent, who.task, degraded),
    ]


def told_move(call: Known, move: Move) -> NewEntry:
    who = call.who
    if move.name == "late":
        return NewEntry("call.late", call.id, who.agent, who.task, {"late_ms": move.money})
    facts: dict[str, object] = {
        "move": move.name,
        "money": move.money,
        "held": call.hold.money,
        "service": who.service,
        "budget": who.budget,
    }
    return NewEntry(f"call.{move.state}", call.id, who.agent, who.task, facts)


def told_heard(call: Known, heard: Heard) -> NewEntry:
    word = heard.word
    facts: dict[str, object] = {
        "money": word.money,
        "by": word.by,
        "note": word.note,
        "before": heard.before,
        "state": heard.state,
    }
    return NewEntry("call.reconciled", call.id, call.who.agent, call.who.task, facts)


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


class Written(msgspec.Struct, frozen=True, gc=False):
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
    own_task: str | None


COLUMNS = Written.__struct_fields__


def opened(row: Values) -> Written:
    """As it was before it ended."""
    return replace(Written(*row), state="open")


def row_of(call: Known, state: str, charge: Charge, ended_ms: int | None, *, sharing: int, version: int) -> Values:
    """Of `Written`: what most of the writing is made of."""
    who = call.who
    return (
        call.id, who.key, state, who.service, who.model, who.agent, who.budget, call.owner, who.task, who.run, who.step,
        who.lane, call.slot_us, call.admitted_ms, call.calendar_ms, call.until_ms, ended_ms,
        encode(call.weights).decode(), *charge, *call.hold, sharing, version, call.aside, who.own_task,
    )  # fmt: skip


def calendar_of(call: Known | Usual) -> int:
    return call.kind.state.calendar_ms if isinstance(call, Usual) else call.calendar_ms
