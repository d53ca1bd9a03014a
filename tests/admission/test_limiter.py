"""Admission on a real SQLite file: what is reserved, held, charged and given back."""

# pyright: reportUnknownMemberType=false
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from call_fleet import DAY, HOUR, LIMITS, MINUTE, Hand, Opened, open_fleet

from longwatch.admission.calls import HOLD_MS, Admitted
from longwatch.admission.refusals import KeyForgotten
from longwatch.errors import BudgetExceeded, ConfigError, LimitRefused, NotFound, StoreUnavailable
from longwatch.policy.admission import Later
from longwatch.policy.call import LATENESS_MS, MOST_SHARING
from longwatch.policy.limits import Budget, Cap, Limits, Service
from longwatch.runtime.persist import persist


@pytest.fixture
def fleet(tmp_path: Path) -> Generator[Opened]:
    opened = open_fleet(tmp_path / "s.db")
    yield opened
    opened.database.close()


# -- rates ---------------------------------------------------------------------------------------------------------------


def test_calls_of_a_burst_leave_in_turn_and_slots_follow_the_rate_once_it_is_used(fleet: Opened) -> None:
    def slots(number: int) -> list[int]:
        found = [fleet.admit(fleet.request("api")) for _ in range(number)]
        for slot in found:
            fleet.limiter.settle(slot.id, owner="owner-me")
        return [slot.slot_ms - fleet.now_ms() for slot in found]

    assert slots(20) + slots(20) + slots(6) == [3 * place for place in range(46)]
    fleet.hand.advance(200)  # ten units have refilled
    assert slots(14) == [3 * place for place in range(11)] + [40, 60, 80]


def test_beyond_the_horizon_the_caller_is_told_when_to_ask_and_nothing_is_written(fleet: Opened) -> None:
    assert [fleet.admit(fleet.request("slow")).slot_ms - fleet.now_ms() for _ in range(2)] == [0, 1_000]
    later = fleet.limiter.admit(fleet.request("slow"))
    assert isinstance(later, Later)
    assert later.at_us == (fleet.now_ms() + 750) * 1000  # a slot is due in 2 s, and a normal call has it 1.25 s ahead
    assert len(fleet.limiter.open_calls()) == 2
    fleet.hand.advance(750)
    assert isinstance(fleet.limiter.admit(fleet.request("slow")), Admitted)


def test_a_released_call_gives_its_slot_back(fleet: Opened) -> None:
    fleet.admit(fleet.request("slow"))
    second = fleet.admit(fleet.request("slow"))
    fleet.limiter.release(second.id, owner="owner-me")
    assert fleet.admit(fleet.request("slow")).slot_ms == second.slot_ms


def test_unused_tokens_are_given_back_and_excess_is_owed(fleet: Opened) -> None:
    def free() -> int:
        return next(rate.free for rate in fleet.limiter.peek().rates if rate.meter == "tokens/input_tokens")

    full = free()
    call = fleet.admit(fleet.request("tokens", weights={"requests": 1, "input_tokens": 30_000}))
    assert free() == full - 30_000
    fleet.limiter.settle(call.id, owner="owner-me", used={"input_tokens": 10_000})
    assert free() == full - 10_000
    fleet.limiter.settle(call.id, owner="owner-me", used={"input_tokens": 70_000})
    assert free() == full - 70_000


def test_tokens_that_nobody_estimated_are_owed_once_they_are_known(fleet: Opened) -> None:
    call = fleet.admit(fleet.request("tokens"))
    fleet.limiter.settle(call.id, owner="owner-me", used={"input_tokens": 90_000})
    later = fleet.limiter.admit(fleet.request("tokens", weights={"requests": 1, "input_tokens": 1_000}))
    assert isinstance(later, Later)


def test_a_weight_that_can_never_fit_is_refused(fleet: Opened) -> None:
    with pytest.raises(LimitRefused, match="it weighs 60001 input_tokens, its limit takes 60000"):
        fleet.limiter.admit(fleet.request("tokens", weights={"requests": 1, "input_tokens": 60_001}))


def test_a_wall_clock_that_jumps_a_day_admits_no_call_more(fleet: Opened) -> None:
    for _ in range(2):
        fleet.admit(fleet.request("slow"))
    fleet.hand.wall += DAY
    assert isinstance(fleet.limiter.admit(fleet.request("slow")), Later)


def test_a_call_that_missed_its_slot_takes_another(fleet: Opened) -> None:
    first = fleet.admit(fleet.request("slow"))
    fleet.admit(fleet.request("slow"))
    fleet.hand.advance(300)
    again = fleet.limiter.reslot(first.id, owner="owner-me")
    assert again.slot_ms - first.slot_ms == 2_000
    assert fleet.limiter.find(first.id).slot_ms == again.slot_ms
    assert fleet.journal("call.late", first.id)[0].data["late_ms"] == 300


# -- concurrency, quota --------------------------------------------------------------------------------------------------


def test_a_place_is_taken_until_the_call_ends_in_any_way(fleet: Opened) -> None:
    endings = (fleet.limiter.settle, fleet.limiter.release, fleet.limiter.unknown)
    for end in endings:
        call = fleet.admit(fleet.request("narrow"))
        assert isinstance(fleet.limiter.admit(fleet.request("narrow")), Later)
        end(call.id, owner="owner-me")
    fleet.admit(fleet.request("narrow"))


def test_a_spent_quota_refuses_until_its_window_ends(fleet: Opened) -> None:
    for _ in range(3):
        fleet.limiter.settle(fleet.admit(fleet.request("few")).id, owner="owner-me")
    with pytest.raises(LimitRefused, match="the quota of few") as refused:
        fleet.limiter.admit(fleet.request("few"))
    assert refused.value.retry_after == 12 * 3600
    fleet.hand.advance(12 * HOUR)
    fleet.admit(fleet.request("few"))


def test_a_call_of_three_requests_counts_three_times_to_the_quota(fleet: Opened) -> None:
    fleet.admit(fleet.request("few", weights={"requests": 3}))
    assert isinstance(fleet.limiter.admit(fleet.request("few")), Later)


# -- budgets -------------------------------------------------------------------------------------------------------------


def test_a_hold_is_replaced_by_the_actual(fleet: Opened) -> None:
    call = fleet.admit(fleet.request(money=600))
    assert fleet.standing("budget:small") == (0, 600)
    fleet.limiter.settle(call.id, owner="owner-me", money=450)
    assert fleet.standing("budget:small") == (450, 0)
    fleet.limiter.settle(call.id, owner="owner-me", money=300)
    assert fleet.standing("budget:small") == (300, 0)


def test_without_an_actual_the_hold_stands(fleet: Opened) -> None:
    fleet.limiter.settle(fleet.admit(fleet.request(money=600)).id, owner="owner-me")
    assert fleet.standing("budget:small") == (600, 0)


def test_a_released_call_costs_nothing_and_an_unknown_one_its_hold(fleet: Opened) -> None:
    fleet.limiter.release(fleet.admit(fleet.request(money=600)).id, owner="owner-me")
    assert fleet.standing("budget:small") == (0, 0)
    lost = fleet.admit(fleet.request(money=700)).id
    fleet.limiter.unknown(lost, owner="owner-me")
    assert fleet.standing("budget:small") == (700, 0)
    fleet.limiter.settle(lost, owner="owner-me", money=100)
    assert fleet.standing("budget:small") == (100, 0)


def test_what_other_calls_hold_is_waited_for_and_what_is_spent_is_not(fleet: Opened) -> None:
    call = fleet.admit(fleet.request(money=600))
    assert fleet.limiter.admit(fleet.request(money=600)) == Later(None, "budget", "budget:small")
    fleet.limiter.settle(call.id, owner="owner-me")
    with pytest.raises(BudgetExceeded) as refused:
        fleet.limiter.admit(fleet.request(money=401))
    error = refused.value
    assert (error.budget, error.dimension, error.cap, error.spent, error.held) == ("small", "money", 1_000, 600, 0)
    assert error.resets_at == fleet.hand.wall + 12 * HOUR
    assert error.retry_after == 12 * 3600
    assert "small cannot hold 0.000401 USD more today." in str(error)
    assert "spent 0.000600 USD, held 0.00 USD by 0 calls, cap 0.001000 USD; the day ends 25 Nov 00:00 UTC." in str(
        error
    )
    assert "[budget.small] money in longwatch.toml" in error.hint


def test_a_call_pays_into_fleet_budget_and_agent_at_once(fleet: Opened) -> None:
    fleet.admit(fleet.request(money=5_000, budget="growth", agent="seo"))
    for purse in ("fleet", "budget:growth", "agent:seo"):
        assert fleet.standing(purse) == (0, 5_000)
    assert fleet.standing("budget:growth", "calls") == (0, 1)


def test_the_narrowest_purse_decides(fleet: Opened) -> None:
    with pytest.raises(BudgetExceeded, match="agent seo"):
        fleet.limiter.admit(fleet.request(money=900_001, budget="growth", agent="seo"))
    fleet.admit(fleet.request(money=900_001, budget="growth", agent="biller"))


def test_tokens_are_a_purse_of_their_own(fleet: Opened) -> None:
    call = fleet.admit(fleet.request(budget="talk", tokens=4_000))
    assert fleet.limiter.admit(fleet.request(budget="talk", tokens=2_000)) == Later(None, "budget", "budget:talk")
    fleet.limiter.settle(call.id, owner="owner-me", tokens=1_000)
    fleet.admit(fleet.request(budget="talk", tokens=2_000))


def test_an_actual_above_its_hold_is_recorded_whole_and_told_as_broken(fleet: Opened) -> None:
    call = fleet.admit(fleet.request(money=900))
    fleet.limiter.settle(call.id, owner="owner-me", money=1_300)
    assert fleet.standing("budget:small") == (1_300, 0)
    (entry,) = fleet.journal("budget.broken")
    assert (entry.subject, entry.data["spent"], entry.data["cap"]) == ("budget:small", 1_300, 1_000)


def test_each_threshold_warns_once_a_window(fleet: Opened) -> None:
    for _ in range(2):
        for _ in range(5):
            fleet.limiter.settle(fleet.admit(fleet.request(money=200)).id, owner="owner-me")
        fleet.hand.advance(DAY)
    warned = [(entry.subject, entry.data["fraction"]) for entry in fleet.journal("budget.warned")]
    assert warned == [("budget:small", 0.5), ("budget:small", 1.0)] * 2


def test_a_new_window_begins_empty_and_an_old_hold_stays_in_the_old_one(fleet: Opened) -> None:
    held = fleet.admit(fleet.request(money=1_000))
    fleet.hand.advance(12 * HOUR)
    fleet.admit(fleet.request(money=900))
    assert fleet.standing("budget:small") == (0, 900)
    fleet.limiter.settle(held.id, owner="owner-me", money=1_000)
    assert fleet.standing("budget:small") == (0, 900)


def test_a_day_that_only_the_wall_clock_sees_opens_no_window(fleet: Opened) -> None:
    fleet.limiter.settle(fleet.admit(fleet.request(money=1_000)).id, owner="owner-me")
    fleet.hand.wall += DAY
    with pytest.raises(BudgetExceeded):
        fleet.limiter.admit(fleet.request(money=1))
    assert fleet.limiter.peek().clocks_parted
    fleet.hand.steady += DAY
    fleet.admit(fleet.request(money=1))
    fleet.hand.wall -= DAY
    fleet.admit(fleet.request(money=1))
    assert fleet.standing("budget:small") == (0, 2)


def test_reopening_the_fleet_resets_no_budget(tmp_path: Path) -> None:
    first = open_fleet(tmp_path / "s.db")
    first.limiter.settle(first.admit(first.request(money=700)).id, owner="owner-me")
    held = first.admit(first.request(money=200))
    first.database.close()
    again = open_fleet(tmp_path / "s.db", hand=first.hand)
    assert again.standing("budget:small") == (700, 200)
    with pytest.raises(BudgetExceeded):
        again.limiter.admit(again.request(money=301))
    assert again.limiter.find(held.id).money == 200
    again.database.close()


def test_a_cap_that_is_new_counts_what_was_spent_before_it(tmp_path: Path) -> None:
    without = replace(LIMITS, budgets={"small": Budget("small")})
    fleet = open_fleet(tmp_path / "s.db", limits=without)
    fleet.limiter.settle(fleet.admit(fleet.request(money=700)).id, owner="owner-me")
    fleet.hand.advance(MINUTE)
    fleet.limiter.unknown(fleet.admit(fleet.request(money=100)).id, owner="owner-me")
    fleet.limiter.release(fleet.admit(fleet.request(money=100)).id, owner="owner-me")
    fleet.limiter.adopt(LIMITS, 0)
    fleet.admit(fleet.request(money=150))
    assert fleet.standing("budget:small") == (800, 150)
    with pytest.raises(BudgetExceeded):
        fleet.limiter.admit(fleet.request(money=201))
    fleet.database.close()


def test_a_call_of_limits_that_are_gone_can_still_be_settled(fleet: Opened) -> None:
    call = fleet.admit(fleet.request(money=500))
    fleet.limiter.adopt(replace(LIMITS, services={"api": Service("api")}, budgets={"growth": Budget("growth")}), 0)
    fleet.limiter.settle(call.id, owner="owner-me", money=400)
    fleet.limiter.adopt(LIMITS, 0)
    assert fleet.standing("budget:small") == (400, 0)


# -- repetitions and ends ------------------------------------------------------------------------------------------------


def test_a_lost_reply_leaves_one_admission(fleet: Opened) -> None:
    request = fleet.request("narrow", money=600)
    fleet.database.lose = 1
    first = persist(lambda: fleet.limiter.admit(request))
    assert isinstance(first, Admitted)
    assert [call.id for call in fleet.limiter.open_calls()] == [request.id]
    assert fleet.standing("budget:small") == (0, 600)
    assert len(fleet.journal("call.admitted")) == 1


def test_a_repetition_finds_its_admission_however_the_limits_stand_now(fleet: Opened) -> None:
    slots = [fleet.request("slow") for _ in range(2)]
    first = [fleet.admit(request) for request in slots]
    assert [fleet.admit(request) for request in slots] == first
    dear = fleet.request(money=1_000)
    fleet.admit(dear)
    fleet.limiter.settle(dear.id, owner="owner-me", money=1_000)
    assert fleet.admit(dear).money == 1_000
    meter = next(rate for rate in fleet.limiter.peek().rates if rate.meter == "slow/requests")
    assert meter.next_ms == first[1].slot_ms + 1_000


@pytest.mark.parametrize("end", ["settle", "release", "unknown"])
def test_an_end_whose_reply_was_lost_is_the_same_end_when_repeated(fleet: Opened, end: str) -> None:
    call = fleet.admit(fleet.request("api", money=600))
    method = getattr(fleet.limiter, end)
    method(call.id, owner="owner-me")
    before = (fleet.limiter.peek(), fleet.limiter.find(call.id))
    method(call.id, owner="owner-me")
    assert (fleet.limiter.peek(), fleet.limiter.find(call.id)) == before


def test_a_store_that_is_away_admits_nothing(fleet: Opened) -> None:
    fleet.database.close()
    with pytest.raises(StoreUnavailable):
        fleet.limiter.admit(fleet.request())


def test_somebody_elses_call_and_one_that_never_was_are_not_found(fleet: Opened) -> None:
    call = fleet.admit(fleet.request(owner="owner-other"))
    for end in (fleet.limiter.settle, fleet.limiter.release, fleet.limiter.unknown):
        for name in (call.id, "call_none"):
            with pytest.raises(NotFound):
                end(name, owner="owner-me")
    with pytest.raises(NotFound):
        fleet.limiter.find("call_none")


def test_a_settled_call_cannot_be_released(fleet: Opened) -> None:
    call = fleet.admit(fleet.request(money=5))
    fleet.limiter.settle(call.id, owner="owner-me")
    with pytest.raises(ConfigError):
        fleet.limiter.release(call.id, owner="owner-me")
    assert fleet.standing("budget:small") == (5, 0)


# -- owners that fall silent ---------------------------------------------------------------------------------------------


def test_a_silent_owners_calls_are_charged_at_their_hold_after_the_deadline(fleet: Opened) -> None:
    call = fleet.admit(fleet.request("narrow", money=600))
    fleet.hand.advance(HOLD_MS - 1)
    assert fleet.limiter.expire() == 0
    fleet.hand.advance(1)
    assert fleet.limiter.expire() == 1
    assert fleet.limiter.find(call.id).phase == "unknown"
    assert fleet.standing("budget:small") == (600, 0)
    fleet.admit(fleet.request("narrow"))
    fleet.limiter.settle(call.id, owner="owner-me", money=50)
    assert fleet.standing("budget:small") == (50, 0)


def test_a_beating_owner_keeps_its_holds(fleet: Opened) -> None:
    mine, other = fleet.admit(fleet.request()), fleet.admit(fleet.request(owner="owner-other"))
    fleet.hand.advance(HOLD_MS - 20_000)
    assert fleet.limiter.beat("owner-me") == 1
    fleet.hand.advance(20_000)
    assert fleet.limiter.expire() == 1
    assert [call.id for call in fleet.limiter.open_calls()] == [mine.id]
    assert fleet.limiter.find(other.id).phase == "unknown"


def test_expiry_goes_in_bounded_steps(fleet: Opened) -> None:
    for _ in range(5):
        fleet.admit(fleet.request())
    fleet.hand.advance(HOLD_MS)
    assert [fleet.limiter.expire(limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_a_dead_owners_calls_before_their_slot_cost_nothing_and_the_others_their_hold(fleet: Opened) -> None:
    left = fleet.admit(fleet.request("slow", money=300))
    waiting = fleet.admit(fleet.request("slow", money=400))
    other = fleet.admit(fleet.request(money=100, owner="owner-other"))
    assert fleet.limiter.bury("owner-me") == 2
    assert fleet.limiter.find(left.id).phase == "unknown"
    assert fleet.limiter.find(waiting.id).phase == "released"
    assert fleet.limiter.find(other.id).phase == "leaving"
    assert fleet.standing("budget:small") == (300, 100)
    assert fleet.admit(fleet.request("slow")).slot_ms == waiting.slot_ms


def test_a_call_that_was_buried_too_early_is_charged_when_it_turns_out_to_have_been_made(fleet: Opened) -> None:
    fleet.admit(fleet.request("slow"))
    waiting = fleet.admit(fleet.request("slow", money=400))
    fleet.limiter.bury("owner-me")
    fleet.limiter.unknown(waiting.id, owner="owner-me")
    assert fleet.standing("budget:small") == (400, 0)
    fleet.limiter.settle(waiting.id, owner="owner-me", money=390)
    assert fleet.standing("budget:small") == (390, 0)


# -- keys ----------------------------------------------------------------------------------------------------------------


def test_a_key_that_the_service_has_forgotten_is_not_used_again(fleet: Opened) -> None:
    fleet.limiter.settle(fleet.admit(fleet.request("stripe", key="shop:task_1:charge:1")).id, owner="owner-me")
    fleet.hand.advance(DAY - LATENESS_MS)
    fleet.limiter.unknown(fleet.admit(fleet.request("stripe", key="shop:task_1:charge:1")).id, owner="owner-me")
    fleet.hand.advance(1)
    with pytest.raises(KeyForgotten):
        fleet.limiter.admit(fleet.request("stripe", key="shop:task_1:charge:1"))
    fleet.admit(fleet.request("stripe", key="shop:task_1:charge:2"))
    fleet.admit(fleet.request("free", key="shop:task_1:charge:1"))


def test_a_key_used_at_one_service_is_not_used_at_another(fleet: Opened) -> None:
    fleet.limiter.settle(fleet.admit(fleet.request("free", key="k")).id, owner="owner-me")
    fleet.hand.advance(2 * DAY)
    fleet.limiter.settle(fleet.admit(fleet.request("stripe", money=200, key="k")).id, owner="owner-me")
    assert fleet.standing("budget:small") == (200, 0)


def test_a_call_that_was_never_sent_does_not_count_as_a_use_of_its_key(fleet: Opened) -> None:
    fleet.limiter.release(fleet.admit(fleet.request("stripe", key="k")).id, owner="owner-me")
    fleet.hand.advance(2 * DAY)
    fleet.admit(fleet.request("stripe", key="k"))


# -- nothing is unlimited by a typo --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"money": -1},
        {"money": 0.5},
        {"money": True},
        {"money": 10**16},
        {"tokens": -5},
        {"weights": {"requests": 0}},
        {"weights": {"requests": -1}},
        {"weights": {"requests": 1.5}},
        {"weights": {"request": 1}},
        {"weights": {"money": 1}},
        {"lane": "urgnt"},
        {"service": "sripe"},
        {"budget": "grwth"},
    ],
)
def test_amounts_and_names_that_cannot_be_meant_are_refused(fleet: Opened, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        fleet.limiter.admit(msgspec.structs.replace(fleet.request(), **change))
    assert fleet.limiter.open_calls() == []


@pytest.mark.parametrize("amounts", [{"money": -1}, {"tokens": -1}, {"used": {"input_tokens": -1}}, {"used": {"x": 1}}])
def test_a_settlement_that_cannot_be_meant_changes_nothing(fleet: Opened, amounts: dict[str, Any]) -> None:
    call = fleet.admit(fleet.request(money=7))
    with pytest.raises(ConfigError):
        fleet.limiter.settle(call.id, owner="owner-me", **amounts)
    assert fleet.standing("budget:small") == (0, 7)


def test_without_any_names_in_the_config_every_name_is_free(tmp_path: Path) -> None:
    fleet = open_fleet(tmp_path / "s.db", limits=Limits(), hand=Hand())
    fleet.admit(fleet.request("anything", budget="anyone", money=10**9))
    fleet.database.close()


# -- one key, several calls ----------------------------------------------------------------------------------------------


def end(fleet: Opened, call: str, how: str | int) -> None:
    """how: an amount that it is settled at, or "unknown", "release"."""
    if isinstance(how, int):
        fleet.limiter.settle(call, owner="owner-me", money=how)
    else:
        getattr(fleet.limiter, how)(call, owner="owner-me")


@pytest.mark.parametrize(
    ("first", "second", "charged"),
    [
        (200, 200, (0, 200)),  # killed before the step's result, and answered from memory
        (200, 180, (0, 180)),  # the estimate stood, then the actual is read from the answer
        (200, 0, (200, 0)),  # settled at what an answer from memory costs: nothing
        (200, "unknown", (200, 0)),
        (200, "release", (200, 0)),
        ("unknown", 180, (0, 180)),
        ("unknown", 0, (300, 0)),  # nothing was told of the first
        ("unknown", "unknown", (0, 300)),
        ("release", 180, (0, 180)),
    ],
)
def test_calls_with_one_key_cost_once_where_the_service_remembers_keys(
    fleet: Opened, first: str | int, second: str | int, charged: tuple[int, int]
) -> None:
    calls = [fleet.admit(fleet.request("stripe", money=300, key="k")).id for _ in range(2)]
    assert fleet.standing("budget:small") == (0, 600), "an open call holds, whatever its key"
    for call, how in zip(calls, (first, second), strict=True):
        end(fleet, call, how)
    assert (fleet.limiter.find(calls[0]).money, fleet.limiter.find(calls[1]).money) == charged
    assert fleet.standing("budget:small") == (sum(charged), 0)
    end(fleet, calls[1], second)  # its reply was lost
    assert fleet.standing("budget:small") == (sum(charged), 0)
    assert not fleet.journal("budget.broken")


@pytest.mark.parametrize("service", ["free", "stripe"])
def test_calls_cost_each_their_own_where_the_service_forgets_or_the_keys_differ(fleet: Opened, service: str) -> None:
    for place in range(2):
        key = "k" if service == "free" else f"k{place}"
        fleet.limiter.settle(fleet.admit(fleet.request(service, money=300, key=key)).id, owner="owner-me")
    assert fleet.standing("budget:small") == (600, 0)


def test_the_order_in_which_calls_with_one_key_end_does_not_matter(fleet: Opened) -> None:
    first, second = (fleet.admit(fleet.request("stripe", money=300, key="k")).id for _ in range(2))
    end(fleet, second, 180)
    assert fleet.standing("budget:small") == (180, 300)
    end(fleet, first, 170)
    assert fleet.standing("budget:small") == (180, 0)


def test_what_a_replaced_call_cost_is_not_forgotten(fleet: Opened) -> None:
    first, second = (fleet.admit(fleet.request("stripe", money=300, key="k")).id for _ in range(2))
    end(fleet, first, 200)
    end(fleet, second, 190)
    end(fleet, second, 0)
    assert (fleet.limiter.find(first).money, fleet.limiter.find(second).money) == (200, 0)
    end(fleet, first, 150)
    assert fleet.standing("budget:small") == (150, 0)


def test_a_charge_that_is_replaced_leaves_the_window_that_it_was_made_in(tmp_path: Path) -> None:
    caps = {"money": (Cap(1_000, "day"), Cap(10_000, "total")), "calls": (Cap(9, "day"),)}
    fleet = open_fleet(tmp_path / "s.db", limits=replace(LIMITS, budgets={"small": Budget("small", caps)}))
    end(fleet, fleet.admit(fleet.request("stripe", money=300, key="k")).id, "unknown")
    windows = "select settled from spend where purse = 'budget:small' and dimension = 'money' order by ends_ms"
    assert fleet.database.connection.execute(windows).fetchall() == [(300,), (300,)]
    fleet.hand.advance(13 * HOUR)
    end(fleet, fleet.admit(fleet.request("stripe", money=300, key="k")).id, 200)
    assert fleet.database.connection.execute(windows).fetchall() == [(0,), (200,), (200,)]
    assert fleet.standing("budget:small", "calls") == (1, 0), "the repetition is a request of its own"
    fleet.database.close()


def test_the_purse_that_pays_is_that_of_the_call_that_bears_the_charge(fleet: Opened) -> None:
    end(fleet, fleet.admit(fleet.request("stripe", money=300, key="k")).id, 300)
    end(fleet, fleet.admit(fleet.request("stripe", money=300, key="k", budget="growth", agent="seo")).id, 300)
    assert [fleet.standing(purse)[0] for purse in ("fleet", "budget:small", "budget:growth")] == [300, 0, 300]


def test_tokens_with_one_key_are_counted_once(fleet: Opened) -> None:
    for tokens in (900, 800):
        call = fleet.admit(fleet.request("stripe", budget="talk", tokens=1_000, key="k")).id
        fleet.limiter.settle(call, owner="owner-me", tokens=tokens)
    assert fleet.standing("budget:talk", "tokens") == (800, 0)


def test_a_first_call_that_is_buried_late_costs_nothing_beside_the_second(fleet: Opened) -> None:
    fleet.admit(fleet.request("stripe", money=300, key="k", owner="owner-dead"))
    end(fleet, fleet.admit(fleet.request("stripe", money=300, key="k")).id, 200)
    assert fleet.standing("budget:small") == (200, 300)
    fleet.limiter.bury("owner-dead")
    assert fleet.standing("budget:small") == (200, 0)


def test_a_key_that_is_used_without_end_is_not_looked_up_without_end(fleet: Opened) -> None:
    for _ in range(MOST_SHARING + 3):
        end(fleet, fleet.admit(fleet.request("stripe", money=2, key="k")).id, 2)
    assert fleet.standing("budget:small") == (2 + 3 * 2, 0)


def test_a_fleet_keeps_what_calls_with_one_key_cost_when_its_limits_change(fleet: Opened) -> None:
    end(fleet, fleet.admit(fleet.request("stripe", money=300, key="k")).id, 300)
    forgetful = replace(LIMITS, services=LIMITS.services | {"stripe": Service("stripe")})
    fleet.limiter.adopt(forgetful, 0)
    end(fleet, fleet.admit(fleet.request("stripe", money=100, key="k")).id, 100)
    assert fleet.standing("budget:small") == (400, 0)
    fleet.limiter.adopt(LIMITS, 0)
    end(fleet, fleet.admit(fleet.request("stripe", money=200, key="k")).id, 200)
    assert fleet.standing("budget:small") == (300, 0)


def test_the_journal_says_who_bears_the_charge_of_a_key(fleet: Opened) -> None:
    first, second, third = (fleet.admit(fleet.request("stripe", money=300, key="k")).id for _ in range(3))
    end(fleet, first, 200)
    end(fleet, second, 180)
    end(fleet, third, 0)
    (moved,) = fleet.journal("call.recharged", first)
    assert (moved.data["before"], moved.data["money"], moved.data["by"]) == (200, 0, second)
    assert not fleet.journal("call.recharged", second)
    facts = [fleet.journal("call.settled", call)[0].data for call in (first, second, third)]
    assert [(found["money"], found.get("told")) for found in facts] == [(200, None), (180, None), (0, None)]


# -- the journal ---------------------------------------------------------------------------------------------------------


def test_every_move_of_a_call_is_in_the_journal(fleet: Opened) -> None:
    call = fleet.admit(fleet.request("api", money=600))
    fleet.limiter.unknown(call.id, owner="owner-me")
    fleet.limiter.settle(call.id, owner="owner-me", money=20)
    gone = fleet.admit(fleet.request(money=10))
    fleet.limiter.release(gone.id, owner="owner-me")
    told = [(entry.kind, entry.data["money"]) for entry in fleet.journal("call.", call.id)]
    assert told == [("call.admitted", 600), ("call.unknown", 600), ("call.settled", 20)]
    assert [entry.kind for entry in fleet.journal("call.", gone.id)] == ["call.admitted", "call.released"]


def test_caps_of_a_fleet_that_was_never_used_can_be_looked_at(tmp_path: Path) -> None:
    limits = Limits(fleet_money=(Cap(5, "total"),), budgets={"a": Budget("a", {"calls": (Cap(3, "hour"),)})})
    fleet = open_fleet(tmp_path / "s.db", limits=limits)
    shown = [(cap.purse, cap.cap, cap.spent, cap.held, cap.resets_at) for cap in fleet.limiter.peek().caps]
    assert shown == [("fleet", 5, 0, 0, None), ("budget:a", 3, 0, 0, fleet.hand.wall + HOUR)]
    fleet.database.close()
