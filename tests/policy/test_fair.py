"""Whoever took more out of a burst lets the others go first: all are done together, and no slot is lost for it."""

import heapq
import random
from itertools import pairwise

import pytest

from longwatch.policy.fair import MOST_US, NEAR_US, NOTHING, Had, ahead_us, given, let
from longwatch.policy.limits import Rate
from longwatch.policy.meter import NEW, earliest_us, reserve, span_us, usable_burst

RATE = Rate(50, 1_000, 50)
UNIT_US = span_us(RATE, 1)
BURST_US = span_us(RATE, usable_burst(RATE))
EACH = 14


class Crowd:
    """Processes that make calls one after another, out of one meter; how long each takes over one, while nobody waits, is
    chance. fair: as they do."""

    def __init__(
        self,
        seed: int,
        *,
        processes: int = 15,
        threads: int = 1,
        fair: bool = True,
        each: int = EACH,
        rate: Rate = RATE,
        busy_ms: int = 0,
    ) -> None:
        """busy_ms: with a call, at most; 0: as long as chance has it, and two once all wait."""
        self.draw, self.fair, self.each = random.Random(seed), fair, each
        self.rate, self.busy_ms = rate, busy_ms
        self.had: list[Had] = [NOTHING] * processes
        self.slots: list[list[int]] = [[] for _ in range(processes)]
        callers = [process for process in range(processes) for _ in range(threads)]
        self.asked = [(self.draw.randrange(30_000), process, False) for process in callers]
        self.let_us = [0] * processes
        self.meter = NEW

    def run(self) -> None:
        heapq.heapify(self.asked)
        while self.asked:
            now_us, process, has_let = heapq.heappop(self.asked)
            late_us = self.late_us(process, now_us) if self.fair and not has_let else 0
            if late_us:
                self.let_us[process] += late_us
                self.had[process] = let(self.had[process], late_us, now_us=now_us)
                heapq.heappush(self.asked, (now_us + late_us, process, True))
            else:
                self.take(process, now_us)

    def late_us(self, process: int, now_us: int) -> int:
        burst_us = span_us(self.rate, usable_burst(self.rate))
        return ahead_us(self.had[process], burst_us=burst_us, amount_us=span_us(self.rate, 1), now_us=now_us)

    def take(self, process: int, now_us: int) -> None:
        slot_us = earliest_us(self.meter, self.rate, weight=1, now_us=now_us)
        self.meter = reserve(self.meter, self.rate, weight=1, slot_us=slot_us)
        self.had[process] = given(self.had[process], slot_us=slot_us, amount_us=span_us(self.rate, 1), now_us=now_us)
        self.slots[process].append(slot_us)
        if len(self.slots[process]) < self.each:
            busy_us = self.busy_us(slot_us - now_us)
            heapq.heappush(self.asked, (slot_us + busy_us, process, False))

    def busy_us(self, waited_us: int) -> int:
        if self.busy_ms:
            return self.draw.randint(500, self.busy_ms * 1_000)
        return 2_000 if waited_us > NEAR_US else self.draw.choice([4_000, 10_000, 20_000, 60_000])

    def spread(self) -> float:
        done = [slots[-1] for slots in self.slots]
        return max(done) / min(done)


def median(found: list[float]) -> float:
    return sorted(found)[len(found) // 2]


def test_after_an_uneven_burst_all_are_done_as_if_they_had_taken_turns_from_the_start() -> None:
    spreads: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(100):
        for fair, found in spreads.items():
            crowd = Crowd(seed, fair=fair)
            crowd.run()
            found.append(crowd.spread())
    in_turn = (EACH * 15 - usable_burst(RATE)) / (EACH * 15 - 14 - usable_burst(RATE))
    assert median(spreads[False]) > 1.2
    assert median(spreads[True]) <= in_turn + 0.001
    assert sorted(spreads[True])[90] < 1.1


@pytest.mark.parametrize("seed", range(20))
def test_no_slot_is_lost_for_it(seed: int) -> None:
    ends: list[int] = []
    for fair in (True, False):
        crowd = Crowd(seed, fair=fair)
        crowd.run()
        slots = sorted(slot for each in crowd.slots for slot in each)
        assert max(after - before for before, after in pairwise(slots[usable_burst(RATE) :])) <= UNIT_US
        ends.append(slots[-1])
    assert ends[0] - ends[1] <= UNIT_US


@pytest.mark.parametrize("seed", range(20))
def test_nobody_lets_others_go_first_for_long(seed: int) -> None:
    crowd = Crowd(seed)
    crowd.run()
    assert max(crowd.let_us) <= MOST_US


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("busy_ms", [1, 5, 100, 400])
@pytest.mark.parametrize("rate", [Rate(2, 1_000, 2), RATE, Rate(50, 1_000, 5), Rate(200, 1_000, 200)])
def test_a_process_alone_lets_nobody_go_first(threads: int, busy_ms: int, rate: Rate) -> None:
    """It has the burst within a moment, and then as much as the rate allows. Of its threads one may wait for a moment."""
    ends: list[int] = []
    for fair in (True, False):
        crowd = Crowd(threads, processes=1, threads=threads, each=1_000, rate=rate, busy_ms=busy_ms, fair=fair)
        crowd.run()
        ends.append(max(crowd.slots[0]))
    assert crowd.slots[0][usable_burst(rate) + threads :]
    assert ends[0] <= ends[1] * 1.005


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_processes_with_several_threads_are_done_together_too(threads: int) -> None:
    spreads: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(40):
        for fair, found in spreads.items():
            crowd = Crowd(seed, processes=8, threads=threads, fair=fair, each=26)
            crowd.run()
            found.append(crowd.spread())
    assert median(spreads[True]) < median(spreads[False])


def test_threads_of_one_process_have_a_share_each() -> None:
    """Four calls of it wait, of eight in all: half of the slots are its own."""
    had = Had(
        begun_us=0, taken_us=BURST_US // 2, wait_us=8 * UNIT_US, others_us=4 * UNIT_US, slots=(1_000, 2_000, 3_000)
    )
    alone = had._replace(slots=(), others_us=7 * UNIT_US)
    assert ahead_us(had, burst_us=BURST_US, amount_us=UNIT_US, now_us=100) == 0
    assert ahead_us(alone, burst_us=BURST_US, amount_us=UNIT_US, now_us=100) > 0


def test_what_was_taken_long_ago_is_forgotten() -> None:
    had = Had(begun_us=0, taken_us=BURST_US, wait_us=14 * UNIT_US, others_us=13 * UNIT_US)
    assert ahead_us(had, burst_us=BURST_US, amount_us=UNIT_US, now_us=1_000) == MOST_US
    assert ahead_us(had, burst_us=BURST_US, amount_us=UNIT_US, now_us=4_000_001) == 0
    later = given(had, slot_us=5_200_000, amount_us=UNIT_US, now_us=5_000_000)
    assert later == Had((), 5_200_000, UNIT_US, 200_000, 9 * UNIT_US, (5_200_000,))


def test_where_the_burst_is_less_than_a_turn_nobody_lets_others_go_first() -> None:
    had = Had(begun_us=0, taken_us=5 * UNIT_US, wait_us=14 * UNIT_US, others_us=13 * UNIT_US)
    assert ahead_us(had, burst_us=14 * UNIT_US, amount_us=UNIT_US, now_us=1_000) == 0
    assert ahead_us(had, burst_us=15 * UNIT_US, amount_us=UNIT_US, now_us=1_000) > 0


def test_nobody_lets_others_go_first_for_longer_because_a_slot_was_free_meanwhile() -> None:
    had = let(Had(begun_us=0, taken_us=BURST_US, wait_us=14 * UNIT_US, others_us=13 * UNIT_US), MOST_US, now_us=1_000)
    had = given(had, slot_us=1_600_000, amount_us=UNIT_US, now_us=1_600_000)
    for number in range(60):
        had = given(had, slot_us=1_700_000, amount_us=UNIT_US, now_us=1_700_000 - 14 * UNIT_US * (number == 59))
    assert ahead_us(had, burst_us=BURST_US, amount_us=UNIT_US, now_us=1_710_000) == 0
    assert ahead_us(had._replace(let_us=0), burst_us=BURST_US, amount_us=UNIT_US, now_us=1_710_000) > 0


def test_whoever_comes_when_others_wait_already_has_had_nothing() -> None:
    had = NOTHING
    for turn in range(1, 10):
        had = given(had, slot_us=turn * 300_000, amount_us=UNIT_US, now_us=turn * 300_000 - 280_000)
        assert ahead_us(had, burst_us=BURST_US, amount_us=UNIT_US, now_us=turn * 300_000) == 0
