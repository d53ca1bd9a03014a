"""Moves of one call, in an open transaction: its row, what its purses have spent, its meters, and the journal, together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from longwatch.admission import asides, keys, standing, task_caps
from longwatch.admission.calls import CallRequest, Weights, Word, check_amount, facts_of, weights_of
from longwatch.admission.keys import TOGETHER, Charge
from longwatch.admission.standing import Prepared, Read
from longwatch.db.connection import Row, Transaction
from longwatch.errors import ConfigError
from longwatch.policy import budget, meter
from longwatch.policy.admission import Slot
from longwatch.policy.budget import BROKEN, MILLION
from longwatch.policy.call import MOVES, Reconciling, moved, reconciling
from longwatch.policy.limits import DIMENSIONS
from longwatch.policy.meter import NEW, Meter
from longwatch.policy.scope import PurseCap
from longwatch.store.journal import Journal

Scopes = Callable[[Row], Prepared]
"""The scope of the call of a row, under the limits now in force."""


NOTHING = Charge(0, 0, 0)
COUNTED = ("settled", "unknown")  # states whose charge is part of what a purse has spent


def hold_of(row: Row) -> Charge:
    return Charge(row.held_money, row.held_calls, row.held_tokens)


def spent_on(row: Row) -> Charge:
    """What of the call is in its purses' windows."""
    return Charge(row.money, row.calls, row.tokens) if row.state in COUNTED else NOTHING


def tokens_known(row: Row) -> int:
    """A person says what a call cost, and nothing of its tokens."""
    return int(row.held_tokens if row.state == "released" else row.told_tokens)


@dataclass(frozen=True)
class Ledger:
    """away: of calls that the state decides about while an engine beside it is away, and of which that is not told."""

    journal: Journal
    scopes: Scopes
    away: bool = False

    def add(
        self, tx: Transaction, request: CallRequest, read: Read, slot: Slot, *, rules: int, hold_ms: int, sharing: int
    ) -> bool:
        """Write the admitted call down and advance its meters; False when the id was admitted before, or by old rules.

        sharing: whether its service remembers its key, and other calls have that key (keys.py).
        """
        weights = {
            metered.name: (metered.weight, slot.meters[metered.name].total)
            for metered in read.ask.metered
            if metered.weight
        }
        added = tx.count(
            "call.add",
            id=request.id,
            key=request.key,
            service=request.service,
            model=request.model,
            agent=request.agent,
            budget=request.budget,
            owner=request.owner,
            task=request.task,
            run=request.run,
            step=request.step,
            lane=request.lane,
            slot_us=slot.at_us,
            calendar_ms=read.calendar_ms,
            hold_ms=hold_ms,
            weights=_text(weights),
            money=request.money,
            calls=request.calls,
            tokens=request.tokens,
            sharing=sharing,
            aside=read.aside,
            own_task=request.charged_task,
            rules=rules,
        )
        if added and sharing == TOGETHER:
            keys.join(tx, request)
        if added and read.aside is not None:
            asides.use(tx, read.aside, Charge(request.money, request.calls, request.tokens))
        if added and self.away:
            tx.count("away.mark", id=request.id)
        if added:
            standing.keep_meters(tx, slot.meters)
            self._tell_admitted(tx, request, slot)
        return bool(added)

    def _tell_admitted(self, tx: Transaction, request: CallRequest, slot: Slot) -> None:
        wait_ms = max(0, slot.at_us // 1000 - tx.now_ms)
        self.journal.append(
            tx,
            "call.admitted",
            request.id,
            agent=request.agent,
            task=request.task,
            wait_ms=wait_ms,
            **facts_of(request),
        )
        self.tell_degraded(tx, request)

    def tell_degraded(self, tx: Transaction, request: CallRequest) -> None:
        """Of a call whose model is not the one that was asked for; on its run, where it has one."""
        if request.instead_of is not None:
            facts = {"from": request.instead_of, "to": request.model, "budget": request.budget, "call": request.id}
            self.journal.append(
                tx, "call.degraded", request.run or request.id, agent=request.agent, task=request.task, **facts
            )

    def settle(self, tx: Transaction, row: Row, charge: Charge, used: Mapping[str, int]) -> None:
        """The cost is known. used: actual units by dimension, where they are known. Twice replaces."""
        for what, amount in (("money", charge.money), ("calls", charge.calls), ("tokens", charge.tokens)):
            check_amount(what, amount)
        self._move(tx, row, "settle", charge, weights=self._corrected(tx, row, used))

    def lose(self, tx: Transaction, row: Row, move: str) -> None:
        """The outcome is not known: charged at the hold. A call that is settled already stays so."""
        if row.state in ("open", "released"):
            self._move(tx, row, move, hold_of(row), weights=weights_of(row))

    def release(self, tx: Transaction, row: Row, move: str) -> None:
        """It was not sent: it costs nothing, and its meters get back what is still theirs to have."""
        if row.state != "released":
            unused: dict[str, int] = dict.fromkeys(DIMENSIONS, 0)
            self._move(tx, row, move, NOTHING, weights=self._corrected(tx, row, unused))

    def hear(self, tx: Transaction, row: Row, word: Word) -> Reconciling:
        """A person says what the call cost; what came of it. row: with what it is told to cost (call.doubt)."""
        move = reconciling(row.state, row.told_money, word.money, correct=word.correct)
        if move in ("reconcile", "correct"):
            charge = Charge(word.money or 0, row.held_calls, tokens_known(row))
            self._move(tx, row, move, charge, weights=weights_of(row))
        elif move == "reconcile_unsent":
            self.release(tx, row, move)
        if move in MOVES:
            self.tell_heard(tx, row, word, before=row.told_money, state=row.state)
        return move

    def tell_heard(self, tx: Transaction, row: Row, word: Word, *, before: int, state: str) -> None:
        """before, state: what it was charged, and how it stood."""
        facts = {"by": word.by, "note": word.note, "before": before, "state": state}
        self.journal.append(tx, "call.reconciled", row.id, agent=row.agent, task=row.task, money=word.money, **facts)

    def move_slot(self, tx: Transaction, row: Row, slot: Slot) -> None:
        """The call leaves at a later slot than the one it missed, which is lost."""
        weights = weights_of(row)
        after = {name: (weights[name][0], found.total) for name, found in slot.meters.items()}
        tx.count("call.move_slot", id=row.id, slot_us=slot.at_us, weights=_text(weights | after))
        standing.keep_meters(tx, slot.meters)
        late_ms = tx.now_ms - row.slot_us // 1000
        self.journal.append(tx, "call.late", row.id, agent=row.agent, task=row.task, late_ms=late_ms)

    def _move(self, tx: Transaction, row: Row, move: str, told: Charge, *, weights: Weights) -> None:
        self.move(tx, row, move, told, weights=weights)

    def move(self, tx: Transaction, row: Row, move: str, told: Charge, *, weights: Weights) -> list[tuple[Row, Charge]]:
        """The call ends, or what is known of its end changes. told: what it costs, if no other call has its key.

        What the calls with its key are charged from now on, where there are any that its service remembers.
        """
        state = moved(move, row.state)
        if state is None:
            raise ConfigError(f"{row.id} is {row.state}: it cannot be changed by {move} any more")
        shared = keys.shares(tx, row, state, told) if row.sharing == TOGETHER else []
        charge = next((charge for found, charge in shared if found.id == row.id), told)
        tx.count(
            "call.close",
            id=row.id,
            state=state,
            money=charge.money,
            calls=charge.calls,
            tokens=charge.tokens,
            told_money=told.money if shared else None,
            told_tokens=told.tokens if shared else None,
            weights=_text(weights),
        )
        if shared:
            self._share(tx, row, shared)
        else:
            asides.recharge(tx, row, charge)
            self._spend(tx, row, charge)
        facts = {"money": charge.money, "held": row.held_money, "service": row.service, "budget": row.budget}
        if charge != told:
            facts["told"] = told.money
        self.journal.append(tx, f"call.{state}", row.id, agent=row.agent, task=row.task, move=move, **facts)
        return [(found, charge) for found, charge in shared if found.id == row.id or found.state in COUNTED]

    def _share(self, tx: Transaction, ended: Row, shared: list[tuple[Row, Charge]]) -> None:
        """Charge every call with the key of the one that ended; the falling ones first, so that no cap is passed meanwhile."""
        for row, charge in sorted(shared, key=lambda share: share[1].money - spent_on(share[0]).money):
            if row.id != ended.id and charge != Charge(row.money, row.calls, row.tokens):
                tx.count("call.recharge", id=row.id, money=charge.money, tokens=charge.tokens)
                facts = {"money": charge.money, "before": row.money, "by": ended.id, "service": row.service}
                self.journal.append(
                    tx, "call.recharged", row.id, agent=row.agent, task=row.task, budget=row.budget, **facts
                )
            if row.id == ended.id or row.state in COUNTED:
                asides.recharge(tx, row, charge)
                self._spend(tx, row, charge)
                if row.away and not self.away:
                    self._spend_untold(tx, row, charge)

    # -- purses ----------------------------------------------------------------------------------------------------------

    def _spend(self, tx: Transaction, row: Row, charge: Charge) -> None:
        self.spend(tx, row, charge)

    def spend(self, tx: Transaction, row: Row, charge: Charge) -> None:
        """Add to the windows the call was made in what it costs more than it was charged there before."""
        before = spent_on(row)
        if charge == before:
            return
        changed = tx.all(
            "spend.charge",
            agent=row.agent,
            service=row.service,
            budget=row.budget,
            task=row.task,
            calendar_ms=row.calendar_ms,
            money=charge.money - before.money,
            calls=charge.calls - before.calls,
            tokens=charge.tokens - before.tokens,
        )
        if self.away:
            self._spend_untold(tx, row, charge)
        prepared = self.scopes(row)
        for window in changed:
            if task_caps.is_of_task(window.purse):
                cap, first = task_caps.of_window(tx, window), 0
            else:
                cap, first = prepared.told.get((window.purse, window.dimension, window.per), (None, 0))
            if cap is not None and window.settled >= first:
                self._warn(tx, row, cap, window)

    def _spend_untold(self, tx: Transaction, row: Row, charge: Charge) -> None:
        """The engine beside the state does not count it."""
        before = spent_on(row)
        tx.count(
            "away.charge",
            agent=row.agent,
            service=row.service,
            budget=row.budget,
            calendar_ms=row.calendar_ms,
            money=charge.money - before.money,
            calls=charge.calls - before.calls,
            tokens=charge.tokens - before.tokens,
        )

    def _warn(self, tx: Transaction, row: Row, cap: PurseCap, window: Row) -> None:
        amount = cap.cap.amount
        for mark in budget.newly_reached(cap.warn, cap=amount, spent=window.settled, told=window.warned):
            tx.count(
                "spend.warn",
                warned=mark,
                purse=window.purse,
                dimension=window.dimension,
                per=window.per,
                ends_ms=window.ends_ms,
            )
            kind = "budget.broken" if mark == BROKEN else "budget.warned"
            facts = {"dimension": window.dimension, "per": window.per, "cap": amount, "spent": window.settled}
            fraction = None if mark == BROKEN else mark / MILLION
            self.journal.append(tx, kind, window.purse, agent=row.agent, task=row.task, fraction=fraction, **facts)

    # -- meters ----------------------------------------------------------------------------------------------------------

    def _corrected(self, tx: Transaction, row: Row, used: Mapping[str, int]) -> Weights:
        """Move the meters by what was used more or less than reserved; the call's weights as they then are."""
        weights = weights_of(row)
        prepared = self.scopes(row)
        changes = [
            (gauge, weights.get(gauge.meter), used[gauge.dimension])
            for gauge in prepared.scope.gauges
            if gauge.dimension in used and used[gauge.dimension] != weights.get(gauge.meter, (0, 0))[0]
        ]
        if not changes:
            return weights
        found = standing.meters(tx, prepared)
        kept: dict[str, Meter] = {}
        for gauge, reserved, units in changes:
            check_amount(gauge.dimension, units)
            meter_then = found.get(gauge.meter, NEW)
            units_then, total_then = reserved or (0, meter_then.total)
            after = meter.correct(
                meter_then, gauge.rate, reserved=units_then, used=units, slot_us=row.slot_us, total_then=total_then
            )
            kept[gauge.meter] = after
            weights[gauge.meter] = (units, total_then if reserved else after.total)
        standing.keep_meters(tx, kept)
        return weights


def _text(weights: Weights) -> str:
    return standing.encode(weights).decode()
