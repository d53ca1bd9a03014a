"""Whoever takes more than its share out of a burst lets the others go first, until they have had as much.

Slots are given to whoever asks first. Once processes wait for them they take turns, because each asks again when it has had
one; but a burst is gone before anybody waits, and most of it goes to whom the machine happens to run. How much that was above
its share a process can tell by itself. Its wait tells how many stand before it, hence its share; and a meter has given its
burst and all that refilled since. It asks later by what it is ahead. The others wait meanwhile, so that no slot is lost.

Amounts are of the meter's time: a call of weight w takes as long as w units need to refill.
"""

from bisect import bisect_right
from typing import NamedTuple

SOON_US = 250_000  # what was taken without waiting, so short before others began to wait, was taken from the same burst
LONG_US = 1_000_000  # a longer wait is one in line, where whoever came first is first
NEAR_US = 2_000  # a slot so near was not waited for
MOMENT_US = 25_000  # what was taken within it is taken for one
MEMORY_US = 4_000_000  # others come and go, and nobody is held to what it once took
NEXT = 4  # tenths of the call that is asked for which count as taken: whole ones would keep back who is in his turn
PATIENT_MS = 30_000  # a call that waits no longer than that lets nobody go first: its time may run out meanwhile
MOST_US = 1_500_000  # that a process lets others go first, in all of that time


class Had(NamedTuple):
    """What one process has had of a meter. free: slots and amounts without a wait, while nobody waits. begun_us: of the burst;
    None: nobody waits. taken_us: since then. wait_us: of the last; others_us: how much of it is for others. slots: given to it,
    and still to come, in order. let_us: for how long it has let others go first, and let_at_us: when it did so first."""

    free: tuple[tuple[int, int], ...] = ()
    begun_us: int | None = None
    taken_us: int = 0
    wait_us: int = 0
    others_us: int = 0
    slots: tuple[int, ...] = ()
    let_us: int = 0
    let_at_us: int = 0


NOTHING = Had()


def given(had: Had, *, slot_us: int, amount_us: int, now_us: int) -> Had:
    """Once it has been given one more slot. Until then are those of all who wait, its own other calls among them."""
    wait_us = slot_us - now_us
    slots = (*had.slots[bisect_right(had.slots, now_us) :], max((slot_us, *had.slots[-1:])))
    free = tuple(one for one in had.free if one[0] > now_us - SOON_US)
    if wait_us <= NEAR_US:
        return had._replace(free=_with(free, slot_us, amount_us), begun_us=None, slots=slots)
    others_us = max(0, (-(-wait_us // amount_us) - len(slots)) * amount_us)
    found = had._replace(free=(), wait_us=wait_us, others_us=others_us, slots=slots)
    if had.begun_us is not None and now_us - had.begun_us <= MEMORY_US:
        return found._replace(taken_us=had.taken_us + amount_us)
    begun_us = free[0][0] if free else slot_us
    return found._replace(begun_us=begun_us, taken_us=sum(one[1] for one in free) + amount_us)


def _with(free: tuple[tuple[int, int], ...], slot_us: int, amount_us: int) -> tuple[tuple[int, int], ...]:
    """Those of one moment together, so that there are few."""
    if free and slot_us - free[-1][0] < MOMENT_US:
        return (*free[:-1], (free[-1][0], free[-1][1] + amount_us))
    return (*free, (slot_us, amount_us))


def ahead_us(had: Had, *, burst_us: int, amount_us: int, now_us: int) -> int:
    """For how long it lets others go first before it asks for one more; 0: it may ask. burst_us: of the meter, in its time."""
    if had.begun_us is None or now_us - had.begun_us > MEMORY_US or not had.others_us:
        return 0
    if had.wait_us >= min(burst_us, LONG_US):  # a burst of less than a turn makes no difference
        return 0
    own_us = amount_us * (1 + len(had.slots) - bisect_right(had.slots, now_us))
    due_us = burst_us + now_us + had.wait_us - had.begun_us
    late_us = (10 * had.taken_us + NEXT * amount_us) * (own_us + had.others_us) // (10 * own_us) - due_us
    late_us = min(late_us, MOST_US - (had.let_us if now_us - had.let_at_us <= MEMORY_US else 0))
    return late_us if late_us >= amount_us else 0


def let(had: Had, late_us: int, *, now_us: int) -> Had:
    """Once it lets others go first for so long."""
    if now_us - had.let_at_us > MEMORY_US:
        return had._replace(let_us=late_us, let_at_us=now_us)
    return had._replace(let_us=had.let_us + late_us)
