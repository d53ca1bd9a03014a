"""What may happen to a call. The table of moves is the only list of states; guards and tests are made from it.

A call is admitted with a slot. Until the slot it is *waiting*: nothing can have been sent. From the slot on it is
*leaving*: it may have been sent at any instant. Both are stored as `open`, because the passing of the slot is no event
that anybody could write down in time. It ends settled (the cost is known), released (proven not sent: costs nothing) or
unknown (charged at its hold). Whatever is learned later about the cost replaces what was charged.

Calls with one key at a service that remembers keys are one effect: it took place once at most and is billed once, so one
of them bears the charge (`borne`).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

State = Literal["open", "settled", "unknown", "released"]
Phase = Literal["waiting", "leaving", "settled", "unknown", "released"]

MOVES: dict[str, dict[State, State]] = {
    "settle": {"open": "settled", "settled": "settled", "unknown": "settled", "released": "settled"},
    "release": {"open": "released", "released": "released", "unknown": "released"},
    "lose": {"open": "unknown", "unknown": "unknown", "settled": "settled", "released": "unknown"},  # nobody can tell
    "expire": {"open": "unknown"},  # its owner has been silent for too long
    "bury_waiting": {"open": "released"},  # its owner is confirmed dead, and died before the slot
    "bury_leaving": {"open": "unknown"},
    "reconcile": {"unknown": "settled"},  # a person says what it cost
    "reconcile_unsent": {"unknown": "released"},  # a person says that it never was
    "correct": {"settled": "settled", "released": "settled"},  # a person says that what is known is wrong
}

STATES: tuple[State, ...] = ("open", "settled", "unknown", "released")

LATENESS_MS = 600_000  # a call may reach its service this long after it was admitted
MOST_SHARING = 100  # calls with one key; what comes after them is charged apart, as if nobody remembered the key


Reconciling = Literal["reconcile", "reconcile_unsent", "correct", "same", "differs", "open"]
"""What comes of a person's word on a call: a move; or none, because it is the same already, or another amount is known,
or the call is open and its owner may still say."""


class Told(NamedTuple):
    """What is known of one call by itself. amount: its actual if settled, its hold if open or unknown, else 0."""

    state: State
    amount: int


def moved(move: str, state: State) -> State | None:
    """The state after the move, or None when the table does not allow it."""
    return MOVES[move].get(state)


def phase(state: State, *, slot_us: int, now_us: int) -> Phase:
    """The state as people are told it."""
    if state != "open":
        return state
    return "waiting" if now_us < slot_us else "leaving"


def burial(*, slot_us: int, now_us: int) -> str:
    """The move of an open call whose owner is confirmed dead."""
    return "bury_waiting" if now_us < slot_us else "bury_leaving"


def reconciling(state: State, charged: int, said: int | None, *, correct: bool) -> Reconciling:
    """charged: what the call costs by itself as far as is known. said: by the person, None: it was never sent."""
    if state == "open":
        return "open"
    if state == "unknown":
        return "reconcile_unsent" if said is None else "reconcile"
    if (state == "released" and not said) or (state == "settled" and said == charged):
        return "same"
    return "correct" if correct and said is not None else "differs"


def forgotten(*, age_ms: int, memory_ms: int) -> bool:
    """Whether a call admitted now may reach a service that has forgotten its key. age_ms: of the key's first use."""
    return age_ms > memory_ms - min(LATENESS_MS, memory_ms // 2)


def borne(calls: Sequence[Told]) -> list[int]:
    """What each of the calls with one key is charged, the earliest first, at a service that remembers keys.

    The last call whose actual tells of a cost bears it. A settlement at nothing tells of none: it may be the answer from
    memory that costs nothing, and says nothing of the call before it. While no actual does, the dearest unknown call is
    charged. An open call keeps its hold until it ends.
    """
    charges = [call.amount if call.state == "open" else 0 for call in calls]
    actual = [place for place, call in enumerate(calls) if call.state == "settled" and call.amount]
    doubt = [place for place, call in enumerate(calls) if call.state == "unknown"]
    if actual or doubt:
        bearer = actual[-1] if actual else max(doubt, key=lambda place: (calls[place].amount, place))
        charges[bearer] = calls[bearer].amount
    return charges
