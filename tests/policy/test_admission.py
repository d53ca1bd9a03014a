"""One decision over all limits of a call."""

from itertools import pairwise

from longwatch.policy.admission import (
    HORIZON_US,
    HORIZONS_US,
    SOONEST_US,
    Ask,
    Later,
    Metered,
    Places,
    Purse,
    Slot,
    Spent,
    TooHeavy,
    decide,
    next_slot,
)
from longwatch.policy.budget import Standing
from longwatch.policy.call import MOVES, STATES, burial, moved, phase
from longwatch.policy.limits import Cap, Limits, Rate, Service
from longwatch.policy.meter import NEW, Meter
from longwatch.policy.scope import scope_of

FAST = Rate(1_000, 1_000, 1_000)
SLOW = Rate(1, 1_000, 1)


def standing(*, cap: int = 100, spent: int = 0, held: int = 0, ends_ms: int = 1_000) -> Standing:
    return Standing("budget:growth", "money", Cap(cap, "day"), 0, ends_ms, spent, held, 1 if held else 0)


def ask(
    *metered: Metered,
    now_us: int = 0,
    until_us: int | None = None,
    places: Places | None = None,
    purses: tuple[Purse, ...] = (),
) -> Ask:
    return Ask(now_us, until_us, metered, places, purses)


def test_a_call_without_limits_leaves_now() -> None:
    assert decide(ask(now_us=7)) == Slot(7, {})


def test_every_meter_advances_as_of_the_common_slot() -> None:
    taken = Meter(free_us=2_000_000, last_us=1_000_000, total=2)
    slot = decide(ask(Metered("slow", SLOW, taken, 1), Metered("fast", FAST, NEW, 1), now_us=1_000_000))
    assert isinstance(slot, Slot)
    assert slot.at_us == 2_000_000
    assert slot.meters["fast"] == Meter(free_us=2_001_000, last_us=2_000_000, total=1)


def test_beyond_the_horizon_nothing_advances_and_the_caller_is_told_when_to_ask_again() -> None:
    taken = Meter(free_us=5_000_000, last_us=4_000_000, total=5)
    answer = decide(ask(Metered("slow", SLOW, taken, 1)))
    assert answer == Later(5_000_000 - HORIZON_US, "rate", "slow")
    again = decide(ask(Metered("slow", SLOW, taken, 1), now_us=5_000_000 - HORIZON_US))
    assert isinstance(again, Slot)


def test_a_lane_is_given_slots_before_those_that_the_lanes_below_it_may_have() -> None:
    def answer(lane: str, taken_us: int) -> object:
        taken = Meter(free_us=taken_us, last_us=0, total=5)
        return decide(ask(Metered("slow", SLOW, taken, 1))._replace(horizon_us=HORIZONS_US[lane]))

    lanes = sorted(HORIZONS_US, key=lambda lane: HORIZONS_US[lane])
    assert lanes == ["batch", "normal", "urgent"]
    for lower, upper in pairwise(lanes):
        beyond_us = HORIZONS_US[lower] + 1
        assert answer(lower, beyond_us) == Later(SOONEST_US, "rate", "slow")
        assert isinstance(answer(upper, beyond_us), Slot)


def test_a_slot_after_the_caller_has_gone_is_not_reserved() -> None:
    taken = Meter(free_us=1_000_000, last_us=0, total=1)
    assert decide(ask(Metered("slow", SLOW, taken, 1), until_us=999_999)) == Later(1_000_000, "rate", "slow")
    assert isinstance(decide(ask(Metered("slow", SLOW, taken, 1), until_us=1_000_000)), Slot)


def test_a_weight_that_no_period_can_hold_is_refused_and_one_above_the_burst_is_not() -> None:
    rate = Rate(100, 1_000, 5)
    assert decide(ask(Metered("m", rate, NEW, 101))) == TooHeavy("m", 101, 100)
    assert isinstance(decide(ask(Metered("m", rate, NEW, 100))), Slot)


def test_spent_money_refuses_at_once_even_when_all_places_are_taken() -> None:
    full = Places(used=1, most=1)
    answer = decide(ask(places=full, purses=(Purse(standing(spent=95), 6),)))
    assert answer == Spent(standing(spent=95), 6)


def test_of_two_spent_caps_the_one_that_lasts_longer_is_told() -> None:
    day, month = standing(spent=100, ends_ms=10), standing(spent=100, ends_ms=300)
    assert decide(ask(purses=(Purse(month, 1), Purse(day, 1)))) == Spent(month, 1)


def test_money_that_other_calls_hold_is_waited_for() -> None:
    answer = decide(ask(purses=(Purse(standing(spent=50, held=48), 6),)))
    assert answer == Later(None, "budget", "budget:growth")


def test_a_full_house_is_waited_for() -> None:
    assert decide(ask(places=Places(20, 20))) == Later(None, "concurrency", "concurrency")
    assert isinstance(decide(ask(places=Places(19, 20))), Slot)


def test_a_call_that_weighs_nothing_leaves_the_meter_as_it_is_but_waits_for_its_debt() -> None:
    slot = decide(ask(Metered("tokens", FAST, NEW, 0)))
    assert slot == Slot(0, {})
    deep = Meter(free_us=3_000_000, last_us=0, total=3_000)
    assert isinstance(decide(ask(Metered("tokens", FAST, deep, 0))), Later)


def test_a_late_call_gets_a_slot_however_far_away() -> None:
    taken = Meter(free_us=9_000_000, last_us=8_000_000, total=9)
    assert next_slot(ask(Metered("slow", SLOW, taken, 1))).at_us == 9_000_000


# -- scopes --------------------------------------------------------------------------------------------------------------


def test_the_narrowest_model_pattern_counts_for_the_dimensions_it_names() -> None:
    service = Service(
        "anthropic",
        rates={"requests": Rate(50, 60_000, 1), "input_tokens": Rate(40_000, 60_000, 40_000)},
        models={
            "claude-*": {"requests": Rate(60, 60_000, 1)},
            "claude-haiku-*": {"requests": Rate(200, 60_000, 3)},
        },
    )
    limits = Limits(services={"anthropic": service})
    scope = scope_of(limits, service="anthropic", model="claude-haiku-5-5", budget=None, agent="seo")
    assert {gauge.meter for gauge in scope.rates} == {
        "anthropic/claude-haiku-*/requests",
        "anthropic/input_tokens",
    }
    other = scope_of(limits, service="anthropic", model="gpt-5", budget=None, agent="seo")
    assert {gauge.meter for gauge in other.rates} == {"anthropic/requests", "anthropic/input_tokens"}


# -- the table of moves --------------------------------------------------------------------------------------------------


def test_every_move_leads_from_a_state_to_a_state() -> None:
    for moves in MOVES.values():
        assert set(moves) <= set(STATES)
        assert set(moves.values()) <= set(STATES)


def test_no_move_opens_an_ended_call_again() -> None:
    assert all(after != "open" for moves in MOVES.values() for after in moves.values())


def test_a_settled_call_is_never_released_nor_lost() -> None:
    assert moved("release", "settled") is None
    assert moved("lose", "settled") == "settled"


def test_until_its_slot_a_call_waits_and_from_then_on_it_may_be_on_its_way() -> None:
    assert phase("open", slot_us=10, now_us=9) == "waiting"
    assert phase("open", slot_us=10, now_us=10) == "leaving"
    assert burial(slot_us=10, now_us=9) == "bury_waiting"
    assert burial(slot_us=10, now_us=10) == "bury_leaving"
