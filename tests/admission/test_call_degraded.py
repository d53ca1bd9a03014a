"""A budget that is spent goes on with a cheaper model, by every engine that decides, and says so."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from call_fleet import NOON, open_fleet
from engines_open import ENGINES, opened, place_of

from longwatch import BudgetExceeded, Longwatch, Run, WaitTimeout
from longwatch.policy.limits import Budget, Cap, Limits
from longwatch.runtime.calls import Caller

SONNET, HAIKU, OPUS = "claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5"
HOLDS = {OPUS: 24_000, SONNET: 12_000, HAIKU: 600}  # micro-dollars of 1000 tokens in and 1000 out
CHEAPER = {"money": "0.02 USD/month", "then": "cheaper", "models": [SONNET, HAIKU]}
CONFIG: dict[str, Any] = {
    "budget": {
        "growth": CHEAPER,
        "stopped": {"money": "0.02 USD/month"},
        "counted": {**CHEAPER, "money": "9 USD/month", "calls": "1/month"},
        "poor": {**CHEAPER, "money": "0.0005 USD/month"},
    }
}


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[str, str]]:
    with place_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def lw(place: tuple[str, str]) -> Generator[Longwatch]:
    with opened(place, CONFIG) as fleet:
        yield fleet


def ask(lw: Longwatch, model: str = SONNET, *, budget: str = "growth", **given: Any) -> Any:
    return lw.call(
        "anthropic", model=model, budget=budget, weight={"input_tokens": 1000}, max_tokens=1000, wait=0, **given
    )


def told(lw: Longwatch) -> list[dict[str, Any]]:
    lw.opened.parts.calls.limiter.flush()
    return [dict(entry.data) for entry in lw.opened.parts.journal.latest(kind="call.degraded")]


def spent(lw: Longwatch, budget: str = "growth") -> tuple[int, int]:
    caps = lw.opened.parts.calls.limiter.peek().caps
    found = next(cap for cap in caps if cap.purse == f"budget:{budget}" and cap.dimension == "money")
    return found.spent, found.held


def test_what_no_longer_fits_is_made_with_the_next_model_that_does(lw: Longwatch) -> None:
    with ask(lw) as first:
        assert (first.model, first.instead_of) == (SONNET, None)
    with ask(lw) as second:
        assert (second.model, second.instead_of) == (HAIKU, SONNET)
        assert spent(lw) == (12_000, 600)
        second.settle(input_tokens=1000, output_tokens=1000)
    assert spent(lw) == (12_600, 0), "priced by the model that was used"
    assert told(lw) == [{"from": SONNET, "to": HAIKU, "budget": "growth", "call": second.id}]
    assert lw.opened.parts.calls.limiter.find(second.id).model == HAIKU


def test_a_model_outside_of_the_list_goes_down_one_step_at_a_time(lw: Longwatch) -> None:
    with ask(lw, OPUS) as call:
        assert (call.model, call.instead_of) == (SONNET, OPUS), "0.024 do not fit into 0.02"
    with ask(lw, OPUS) as call:
        assert (call.model, call.instead_of) == (HAIKU, OPUS)
    assert [(entry["from"], entry["to"]) for entry in told(lw)] == [(OPUS, SONNET), (OPUS, HAIKU)]


def test_where_no_model_fits_the_refusal_is_that_of_the_one_asked_for(lw: Longwatch) -> None:
    with pytest.raises(BudgetExceeded, match=f"nor 0.000600 USD for {HAIKU}") as refused, ask(lw, budget="poor"):
        raise AssertionError("it was let through")
    assert "poor cannot hold 0.012000 USD more this month" in refused.value.message
    assert (refused.value.cap, refused.value.spent, refused.value.held) == (500, 0, 0)
    assert told(lw) == []
    assert lw.opened.parts.calls.limiter.open_calls() == []


def test_a_budget_that_stops_and_a_cap_on_calls_refuse_as_they_did(lw: Longwatch) -> None:
    with ask(lw, budget="stopped"):
        pass
    with pytest.raises(BudgetExceeded), ask(lw, budget="stopped"):
        raise AssertionError("it was let through")
    with ask(lw, budget="counted"):
        pass
    with pytest.raises(BudgetExceeded) as refused, ask(lw, budget="counted"):
        raise AssertionError("it was let through")
    assert refused.value.dimension == "calls"
    assert told(lw) == []


def test_a_call_whose_cost_was_said_is_worth_the_same_with_any_model(lw: Longwatch) -> None:
    with pytest.raises(BudgetExceeded), ask(lw, money="0.03 USD"):
        raise AssertionError("it was let through")
    assert told(lw) == []


def test_money_that_others_hold_is_waited_for_and_not_saved(lw: Longwatch) -> None:
    with ask(lw) as holder:
        with pytest.raises(WaitTimeout), ask(lw):
            raise AssertionError("it was let through")
        holder.release()
    with ask(lw) as call:
        assert call.model == SONNET
    assert told(lw) == []


def test_a_run_keeps_what_its_calls_fell_back_on(place: tuple[str, str]) -> None:
    with opened(place, CONFIG) as lw:

        @lw.task("ask")
        def handler(run: Run) -> list[str]:
            models: list[str] = []
            for _ in range(2):
                with run.call(
                    "anthropic", model=SONNET, budget="growth", weight={"input_tokens": 1000}, max_tokens=1000
                ) as call:
                    models.append(str(call.model))
            return models

        task = lw.submit(handler.bind())
        lw.work(until_idle=True)
        assert lw.wait(task.id).result == [SONNET, HAIKU]
        lw.opened.parts.calls.limiter.flush()
        journal = lw.opened.parts.journal
        (entry,) = journal.latest(kind="call.degraded", subject=task.id)
        assert entry.subject.startswith("run_")
        assert entry.task == task.id
        assert [found.kind for found in journal.latest(kind="call.degraded", subject=entry.subject)] == [entry.kind]
        admitted = [found.data for found in journal.latest(kind="call.admitted", subject=task.id)]
        assert [(data["model"], data.get("instead_of")) for data in admitted] == [(SONNET, None), (HAIKU, SONNET)]


def test_every_dollar_of_the_cap_is_used_and_none_beyond_it(lw: Longwatch) -> None:
    models: list[str] = []
    with contextlib.suppress(BudgetExceeded):
        for _ in range(100):
            with ask(lw, OPUS) as call:
                models.append(str(call.model))
    assert models == [SONNET] + [HAIKU] * 13
    assert spent(lw) == (12_000 + 13 * 600, 0)


def test_a_lost_reply_to_the_cheaper_model_finds_it_and_asks_for_no_other(tmp_path: Path) -> None:
    growth = Budget("growth", {"money": (Cap(1_000, "day"),)}, (), (SONNET, HAIKU))
    fleet = open_fleet(tmp_path / "s.db", limits=Limits(budgets={"growth": growth}))
    me = Caller("seo", "owner-me", "growth")
    call = fleet.calls.call("anthropic", caller=me, model=SONNET, weight={"input_tokens": 1000}, max_tokens=1000)
    fleet.database.lose = 2  # the refusal of the one, and the admission of the other
    with call:
        assert (call.model, call.start_at.timestamp() * 1000) == (HAIKU, NOON)
        assert [(found.model, found.money) for found in fleet.limiter.open_calls()] == [(HAIKU, 600)]
    assert len(fleet.journal("call.degraded")) == 1
    assert fleet.database.lose == 0
    fleet.database.close()
