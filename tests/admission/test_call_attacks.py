"""What a hostile program, or a careless one, may do with a call: nothing leaves unpaid, uncounted, or is held for ever."""

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest
from call_fleet import LIMITS, ME, Forgetful, Opened, open_fleet

from longwatch.admission.calls import HOLD_MS
from longwatch.errors import ConfigError, LongwatchError, StoreUnavailable
from longwatch.policy.limits import Budget, Cap
from longwatch.runtime.call import Call
from longwatch.runtime.calls import Caller
from longwatch.surface.blocks import Block

SMALL = Caller("agent", "owner-me", "small")


@pytest.fixture
def fleet(tmp_path: Path) -> Generator[Opened]:
    opened = open_fleet(tmp_path / "s.db")
    yield opened
    opened.database.close()


def priced(fleet: Opened, service: str = "free", money: str = "0.0004 USD", wait_ms: int | None = None) -> Call:
    return fleet.calls.call(service, caller=SMALL, money=money, wait_ms=wait_ms)


def block_of(fleet: Opened, call: Call) -> Block[Call]:
    return Block(call, fleet.hand.steady_ms, give_up=call.abandon)


# -- entered more than once ----------------------------------------------------------------------------------------------


def test_a_call_is_one_use_in_an_event_loop_too(fleet: Opened) -> None:
    async def twice() -> None:
        block = block_of(fleet, priced(fleet))
        async with block:
            pass
        async with block:
            pass

    with pytest.raises(ConfigError, match="was entered before"):
        asyncio.run(twice())
    assert fleet.standing("budget:small") == (400, 0)


def test_a_call_whose_wait_was_cancelled_does_not_leave_at_the_slot_it_gave_back(fleet: Opened) -> None:
    first = priced(fleet, "slow")
    first.__enter__()
    call = priced(fleet, "slow")
    call.attempt()
    call.abandon()
    assert fleet.standing("budget:small") == (0, 400)
    fleet.hand.advance(1_000)
    with pytest.raises(ConfigError, match="was entered before"):
        call.attempt()
    first.leave(None)


def test_of_many_threads_that_enter_one_call_one_gets_in(fleet: Opened) -> None:
    call, start, outcomes = priced(fleet), threading.Barrier(8), list[str]()

    def enter() -> None:
        start.wait(10)
        try:
            call.__enter__()
            outcomes.append("in")
        except ConfigError:
            outcomes.append("refused")

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes) == ["in"] + ["refused"] * 7
    assert fleet.standing("budget:small") == (0, 400)
    call.leave(None)


def test_threads_that_settle_and_leave_one_call_charge_it_once(fleet: Opened) -> None:
    call = priced(fleet).__enter__()
    acts: list[Callable[[], None]] = [lambda: call.settle(money="0.0003 USD")] * 4 + [lambda: call.leave(None)] * 4
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    call.settle(money="0.0003 USD")
    assert fleet.standing("budget:small") == (300, 0)


# -- broken off ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_whatever_breaks_the_block_off_the_estimate_is_charged(fleet: Opened, error: type[BaseException]) -> None:
    with pytest.raises(error), priced(fleet):
        raise error
    assert fleet.standing("budget:small") == (400, 0)


def test_a_generator_that_is_dropped_inside_a_call_is_charged(fleet: Opened) -> None:
    def stream() -> Generator[int]:
        with priced(fleet):
            yield 1

    tokens = stream()
    next(tokens)
    del tokens
    gc.collect()
    assert fleet.standing("budget:small") == (400, 0)


def test_an_interrupt_just_after_the_admission_landed_leaves_nothing_held(
    fleet: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fleet.limiter.admit

    def interrupted(request: object) -> None:
        real(request)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(fleet.limiter, "admit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        priced(fleet, "narrow").__enter__()
    assert fleet.standing("budget:small") == (0, 0)
    assert not fleet.limiter.open_calls()


def test_replies_that_stay_lost_while_a_call_is_admitted_leave_nothing_held(fleet: Opened) -> None:
    fleet.database.lose = 5  # four admissions, and the first try to give it back
    with pytest.raises(StoreUnavailable):
        priced(fleet, "narrow").__enter__()
    assert not fleet.limiter.open_calls()


def test_a_cancelled_wait_gives_its_place_back(fleet: Opened) -> None:
    first = priced(fleet, "slow").__enter__()

    async def cancelled() -> None:
        async with block_of(fleet, priced(fleet, "slow")):
            raise AssertionError("its slot is a second away")

    async def main() -> None:
        work = asyncio.create_task(cancelled())
        while len(fleet.limiter.open_calls()) < 2:
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())
    assert [call.id for call in fleet.limiter.open_calls()] == [first.id]
    first.leave(None)


# -- never left ----------------------------------------------------------------------------------------------------------


class Away:
    """The store is away for the length of a block: nothing lands."""

    def __init__(self, database: Forgetful, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database, self.patch = database, monkeypatch

    def __enter__(self) -> None:
        def refuse(**_: object) -> None:
            raise StoreUnavailable("away")

        self.patch.setattr(self.database, "transaction", refuse)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


@pytest.mark.parametrize("settles", [True, False])
@pytest.mark.parametrize("paid_by", ["beat", "call"])
def test_an_end_that_could_not_be_written_is_written_once_the_store_is_back(
    fleet: Opened, monkeypatch: pytest.MonkeyPatch, *, settles: bool, paid_by: str
) -> None:
    """Its process lives, and beats for all its calls: else its place would be taken for as long as it lives."""
    call = priced(fleet, "narrow").__enter__()
    with Away(fleet.database, monkeypatch):
        with pytest.raises(StoreUnavailable):
            call.settle(money="0.0001 USD") if settles else call.leave(None)
        if settles:
            call.leave(None)
    assert fleet.standing("budget:small") == (0, 400)
    if paid_by == "beat":
        fleet.calls.beat("owner-me")
    with priced(fleet, "narrow", "0.0002 USD", wait_ms=0):
        pass
    assert fleet.standing("budget:small") == ((100 if settles else 400) + 200, 0)


def test_the_last_settlement_counts_also_when_the_first_could_not_be_written(
    fleet: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = priced(fleet).__enter__()
    with Away(fleet.database, monkeypatch), pytest.raises(StoreUnavailable):
        call.settle(money="0.0001 USD")
    call.settle(money="0.0003 USD")
    call.leave(None)
    fleet.calls.beat("owner-me")
    assert fleet.standing("budget:small") == (300, 0)


def test_a_call_that_is_dropped_without_being_left_is_charged_and_its_place_is_free(fleet: Opened) -> None:
    priced(fleet, "narrow").__enter__()
    gc.collect()
    with priced(fleet, "narrow", "0.0002 USD", wait_ms=0):
        pass
    assert fleet.standing("budget:small") == (600, 0)


def test_a_call_that_is_held_on_to_is_not_taken_for_dropped(fleet: Opened) -> None:
    call = priced(fleet).__enter__()
    gc.collect()
    fleet.calls.beat("owner-me")
    assert fleet.standing("budget:small") == (0, 400)
    call.leave(None)
    del call
    gc.collect()
    fleet.calls.beat("owner-me")
    assert fleet.standing("budget:small") == (400, 0)
    assert not fleet.journal("call.unknown")


def test_a_place_of_the_dead_comes_free_without_any_worker(fleet: Opened) -> None:
    """Programs that only make calls have nobody who does the upkeep: whoever waits for the place ends the dead one's."""
    fleet.admit(fleet.request("narrow", money=400, owner="owner-dead"))
    fleet.hand.advance(HOLD_MS)
    with priced(fleet, "narrow", "0.0002 USD", wait_ms=0):
        pass
    assert fleet.standing("budget:small") == (600, 0), "and it is charged"


def test_a_child_that_was_forked_inside_a_call_can_neither_settle_nor_release_it(fleet: Opened) -> None:
    call = priced(fleet).__enter__()
    child = os.fork()
    if child == 0:
        refused = 0
        for act in (call.release, lambda: call.settle(money="0.00 USD")):
            try:
                act()
            except StoreUnavailable:
                refused += 1
            except BaseException:  # noqa: BLE001 - whatever it was, the child may not go on as a second test run
                os._exit(100)
        os._exit(refused)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 2
    assert fleet.standing("budget:small") == (0, 400)
    call.settle(money="0.0003 USD")
    call.leave(None)
    assert fleet.standing("budget:small") == (300, 0)


# -- caps that move, many at once ----------------------------------------------------------------------------------------


def test_a_cap_that_is_lowered_below_what_is_held_admits_nothing_more(fleet: Opened) -> None:
    call = fleet.admit(fleet.request(money=900))
    lowered = replace(LIMITS, budgets=LIMITS.budgets | {"small": Budget("small", {"money": (Cap(500, "day"),)})})
    fleet.limiter.adopt(lowered, 0)
    for money in (1, 400):
        with pytest.raises(LongwatchError):
            priced(fleet, money=f"0.{money:06d} USD", wait_ms=0).__enter__()
    fleet.limiter.settle(call.id, owner="owner-me", money=900)
    assert fleet.standing("budget:small") == (900, 0)
    assert fleet.journal("budget.broken"), "told, not hidden"


def test_a_thousand_calls_in_flight_hold_and_spend_exactly_what_they_are(fleet: Opened) -> None:
    calls = [fleet.calls.call("free", caller=ME, money=f"0.{500 + n % 300:06d} USD") for n in range(999)]
    for call in calls:
        call.__enter__()
    held = sum(500 + n % 300 for n in range(999))
    assert fleet.standing("budget:growth") == (0, held)
    fleet.calls.beat("owner-me")
    for call in calls[::2]:
        call.settle(money="0.0001 USD")
    for call in calls:
        call.leave(None)
    spent = 500 * 100 + sum(500 + n % 300 for n in range(999) if n % 2)
    assert fleet.standing("budget:growth") == (spent, 0)


# -- what nobody told ----------------------------------------------------------------------------------------------------


def test_a_call_of_a_model_that_tells_no_tokens_is_refused_where_tokens_are_capped(fleet: Opened) -> None:
    """A hold of nothing would fit into a budget that is spent, again and again."""
    model = "claude-haiku-5-5"
    with pytest.raises(ConfigError, match="takes from a budget of tokens"):
        fleet.calls.call("anthropic", caller=ME, budget="talk", model=model, money="0.01 USD")
    with pytest.raises(ConfigError, match="takes from a budget of tokens"):
        fleet.calls.call("anthropic", caller=ME, budget="talk", model=model, weight={"input_tokens": 9}, money="0 USD")
    with fleet.calls.call("free", caller=ME, budget="talk", money="0 USD"):
        pass  # no model, no tokens


def test_each_request_of_a_call_costs_the_price_of_its_service(fleet: Opened) -> None:
    with fleet.calls.call("stripe", caller=ME, weight={"requests": 3}):
        assert fleet.standing("budget:growth") == (0, 600_000)
