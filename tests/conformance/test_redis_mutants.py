"""Faults that somebody could make in the script that decides: each of them has to part Redis from the model."""

from functools import partial

import pytest
from engines import beside_redis

from longwatch.admission.redis.link import SCRIPT
from longwatch.testing import conformance

ENOUGH, LENGTH = 1_500, 30

FAULTS: dict[str, tuple[str, str]] = {
    "a cap is passed by the held": ("aside + w[4] + paid + kept + need > cap.cap", "aside + paid + kept + need > cap.cap"),
    "what is spent waits": ("if w[3] + aside + paid + need > cap.cap then", "if w[3] > cap.cap then"),
    "one place more": (".open >= a.most", ".open > a.most"),
    "a place is not given back": ("was_open and -1 or 0", "0"),
    "a hold is not given back": ("was_open and less(NONE, c.h) or NONE", "NONE"),
    "a call settled twice costs twice": ("counted(c.s) and c.ch or NONE", "NONE"),
    "an unknown call costs nothing": ("return state == 'settled' or state == 'unknown'", "return state == 'settled'"),
    "a meter forgets the slot": ("max(meter[1], slot) + span(gauge.w", "meter[1] + span(gauge.w"),
    "a meter gives back what has refilled": ("min(meter[1], max(moved, behind))", "min(meter[1], moved)"),
    "nothing is given back": ("if used == (before and before[1] or 0) then return end", "if used < 1e15 then return end"),
    "the horizon is left out": ("if slot > now + a.near then", "if false then"),
    "a caller's patience is left out": ("local latest = a.until_us and", "local latest = false and"),
    "calls of a burst leave at one instant": ("if not together and gauge.w > 0", "if false"),
    "usual calls of a burst leave at one instant": ("if a[figures + 4] > 0", "if false"),
    "whoever cannot wait is kept apart too": ("if latest and slot > latest then slot,", "if false then slot,"),
    "too heavy a call waits for ever": ("if gauge.w > gauge.most then", "if false then"),
    "outdated limits decide": ("if a.rules ~= st.rules then", "if false then"),
    "a beat does not push the hold": ("c.un = max(c.un, floor(now / 1000) + a.hold)", "c.un = c.un"),
    "a hold never expires": ("'ZRANGEBYSCORE', KEYS[3], 0, floor(now / 1000) * 1000 + 999", "'ZRANGEBYSCORE', KEYS[3], 0, 0"),
    "a new window begins at nothing": ("{wanted.from, wanted.to, wanted.spent, 0,", "{wanted.from, wanted.to, 0, 0,"),
    "a new window forgets the held": ("if c.s == 'open' then w[4], w[5] =", "if false then w[4], w[5] ="),
    "a late call keeps its slot": ("c.sl = common(a.gauges, found)", "common(a.gauges, found)"),
    "the calendar stands still": ("minute > st.cal then", "false then"),
    "what the released cost stays": ("if to == 'released' then told = NONE end", ""),
}  # fmt: skip
ASIDES: dict[str, tuple[str, str]] = {
    "what is set aside is anybody's": ("local held = 0", "if true then return 0 end local held = 0"),
    "a batch has to have room twice": ("need = need - min(need, left(own, w[7]))", "need = need"),
    "it outlives its window": ("if own and w[1] <= own.cal and own.cal < w[2] and", "if own and"),
    "a call draws nothing": ("if own then use(a.as, c.h) end", ""),
    "what is left over never comes back": ("use(c.as, less(told, was_open", "less(c.h, less(told, was_open"),
    "a call draws on another account": ("own.o ~= a.acc", "false"),
    "a batch is given what others hold": ("w[3] + w[4] + aside + cap.need", "w[3] + aside + cap.need"),
    "a call that only rates limit draws nothing": ("call('HEXISTS', KEYS[3], a[#a - 1]) == 1", "false"),
    "batches that have ended keep it": ("redis.call('HDEL', KEYS[5], id)", "redis.call('HDEL', KEYS[5], '')"),
}  # fmt: skip

CAPS: dict[str, tuple[str, str]] = {
    "a batch pays for its task": (" and pays(own.ps, cap.n) then", " then"),
    "what is opened again has spent nothing": ("{wanted.from, wanted.to, wanted.spent, 0,", "{wanted.from, wanted.to, 0, 0,"),
    "what is opened again holds nothing": ("if c.s == 'open' then w[4], w[5] =", "if false then w[4], w[5] ="),
}  # fmt: skip


FINDERS: dict[str, int] = {
    "a call settled twice costs twice": 43,
    "a meter gives back what has refilled": 33,
    "a beat does not push the hold": 505,
    "a new window begins at nothing": 148,
    "a new window forgets the held": 70,
    "a late call keeps its slot": 27,
    "it outlives its window": 347,
    "what is left over never comes back": 304,
    "a call that only rates limit draws nothing": 115,
    "batches that have ended keep it": 30,
    "a batch pays for its task": 117,
    "what is opened again has spent nothing": 103,
}
"""Of faults that the first programs do not find, the first one that does, by its seed: it is run before all others. When acts
change it may find nothing any more; then the others are searched, and the test says which seed to write here."""


def family_of(name: str) -> str:
    return "batches" if name in ASIDES else "caps" if name in CAPS else "decisions"


@pytest.mark.parametrize("name", FAULTS | ASIDES | CAPS)
def test_a_planted_fault_of_the_script_is_found(name: str) -> None:
    right, wrong = (FAULTS | ASIDES | CAPS)[name]
    text = SCRIPT.decode()
    assert text.count(right) >= 1, name
    make = partial(beside_redis, script=text.replace(right, wrong).encode())
    first = FINDERS.get(name, 0)
    assert first in range(ENOUGH), name
    found = conformance.search(make, [first, *range(ENOUGH)], LENGTH, family_of(name))
    assert found is not None, f"{name}: not found in {ENOUGH} programs of {LENGTH} acts"
    if name in FINDERS and found.seed != first:
        print(f"{name}: found by the program of seed {found.seed}")  # noqa: T201 - what to write into FINDERS


@pytest.mark.parametrize("name", FINDERS)
def test_a_program_that_finds_a_fault_finds_nothing_without_it(name: str) -> None:
    conformance.check(beside_redis, FINDERS[name], LENGTH, family_of(name))
