"""What may happen to a call. The table of moves is the only list of states; guards and tests are made from it.

A call is admitted with a slot. Until the slot it is *waiting*: nothing can have been sent. From the slot on it is
*leaving*: it may have been sent at any instant. Both are stored as `open`, because the passing of the slot is no event
that anybody could write down in time. It ends settled (the cost is known), released (proven not sent: costs nothing) or
unknown (charged at its hold). Whatever is learned later about the cost replaces what was charged.
"""

from typing import Literal

State = Literal["open", "settled", "unknown", "released"]
Phase = Literal["waiting", "leaving", "settled", "unknown", "released"]

MOVES: dict[str, dict[State, State]] = {
    "settle": {"open": "settled", "settled": "settled", "unknown": "settled", "released": "settled"},
    "release": {"open": "released", "released": "released", "unknown": "released"},
    "lose": {"open": "unknown", "unknown": "unknown", "settled": "settled", "released": "unknown"},  # nobody can tell
    "expire": {"open": "unknown"},  # its owner has been silent for too long
    "bury_waiting": {"open": "released"},  # its owner is confirmed dead, and died before the slot
    "bury_leaving": {"open": "unknown"},
}

STATES: tuple[State, ...] = ("open", "settled", "unknown", "released")


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
