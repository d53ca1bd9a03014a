"""`lw.caps` and `lw.set_caps`: a program reads and moves the caps of a single task, on every engine."""

import asyncio
import getpass
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import warm
from engines_open import ENGINES, place_of

import longwatch
from longwatch import BudgetExceeded, Caps, ConfigError, Longwatch, Money, NotFound, OwnCap, Refused, Run

CONFIG: dict[str, Any] = {
    "fleet": {"currency": "GBP", "exchange": {"USD": "0.80 GBP"}},
    "service": {"stripe": {}},
}


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[str, str]]:
    with place_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def lw(place: tuple[str, str]) -> Generator[Longwatch]:
    state, admission = place
    with longwatch.open(state, admission=admission, config=CONFIG) as opened:

        @opened.task("spend", backoff="0s")
        def spend(run: Run, steps: int) -> int:
            return sum(run.step(f"pay-{step}", pay, run) for step in range(steps))

        yield opened


def pay(run: Run) -> int:
    with run.call("stripe", money="0.40 GBP") as call:
        call.settle(money="0.40 GBP")
    return 1


def gbp(micros: int) -> Money:
    return Money(micros, "GBP")


def moves(lw: Longwatch, task: str) -> list[tuple[Any, ...]]:
    told = lw.opened.parts.journal.latest(subject=task, kind="task.capped")
    return [(each.agent, each.task, each.data["by"], each.data["caps"]) for each in told]


def test_a_cap_is_read_raised_and_the_task_goes_on_where_it_stood(lw: Longwatch) -> None:
    task = lw.submit("spend", {"steps": 4}, money="1 GBP", calls=9)
    assert lw.caps(task) == Caps(
        money=OwnCap(gbp(1_000_000), gbp(0), gbp(0), gbp(1_000_000), 0), calls=OwnCap(9, 0, 0, 9, 0), tokens=None
    )
    lw.work(until_idle=True)
    assert lw.get(task.id).state == "failed"
    stopped = lw.caps(task.id).money
    assert stopped is not None
    assert (stopped.spent, stopped.left) == (gbp(800_000), gbp(200_000))

    began_ms = lw.opened.parts.world.wall_ms()
    raised = lw.agent("seo").set_caps(task.id, money="2 USD total", calls=5)  # 1.60 GBP
    assert raised.money is not None
    assert (raised.money.cap, raised.money.spent, raised.money.left) == (gbp(1_600_000), gbp(800_000), gbp(800_000))
    assert raised.calls == OwnCap(5, 2, 0, 3, 0)
    assert moves(lw, task.id) == [
        ("seo", task.id, getpass.getuser(), {"dimension": "money", "before": 1_000_000, "amount": 1_600_000}),
        ("seo", task.id, getpass.getuser(), {"dimension": "calls", "before": 9, "amount": 5}),
    ]
    (first, _) = lw.opened.parts.journal.latest(subject=task.id, kind="task.capped")
    assert abs(first.at_ms - began_ms) < 60_000
    lw.retry(task.id)
    lw.work(until_idle=True)
    assert lw.get(task.id).result == 4
    assert lw.caps(task).money == OwnCap(gbp(1_600_000), gbp(1_600_000), gbp(0), gbp(0), 0)


def test_another_process_moves_a_cap_below_what_is_spent_and_the_next_call_heeds_it(
    lw: Longwatch, place: tuple[str, str]
) -> None:
    """The process that works knows what the cap was: with Redis it keeps that. Nothing that was spent is taken back."""
    refusals: list[BudgetExceeded] = []

    @lw.task("thrice")
    def thrice(run: Run) -> None:
        run.step("first", pay, run)
        move_elsewhere(place, run.task, "0.10 GBP")
        with pytest.raises(BudgetExceeded) as refused:
            run.step("second", pay, run)
        refusals.append(refused.value)
        move_elsewhere(place, run.task, "0.80 GBP")
        run.step("third", pay, run)

    task = lw.submit("thrice", money="5 GBP")
    lw.work(until_idle=True)
    assert (lw.get(task.id).state, lw.get(task.id).error) == ("done", None)
    assert [(error.spent, error.cap) for error in refusals] == [(400_000, 100_000)]
    assert lw.caps(task).money == OwnCap(gbp(800_000), gbp(800_000), gbp(0), gbp(0), 0)


ELSEWHERE = """
import sys, longwatch
state, admission, task, money = sys.argv[1:]
with longwatch.open(state, admission=admission, config={"fleet": {"currency": "GBP", "exchange": {"USD": "0.80 GBP"}},
                    "service": {"stripe": {}}}) as lw:
    lw.set_caps(task, money=money)
"""


def move_elsewhere(place: tuple[str, str], task: str, money: str) -> None:
    warm.run([sys.executable, "-c", ELSEWHERE, *place, task, money], check=True, timeout=60)


def test_a_call_that_waits_for_what_another_holds_leaves_when_the_cap_is_raised(lw: Longwatch) -> None:
    @lw.task("beside")
    def beside(run: Run) -> None:
        with run.call("stripe", key="a", money="0.40 GBP"):
            raised = threading.Thread(target=lambda: lw.set_caps(run.task, money="0.80 GBP"))
            raised.start()
            with run.call("stripe", key="b", money="0.40 GBP", wait="60s"):
                held = lw.caps(run.task).money
                assert held is not None
                assert (held.held, held.left, held.open_calls) == (gbp(800_000), gbp(0), 2)
            raised.join()

    task = lw.submit("beside", money="0.50 GBP")
    lw.work(until_idle=True)
    assert lw.wait(task).result is None


CANNOT_BE_MEANT: list[tuple[dict[str, Any], str]] = [
    ({}, "no cap is named"),
    ({"money": "-1 GBP"}, "below zero"),
    ({"money": 2.5}, "not an amount"),
    ({"money": "2 EUR"}, "EUR"),
    ({"money": "2 GBP/month"}, "not an amount"),
    ({"money": "9999999999 GBP"}, "outside 0 to a billion"),
    ({"calls": -1}, "outside 0 to a billion"),
    ({"calls": True}, "not a whole number"),
    ({"calls": 1.5}, "not a whole number"),
    ({"tokens": 5}, "without a cap on tokens"),
    ({"money": "9 GBP", "tokens": 5}, "without a cap on tokens"),
]


def test_what_cannot_be_meant_moves_nothing(lw: Longwatch) -> None:
    task = lw.submit("spend", {"steps": 1}, money="1 GBP", calls=3)
    before = lw.caps(task)
    for caps, says in CANNOT_BE_MEANT:
        with pytest.raises(ConfigError, match=says):
            lw.set_caps(task.id, **caps)
        assert lw.caps(task) == before, caps
    assert moves(lw, task.id) == []


def test_a_task_that_is_not_there_is_not_found_and_one_without_caps_has_none(lw: Longwatch) -> None:
    with pytest.raises(NotFound, match="there is no task"):
        lw.caps("task_none")
    with pytest.raises(NotFound, match="there is no task"):
        lw.set_caps("task_none", money="1 GBP")
    plain = lw.submit("spend", {"steps": 0})
    assert lw.caps(plain) == Caps()
    with pytest.raises(ConfigError, match="without a cap on money"):
        lw.set_caps(plain, money="1 GBP")


def test_an_agents_run_may_read_its_caps_and_not_move_them(lw: Longwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Caps] = []

    @lw.task("greedy")
    def greedy(run: Run) -> None:
        found.append(lw.caps(run.task))
        with pytest.raises(Refused, match="an agent's run") as refused:
            lw.set_caps(run.task, money="9 GBP")
        assert "budget set" in (refused.value.hint or "")

    task = lw.submit("greedy", money="1 GBP")
    lw.work(until_idle=True)
    assert lw.get(task.id).state == "done"
    assert found == [lw.caps(task)]
    monkeypatch.setenv("LONGWATCH_RUN", "run_1")
    with pytest.raises(Refused, match="run_1"):
        lw.set_caps(task.id, money="9 GBP")


def test_in_an_event_loop_they_are_awaited(lw: Longwatch) -> None:
    async def talk() -> None:
        task = await lw.aio.submit("spend", {"steps": 1}, money="1 GBP", tokens=50)
        raised = await lw.aio.set_caps(task, money="3 GBP", tokens=60)
        assert raised == await lw.aio.caps(task.id) == lw.caps(task)
        assert raised.tokens == OwnCap(60, 0, 0, 60, 0)

    asyncio.run(talk())
