"""A plan knows who pushes back: a batch starts no sooner than its services let it, and not at all where they refuse."""

from datetime import timedelta
from typing import Any

import pytest

from longwatch import Handler, Plan, Run, ServicePaused, task
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.breaker import Kind, Report
from longwatch.testing import Clock, VirtualFleet

HORIZON = timedelta(microseconds=HORIZON_US)
CONFIG: dict[str, Any] = {"service": {"api": {"rate": "10/min", "burst": 4}, "other": {"rate": "1/s"}}}


@task(needs={"api": {"requests": 1}})
def ask(run: Run, number: int) -> int:
    with run.call("api"):
        return number


def items(handler: Handler[Any, Any], count: int) -> list[Any]:
    return [handler.bind(number) for number in range(count)]


def push_back(lw: VirtualFleet, kind: Kind, seconds: int) -> None:
    """What it answers says nothing of its rate: that a plan knows as it was learned."""
    now_ms = lw.opened.parts.fleet_ms()
    report = Report("call", kind, now_ms, seconds * 1000, "busy")
    lw.opened.parts.calls.limiter.gates.report("api", report, agent="shop", task=None)


def gate(plan: Plan) -> tuple[str, str]:
    (found,) = plan.held_back
    return found.name, found.state


@pytest.mark.longwatch(config=CONFIG)
def test_a_batch_starts_when_its_service_has_cooled_down_as_its_plan_said(lw: VirtualFleet, clock: Clock) -> None:
    lw.include(ask)
    push_back(lw, "limited", 300)
    plan, now = lw.plan(items(ask, 20)), clock.now()
    assert plan.feasible
    assert gate(plan) == ("api", "cooling")
    assert plan.starts_at is not None
    assert plan.ends_at is not None
    assert timedelta(seconds=299) <= plan.starts_at - now <= timedelta(seconds=302)
    assert plan.held_back[0].until_at == plan.starts_at
    lw.submit_batch("asks", items(ask, 20))
    lw.work(until_idle=True)
    assert abs(clock.now() - plan.ends_at) <= HORIZON


@pytest.mark.longwatch(config=CONFIG)
def test_services_that_answer_hold_nothing_back(lw: VirtualFleet) -> None:
    lw.include(ask)
    with lw.call("other") as call:
        call.answered(429, {"retry-after": "300"})
    plan = lw.plan(items(ask, 2))
    assert plan.held_back == ()
    assert plan.starts_at is not None
    assert "held back" not in dict(plan.facts())


@pytest.mark.longwatch(config={"service": {"api": {}}})
def test_without_a_rate_the_service_itself_is_what_binds(lw: VirtualFleet) -> None:
    lw.include(ask)
    push_back(lw, "limited", 300)
    plan = lw.plan(items(ask, 2))
    assert (plan.feasible, plan.binds) == (True, "[service.api] cooling")


@pytest.mark.longwatch(config=CONFIG)
def test_a_few_calls_that_the_rate_would_let_go_at_once_wait_for_the_service(lw: VirtualFleet) -> None:
    lw.include(ask)
    push_back(lw, "limited", 300)
    assert lw.plan(items(ask, 2)).binds == "[service.api] cooling"
    assert lw.plan(items(ask, 20)).binds == "[service.api] rate requests = 10/min"


@pytest.mark.longwatch(config={"service": {"api": {"rate": "10/min", "burst": 4, "quota": "10/hour"}}})
def test_a_batch_that_is_spread_starts_no_sooner_either(lw: VirtualFleet, clock: Clock) -> None:
    lw.include(ask)
    push_back(lw, "limited", 4 * 3_600)
    plan, now = lw.plan(items(ask, 20)), clock.now()
    assert not plan.feasible
    assert plan.starts_at is not None
    assert plan.starts_at - now >= timedelta(hours=4)


@pytest.mark.longwatch(config=CONFIG)
def test_what_cannot_answer_anybody_is_asked_again_first(lw: VirtualFleet) -> None:
    lw.include(ask)
    push_back(lw, "overloaded", 60)
    plan = lw.plan(items(ask, 2))
    assert (plan.feasible, gate(plan)) == (True, ("api", "open"))
    assert ", asked again at " in dict(plan.facts())["held back"]


@pytest.mark.longwatch(config=CONFIG)
def test_a_paused_service_runs_no_batch(lw: VirtualFleet) -> None:
    lw.include(ask)
    lw.opened.parts.calls.limiter.gates.pause("api", "the invoice is in doubt")
    plan = lw.plan(items(ask, 2))
    assert (plan.feasible, plan.starts_at, plan.ends_at) == (False, None, None)
    assert (plan.binds, plan.change) == ("[service.api] paused", "longwatch service resume api")
    assert dict(plan.facts())["held back"] == "api is paused: the invoice is in doubt"
    with pytest.raises(ServicePaused), lw.call("api"):
        pytest.fail("the plan was right")
    lw.opened.parts.calls.limiter.gates.resume("api")
    assert lw.plan(items(ask, 2)).feasible
