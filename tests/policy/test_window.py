"""Calendar windows in time zones that change their clocks."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.errors import ConfigError
from longwatch.policy.limits import WINDOWS
from longwatch.policy.window import (
    HOUR_MS,
    LAST_MS,
    MINUTE_MS,
    PARTED_MS,
    Span,
    calendar_at,
    describe,
    local,
    spans,
    window_of,
    zone_of,
)

ZONES = (
    "UTC",
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",  # clocks change by half an hour
    "America/Havana",  # and at midnight
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Pacific/Apia",  # a whole day was left out
    "Africa/Casablanca",
)
INSTANTS = st.integers(
    round(datetime(2010, 1, 1, tzinfo=UTC).timestamp() * 1000),
    round(datetime(2036, 1, 1, tzinfo=UTC).timestamp() * 1000),
)


def at(text: str, zone: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone_of(zone)).timestamp() * 1000)


@given(at_ms=INSTANTS, per=st.sampled_from(WINDOWS), zone=st.sampled_from(ZONES))
def test_windows_hold_their_instants_and_follow_one_another(at_ms: int, per: str, zone: str) -> None:
    window = window_of(at_ms, per, zone_of(zone))
    assert window.starts_ms <= at_ms < window.ends_ms
    assert window_of(window.starts_ms, per, zone_of(zone)) == window
    if per != "total":
        assert window_of(window.ends_ms - 1, per, zone_of(zone)) == window
        assert window_of(window.ends_ms, per, zone_of(zone)).starts_ms == window.ends_ms
        assert window_of(window.starts_ms - 1, per, zone_of(zone)).ends_ms == window.starts_ms


@given(at_ms=INSTANTS, per=st.sampled_from(WINDOWS), zone=st.sampled_from(ZONES))
def test_every_boundary_is_a_whole_minute(at_ms: int, per: str, zone: str) -> None:
    window = window_of(at_ms, per, zone_of(zone))
    assert window.starts_ms % MINUTE_MS == 0
    assert per == "total" or window.ends_ms % MINUTE_MS == 0


@pytest.mark.parametrize(
    ("zone", "instant", "per", "starts", "ends", "hours"),
    [
        ("Europe/London", "2026-03-29T12:00", "day", "2026-03-29T00:00", "2026-03-30T00:00", 23),
        ("Europe/London", "2026-10-25T12:00", "day", "2026-10-25T00:00", "2026-10-26T00:00", 25),
        ("America/New_York", "2026-03-08T03:30", "day", "2026-03-08T00:00", "2026-03-09T00:00", 23),
        ("UTC", "2028-02-29T23:59", "day", "2028-02-29T00:00", "2028-03-01T00:00", 24),
        ("UTC", "2028-02-29T23:59", "month", "2028-02-01T00:00", "2028-03-01T00:00", 29 * 24),
        ("UTC", "2026-12-31T12:00", "month", "2026-12-01T00:00", "2027-01-01T00:00", 31 * 24),
        ("Europe/London", "2026-11-25T12:00", "week", "2026-11-23T00:00", "2026-11-30T00:00", 168),
        ("Asia/Kathmandu", "2026-11-25T12:44", "hour", "2026-11-25T12:00", "2026-11-25T13:00", 1),
        ("America/Havana", "2026-11-01T12:00", "day", "2026-11-01T00:00", "2026-11-02T00:00", 25),
    ],
)
def test_windows_are_those_of_the_local_calendar(
    zone: str, instant: str, per: str, starts: str, ends: str, hours: int
) -> None:
    window = window_of(at(instant, zone), per, zone_of(zone))
    assert window == (at(starts, zone), at(ends, zone))
    assert window.ends_ms - window.starts_ms == hours * HOUR_MS


def test_a_day_whose_midnight_is_skipped_begins_when_the_clocks_skip_it() -> None:
    zone = zone_of("America/Sao_Paulo")
    window = window_of(at("2018-11-04T12:00", "America/Sao_Paulo"), "day", zone)
    assert local(window.starts_ms, zone).hour == 1
    assert window.ends_ms - window.starts_ms == 23 * HOUR_MS


def test_total_has_no_end() -> None:
    assert window_of(5, "total", zone_of("UTC")) == (0, LAST_MS)


# -- the budgets' calendar -----------------------------------------------------------------------------------------------

NOON = round(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp() * 1000)
DAY = 24 * HOUR_MS


def test_the_calendar_follows_the_wall_clock_in_whole_minutes() -> None:
    assert calendar_at(NOON, wall_ms=NOON + 61_000, steady_ms=NOON + 61_000) == NOON + MINUTE_MS


def test_the_calendar_never_goes_back() -> None:
    assert calendar_at(NOON, wall_ms=NOON - 4 * MINUTE_MS, steady_ms=NOON) == NOON


@pytest.mark.parametrize("jump", [DAY, -DAY, PARTED_MS, -PARTED_MS])
def test_a_wall_clock_that_has_parted_from_the_steady_one_opens_no_window(jump: int) -> None:
    assert calendar_at(NOON, wall_ms=NOON + jump, steady_ms=NOON) == NOON


@given(steps=st.lists(st.tuples(st.integers(0, 2 * DAY), st.integers(-DAY, DAY)), max_size=40))
def test_whatever_the_wall_clock_does_the_calendar_keeps_to_within_the_bound_of_the_steady_one(
    steps: list[tuple[int, int]],
) -> None:
    steady_ms, stored = NOON, NOON
    for pause, error in steps:
        steady_ms += pause
        after = calendar_at(stored, wall_ms=steady_ms + error, steady_ms=steady_ms)
        assert stored <= after < steady_ms + PARTED_MS
        stored = after


def test_the_first_use_believes_the_wall_clock() -> None:
    assert calendar_at(0, wall_ms=NOON + 1, steady_ms=0) == NOON


def test_the_end_of_a_window_is_told_in_its_own_zone() -> None:
    assert describe(at("2026-12-01T00:00", "Europe/London"), "Europe/London") == "1 Dec 00:00 Europe/London"
    assert describe(LAST_MS, "UTC") == "never"


def test_an_unknown_time_zone_is_refused() -> None:
    for name in ("Europe/Lundun", "../etc/passwd", ""):
        with pytest.raises(ConfigError):
            zone_of(name)


# -- days of many instants ---------------------------------------------------------------------------------------------


@given(st.sampled_from(ZONES), INSTANTS, st.integers(1, 500 * 24 * HOUR_MS), st.data())
def test_a_span_tells_the_local_day_of_every_instant_in_it(
    name: str, start: int, length: int, data: st.DataObject
) -> None:
    zone = zone_of(name)
    found = spans(start, start + length, zone, known_ms=start + length)
    assert found[0].starts_ms == start
    assert found[-1].ends_ms == start + length
    assert all(one.ends_ms == other.starts_ms for one, other in pairwise(found))
    edges = st.sampled_from([edge for span in found for edge in (span.starts_ms, span.ends_ms - 1)])
    at_ms = data.draw(edges | st.integers(start, start + length - 1))
    (span,) = [span for span in found if span.starts_ms <= at_ms < span.ends_ms]
    day = (at_ms + span.offset_ms) // (24 * HOUR_MS)
    assert day + datetime(1970, 1, 1, tzinfo=UTC).toordinal() == local(at_ms, zone).toordinal()


@given(st.sampled_from(ZONES), INSTANTS)
def test_clocks_change_at_the_beginning_of_a_quarter_of_an_hour(name: str, start: int) -> None:
    for span in spans(start, start + 400 * 24 * HOUR_MS, zone_of(name), known_ms=LAST_MS)[1:]:
        assert span.starts_ms % (15 * MINUTE_MS) == 0


def test_time_without_an_end_has_the_last_known_clock() -> None:
    start = at("2026-10-01T00:00", "Europe/London")
    found = spans(start, LAST_MS, zone_of("Europe/London"), known_ms=start + 40 * 24 * HOUR_MS)
    change = at("2026-10-25T01:00", "UTC")
    assert found == [Span(start, change, HOUR_MS), Span(change, LAST_MS, 0)]
