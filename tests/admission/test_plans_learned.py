"""Plans of services whose rate was learned: what was foretold, beside what then happens, by a virtual clock."""

from datetime import timedelta
from typing import Any

import pytest

from longwatch import Handler, Run, task
from longwatch.admission.calls import Admitted, CallRequest
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.learning import rates_of
from longwatch.testing import Clock, VirtualFleet

HORIZON = timedelta(microseconds=HORIZON_US)
SAID = {"ratelimit-limit": "10", "ratelimit-policy": "10;w=60"}


@task(needs={"api": {"requests": 1}})
def ask(run: Run, number: int) -> int:
    with run.call("api"):
        return number


@task(needs={"api": {"requests": 1, "model": "slow"}})
def think(run: Run, number: int) -> int:
    with run.call("api", model="slow"):
        return number


def items(handler: Handler[Any, Any], count: int) -> list[Any]:
    return [handler.bind(number) for number in range(count)]


def hear(lw: VirtualFleet, headers: dict[str, str], *, model: str | None = None, service: str = "api") -> None:
    with lw.call(service, model=model) as call:
        call.answered(200, headers)


def fleet(id: str, config: dict[str, Any]) -> Any:
    return pytest.param(marks=pytest.mark.longwatch(config={"service": {"api": config}}), id=id)


@pytest.mark.parametrize((), [fleet("none", {}), fleet("a faster one", {"rate": "60/min", "burst": 4})])
def test_a_batch_at_a_learned_rate_ends_when_its_plan_said(lw: VirtualFleet, clock: Clock) -> None:
    lw.include(ask)
    before = lw.plan(items(ask, 50))
    assert before.origin in ("configured", None)
    hear(lw, SAID)
    plan = lw.plan(items(ask, 50))
    assert plan.feasible
    assert (plan.binds, plan.origin) == ("[service.api] rate requests = 10/min (learned)", "learned")
    (limit,) = plan.limits
    assert (limit.most, limit.origin, limit.needs, limit.fits) == ("10/min", "learned", 50, True)
    assert before.ends_at is not None
    assert plan.ends_at is not None
    assert plan.ends_at - before.ends_at > timedelta(minutes=3)
    foretold_is_what_happens(lw, clock, ask, 50)


def foretold_is_what_happens(lw: VirtualFleet, clock: Clock, handler: Handler[Any, Any], count: int) -> None:
    """From the first call's start to the last one's."""
    plan = lw.plan(items(handler, count))
    lw.submit_batch("made", items(handler, count))
    lw.work(until_idle=True)
    calls = lw.opened.parts.journal.latest(kind="call.settled", limit=count)
    assert len(calls) == count
    limiter = lw.opened.parts.calls.limiter
    slots = [limiter.find(each.subject).slot_ms for each in calls]
    assert plan.starts_at is not None
    assert plan.ends_at is not None
    assert abs(plan.ends_at - plan.starts_at - timedelta(milliseconds=max(slots) - min(slots))) <= HORIZON
    assert abs(clock.now() - plan.ends_at) <= HORIZON


@pytest.mark.longwatch(config={"service": {"api": {"rate": "6/min", "burst": 4}}})
def test_a_learned_rate_that_is_faster_than_the_configured_one_binds_nothing(lw: VirtualFleet) -> None:
    lw.include(ask)
    hear(lw, SAID)
    plan = lw.plan(items(ask, 50))
    assert (plan.binds, plan.origin) == ("[service.api] rate requests = 6/min", "configured")
    assert plan.limits[0].origin == "configured"


@pytest.mark.longwatch(config={"service": {"api": {}}})
def test_what_was_learned_of_one_model_binds_its_calls_alone(lw: VirtualFleet, clock: Clock) -> None:
    lw.include(ask, think)
    hear(lw, SAID, model="slow")
    assert lw.plan(items(ask, 50)).binds is None
    plan = lw.plan(items(think, 50))
    assert (plan.binds, plan.origin) == ('[service.api.model."slow"] rate requests = 10/min (learned)', "learned")
    foretold_is_what_happens(lw, clock, think, 50)


@pytest.mark.longwatch(config={"service": {"api": {"rate": "60/min", "burst": 1}}})
def test_calls_of_two_models_that_share_a_meter_take_what_each_takes(lw: VirtualFleet, clock: Clock) -> None:
    """One of them was learned to be slower: 20 calls each, at 60 and at 10 a minute, on the service's meter."""
    lw.include(ask, think)
    hear(lw, SAID, model="slow")
    both = items(ask, 20) + items(think, 20)
    plan = lw.plan(both)
    (limit,) = plan.limits
    assert (limit.name, limit.needs, limit.most, limit.origin) == (
        "[service.api] rate requests",
        40,
        "10/min",
        "learned",
    )
    assert plan.ends_at is not None
    began = clock.now()
    lw.submit_batch("both", both)
    lw.work(until_idle=True)
    assert abs(clock.now() - plan.ends_at) <= timedelta(seconds=6) + HORIZON
    assert timedelta(seconds=130) < clock.now() - began < timedelta(seconds=150), "20 s and 120 s"


@pytest.mark.longwatch(config={"service": {"api": {}}})
def test_a_rate_that_was_found_by_refusals_is_planned_as_it_is_now(lw: VirtualFleet, clock: Clock) -> None:
    """Against the engine's own slots, call by call: a call that is answered would raise it."""
    lw.include(ask)
    for _ in range(8):
        with lw.call("api"):
            pass
    with lw.call("api") as refused:
        refused.answered(429)
    clock.advance("5s")
    (found,) = lw.opened.parts.calls.limiter.learned.all()
    assert (found.source, found.amount) == ("found", 270)
    plan = lw.plan(items(ask, 40))
    assert (plan.binds, plan.origin) == ("[service.api] rate requests = 270/min (learned)", "learned")
    limiter = lw.opened.parts.calls.limiter
    limiter.heed(rates_of(limiter.learned.all()))
    slots = [slot_ms(lw, number) for number in range(40)]
    assert plan.starts_at is not None
    assert plan.ends_at is not None
    lasts = timedelta(milliseconds=slots[-1] - slots[0])
    assert lasts > timedelta(seconds=8)
    assert abs(plan.ends_at - plan.starts_at - lasts) <= timedelta(milliseconds=2)


def slot_ms(lw: VirtualFleet, number: int) -> int:
    """Of a call that asks until it is given one."""
    parts = lw.opened.parts
    request = CallRequest(
        f"call_{number}", f"key_{number}", "api", "main", owner=lw.opened.owner, weights={"requests": 1}
    )
    while True:
        answer = parts.calls.limiter.admit(request)
        if isinstance(answer, Admitted):
            return answer.slot_ms
        lw.bench.clock.advance(0.1)


@pytest.mark.longwatch(config={"service": {"github": {}}})
def test_a_window_that_was_learned_is_a_quota_of_the_service(lw: VirtualFleet) -> None:
    hear(lw, {"x-ratelimit-limit": "60"}, service="github")
    plan = lw.plan([], needs={"github": {"requests": 100}})
    assert plan.origin == "learned"
    assert plan.binds == "[service.github] quota = 60/h (learned)"
