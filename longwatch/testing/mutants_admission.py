"""Faults that somebody could make in admission, each planted for the length of a block: conformance has to find them all."""

from collections.abc import Mapping

from longwatch.admission import limiter, standing
from longwatch.admission.calls import CallRequest, Weights, weights_of
from longwatch.admission.ledger import NOTHING, Charge, Ledger
from longwatch.admission.limiter import Limiter
from longwatch.admission.standing import Read
from longwatch.db.connection import Row, Transaction
from longwatch.policy.admission import Slot
from longwatch.testing.mutants_store import Mutant, function, statement

REAL_ADD = Ledger.add


def reserve_twice(self: Ledger, tx: Transaction, request: CallRequest, read: Read, slot: Slot, *, hold_ms: int) -> bool:
    added = REAL_ADD(self, tx, request, read, slot, hold_ms=hold_ms)
    if not added:
        standing.keep_meters(tx, slot.meters)
    return added


def lose_for_free(self: Ledger, tx: Transaction, row: Row, move: str) -> None:
    if row.state in ("open", "released"):
        self._move(tx, row, move, NOTHING, weights=weights_of(row))


def keep_reserved(self: Ledger, tx: Transaction, row: Row, used: Mapping[str, int]) -> Weights:
    return weights_of(row)


def add_again(self: Ledger, tx: Transaction, row: Row, charge: Charge) -> None:
    amounts = {"money": charge.money, "calls": charge.calls, "tokens": charge.tokens}
    tx.all("spend.charge", purses=self.scopes(row).purses, calendar_ms=row.calendar_ms, **amounts)


def of_anybody(self: Limiter, tx: Transaction, call: str, owner: str) -> Row:
    row = tx.one("call.by_id", id=call)
    if row is None:
        raise limiter._no_such_call(call)
    return row


def release_all(*, slot_us: int, now_us: int) -> str:
    return "bury_waiting"


def calls(name: str, text: str, right: str, wrong: str) -> Mutant:
    return Mutant(name, statement(text, right, wrong), "calls")


MUTANTS: tuple[Mutant, ...] = (
    Mutant("a repeated admission reserves twice", function([Ledger], "add", reserve_twice), "calls"),
    Mutant("an unknown call costs nothing", function([Ledger], "lose", lose_for_free), "calls"),
    Mutant("meters get nothing back", function([Ledger], "_corrected", keep_reserved), "calls"),
    Mutant("a call settled twice costs twice", function([Ledger], "_spend", add_again), "calls"),
    Mutant("anybody settles a call", function([Limiter], "_own", of_anybody), "calls"),
    Mutant("the dead give back what they sent", function([limiter], "burial", release_all), "calls"),
    calls("an old key is sent again", "call.first_use", "key = :key", "key = :key and 1 = 0"),
    calls("a key never sent counts as used", "call.first_use", " and state <> 'released'", ""),
    calls("only the dearest hold counts", "call.groups", "sum(money) as money", "max(money) as money"),
    calls("tokens are not held", "call.groups", "sum(tokens)", "0 * sum(tokens)"),
    calls("one place for all calls", "call.groups", "count(*)", "1"),
    calls("a hold never expires", "call.overdue", "until_ms <= :now_ms", "until_ms < 0"),
    calls("a beat does not push the hold", "call.beat", "max(until_ms, :now_ms + :hold_ms)", "until_ms"),
    calls("tokens are not charged", "spend.charge", "when 'tokens' then :tokens", "when 'tokens' then 0"),
    calls("a new cap begins at zero", "spend.open", "state in ('settled', 'unknown')", "state = 'nothing'"),
    calls("a cost is charged to every window", "spend.charge", " and starts_ms <= :calendar_ms", ""),
    calls("a late call keeps its old slot", "call.move_slot", "slot_us = :slot_us", "slot_us = slot_us + 0 * :slot_us"),
    calls("a restore believes in open calls", "backup.doubt_calls", "state = 'open'", "state = 'opened'"),
    calls("a meter forgets its total", "meter.keep", "total = excluded.total", "total = meter.total"),
)  # fmt: skip
