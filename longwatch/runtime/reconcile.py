"""What a person, or a provider's bill, says that calls cost: by id or by key.

A call whose outcome nobody knows is charged at its hold until somebody says what it cost. What is known already is not changed,
unless it is to be corrected; an open call is its owner's affair. Calls with one key at a service that remembers keys are
one effect: the last that was made bears what it cost, and the others are settled at nothing.
Saying it twice, or going on after being killed midway, comes to the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from longwatch.admission.calls import Doubt, Word
from longwatch.admission.limiter import Limiter
from longwatch.policy.call import MOVES, Reconciling, reconciling

Outcome = Literal["reconciled", "corrected", "same", "differs", "open", "missing", "ambiguous"]
OUTCOMES: dict[Reconciling, Outcome] = {
    "reconcile": "reconciled",
    "reconcile_unsent": "reconciled",
    "correct": "corrected",
    "same": "same",
    "differs": "differs",
    "open": "open",
}


class Line(NamedTuple):
    """name: the id or the key of a call. money: micro-units of the fleet's currency; None: it was never sent."""

    name: str
    money: int | None
    note: str = ""


class Step(NamedTuple):
    call: str
    money: int | None


class Planned(NamedTuple):
    outcome: Outcome
    steps: list[Step]


@dataclass(frozen=True)
class Finding:
    """What came of a line. calls: those that it is about. before: what they were charged together."""

    line: Line
    outcome: Outcome
    calls: tuple[str, ...]
    before: int

    @property
    def after(self) -> int:
        changed = self.outcome in ("reconciled", "corrected")
        return (self.line.money or 0) if changed else self.before


def reconcile(limiter: Limiter, line: Line, *, by: str, correct: bool, dry: bool) -> Finding:
    """by: who says so. correct: also where another amount is known. dry: only tell what would come of it.

    Errors: ConfigError for amounts that cannot be.
    """
    doubts = limiter.named(line.name)
    planned = plan(doubts, line.money, correct=correct)
    come: list[Reconciling] = []
    for step in [] if dry else planned.steps:
        come.append(limiter.reconcile(step.call, Word(step.money, by, line.note, correct)))
    outcome = planned.outcome
    if len(doubts) == 1 and come:
        outcome = OUTCOMES[come[0]]  # its owner may have been faster
    return Finding(line, outcome, tuple(doubt.id for doubt in doubts), sum(_charged(doubt) for doubt in doubts))


def plan(doubts: Sequence[Doubt], money: int | None, *, correct: bool) -> Planned:
    """What to say of which call, the one that bears the cost first: in between never less is charged than in the end."""
    if not doubts:
        return Planned("missing", [])
    if len(doubts) == 1:
        one = doubts[0]
        move = reconciling(one.state, one.told, money, correct=correct)
        return Planned(OUTCOMES[move], [Step(one.id, money)] if move in MOVES else [])
    if not all(doubt.shared for doubt in doubts):
        return Planned("ambiguous", [])
    if any(doubt.state == "open" for doubt in doubts):
        return Planned("open", [])
    return _plan_together(doubts, money, correct=correct)


def _plan_together(doubts: Sequence[Doubt], money: int | None, *, correct: bool) -> Planned:
    """Of calls with one key that are one effect, none of them open."""
    live = [doubt for doubt in doubts if doubt.state != "released"] or list(doubts)
    unknown = [doubt for doubt in live if doubt.state == "unknown"]
    told = [doubt for doubt in live if doubt.state == "settled" and doubt.told]
    charged = sum(_charged(doubt) for doubt in live)
    if told and charged != (money or 0):
        if not correct or money is None:
            return Planned("differs", [])
        others = [doubt for doubt in live[:-1] if doubt.state == "unknown" or doubt.told]
        return Planned("corrected", [Step(live[-1].id, money), *(Step(each.id, 0) for each in others)])
    if told or money is None:
        rest = None if money is None else 0
        return Planned("reconciled" if unknown else "same", [Step(each.id, rest) for each in unknown])
    if unknown:
        bearer, others = unknown[-1], unknown[:-1]
        return Planned("reconciled", [Step(bearer.id, money), *(Step(each.id, 0) for each in others)])
    return plan(live[-1:], money, correct=correct)


def _charged(doubt: Doubt) -> int:
    return 0 if doubt.state == "released" else doubt.money
