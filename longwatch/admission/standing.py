"""Reads, in an open transaction, everything that a decision is made from; opens the windows of budgets as they begin.

What is held is always the sum over open calls, read from one index; what is spent is a column per purse, dimension and
window, which every ended call is added to. A window that begins, or is looked at for the first time, begins with what
calls made in it have cost already: a new cap, or one that was away, does not start from zero.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from longwatch.admission import task_caps
from longwatch.admission.calls import CallRequest
from longwatch.db.connection import Row, Transaction
from longwatch.policy.admission import HORIZONS_US, Ask, Metered, Places, Purse
from longwatch.policy.budget import Standing, first_told
from longwatch.policy.meter import NEW, Meter
from longwatch.policy.scope import FLEET, Gauge, PurseCap, Scope
from longwatch.policy.window import PARTED_MS, calendar_at, window_of

encode = msgspec.json.Encoder().encode


# The dimensions, a quota, two gates, a line; of meter.several.
METERS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
KEPT = METERS[:4]  # of meter.keep: nothing weighs on a gate
UNCHANGED: dict[str, str | int | None] = {
    place + part: None for place in KEPT for part in ("", "_free_us", "_last_us", "_total")
}


GROUPS = ("service", "budget", "agent", "calendar_ms", "places", "money", "calls", "tokens")  # columns of call.groups
CALENDAR, PLACES = GROUPS.index("calendar_ms"), GROUPS.index("places")


class Holding(NamedTuple):
    """Where in the rows of call.groups to find what open calls hold of a purse.

    charged: the column that says who is charged, None for everybody; name: who; amount: the column of the dimension.
    """

    charged: int | None
    name: str
    amount: int


def holding(purse: str, dimension: str) -> Holding:
    sort, _, name = purse.partition(":")
    return Holding(None if sort == FLEET else GROUPS.index(sort), name, GROUPS.index(dimension))


class Payer(NamedTuple):
    """A cap with what is made from it once."""

    cap: PurseCap
    window: tuple[str, str, str]
    holding: Holding


class Prepared(NamedTuple):
    """A scope with what is made from it once. meters: by the parameters of meter.several. told: by window, the cap and the
    least amount spent in it that there is anything to tell of. lacking: the limit of which there is no share, in words."""

    scope: Scope
    zone: ZoneInfo
    meters: dict[str, str | None]
    payers: tuple[Payer, ...]
    told: dict[tuple[str, str, str], tuple[PurseCap, int]]
    lacking: str = ""


def prepare(scope: Scope, zone: ZoneInfo, lacking: str = "") -> Prepared:
    names = [gauge.meter for gauge in scope.gauges]
    payers = tuple(
        Payer(cap, (cap.purse, cap.dimension, cap.cap.window), holding(cap.purse, cap.dimension)) for cap in scope.caps
    )
    told = {payer.window: (payer.cap, first_told(payer.cap.warn, payer.cap.cap.amount)) for payer in payers}
    return Prepared(scope, zone, dict(zip_longest(METERS, names)), payers, told, lacking)


class Read(NamedTuple):
    """The question to decide, and the calendar instant that the call will belong to. aside: what it draws on."""

    ask: Ask
    calendar_ms: int
    aside: str | None = None


def read(tx: Transaction, prepared: Prepared, request: CallRequest) -> Read:
    """The state of every limit of this call."""
    scope = prepared.scope
    most = scope.service.concurrency
    own_task = request.charged_task
    whose = {"agent": request.agent, "service": request.service, "budget": request.budget, "task": own_task}
    current, groups, asides, stored, *of_task = tx.several(
        ("spend.current", whose | {"parted_ms": PARTED_MS}),
        ("call.groups", {}),
        ("aside.open", {}),
        ("meter.several", dict(prepared.meters)),
        *(() if own_task is None else task_caps.asked(own_task)),
    )
    calendar_ms, windows = _windows(tx, current)
    own = _own(asides, request, calendar_ms) if asides else None
    needs = {"money": request.money, "calls": request.calls, "tokens": request.tokens}
    purses = tuple(
        _drawn(
            _standing(tx, prepared.zone, payer, groups, asides, windows, calendar_ms), needs[payer.cap.dimension], own
        )
        for payer in prepared.payers
    )
    if own_task is not None:
        caps, (held,) = of_task
        standings = task_caps.standings(tx, own_task, caps, held, windows)
        purses += tuple(
            Purse(found, needs[found.dimension]) for found in standings
        )  # no batch sets anything aside of it
    places = None if most is None else Places(_places(groups, scope.service.name), most)
    until_us = None if request.until_ms is None else request.until_ms * 1000
    found = _meters(stored)
    metered = tuple(
        Metered(name, rate, found.get(name, NEW), request.weights.get(dimension, 0))
        for name, dimension, rate in scope.gauges
    )
    aside = None if own is None else str(own.id)
    return Read(Ask(tx.now_ms * 1000, until_us, metered, places, purses, HORIZONS_US[request.lane]), calendar_ms, aside)


def _own(asides: Sequence[Row], request: CallRequest, calendar_ms: int) -> Row | None:
    """What the call draws on: its batch's, if it is on the same account."""
    account = (request.aside, request.budget, request.agent)
    found = [row for row in asides if (row.id, row.budget, row.agent) == account and row.calendar_ms <= calendar_ms]
    return found[0] if found else None


def _drawn(standing: Standing, need: int, own: Row | None) -> Purse:
    """The cap, and what of the need it has to have room for: not what the call takes out of what its batch set aside."""
    if own is not None and standing.starts_ms <= own.calendar_ms < standing.ends_ms:
        need -= min(need, int(getattr(own, standing.dimension)))
    return Purse(standing, need)


def meters(tx: Transaction, prepared: Prepared) -> dict[str, Meter]:
    """The meters of the scope that were ever used, by name."""
    if not prepared.scope.gauges:
        return {}
    return _meters(tx.all("meter.several", **prepared.meters))


def _meters(rows: Sequence[Row]) -> dict[str, Meter]:
    return {row[0]: Meter(*row[1:]) for row in rows}


def keep_meters(tx: Transaction, changed: dict[str, Meter]) -> None:
    """Of one call: at most one for each dimension, and a quota."""
    if changed:
        values = dict(UNCHANGED)
        for place, (name, found) in zip(KEPT, changed.items(), strict=False):
            values[place] = name
            values[f"{place}_free_us"], values[f"{place}_last_us"], values[f"{place}_total"] = found
        tx.count("meter.keep", **values)


def keep_meters_later(tx: Transaction, changed: dict[str, Meter]) -> None:
    """The same of meters that another engine keeps, unless the state has them as they were later."""
    if changed:
        meters = encode([(name, *meter) for name, meter in changed.items()]).decode()
        tx.count("allotment.keep_meters", meters=meters)


def gauge_of(prepared: Prepared, dimension: str) -> Gauge | None:
    return next((gauge for gauge in prepared.scope.gauges if gauge.dimension == dimension), None)


def _places(groups: Sequence[Row], service: str) -> int:
    return sum(group.places for group in groups if group.service == service)


# -- windows -------------------------------------------------------------------------------------------------------------

Windows = dict[tuple[str, str, str], Row]
"""Rows of the present windows by (purse, dimension, per)."""


def turned(tx: Transaction, stored_ms: int) -> int:
    """The budgets' calendar, moved on if a minute has passed."""
    calendar_ms = calendar_at(stored_ms, wall_ms=tx.wall_ms, steady_ms=tx.now_ms)
    if calendar_ms > stored_ms:
        tx.count("spend.turn", at_ms=calendar_ms)
    return calendar_ms


def _windows(tx: Transaction, rows: Sequence[Row]) -> tuple[int, Windows]:
    """The budgets' calendar, and the purses' windows that hold it."""
    calendar_ms = turned(tx, rows[0].at_ms)
    return calendar_ms, {row[1:4]: row for row in rows if row.purse is not None}


def _standing(
    tx: Transaction,
    zone: ZoneInfo,
    payer: Payer,
    groups: Sequence[Row],
    asides: Sequence[Row],
    windows: Windows,
    calendar_ms: int,
) -> Standing:
    cap = payer.cap
    row = windows.get(payer.window)
    if row is None:
        starts_ms, ends_ms, spent = _open(tx, zone, cap, calendar_ms)
    else:
        _, _, _, _, starts_ms, ends_ms, spent, _ = row
    held, places = held_by(groups, payer.holding, starts_ms=starts_ms, ends_ms=ends_ms)
    aside = held_by(asides, payer.holding, starts_ms=starts_ms, ends_ms=ends_ms)[0] if asides else 0
    return Standing(cap.purse, cap.dimension, cap.cap, starts_ms, ends_ms, spent, held, places, aside)


def at(tx: Transaction, cap: PurseCap, zone: ZoneInfo, calendar_ms: int) -> Standing:
    """One cap in its window that holds the instant, which may be one to come."""
    starts_ms, ends_ms = window_of(calendar_ms, cap.cap.window, zone)
    place: dict[str, str | int] = {
        "purse": cap.purse,
        "dimension": cap.dimension,
        "per": cap.cap.window,
        "ends_ms": ends_ms,
    }
    row = tx.one("spend.open", starts_ms=starts_ms, **place) or tx.one("allotment.standing", **place)
    assert row is not None, "a window that is there already has something spent"
    groups, asides = tx.several(("call.groups", {}), ("aside.open", {}))
    whose = holding(cap.purse, cap.dimension)
    held, places = held_by(groups, whose, starts_ms=starts_ms, ends_ms=ends_ms)
    aside, _ = held_by(asides, whose, starts_ms=starts_ms, ends_ms=ends_ms)
    return Standing(cap.purse, cap.dimension, cap.cap, starts_ms, ends_ms, int(row.settled), held, places, aside)


def _open(tx: Transaction, zone: ZoneInfo, cap: PurseCap, calendar_ms: int) -> tuple[int, int, int]:
    starts_ms, ends_ms = window_of(calendar_ms, cap.cap.window, zone)
    row = tx.one(
        "spend.open",
        purse=cap.purse,
        dimension=cap.dimension,
        per=cap.cap.window,
        starts_ms=starts_ms,
        ends_ms=ends_ms,
    )
    assert row is not None, "no window that holds the calendar was found, and yet there is one"
    return starts_ms, ends_ms, int(row.settled)


def held_by(groups: Sequence[Row], holding: Holding, *, starts_ms: int, ends_ms: int) -> tuple[int, int]:
    """(amount, how many calls) that open calls made in this window hold of the purse. groups: rows of call.groups."""
    charged, name, amount = holding
    held = places = 0
    for group in groups:
        if (charged is None or group[charged] == name) and starts_ms <= group[CALENDAR] < ends_ms:
            held += group[amount]
            places += group[PLACES]
    return held, places
