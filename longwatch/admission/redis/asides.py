"""What batches set aside where Redis decides: held there first, in the transaction that submits the batch.

The script has the amounts, because it decides by them; the ledger has them too, and says whose they are. They are set
aside in Redis while the transaction is open that writes them and the tasks down, and that holds the lock of the whole
state: whoever has this lock knows that what Redis has and the ledger does not belongs to a submitter that died.

A Redis that has lost its memory has lost what calls drew lately. So nothing stays set aside: what was, counts as spent
like everything that was allotted and not written down.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longwatch.admission import asides, refusals
from longwatch.admission.asides import Aside, Asides, Earmark, Placed
from longwatch.admission.in_force import InForce
from longwatch.admission.redis.memory import Memory, undecided
from longwatch.admission.redis.records import Run
from longwatch.admission.redis.values import Caps, Said, cap_of, said_aside, spent, text
from longwatch.db.connection import Transaction
from longwatch.errors import LongwatchError
from longwatch.policy.aside import TURNS, Missing, Want, name_of, needs_of
from longwatch.policy.window import LAST_MS, window_of

Answer = Placed | Missing | LongwatchError
ROUNDS = 12  # of what Redis has to be told before it can answer one question


@dataclass(frozen=True)
class Question:
    """As of one instant of the calendar. at_ms: 0: now. caps: what is needed of each, in its window then."""

    at_ms: int
    force: InForce
    caps: Caps
    needs: tuple[int, ...]

    def said(self) -> Said:
        caps = [
            said | {"need": need, "never": need > said["cap"] or said["to"] >= LAST_MS}
            for said, need in zip(self.caps.said, self.needs, strict=True)
        ]
        return {"at": self.at_ms, "caps": caps, "rules": self.force.rules, "turns": self.force.turns_ms, "asides": ()}


@dataclass(frozen=True)
class RedisAsides(Asides):
    memory: Memory
    run: Run
    flush: Callable[[], bool]

    def earmark(self, wants: Sequence[Want], *, later: bool = False) -> Earmark:
        """It is asked for at once, so that windows are open and ceilings high enough, and kept in the transaction."""
        force = self.force()
        force.scoped(wants)
        placed = self._look(force, wants, later=later)
        return lambda tx, batch: self._keep(tx, force, batch, wants, placed)

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _look(self, force: InForce, wants: Sequence[Want], *, later: bool) -> Answer:
        """Where there is room. What is set aside for batches that have ended is given back first."""
        self.give_back()
        found = self._decided(force, wants, at_ms=0)
        for _ in range(TURNS):
            if not isinstance(found, Missing) or found.never or not later:
                break
            found = self._decided(force, wants, at_ms=found.standing.ends_ms)
        return found

    def _decided(self, force: InForce, wants: Sequence[Want], *, at_ms: int) -> Answer:
        calendar_ms, is_told = self.calendar_ms(), not force.kept.away
        for _ in range(ROUNDS):
            question = ask(force, wants, at_ms, calendar_ms)
            kind, said, _ = self.run("aside", question.said() | {"dry": True})
            calendar_ms = said.get("cal", calendar_ms)
            if kind == "spent" and not is_told:
                is_told = True
                if self.memory.tell_untold(question.caps):
                    continue
            match kind:
                case "kept":
                    return Placed(said["at"], said["cal"], question.force.rules)
                case "spent":
                    return Missing(*spent(question.caps, said))
                case "windows":
                    continue
                case "open":
                    self.memory.open(question.caps)
                case "raise":
                    self.memory.allot(question.caps, said["low"], question.needs, times=1)
                case "rebuild":
                    self.flush()
                    self.memory.fill()
                case "later":
                    break
                case _:
                    if not self.memory.adopt(question.force.rules):
                        return refusals.overruled()
        raise undecided(self.memory.link, ROUNDS)

    def calendar_ms(self) -> int:
        """As far as the ledger knows."""
        with self.database.read() as tx:
            row = tx.one("spend.calendar")
        return 0 if row is None else int(row.at_ms)

    # -- keeping ---------------------------------------------------------------------------------------------------------

    def _keep(self, tx: Transaction, force: InForce, batch: str, wants: Sequence[Want], placed: Answer) -> int | None:
        if isinstance(placed, LongwatchError):
            raise placed
        if isinstance(placed, Missing):
            raise refusals.no_room(placed, force.limits, wall_ms=tx.wall_ms)
        if not asides.keep(tx, self.journal, batch, wants, placed):
            raise refusals.overruled()
        question = ask(force, wants, placed.at_ms, placed.now_ms)
        kept = [said_aside(new(batch, want, placed)) for want in wants]
        kind, said, _ = self.run("aside", question.said() | {"dry": False, "asides": kept})
        if kind == "spent":  # others were faster
            raise refusals.no_room(Missing(*spent(question.caps, said)), force.limits, wall_ms=tx.wall_ms)
        if kind != "kept":
            changed = undecided(self.memory.link, 1)
            changed.undone = True  # something has moved since it was looked: look again
            raise changed
        return placed.due_ms(tx)

    # -- giving it back --------------------------------------------------------------------------------------------------

    def give_back(self) -> int:
        here = self._here()
        with self.database.read() as tx:
            kept = {str(row.id) for row in tx.all("aside.open")}
            if not asides.over(tx) and here <= kept:
                return 0
        self.flush()
        with self.database.transaction() as tx:  # the lock of the whole state: nobody is submitting anything
            ended = asides.end_over(tx, self.journal)
            kept = {str(row.id) for row in tx.all("aside.open")}
            dead = sorted(self._here() - kept)
            if dead:
                self.run("drop", {"ids": dead})
        return max(ended, len(dead))

    def _here(self) -> set[str]:
        return {text(id) for id in self.run("look", {"asides": True})[1].get("ids") or ()}

    def all(self, batch: str | None = None) -> list[Aside]:
        self.flush()
        return super().all(batch)


def ask(force: InForce, wants: Sequence[Want], at_ms: int, calendar_ms: int) -> Question:
    """at_ms: 0: at the present instant of the calendar."""
    instant_ms = at_ms or calendar_ms
    then = force.at(instant_ms)
    needs = needs_of(then.scoped(wants))
    windows = tuple((cap, window_of(instant_ms, cap.cap.window, then.zone)) for cap in needs)
    caps = Caps(calendar_ms, windows, tuple(cap_of(cap, window) for cap, window in windows))
    return Question(at_ms, then, caps, tuple(needs.values()))


def new(batch: str, want: Want, placed: Placed) -> Aside:
    """Nothing has been drawn from it."""
    return Aside(
        name_of(batch, want.service), batch, want.service, want.budget, want.agent, placed.at_ms, None,
        want.money, want.calls, want.tokens, 0, 0, 0,
    )  # fmt: skip
