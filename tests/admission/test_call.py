"""A call as a block: waiting, leaving, and every way to come back."""

import logging
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from call_fleet import DAY, ME, NOON, OTHER, Opened, open_fleet

from longwatch.admission.calls import HOLD_MS, Admitted
from longwatch.errors import BudgetExceeded, ConfigError, NotFound, StoreUnavailable, UnknownPrice, WaitTimeout
from longwatch.runtime.beats import BEAT_MS
from longwatch.runtime.call import LATE_MS, Call, KeyForgotten
from longwatch.runtime.calls import Caller
from longwatch.runtime.loop import Retry

SMALL = Caller("agent", "owner-me", "small")


@pytest.fixture
def fleet(tmp_path: Path) -> Generator[Opened]:
    opened = open_fleet(tmp_path / "s.db")
    yield opened
    opened.database.close()


def enter(fleet: Opened, service: str = "free", *, caller: Caller = SMALL, money: str | None = None) -> Call:
    """The fleet keeps the call: one that is dropped ends."""
    fleet.kept.append(fleet.calls.call(service, caller=caller, money=money))
    return fleet.kept[-1].__enter__()


# -- in ------------------------------------------------------------------------------------------------------------------


def test_a_call_leaves_at_its_slot_and_knows_how_long_it_waited(fleet: Opened) -> None:
    with fleet.calls.call("slow", caller=ME) as first:
        assert (first.waited_ms, first.start_at) == (0, datetime.fromtimestamp(NOON / 1000, tz=UTC))
    with fleet.calls.call("slow", caller=ME) as second:
        assert second.waited_ms == 1_000
        assert second.start_at == datetime.fromtimestamp(NOON / 1000 + 1, tz=UTC)
    assert first.id != second.id


def test_a_call_beyond_the_horizon_waits_in_line_without_holding_anything(fleet: Opened) -> None:
    for _ in range(2):
        fleet.admit(fleet.request("slow"))
    with fleet.calls.call("slow", caller=ME) as call:
        assert call.waited_ms == 2_000


def test_the_clocks_of_fleet_and_process_may_differ(fleet: Opened) -> None:
    assert fleet.database.offset_ms == NOON - 1_000_000
    enter(fleet, "slow")
    with fleet.calls.call("slow", caller=ME, wait_ms=1_000) as call:
        assert call.waited_ms == 1_000


def test_a_wait_that_is_too_short_ends_in_a_timeout_and_leaves_nothing(fleet: Opened) -> None:
    enter(fleet, "slow")
    before = fleet.hand.steady
    with pytest.raises(WaitTimeout, match=r"did not let the call leave within 400 ms.\n  it waited for its turn"):
        enter_and_wait(fleet, "slow", wait_ms=400)
    assert fleet.hand.steady - before == 400
    assert len(fleet.limiter.open_calls()) == 1


def test_no_wait_means_not_a_moment(fleet: Opened) -> None:
    enter(fleet, "narrow")
    before = fleet.hand.steady
    with pytest.raises(WaitTimeout):
        enter_and_wait(fleet, "narrow", wait_ms=0)
    assert fleet.hand.steady == before
    with fleet.calls.call("free", caller=ME, wait_ms=0) as call:
        assert call.waited_ms == 0


def enter_and_wait(fleet: Opened, service: str, *, wait_ms: int) -> Call:
    return fleet.calls.call(service, caller=SMALL, wait_ms=wait_ms).__enter__()


def test_a_timeout_says_who_has_the_place(fleet: Opened) -> None:
    holder = enter(fleet, "narrow", caller=OTHER)
    with pytest.raises(WaitTimeout, match=f"a place at narrow, held by {holder.id} of biller for 0 s"):
        enter_and_wait(fleet, "narrow", wait_ms=500)


def test_a_place_that_is_given_back_is_taken_soon(fleet: Opened) -> None:
    holder = enter(fleet, "narrow", caller=OTHER)
    until = fleet.hand.steady + 3_000

    def give_back() -> None:
        if fleet.hand.steady >= until:
            holder.leave(None)

    fleet.sleeper.while_asleep = give_back
    with fleet.calls.call("narrow", caller=ME) as call:
        assert 3_000 <= call.waited_ms <= 3_500


def test_who_waits_for_long_says_once_for_what(fleet: Opened, caplog: pytest.LogCaptureFixture) -> None:
    holder = enter(fleet, "narrow", caller=OTHER)
    until = fleet.hand.steady + 20_000

    def give_back() -> None:
        if fleet.hand.steady >= until:
            holder.leave(None)

    fleet.sleeper.while_asleep = give_back
    with caplog.at_level(logging.WARNING, "longwatch"), fleet.calls.call("narrow", caller=ME):
        pass
    (record,) = caplog.records
    assert record.name == "longwatch"
    assert f"has waited 5 s for a place at narrow, held by {holder.id} of biller" in record.getMessage()


def test_spent_money_refuses_at_once_however_long_one_would_wait(fleet: Opened) -> None:
    with fleet.calls.call("free", caller=SMALL, money="0.001 USD"):
        pass
    before = fleet.hand.steady
    with pytest.raises(BudgetExceeded):
        enter(fleet, money="0.001 USD")
    assert fleet.hand.steady == before


def test_what_another_call_holds_is_waited_for(fleet: Opened) -> None:
    holder = enter(fleet, caller=Caller("biller", "owner-other", "small"), money="0.0009 USD")

    def give_back() -> None:
        holder.settle(money="0.0001 USD")

    fleet.sleeper.while_asleep = give_back
    with fleet.calls.call("free", caller=SMALL, money="0.0009 USD") as call:
        assert call.waited_ms > 0


def test_a_call_that_wakes_too_late_takes_another_slot(fleet: Opened) -> None:
    enter(fleet, "slow")
    fleet.sleeper.late_ms = 300
    with fleet.calls.call("slow", caller=ME) as call:
        pass
    assert "call.late" in fleet.hand.marks
    assert fleet.hand.steady >= 1_000_000 + 2_000
    assert fleet.limiter.find(call.id).slot_ms > NOON + 1_000


def test_another_slot_that_takes_longer_to_get_than_it_is_away_is_not_used_either(
    fleet: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    reslot, took_ms = fleet.limiter.reslot, iter((1_500, 0))

    def slowly(call: str, *, owner: str) -> Admitted:
        found = reslot(call, owner=owner)
        fleet.hand.advance(next(took_ms))
        return found

    enter(fleet, "slow")
    fleet.sleeper.late_ms = 300
    fleet.sleeper.while_asleep = lambda: setattr(
        fleet.sleeper, "late_ms", 0 if fleet.hand.marks.count("call.late") else 300
    )
    monkeypatch.setattr(fleet.limiter, "reslot", slowly)
    with fleet.calls.call("slow", caller=ME) as call:
        late_ms = fleet.hand.steady + fleet.database.offset_ms - fleet.limiter.find(call.id).slot_ms
    assert fleet.hand.marks.count("call.late") == 2
    assert 0 <= late_ms <= LATE_MS


def test_a_machine_that_is_always_late_still_makes_its_calls(fleet: Opened) -> None:
    def rival() -> None:
        fleet.admit(fleet.request("brisk"))

    enter(fleet, "brisk")
    fleet.sleeper.late_ms = 200
    fleet.sleeper.while_asleep = rival
    enter(fleet, "brisk")
    assert fleet.hand.marks.count("call.late") == 3


def test_lateness_is_no_matter_where_nothing_is_metered(fleet: Opened) -> None:
    call = fleet.calls.call("free", caller=ME)
    answer = call.attempt()
    assert isinstance(answer, Admitted)
    assert "call.late" not in fleet.hand.marks


def test_an_interrupted_wait_gives_everything_back(fleet: Opened) -> None:
    enter(fleet, "slow")

    def interrupt() -> None:
        raise KeyboardInterrupt

    fleet.sleeper.while_asleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        enter(fleet, "slow", money="0.0005 USD")
    assert fleet.standing("budget:small") == (0, 0)
    assert len(fleet.limiter.open_calls()) == 1


def test_an_attempt_never_sleeps_and_says_when_to_ask_again(fleet: Opened) -> None:
    enter(fleet, "slow")
    call = fleet.calls.call("slow", caller=ME)
    answer = call.attempt()
    assert isinstance(answer, Retry)
    assert answer.at_ms == fleet.hand.steady + 1_000
    fleet.hand.advance(1_000)
    assert isinstance(call.attempt(), Admitted)
    call.leave(None)
    assert fleet.limiter.find(call.id).phase == "settled"


def test_a_lost_reply_is_asked_again_and_leaves_one_call(fleet: Opened) -> None:
    fleet.database.lose = 2
    with fleet.calls.call("narrow", caller=SMALL, money="0.0004 USD") as call:
        fleet.database.lose = 1
        call.settle(money="0.0003 USD")
        fleet.database.lose = 1
    assert fleet.standing("budget:small") == (300, 0)
    assert len(fleet.journal("call.admitted")) == 1


def test_a_store_that_stays_away_is_told(fleet: Opened) -> None:
    fleet.database.lose = 100
    with pytest.raises(StoreUnavailable):
        enter(fleet)


def test_a_call_is_one_use(fleet: Opened) -> None:
    call = enter(fleet)
    with pytest.raises(ConfigError, match="was entered before"):
        call.__enter__()


# -- out -----------------------------------------------------------------------------------------------------------------


def test_without_an_actual_the_estimate_stands(fleet: Opened) -> None:
    with fleet.calls.call("free", caller=SMALL, money="0.0004 USD"):
        assert fleet.standing("budget:small") == (0, 400)
    assert fleet.standing("budget:small") == (400, 0)


def test_the_last_settlement_counts_also_after_the_block(fleet: Opened) -> None:
    with fleet.calls.call("free", caller=SMALL, money="0.0004 USD") as call:
        call.settle(money="0.0001 USD")
        call.settle(money="0.0002 USD")
    assert fleet.standing("budget:small") == (200, 0)
    call.settle(money="0.0003 USD")
    assert fleet.standing("budget:small") == (300, 0)


def test_an_exception_leaves_the_outcome_unknown_at_the_estimate(fleet: Opened) -> None:
    with pytest.raises(ValueError, match="no"), fleet.calls.call("free", caller=SMALL, money="0.0004 USD") as call:
        raise ValueError("no")
    assert fleet.limiter.find(call.id).phase == "unknown"
    assert fleet.standing("budget:small") == (400, 0)


def test_an_exception_after_the_settlement_changes_nothing(fleet: Opened) -> None:
    call = enter(fleet, money="0.0004 USD")
    call.settle(money="0.0001 USD")
    call.leave(ValueError("no"))
    assert fleet.limiter.find(call.id).phase == "settled"
    assert fleet.standing("budget:small") == (100, 0)


def test_an_error_that_proves_nothing_was_sent_costs_nothing(fleet: Opened) -> None:
    with pytest.raises(ConnectionRefusedError), fleet.calls.call("free", caller=SMALL, money="0.0004 USD") as call:
        raise ConnectionRefusedError
    assert fleet.limiter.find(call.id).phase == "released"
    assert fleet.standing("budget:small") == (0, 0)


def test_a_released_call_costs_nothing_whatever_is_raised_then(fleet: Opened) -> None:
    call = enter(fleet, money="0.0004 USD")
    call.release()
    call.leave(ValueError("no"))
    assert fleet.standing("budget:small") == (0, 0)
    with fleet.calls.call("free", caller=SMALL, money="0.0004 USD") as call:
        call.release()
    assert fleet.standing("budget:small") == (0, 0)


def test_only_a_call_that_left_can_be_settled_and_only_an_admitted_one_released(fleet: Opened) -> None:
    call = fleet.calls.call("free", caller=ME)
    with pytest.raises(ConfigError, match="has not left yet"):
        call.settle()
    with pytest.raises(ConfigError, match="was never admitted"):
        call.release()


def test_a_call_of_another_process_cannot_be_settled(fleet: Opened) -> None:
    call = enter(fleet)
    call.owner = "owner-other"
    with pytest.raises(NotFound):
        call.settle(money="0.0001 USD")


# -- prices --------------------------------------------------------------------------------------------------------------


def test_a_model_call_holds_its_worst_case_and_is_settled_from_the_answer(fleet: Opened) -> None:
    call = fleet.calls.call(
        "anthropic", caller=ME, model="claude-haiku-5-5", weight={"input_tokens": 1_000}, max_tokens=400
    )
    with call:
        assert fleet.standing("budget:growth") == (0, 300)
        call.settle({"model": "claude-haiku-5-5", "usage": {"input_tokens": 900, "output_tokens": 100}})
    assert fleet.standing("budget:growth") == (140, 0)
    kept = fleet.limiter.find(call.id)
    assert (kept.money, kept.tokens, kept.held_money) == (140, 1_000, 300)


def test_counts_of_tokens_and_a_bare_usage_settle_as_well(fleet: Opened) -> None:
    with fleet.calls.call("anthropic", caller=ME, model="claude-haiku-5-5", money="0.01 USD") as call:
        call.settle(input_tokens=900, output_tokens=100)
        assert fleet.limiter.find(call.id).money == 140
        call.settle(usage={"input_tokens": 900, "output_tokens": 200})
        assert fleet.limiter.find(call.id).money == 190


def test_an_answer_that_tells_no_usage_leaves_the_estimate(fleet: Opened) -> None:
    with fleet.calls.call("stripe", caller=ME) as call:
        call.settle({"id": "pi_1", "object": "payment_intent"})
    assert fleet.limiter.find(call.id).money == 200_000


@pytest.mark.parametrize("model", [None, "claude-new-1"])
def test_a_model_without_a_price_is_refused_before_anything_is_held(fleet: Opened, model: str | None) -> None:
    with pytest.raises(UnknownPrice):
        fleet.calls.call("anthropic", caller=ME, model=model, weight={"input_tokens": 10}, max_tokens=10)
    with fleet.calls.call("anthropic", caller=ME, model=model, money="0.01 USD") as call:
        call.settle({"usage": {"input_tokens": 900, "output_tokens": 100}})
    assert fleet.limiter.find(call.id).money == 10_000


def test_money_is_never_a_float(fleet: Opened) -> None:
    with pytest.raises(ConfigError, match="never a float"):
        fleet.calls.call("free", caller=ME, money=0.2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        fleet.calls.call("free", caller=ME, money="-0.20 USD")


def test_a_currency_without_a_rate_is_an_unknown_price(fleet: Opened) -> None:
    with pytest.raises(UnknownPrice):
        fleet.calls.call("free", caller=ME, money="0.20 GBP")


# -- keys and owners -----------------------------------------------------------------------------------------------------


def test_a_call_without_a_key_is_its_own_key_and_a_given_one_stays(fleet: Opened) -> None:
    call = fleet.calls.call("free", caller=ME)
    assert call.key == call.id
    assert fleet.calls.call("free", caller=ME, key="shop:task_1:charge:1").key == "shop:task_1:charge:1"


def test_a_forgotten_key_is_told_before_anything_is_sent(fleet: Opened) -> None:
    with fleet.calls.call("stripe", caller=ME, key="k"):
        pass
    fleet.hand.advance(DAY + 1)
    with pytest.raises(KeyForgotten, match="remembers a key for 24 h"):
        fleet.calls.call("stripe", caller=ME, key="k").__enter__()


def test_a_worker_beats_for_its_calls(fleet: Opened) -> None:
    call = enter(fleet)
    for _ in range(3):
        fleet.hand.advance(HOLD_MS // 2)
        fleet.calls.beat("owner-me")
    assert fleet.calls.expire() == 0
    assert fleet.limiter.find(call.id).phase == "leaving"


def test_without_a_worker_a_thread_beats_while_calls_are_open_and_ends_with_them(fleet: Opened) -> None:
    call = enter(fleet)
    (beating,) = fleet.sleeper.started
    naps = 0

    def leave_in_the_end() -> None:
        nonlocal naps
        naps += 1
        assert fleet.calls.expire() == 0
        if naps == 3 * HOLD_MS // BEAT_MS:
            call.leave(None)

    fleet.sleeper.while_asleep = leave_in_the_end
    beating()
    assert fleet.limiter.find(call.id).phase == "settled"
    fleet.sleeper.while_asleep = None
    enter(fleet)
    assert len(fleet.sleeper.started) == 2


def test_a_beat_that_fails_is_told_and_made_again(fleet: Opened, caplog: pytest.LogCaptureFixture) -> None:
    call = enter(fleet)
    (beating,) = fleet.sleeper.started
    naps = 0

    def lose_a_beat() -> None:
        nonlocal naps
        naps += 1
        fleet.database.lose = 1 if naps == 1 else 0
        if naps == 3:
            call.leave(None)

    fleet.sleeper.while_asleep = lose_a_beat
    with caplog.at_level(logging.WARNING, "longwatch"):
        beating()
    assert "could not be kept alive" in caplog.text


def test_a_dead_owners_calls_are_buried(fleet: Opened) -> None:
    enter(fleet, money="0.0004 USD")
    assert fleet.calls.bury("owner-me") == 1
    assert fleet.standing("budget:small") == (400, 0)
