"""Who of those in line may ask for a slot: lanes take turns by their shares, and within a lane the first to come is the first.

Each lane of a line has a pass, which grows by one stride with every slot that the lane is given; the lane with the smallest
pass is next (stride scheduling). A lane that nobody waited in begins where the line is, so that it cannot save turns up. No
lane starves: while all of them wait, `batch` gets a slot in 21.

Whoever is next may ask, and with it those who come after it, as many as leave within a moment: each has to find out by itself
that it is its turn, and one that sleeps must not hold up the others.
"""

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

SHARES = {"urgent": 16, "normal": 4, "batch": 1}
RANKS = {name: rank for rank, name in enumerate(SHARES)}
STRIDE = 16  # the least that every share divides
LOOK_MS = 250  # how often a process looks whether it is its turn
SLEEP_MS = 1_500  # and a call that is far from its turn: no longer than the horizon
SILENT_MS = 2_000  # a process that has not looked for so long is passed over
GONE_MS = 60_000  # and after so long its places are taken away
BUSY_MS = 1_000  # for so long after somebody at the head had to wait, newcomers go to the line at once
MOST = 64  # that may ask at once


class Queue(NamedTuple):
    """One lane of a line. given: its pass. waiting: ids, the first to come first, as many as matter."""

    lane: str
    given: int
    waiting: Sequence[str]


def stride(lane: str) -> int:
    return STRIDE // SHARES[lane]


def begins_at(lane: str, given: Mapping[str, int], waiting: Set[str]) -> int:
    """The pass of a lane that somebody begins to wait in. given: passes of all lanes; waiting: the lanes with calls in them."""
    own = given.get(lane, 0)
    if lane in waiting:
        return own
    return max(own, min((given.get(other, 0) for other in waiting), default=own))


def turns(queues: Sequence[Queue], most: int) -> list[str]:
    """The ids of those who may ask for a slot now, in the order in which they should get theirs; most: how many."""
    passes = {queue.lane: queue.given for queue in queues if queue.waiting}
    waiting = {queue.lane: list(reversed(queue.waiting)) for queue in queues if queue.waiting}
    found: list[str] = []
    while waiting and len(found) < most:
        first = min(waiting, key=lambda lane: (passes[lane], RANKS[lane]))
        found.append(waiting[first].pop())
        passes[first] += stride(first)
        if not waiting[first]:
            del waiting[first]
    return found


def at_once(amount: int, per_ms: int) -> int:
    """How many may ask at once, at this rate: those who leave while everybody looks twice."""
    return max(1, min(MOST, -(-amount * 2 * LOOK_MS // per_ms)))


def before(given: Mapping[str, int], waiting: Mapping[str, int], lane: str, ahead: int) -> int:
    """How many slots are given before that of somebody with `ahead` of the lane before it, if nobody else came.

    given: passes; waiting: how many wait in each lane.
    """
    left = {other: count for other, count in waiting.items() if count} | {lane: ahead + 1}
    passes = {other: given.get(other, 0) for other in left}
    slots = 0
    while True:
        first = min((each for each, count in left.items() if count), key=lambda each: (passes[each], RANKS[each]))
        if first == lane and left[lane] == 1:
            return slots
        left[first] -= 1
        passes[first] += stride(first)
        slots += 1


def look_again_ms(waited_ms: int, least_ms: int) -> int:
    """How long a call in line may sleep that has waited for so long, and will wait for at least so long in all if nobody
    before it gives up. Should they, slots have been given away for as long as the horizon."""
    return max(LOOK_MS, min((least_ms - waited_ms) // 2, SLEEP_MS))


def look_at_turn_ms(now_ms: int, ask_ms: int) -> int:
    """When a call looks again whose turn it is, and for which there is no slot before ask_ms.

    While that is far away nobody else is given one either, and it may be silent, as long as it looks once more in time.
    """
    if ask_ms - now_ms > SILENT_MS:
        return min(ask_ms - 2 * LOOK_MS, now_ms + GONE_MS // 3)
    return min(ask_ms, now_ms + LOOK_MS)
