"""Plans where other engines keep the meters and the state: the same answers as on a file."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import longwatch
from longwatch.policy.admission import HORIZON_US
from longwatch.testing import postgres
from longwatch.testing.redis import Server

HORIZON = timedelta(microseconds=HORIZON_US)
CONFIG: dict[str, Any] = {
    "fleet": {"currency": "GBP"},
    "service": {"api": {"rate": "6/min", "burst": 5, "concurrency": 4, "price": "0.10 GBP"}},
    "budget": {"growth": {"money": "1 GBP total"}},
}


@pytest.mark.parametrize("decides", ["postgres", "redis", "redis beside postgres"])
def test_a_plan_counts_what_was_used_held_and_spent(server: Server, tmp_path: Path, decides: str) -> None:
    state = postgres.shared().new_database() if "postgres" in decides else str(tmp_path / "s.db")
    admission = server.url if "redis" in decides else ""
    with longwatch.open(state, admission=admission, config=CONFIG, budget="growth") as lw:
        fresh = lw.plan([], needs={"api": {"requests": 10}})
        assert (fresh.feasible, str(fresh.cost)) == (True, "1.00 GBP")
        with lw.call("api"):
            pass
        with lw.call("api"):
            began = datetime.now(UTC)
            plan = lw.plan([], needs={"api": {"requests": 9}})
        lw.opened.parts.calls.limiter.flush()
        late = len(lw.opened.parts.journal.latest(kind="call.late"))  # each took a second slot: a busy machine
    assert not plan.feasible
    assert plan.change == "raise [budget.growth] money to 1.10 GBP total"
    by_name = {limit.name: limit for limit in plan.limits}
    money, rate = by_name["[budget.growth] money"], by_name["[service.api] rate requests"]
    assert (money.needs, money.left, money.wanted) == (900_000, 800_000, 1_100_000)
    assert by_name["[service.api] concurrency"].left == 3
    assert rate.ends_at is not None
    lasts = timedelta(seconds=80 + 10 * late)
    assert abs(rate.ends_at - began - lasts) <= HORIZON, "one of three is left at once, then one in 10 s"


@pytest.mark.parametrize("decides", ["postgres", "redis", "redis beside postgres"])
def test_a_plan_counts_by_what_was_learned(server: Server, tmp_path: Path, decides: str) -> None:
    state = postgres.shared().new_database() if "postgres" in decides else str(tmp_path / "s.db")
    admission = server.url if "redis" in decides else ""
    with longwatch.open(state, admission=admission, config={"service": {"api": {"rate": "60/min"}}}) as lw:
        with lw.call("api") as call:
            call.answered(200, {"ratelimit-limit": "6", "ratelimit-policy": "6;w=60"})
        with lw.call("api"):  # decided by it: the next one may leave 10 s later
            began = datetime.now(UTC)
        plan = lw.plan([], needs={"api": {"requests": 9}})
    assert (plan.binds, plan.origin) == ("[service.api] rate requests = 6/min (learned)", "learned")
    assert plan.ends_at is not None
    assert abs(plan.ends_at - began - timedelta(seconds=90)) <= HORIZON
