"""Caps set by hand: what counts at which instant, and what of them a change of the config leaves."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.errors import ConfigError
from longwatch.policy import override
from longwatch.policy.difference import difference, limits_from_json, limits_to_json
from longwatch.policy.limits import Budget, Cap, Limits, Override
from longwatch.policy.window import LAST_MS, instant_of

LIMITS = Limits(
    budgets={"growth": Budget("growth", {"money": (Cap(50, "month"), Cap(5, "day")), "calls": (Cap(9, "day"),)})}
)
RAISED = Override("growth", Cap(60, "month"), 1_000)
HOURLY = Override("growth", Cap(1, "hour"), 2_000)


def money(limits: Limits, at_ms: int) -> dict[str, int]:
    return {cap.window: cap.amount for cap in override.at(limits, at_ms).budgets["growth"].caps["money"]}


def test_each_counts_up_to_its_instant_and_then_the_config_again() -> None:
    limits = override.put(override.put(LIMITS, RAISED, 0), HOURLY, 0)
    assert money(limits, 999) == {"month": 60, "day": 5, "hour": 1}
    assert money(limits, 1_000) == {"month": 50, "day": 5, "hour": 1}
    assert money(limits, 2_000) == {"month": 50, "day": 5}
    assert [override.turns_ms(limits, at_ms) for at_ms in (0, 1_000, 2_000)] == [1_000, 2_000, LAST_MS]
    assert override.at(limits, 0).budgets["growth"].caps["calls"] == (Cap(9, "day"),)


@given(
    st.lists(st.tuples(st.sampled_from(["month", "day", "hour"]), st.integers(0, 99), st.integers(1, 50) | st.none()))
)
def test_the_last_that_was_set_for_a_window_counts_and_never_another(given_: list[tuple[str, int, int | None]]) -> None:
    limits, last = LIMITS, {"month": (50, None), "day": (5, None)}
    for window, amount, until_ms in given_:
        limits = override.put(limits, Override("growth", Cap(amount, window), until_ms), 0)
    configured = {window: amount for window, (amount, _) in last.items()}
    for at_ms in (0, 10, 49, 50):
        standing = {window: (amount, until) for window, amount, until in given_}
        going = {window: amount for window, (amount, until) in standing.items() if until is None or until > at_ms}
        assert money(limits, at_ms) == configured | going
    assert limits_from_json(limits_to_json(limits)) == limits


def test_what_ended_is_dropped_when_the_next_is_set() -> None:
    limits = override.put(override.put(LIMITS, RAISED, 0), HOURLY, 1_500)
    assert limits.overrides == (HOURLY,)
    assert override.clear(limits, "growth", 0).overrides == ()


def test_a_change_of_the_config_leaves_it_while_its_budget_and_the_currency_stay() -> None:
    limits = override.put(LIMITS, RAISED, 0)
    assert override.carry(limits, replace(LIMITS, timezone="Europe/London")).overrides == (RAISED,)
    assert override.carry(limits, replace(LIMITS, currency="GBP")).overrides == ()
    assert override.carry(limits, replace(LIMITS, budgets={"x": Budget("x")})).overrides == ()
    assert difference(limits, LIMITS) == []
    assert override.bare(limits) == LIMITS


def test_an_unknown_budget_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown budget grwoth: did you mean growth\?"):
        override.put(LIMITS, Override("grwoth", Cap(1, "day")), 0)
    with pytest.raises(ConfigError, match=r"unknown budget grwoth: did you mean growth\?"):
        override.clear(LIMITS, "grwoth", 0)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-12-01", 1_796_083_200_000),
        ("2026-07-01", 1_782_860_400_000),  # summer time
        (" 2026-12-01T18:00 ", 1_796_148_000_000),
        ("2026-12-01T18:00:59", 1_796_148_000_000),
        ("2026-12-01T18:00+01:00", 1_796_144_400_000),
        ("2026-12-01T18:00:00Z", 1_796_148_000_000),
    ],
)
def test_a_date_is_read_in_the_zone_of_the_fleet(text: str, at_ms: int) -> None:
    assert instant_of(text, "Europe/London") == at_ms


@pytest.mark.parametrize("text", ["", "soon", "01.12.2026", "2026-02-30", "99999-01-01", "2026-12-01T25:00"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a date"):
        instant_of(text, "Europe/London")
