"""Who of those in line may ask for a slot: lanes take turns by their shares, and within a lane the first to come is the first.

Each lane of a line has a pass, which grows by one stride with every slot that the lane is given; the lane with the smallest
pass is next (stride scheduling). A lane that nobody waited in begins where the line is, so that it cannot save turns up. No
lane starves: while all of them wait, `batch` gets a slot in 21.

Whoever is next may ask; behind it, as many of its lane as would be next one after the other, up to as many as leave within a
moment: each has to find out by itself that it is its turn.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

SHARES = {"urgent": 16, "normal": 4, "batch": 1}
RANKS = {name: rank for rank, name in enumerate(SHARES)}
STRIDE = 16  # the least that every share divides
LOOK_MS = 250  # how often a process looks whether it is its turn
SILENT_MS = 2_000  # a process that has not looked for so long is passed over
GONE_MS = 60_000  # and after so long its places are taken away
BUSY_MS = 1_000  # for so long after somebody at the head had to wait, newcomers go to the line at once
MOST = 64  # of one lane that may ask at once


class Queue(NamedTuple):
    """One lane of a line. given: its pass. waiting: ids, the first to come first, as many as matter. length: all of them."""

    lane: str
    given: int
    waiting: Sequence[str]
    length: int


def stride(lane: str) -> int:
    return STRIDE // SHARES[lane]


def begins_at(lane: str, given: Mapping[str, int], waiting: Mapping[str, int]) -> int:
    """The pass of a lane that somebody begins to wait in. given: passes of all lanes; waiting: how many wait in each."""
    own = given.get(lane, 0)
    if waiting.get(lane, 0):
        return own
    return max(own, min((given.get(other, 0) for other, count in waiting.items() if count), default=own))


def turns(queues: Sequence[Queue], most: int) -> list[str]:
    """The ids of those who may ask for a slot now. most: how many of one lane at once."""
    standing = sorted((queue for queue in queues if queue.waiting), key=_next)
    if not standing:
        return []
    first = standing[0]
    in_a_row = most if len(standing) == 1 else _in_a_row(first, standing[1])
    return list(first.waiting[: min(most, in_a_row)])


def _next(queue: Queue) -> tuple[int, int]:
    return queue.given, RANKS[queue.lane]


def _in_a_row(first: Queue, second: Queue) -> int:
    """How many slots the first lane is given before the second one's turn."""
    ahead = second.given - first.given + (RANKS[first.lane] < RANKS[second.lane])
    return max(1, -(-ahead // stride(first.lane)))


def at_once(amount: int, per_ms: int) -> int:
    """How many of a lane may ask at once, at this rate: those who leave while everybody looks twice."""
    return max(1, min(MOST, -(-amount * 2 * LOOK_MS // per_ms)))


def before(queues: Sequence[Queue], lane: str, ahead: int) -> int:
    """How many slots are given before that of somebody with `ahead` of the lane before it, if nobody else came."""
    left = {queue.lane: queue.length for queue in queues if queue.length} | {lane: ahead + 1}
    given = {queue.lane: queue.given for queue in queues} | ({} if any(q.lane == lane for q in queues) else {lane: 0})
    slots = 0
    while True:
        first = min((each for each, count in left.items() if count), key=lambda each: (given[each], RANKS[each]))
        if first == lane and left[lane] == 1:
            return slots
        left[first] -= 1
        given[first] += stride(first)
        slots += 1
