"""Plans of a real fleet, by a virtual clock: what was foretold, beside what then happens."""

from datetime import timedelta
from typing import Any

import pytest

from longwatch import ConfigError, Handler, Money, Plan, Run, UnknownPrice, task
from longwatch.policy.admission import HORIZON_US
from longwatch.testing import Clock, VirtualFleet

HORIZON = timedelta(microseconds=HORIZON_US)
SLOW: dict[str, Any] = {"service": {"api": {"rate": "10/min", "burst": 4}}}
GBP: dict[str, Any] = {"currency": "GBP", "timezone": "Europe/London"}


@task(needs={"api": {"requests": 1}})
def ask(run: Run, number: int) -> int:
    with run.call("api"):
        return number


@task(retries=40, needs={"api": {"requests": 1}})
def insist(run: Run, number: int) -> int:
    with run.call("api"):
        return number


@task("pay", needs={"stripe": {"requests": 1, "money": "0.20 GBP"}})
def pay(run: Run, number: int) -> int:
    with run.call("stripe", money="0.20 GBP"):
        return number


@task()
def think(run: Run) -> None:
    return


def items(handler: Handler[Any, Any], count: int) -> list[Any]:
    return [handler.bind(number) for number in range(count)]


@pytest.mark.longwatch(config=SLOW)
def test_a_batch_ends_when_its_plan_said(lw: VirtualFleet, clock: Clock) -> None:
    lw.include(ask)
    for number in range(3):  # what others have used of the burst counts
        with lw.call("api"):
            assert number < 3
    plan = lw.plan(items(ask, 50))
    assert plan.feasible
    assert plan.binds == "[service.api] rate requests = 10/min"
    assert plan.ends_at is not None
    lw.submit_batch("asks", items(ask, 50))
    lw.work(until_idle=True)
    assert abs(clock.now() - plan.ends_at) <= HORIZON
    assert plan.limits[0].ends_at == plan.ends_at


@pytest.mark.longwatch(config={"service": {"api": {"rate": "10/min", "burst": 4, "quota": "30/hour"}}})
def test_a_quota_that_is_too_small_is_spread_and_the_batch_ends_in_the_window_that_was_said(
    lw: VirtualFleet, clock: Clock
) -> None:
    lw.include(insist)
    plan = lw.plan(items(insist, 70))
    assert not plan.feasible
    assert plan.binds == "[service.api] quota = 30/hour"
    assert plan.change.startswith("raise [service.api] quota to 70/hour, or split over 3 hours")
    assert plan.ends_at is not None
    lw.submit_batch("insist", items(insist, 70))
    for _ in range(10):
        lw.work(until_idle=True)
        if (due_ms := lw.opened.parts.tasks.next_due()) is None:
            break
        clock.advance(max(0, due_ms - lw.opened.parts.fleet_ms()) / 1000)
    last = max(found.ended_at for found in lw.submit_batch("insist", items(insist, 70)) if found.ended_at is not None)
    assert last.replace(minute=0, second=0, microsecond=0) == plan.ends_at.replace(minute=0, second=0, microsecond=0)


@pytest.mark.longwatch(
    config={
        "fleet": GBP,
        "service": {"stripe": {"rate": "25/s", "burst": 5}},
        "budget": {"growth": {"money": "50 GBP/month"}},
    }
)
def test_a_budget_is_planned_with_what_was_spent_and_is_held(lw: VirtualFleet) -> None:
    growth = lw.agent("seo", budget="growth")
    with growth.call("stripe", money="6 GBP"):
        pass
    with growth.call("stripe", money="4 GBP"):
        fits = growth.plan(items(pay, 200))
        short = growth.plan(items(pay, 201))
    assert fits.feasible
    assert (fits.cost, fits.change) == (Money.parse("40 GBP"), "")
    assert not short.feasible
    assert short.binds == "[budget.growth] money = 50.00 GBP/month"
    assert short.change == "raise [budget.growth] money to 50.20 GBP/month, or split over 2 months"
    budget = next(limit for limit in short.limits if limit.dimension == "money")
    assert (budget.needs, budget.left, budget.wanted, budget.fits) == (40_200_000, 40_000_000, 50_200_000, False)
    assert lw.plan(items(pay, 201)).feasible, "another account pays"


@pytest.mark.longwatch(
    config={
        "fleet": {**GBP, "money": "30 GBP total"},
        "service": {"stripe": {}},
        "budget": {"growth": {"money": "10 GBP/day", "calls": "40/day"}},
        "agent": {"seo": {"money": "20 GBP/month"}},
    }
)
def test_every_cap_that_has_no_room_is_named(lw: VirtualFleet) -> None:
    plan = lw.agent("seo", budget="growth").plan(items(pay, 200))
    assert not plan.feasible
    assert plan.ends_at is None, "a total never resets"
    assert plan.change == (
        "raise [fleet] money to 40.00 GBP total and [agent.seo] money to 40.00 GBP/month "
        "and [budget.growth] money to 40.00 GBP/day and [budget.growth] calls to 200/day"
    )


@pytest.mark.longwatch(config={"fleet": GBP, "service": {"stripe": {}}, "budget": {"growth": {"money": "0 GBP/month"}}})
def test_a_cap_below_one_call_can_never_be(lw: VirtualFleet) -> None:
    plan = lw.agent("seo", budget="growth").plan(items(pay, 2))
    assert (plan.feasible, plan.starts_at, plan.ends_at) == (False, None, None)
    assert plan.change == "raise [budget.growth] money to 0.40 GBP/month"


@pytest.mark.longwatch(config={"fleet": GBP, "service": {"stripe": {}}, "budget": {"growth": {"money": "1 GBP/month"}}})
def test_what_is_spent_already_is_waited_for(lw: VirtualFleet) -> None:
    growth = lw.agent("seo", budget="growth")
    with growth.call("stripe", money="0.90 GBP"):
        pass
    plan = growth.plan(items(pay, 5))
    assert not plan.feasible
    assert plan.change.startswith("raise [budget.growth] money to 1.90 GBP/month, or wait until 1 ")
    assert plan.starts_at is not None
    assert plan.starts_at.day == 1 or plan.starts_at.hour == 23, "the month begins at midnight in London"
    longer = growth.plan(items(pay, 12))
    assert ", or split over 3 months from 1 " in longer.change


@pytest.mark.longwatch(
    config={"service": {"anthropic": {"rate": {"requests": "50/min", "input_tokens": "40000/min"}}, "api": {}}}
)
def test_tokens_are_planned_by_model_and_a_call_that_is_too_heavy_is_said(lw: VirtualFleet) -> None:
    need = {"input_tokens": 200_000, "output_tokens": 4_000, "model": "claude-haiku-4-5"}
    light = lw.plan([think.bind()] * 10, needs={"anthropic": need})
    assert light.feasible
    assert light.binds == "[service.anthropic] rate input_tokens = 40000/min"
    assert light.cost == Money.parse("0.22 USD")
    heavy = lw.plan([think.bind()] * 10, needs={"anthropic": {"requests": 2} | need})
    assert not heavy.feasible
    assert heavy.change.startswith("split the calls: one weighs 100000 input_tokens,")
    with pytest.raises(UnknownPrice):
        lw.plan([], needs={"anthropic": {"input_tokens": 1, "output_tokens": 1, "model": "claude-next"}})
    with pytest.raises(ConfigError, match="cannot be told without their tokens"):
        lw.plan([], needs={"anthropic": {"requests": 3}})


@pytest.mark.longwatch(config={"service": {"api": {"concurrency": 2}}})
def test_concurrency_counts_once_it_is_known_how_long_a_call_takes(lw: VirtualFleet, clock: Clock) -> None:
    unknown = lw.plan(items(ask, 20))
    assert (unknown.binds, unknown.limits[0].ends_at, unknown.limits[0].left) == (None, None, 2)
    for _ in range(4):
        with lw.call("api"):
            clock.advance("3s")
    known = lw.plan(items(ask, 20))
    assert known.binds == "[service.api] concurrency = 2"
    assert known.starts_at is not None
    assert known.ends_at is not None
    assert timedelta(seconds=27) <= known.ends_at - known.starts_at <= timedelta(seconds=33)


@pytest.mark.longwatch(config={"service": {"api": {}}})
def test_names_that_are_not_known_are_refused_and_kinds_without_needs_are_said(lw: VirtualFleet) -> None:
    lw.include(think)
    assert lw.plan([("think", {}), ("think", {})]).undeclared == ("think",)
    with pytest.raises(ConfigError, match="did you mean requests"):
        lw.plan([], needs={"api": {"request": 1}})
    with pytest.raises(ConfigError, match="unknown service ap"):
        lw.plan([], needs={"ap": {"requests": 1}})
    with pytest.raises(ConfigError, match="never a float"):
        lw.task("odd", needs={"api": {"money": 0.2}})
    github = lw.plan([], needs={"github": {"requests": 6_000}})
    assert github.binds == "[service.github] quota = 5000/hour", "known without being named"


@pytest.mark.longwatch(config=SLOW)
def test_nothing_is_submitted_and_a_notebook_shows_a_table(lw: VirtualFleet) -> None:
    plan = lw.plan(items(ask, 3))
    assert isinstance(plan, Plan)
    html = plan._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert "<th>limit</th>" in html
    assert "[service.api] rate requests" in html
    assert lw.opened.parts.tasks.next_due() is None
