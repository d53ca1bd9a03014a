"""Calendar windows of budgets and quotas, in a named time zone: minute, hour, day, week (from Monday), month, total.

A window is found by its local boundaries and kept as two instants, so that a day of the change to summer time has 23
hours and one back 25. The windows of one length cover all time and never overlap.

The calendar that budgets follow counts whole minutes, because every boundary is one. It only moves forwards, and not at
all while the wall clock and the steady clock have parted by PARTED_MS: a wall clock set a day ahead opens no new window.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from longwatch.errors import ConfigError

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PARTED_MS = 5 * MINUTE_MS
LAST_MS = 1 << 53  # the last instant of all: where "total" ends; exact as a JSON number too


class Window(NamedTuple):
    """From starts_ms up to and without ends_ms, epoch milliseconds."""

    starts_ms: int
    ends_ms: int


class Span(NamedTuple):
    """A stretch of time in which a zone's clocks are off UTC by the same. All in milliseconds."""

    starts_ms: int
    ends_ms: int
    offset_ms: int


@cache
def zone_of(name: str) -> ZoneInfo:
    """Errors: ConfigError when there is no such time zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        hint = 'Write a name such as "Europe/London" or "UTC".'
        raise ConfigError(f"unknown time zone {name!r}", hint=hint) from error


def window_of(at_ms: int, per: str, zone: ZoneInfo) -> Window:
    """The window of this length that holds the instant. per: one of limits.WINDOWS."""
    if per == "total":
        return Window(0, LAST_MS)
    if per == "minute":
        starts_ms = at_ms - at_ms % MINUTE_MS
        return Window(starts_ms, starts_ms + MINUTE_MS)
    if per == "hour":
        return _hour(at_ms, zone)
    return _days(local(at_ms, zone), per, zone)


def local(at_ms: int, zone: ZoneInfo) -> datetime:
    """The instant as the zone's clocks show it."""
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC).astimezone(zone)


def _hour(at_ms: int, zone: ZoneInfo) -> Window:
    offset_ms = _offset_ms(at_ms, zone)
    starts_ms = at_ms - (at_ms + offset_ms) % HOUR_MS
    ends_ms = starts_ms + HOUR_MS
    return Window(
        starts_ms if _same_hours(starts_ms, at_ms, zone) else _change_ms(starts_ms, at_ms, zone),
        ends_ms if _same_hours(at_ms, ends_ms - 1, zone) else _change_ms(at_ms, ends_ms - 1, zone),
    )


def _same_hours(one_ms: int, other_ms: int, zone: ZoneInfo) -> bool:
    """Whether hours begin at the same minutes at both instants; not so where clocks change by half an hour."""
    return (_offset_ms(one_ms, zone) - _offset_ms(other_ms, zone)) % HOUR_MS == 0


def _change_ms(before_ms: int, after_ms: int, zone: ZoneInfo) -> int:
    """The instant between the two at which the clocks change."""
    first = _offset_ms(before_ms, zone)
    while after_ms - before_ms > 1:
        middle_ms = (before_ms + after_ms) // 2
        if _offset_ms(middle_ms, zone) == first:
            before_ms = middle_ms
        else:
            after_ms = middle_ms
    return after_ms


def _offset_ms(at_ms: int, zone: ZoneInfo) -> int:
    offset = local(at_ms, zone).utcoffset() or timedelta()
    return round(offset.total_seconds() * 1000)


def _days(now: datetime, per: str, zone: ZoneInfo) -> Window:
    midnight = datetime(now.year, now.month, now.day)  # noqa: DTZ001 - local on purpose: the zone is added below
    if per == "week":
        midnight -= timedelta(days=midnight.weekday())
    elif per == "month":
        midnight = midnight.replace(day=1)
    days = {"day": 1, "week": 7, "month": 32}[per]
    after = midnight + timedelta(days=days)
    if per == "month":
        after = after.replace(day=1)
    return Window(_instant_ms(midnight, zone), _instant_ms(after, zone))


def spans(starts_ms: int, ends_ms: int, zone: ZoneInfo, *, known_ms: int) -> list[Span]:
    """The time from starts_ms up to and without ends_ms, cut where the clocks change. known_ms: no change after it matters."""
    found: list[Span] = []
    at_ms, last_ms = starts_ms, min(ends_ms, known_ms)
    while at_ms < last_ms:
        next_ms = min(at_ms + DAY_MS, last_ms)
        if _offset_ms(at_ms, zone) != _offset_ms(next_ms, zone):
            change_ms = _change_ms(at_ms, next_ms, zone)
            found.append(Span(starts_ms, change_ms, _offset_ms(at_ms, zone)))
            starts_ms = at_ms = change_ms
        else:
            at_ms = next_ms
    return [*found, Span(starts_ms, ends_ms, _offset_ms(at_ms, zone))]


def _instant_ms(midnight: datetime, zone: ZoneInfo) -> int:
    """The first instant of a local day: where midnight is skipped, the instant at which the clocks skip it."""
    return round(midnight.replace(tzinfo=zone).timestamp()) * 1000


def instant_of(text: str, zone_name: str) -> int:
    """A date (its first instant) or a date and a time, in the zone where it names no other: epoch milliseconds, a whole
    minute. Errors: ConfigError."""
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None:
            return _instant_ms(found.replace(second=0, microsecond=0), zone_of(zone_name))
        at_ms = round(found.timestamp()) * 1000
        return at_ms - at_ms % MINUTE_MS
    except (ValueError, OverflowError) as error:
        hint = 'Write "2026-12-01" or "2026-12-01T18:00", in the time zone of the fleet.'
        raise ConfigError(f"{text!r} is not a date", hint=hint) from error


def calendar_minute(wall_ms: int, *, steady_ms: int) -> int:
    """The whole minute the calendar may move to, or 0: the clocks have parted and it stands still."""
    return 0 if parted(wall_ms, steady_ms=steady_ms) else wall_ms - wall_ms % MINUTE_MS


def parted(wall_ms: int, *, steady_ms: int) -> bool:
    """Whether wall clock and steady clock differ too much for either to be believed about the date."""
    return abs(wall_ms - steady_ms) >= PARTED_MS


def calendar_at(stored_ms: int, *, wall_ms: int, steady_ms: int) -> int:
    """The budgets' calendar. stored_ms: how far it has got, 0 before the first use (then the wall clock decides)."""
    if stored_ms == 0:
        return wall_ms - wall_ms % MINUTE_MS
    return max(stored_ms, calendar_minute(wall_ms, steady_ms=steady_ms))


def describe(ends_ms: int, zone_name: str) -> str:
    """When a window ends, for people: "1 Dec 00:00 Europe/London", or "never"."""
    if ends_ms >= LAST_MS:
        return "never"
    then = local(ends_ms, zone_of(zone_name))
    return f"{then.day} {then:%b %H:%M} {zone_name}"
