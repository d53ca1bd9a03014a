"""Faults that somebody could make in admission, each planted for the length of a block: conformance has to find them all."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

from longwatch.admission import keys, limiter, refusals, standing, task_caps
from longwatch.admission.calls import CallRequest, Weights, weights_of
from longwatch.admission.in_force import InForce
from longwatch.admission.keys import Charge
from longwatch.admission.ledger import NOTHING, Ledger
from longwatch.admission.limiter import Limiter
from longwatch.admission.standing import Read
from longwatch.db.connection import Row, Transaction
from longwatch.policy import call as policy
from longwatch.policy.admission import Purse, Slot
from longwatch.policy.budget import Standing
from longwatch.policy.call import State, Told
from longwatch.testing.mutants_store import Mutant, function, statement

REAL_ADD, REAL_MOVE = Ledger.add, task_caps.TaskCaps.move


def reserve_twice(self: Ledger, tx: Transaction, request: CallRequest, read: Read, slot: Slot, **how: int) -> bool:
    added = REAL_ADD(self, tx, request, read, slot, **how)
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
    purses = {"agent": row.agent, "service": row.service, "budget": row.budget, "task": row.task}
    tx.all("spend.charge", calendar_ms=row.calendar_ms, **purses, **amounts)


def of_anybody(self: Limiter, tx: Transaction, call: str, owner: str) -> Row:
    row = tx.one("call.by_id", id=call)
    if row is None:
        raise refusals.no_such_call(call)
    return row


def never_turn(self: Limiter, force: InForce, calendar_ms: int) -> InForce:
    return force


def release_all(*, slot_us: int, now_us: int) -> str:
    return "bury_waiting"


def last_bears(calls: Sequence[Told]) -> list[int]:
    """As if the last of the calls with one key had cost what all of them cost, whatever is known of it."""
    ended = [place for place, call in enumerate(calls) if call.state in ("settled", "unknown")]
    return [call.amount if call.state == "open" or place in ended[-1:] else 0 for place, call in enumerate(calls)]


def share_alone(tx: Transaction, row: Row, state: State, told: Charge) -> list[tuple[Row, Charge]]:
    """The call that ends bears what it costs; the others with its key stay as they are."""
    rows = tx.all("call.of_key", key=row.key, service=row.service)
    return [(found, told if found.id == row.id else Charge(found.money, found.calls, found.tokens)) for found in rows]


def calls(name: str, text: str, right: str, wrong: str) -> Mutant:
    return Mutant(name, statement(text, right, wrong), "calls")


def gates(name: str, text: str, right: str, wrong: str) -> Mutant:
    return Mutant(name, statement(text, right, wrong), "gates")


def batches(name: str, text: str, right: str, wrong: str) -> Mutant:
    return Mutant(name, statement(text, right, wrong), "batches")


def on_any_account(asides: Sequence[Row], request: CallRequest, calendar_ms: int) -> Row | None:
    return next((row for row in asides if row.id == request.aside), None)


def whole_need(found: Standing, need: int, own: Row | None) -> Purse:
    """As if the call had to have room beside what its own batch has set aside."""
    return Purse(found, need)


def in_every_window(found: Standing, need: int, own: Row | None) -> Purse:
    """As if what was set aside in one window was there in the next one too."""
    return Purse(found, need if own is None else need - min(need, int(getattr(own, found.dimension))))


def move_what_is_there(self: task_caps.TaskCaps, task: str, amounts: Mapping[str, int], **who: str) -> dict[str, int]:
    """As if of several caps those that the task has were moved."""
    kept = {cap.dimension for cap in self.all(task)} & set(amounts)
    return REAL_MOVE(self, task, {name: amounts[name] for name in kept or amounts}, by=who["by"])


def no_caps(*_: object) -> list[Standing]:
    return []


def caps(name: str, text: str, right: str, wrong: str) -> Mutant:
    return Mutant(name, statement(text, right, wrong), "caps")


LAST = SimpleNamespace(**(vars(policy) | {"borne": last_bears}))

MUTANTS: tuple[Mutant, ...] = (
    Mutant("a repeated admission reserves twice", function([Ledger], "add", reserve_twice), "calls"),
    Mutant("an unknown call costs nothing", function([Ledger], "lose", lose_for_free), "calls"),
    Mutant("meters get nothing back", function([Ledger], "_corrected", keep_reserved), "calls"),
    Mutant("a call settled twice costs twice", function([Ledger], "_spend", add_again), "calls"),
    Mutant("anybody settles a call", function([Limiter], "_own", of_anybody), "calls"),
    Mutant("a cap that was set for a while never ends", function([Limiter], "_turn", never_turn), "calls"),
    Mutant("the dead give back what they sent", function([limiter], "burial", release_all), "calls"),
    Mutant("a repeated key is charged twice", function([keys], "shares", share_alone), "calls"),
    Mutant("the last call with a key bears it, known or not", function([keys], "policy", LAST), "calls"),
    calls("the first call with a key is not told", "call.join", "key = :key", "key = :key and 1 = 0"),
    calls("a key is one at every service", "call.of_key", "service = :service", "service <> ''"),
    calls("a replaced charge is forgotten", "call.of_key", "coalesce(told_money, money)", "money"),
    calls("a replaced charge stays in its window", "spend.charge", "+ case dimension when 'money' then :money",
          "+ case dimension when 'money' then max(0, :money)"),
    calls("an old key is sent again", "call.uses", "key = :key", "key = :key and 1 = 0"),
    calls("a key never sent counts as used", "call.uses", "filter (where state <> 'released')", ""),
    calls("only the dearest hold counts", "call.groups", "sum(money) as money", "max(money) as money"),
    calls("tokens are not held", "call.groups", "sum(tokens)", "0 * sum(tokens)"),
    calls("one place for all calls", "call.groups", "count(*)", "1"),
    calls("outdated limits decide", "call.add", "rules = :rules", ":rules >= 0"),
    calls("a hold never expires", "call.overdue", "until_ms <= :now_ms", "until_ms < 0"),
    calls("a beat does not push the hold", "call.beat", ":now_ms + :hold_ms", "0"),
    calls("tokens are not charged", "spend.charge", "when 'tokens' then :tokens", "when 'tokens' then 0"),
    calls("a new cap begins at zero", "spend.open", "state in ('settled', 'unknown')", "state = 'nothing'"),
    calls("a cost is charged to every window", "spend.charge", " and starts_ms <= :calendar_ms", ""),
    calls("a late call keeps its old slot", "call.move_slot", "slot_us = :slot_us", "slot_us = slot_us + 0 * :slot_us"),
    calls("a restore believes in open calls", "backup.doubt_calls", "state = 'open'", "state = 'opened'"),
    gates("a gate bars nobody", "gate.bar", "excluded.total > meter.total", "excluded.total < 0"),
    gates("a gate never opens again", "gate.bar", "free_us = excluded.free_us", "free_us = meter.free_us"),
    gates("every call is a probe", "gate.keep", "probe = excluded.probe,", "probe = null,"),
    gates("a gate forgets its failures", "gate.keep", "failures = excluded.failures", "failures = 0"),
    gates("whole bursts meet a service that is just back", "gate.slow", ":free_us, 0, 0)", "0 * :free_us, 0, 0)"),
    calls("a learned rate is never lowered", "learned.keep", "set source = excluded.source, amount = excluded.amount",
          "set source = excluded.source, amount = max(amount, excluded.amount)"),
    calls("nobody knows when a rate was lowered", "learned.keep", "lowered_ms = excluded.lowered_ms", "lowered_ms = 0"),
    calls("calls of other services count as left", "learned.lately", "service = :service and", "service <> '' and"),
    calls("the last to come is the first", "line.heads", "order by lane, seq", "order by lane, seq desc"),
    calls("the silent keep their turn", "line.heads", "w.seen_ms > :now_ms - :silent_ms", "w.seen_ms > 0 * :silent_ms"),
    calls("a lane is given slots for nothing", "line.grown", "given + :stride", "given + 0 * :stride"),
    calls("the dead stay in line", "line.leave_all", "owner = :owner", "owner = :owner and 1 = 0"),
    calls("places of the silent are never cleared", "line.clear", "line = :line\n", "line = :line and 1 = 0\n"),
    calls("whoever stands twice goes to the end", "line.stand", "do nothing",
          "do update set seq = (select max(seq) + 1 from ticket)"),
    batches("what is set aside is anybody's", "aside.open", "ended_ms is null", "ended_ms is null and 1 = 0"),
    batches("calls draw nothing", "aside.use", "used_money + :money", "used_money + 0 * :money"),
    batches("what is left over never comes back", "aside.use", "used_calls + :calls", "used_calls + max(0, :calls)"),
    batches("more is left than was set aside", "aside.open", "case when money > used_money", "case when 1 = 1"),
    batches("batches that have ended keep it", "aside.over", "ended_ms is null and not exists", "1 = 0 and not exists"),
    batches("it is given back while tasks are left", "aside.over", "and task.ended_ms is null", "and task.state = 'ready'"),
    batches("it is set aside by outdated limits", "aside.keep", "rules = :rules", ":rules >= 0"),
    batches("a call forgets what it drew on", "call.add", ":sharing, :aside,", ":sharing, null,"),
    Mutant("a call draws on another account", function([standing], "_own", on_any_account), "batches"),
    Mutant("a batch has to have room twice", function([standing], "_drawn", whole_need), "batches"),
    Mutant("what is set aside outlives its window", function([standing], "_drawn", in_every_window), "batches"),
    caps("what a task's calls hold is free", "task_cap.held", "sum(money)", "0 * sum(money)"),
    caps("what another task's calls hold counts too", "task_cap.held", "= :task", "<> coalesce(:task, '')"),
    caps("a task's purse is charged nothing", "spend.charge", "'task:' || :task", "'tusk:' || :task"),
    caps("a task that is looked at again has spent nothing", "task_cap.open", "in ('settled', 'unknown')", "in ('')"),
    caps("what nobody knows of costs a task nothing", "task_cap.open", "('settled', 'unknown')", "('settled')"),
    caps("a cap that was moved counts as it was", "task_cap.move", "set amount = :amount", "set amount = amount + 0 * :amount"),
    caps("a cap is moved of every task", "task_cap.move", "task = :task and", ":task <> '' and"),
    caps("purses of ended tasks are kept for ever", "task_cap.over", "and task.ended_ms is null", "and 1 = 1"),
    Mutant("of several caps some are moved", function([task_caps.TaskCaps], "move", move_what_is_there), "caps"),
    Mutant("a task's cap is not asked", function([task_caps], "standings", no_caps), "caps"),
    calls("a meter forgets its total", "meter.keep", "total = excluded.total", "total = meter.total"),
)  # fmt: skip
