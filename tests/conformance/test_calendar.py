"""Budgets where clocks change and years leap: what is charged in any hour, day, week or month of the local calendar never
comes above the cap, and a window ends when the calendar says so. The calendar is told here without the code under test."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from engines import ENGINES

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.errors import BudgetExceeded
from longwatch.policy.limits import Budget, Cap, Limits, Service
from longwatch.testing.play import Play

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
CAPS = {"minute": 300, "hour": 900, "day": 4_000, "week": 9_000, "month": 20_000}
# ruff: noqa: DTZ001 - local on purpose: the zone is added where it is used
BEGINS = {  # a little before something that a calendar may get wrong, in local time
    "clocks go forward in London": ("Europe/London", datetime(2027, 3, 27, 22, 17)),
    "clocks go back in London": ("Europe/London", datetime(2027, 10, 30, 21, 5)),
    "clocks go forward in New York": ("America/New_York", datetime(2027, 3, 13, 23, 40)),
    "clocks go back in New York": ("America/New_York", datetime(2027, 11, 6, 22, 30)),
    "half an hour forward on Lord Howe": ("Australia/Lord_Howe", datetime(2027, 10, 2, 22, 50)),
    "half an hour back on Lord Howe": ("Australia/Lord_Howe", datetime(2027, 4, 3, 22, 50)),
    "a leap day in UTC": ("UTC", datetime(2028, 2, 28, 20, 1)),
    "a leap day in New York": ("America/New_York", datetime(2028, 2, 28, 20, 1)),
    "no leap day in London": ("Europe/London", datetime(2027, 2, 28, 20, 1)),
    "a year ends on Lord Howe": ("Australia/Lord_Howe", datetime(2027, 12, 31, 20, 1)),
}
CALLS = {"sqlite in memory": 400, "sqlite on a file": 120, "postgres": 120, "redis": 200}
LABELS: dict[str, Callable[[datetime], object]] = {
    "minute": lambda then: then.astimezone(UTC).replace(second=0, microsecond=0),
    "hour": lambda then: (then.date(), then.hour, then.utcoffset()),
    "day": datetime.date,
    "week": lambda then: then.isocalendar()[:2],
    "month": lambda then: (then.year, then.month),
}


def ms(then: datetime) -> int:
    return round(then.timestamp() * 1000)


def shown(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(zone)


def end_of(at_ms: int, per: str, zone: ZoneInfo) -> int:
    """The first whole minute that belongs to another window: by asking forwards, in ever smaller steps."""
    label, at_ms = LABELS[per](shown(at_ms, zone)), at_ms - at_ms % MINUTE_MS
    for step_ms in (24 * HOUR_MS, HOUR_MS, MINUTE_MS):
        while LABELS[per](shown(at_ms + step_ms, zone)) == label:
            at_ms += step_ms
    return at_ms + MINUTE_MS


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("engine", ENGINES)
def test_no_window_of_the_local_calendar_is_charged_more_than_its_cap(engine: str, begin: str, tmp_path: Path) -> None:
    name, then = BEGINS[begin]
    zone, chance = ZoneInfo(name), random.Random(begin)
    caps = {"money": tuple(Cap(amount, per) for per, amount in CAPS.items())}
    play = Play(
        ENGINES[engine](tmp_path),
        Limits(timezone=name, services={"api": Service("api")}, budgets={"red": Budget("red", caps)}),
    )
    try:
        play.clock.wall = ms(then.replace(tzinfo=zone))
        play.clock.steady += play.clock.wall - play.now_ms()
        charged: dict[str, Counter[object]] = {per: Counter() for per in CAPS}
        refused, lasts_ms = spend(play, zone, chance, CALLS[engine], charged)
        for per, cap in CAPS.items():
            assert max(charged[per].values()) <= cap, (per, charged[per].most_common(1))
        assert refused >= CALLS[engine] // 60, "the caps were hardly reached"
        if "clocks" in begin and CALLS[engine] >= 400:
            assert {23 * HOUR_MS if "forward" in begin else 25 * HOUR_MS} <= lasts_ms
    finally:
        play.close()


def spend(
    play: Play, zone: ZoneInfo, chance: random.Random, calls: int, charged: dict[str, Counter[object]]
) -> tuple[int, set[int]]:
    """Over some days; the wall clock goes back and forth a little. How often it was refused, and how long days were."""
    limiter, refused, latest_ms, lasts_ms = play.engine.limiter, 0, 0, set[int]()
    assert isinstance(limiter, Limiter)
    for number in range(calls):
        step_ms = chance.choice((0, 1_000, 20_000, MINUTE_MS, 15 * MINUTE_MS, HOUR_MS // 2, 3 * HOUR_MS // 2))
        play.clock.steady += step_ms
        play.clock.wall += step_ms
        jump_ms = chance.choice((0, 0, -2 * MINUTE_MS, MINUTE_MS))
        play.clock.wall = play.now_ms() + jump_ms
        request = CallRequest(f"call_{number}", f"call_{number}", "api", "main", "owner", budget="red", money=100)
        resets_at = refusal(limiter, request)
        if resets_at is not None:
            refused += 1
            ends = {end_of(at_ms, per, zone) for per in CAPS for at_ms in (latest_ms, play.clock.wall)}
            assert resets_at in ends, (shown(play.clock.wall, zone), resets_at)
            continue
        limiter.settle(request.id, owner="owner", money=chance.choice((100, 100, 70)))
        call = limiter.find(request.id)
        assert call.calendar_ms >= latest_ms, "a window has opened backwards"
        latest_ms = call.calendar_ms
        for per, label in LABELS.items():
            charged[per][label(shown(latest_ms, zone))] += call.money
        lasts_ms.add(day_ms(limiter, play, zone))
    return refused, lasts_ms


def refusal(limiter: Limiter, request: CallRequest) -> int | None:
    """When the window ends that has no room; None: the call is admitted."""
    try:
        assert isinstance(limiter.admit(request), Admitted)
    except BudgetExceeded as error:
        return error.resets_at
    return None


def day_ms(limiter: Limiter, play: Play, zone: ZoneInfo) -> int:
    """How long the present day is: from its midnight to the end that `budget list` tells."""
    (day,) = [cap for cap in limiter.peek().caps if cap.window == "day"]
    assert day.resets_at is not None
    ends = shown(day.resets_at, zone)
    assert (ends.hour, ends.minute) == (0, 0)
    midnight = (ends - timedelta(days=1)).replace(fold=0)
    return day.resets_at - ms(midnight)
