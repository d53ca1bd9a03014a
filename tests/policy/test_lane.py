"""Lines: nobody starves, shares hold, and a lane that was empty saves nothing up."""

import random

import pytest

from longwatch.policy import lane
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.lane import Queue, before, begins_at, look_again_ms, look_at_turn_ms, stride, turns

LANES = tuple(lane.SHARES)


class Line:
    """A line as the state keeps it, with everybody in it looking."""

    def __init__(self) -> None:
        self.given: dict[str, int] = {}
        self.waiting: dict[str, list[str]] = {name: [] for name in LANES}

    def stand(self, name: str, id: str) -> None:
        self.given[name] = begins_at(name, self.given, {each for each, ids in self.waiting.items() if ids})
        self.waiting[name].append(id)

    def queues(self) -> list[Queue]:
        return [Queue(name, self.given.get(name, 0), ids[:64]) for name, ids in self.waiting.items() if ids]

    def before(self, name: str, ahead: int) -> int:
        return before(self.given, {each: len(ids) for each, ids in self.waiting.items()}, name, ahead)

    def serve(self, draw: random.Random, most: int = 8) -> str:
        """Somebody who may ask gets the next slot; his lane."""
        chosen = draw.choice(turns(self.queues(), most))
        name = next(name for name, ids in self.waiting.items() if chosen in ids)
        self.waiting[name].remove(chosen)
        self.given[name] += stride(name)
        return name


def full(draw: random.Random, each: int) -> Line:
    line = Line()
    for number in range(each):
        for name in draw.sample(LANES, len(LANES)):
            line.stand(name, f"{name}-{number}")
    return line


@pytest.mark.parametrize("seed", range(5))
def test_slots_go_to_lanes_by_their_shares_while_all_of_them_wait(seed: int) -> None:
    draw = random.Random(seed)
    line = full(draw, 400)
    served = [line.serve(draw) for _ in range(420)]
    found = {name: served.count(name) for name in LANES}
    assert found == pytest.approx({"urgent": 320, "normal": 80, "batch": 20}, abs=8)


@pytest.mark.parametrize("seed", range(20))
def test_no_lane_starves_however_the_others_fill_up(seed: int) -> None:
    draw = random.Random(seed)
    line = Line()
    line.stand("batch", "the one")
    number = 0
    while line.waiting["batch"] and number < 200:
        number += 1
        for name in ("urgent", "urgent", "normal"):
            line.stand(name, f"{name}-{number}-{draw.random()}")
        line.serve(draw)
    assert number <= 3 * sum(lane.SHARES.values())
    assert line.waiting["batch"] == []


def test_an_urgent_one_is_next_behind_a_thousand() -> None:
    draw, line = random.Random(1), Line()
    for number in range(1_000):
        line.stand("batch", f"batch-{number}")
    for _ in range(100):
        line.serve(draw)
    line.stand("urgent", "now")
    assert turns(line.queues(), 8)[0] == "now"
    assert line.before("urgent", 0) == 0


def test_a_lane_that_was_empty_has_no_turns_saved_up() -> None:
    draw, line = random.Random(1), Line()
    for number in range(2_000):
        line.stand("normal", f"normal-{number}")
    for _ in range(1_000):
        line.serve(draw)
    for number in range(100):
        line.stand("batch", f"batch-{number}")
    served = [line.serve(draw) for _ in range(100)]
    assert served.count("batch") == pytest.approx(20, abs=2), "one in five, from the start"


@pytest.mark.parametrize("seed", range(20))
def test_what_comes_before_a_place_is_what_is_served_before_it(seed: int) -> None:
    draw = random.Random(seed)
    line = full(draw, draw.randrange(1, 30))
    for _ in range(draw.randrange(0, 10)):
        line.serve(draw, most=1)
    name = draw.choice([each for each in LANES if line.waiting[each]])
    ahead = draw.randrange(len(line.waiting[name]))
    wanted, mine = line.before(name, ahead), line.waiting[name][ahead]
    served = 0
    while mine in line.waiting[name]:
        line.serve(draw, most=1)
        served += 1
    assert served - 1 == wanted


def test_in_a_lane_the_first_to_come_is_the_first() -> None:
    line = Line()
    for number in range(5):
        line.stand("normal", str(number))
    assert turns(line.queues(), 3) == ["0", "1", "2"]


def test_nobody_in_line_is_nobodys_turn() -> None:
    assert turns([], 8) == []
    assert turns([Queue("batch", 0, ())], 8) == []


def test_a_call_far_from_its_turn_sleeps_longer_and_never_beyond_the_horizon() -> None:
    assert look_again_ms(0, 40_000) == lane.SLEEP_MS <= HORIZON_US // 1000
    assert look_again_ms(38_000, 40_000) == 1_000
    assert look_again_ms(39_900, 40_000) == look_again_ms(90_000, 40_000) == lane.LOOK_MS


def test_whoever_waits_for_a_slot_far_away_is_there_again_before_it_comes() -> None:
    assert look_at_turn_ms(0, 100) == 100
    assert look_at_turn_ms(0, 1_900) == lane.LOOK_MS
    assert look_at_turn_ms(0, 10_000) == 10_000 - 2 * lane.LOOK_MS
    assert look_at_turn_ms(0, 3_600_000) < lane.GONE_MS, "or its place would be taken away"


def test_as_many_ask_at_once_as_leave_within_a_moment() -> None:
    assert lane.at_once(40, 1_000) == 20
    assert lane.at_once(50, 60_000) == 1
    assert lane.at_once(100_000, 1_000) == lane.MOST
