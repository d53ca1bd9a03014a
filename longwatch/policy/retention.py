"""When the archive closes segments, and which of them it drops: by age, by size, by what room the disk has left.

What is pinned is never dropped, and nothing that is not archived is dropped at all. Under pressure more is archived earlier;
only where the config says so are the oldest segments given up before their time.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from longwatch.policy.duration import format_ms
from longwatch.policy.size import format_bytes

PRESSED_MS = 3_600_000  # what is older leaves when the disk is nearly full, and no more often than this
DIRE = 4  # below a quarter of the room that shall be free, what may be shed is shed

Shed = Literal["nothing", "archive"]


class Rules(NamedTuple):
    """every_ms: a segment is closed so often, and what is younger stays hot. keep_ms: of segments. size: of all of them, in
    bytes; None: any. room: bytes that shall be free. shed: what is given up when there is no room at all."""

    every_ms: int
    keep_ms: int
    size: int | None = None
    room: int = 0
    shed: Shed = "nothing"


class Kept(NamedTuple):
    """A segment. to_ms: its youngest entry, by the calendar."""

    name: str
    to_ms: int
    bytes: int
    pinned: bool = False


class Facts(NamedTuple):
    """now_ms: by the fleet's clock. wall_ms: by the calendar. closed_ms: when a round ended last. free: bytes; None: unknown.
    begun: something was begun and not finished."""

    now_ms: int
    wall_ms: int
    closed_ms: int
    free: int | None = None
    begun: bool = False


class Close(NamedTuple):
    """Archive what is older than age_ms. early: for want of room."""

    age_ms: int
    early: bool = False


class Drop(NamedTuple):
    """Drop a segment for good."""

    name: str
    why: str


def closing(rules: Rules, facts: Facts) -> Close | None:
    """Whether a round is due. One that was begun goes on at once."""
    since_ms = facts.now_ms - facts.closed_ms
    pressed_ms = min(PRESSED_MS, rules.every_ms)
    if is_pressed(rules, facts.free) and (facts.begun or since_ms >= pressed_ms):
        return Close(pressed_ms, early=True)
    if facts.begun or since_ms >= rules.every_ms:
        return Close(rules.every_ms)
    return None


def is_pressed(rules: Rules, free: int | None) -> bool:
    return free is not None and free < rules.room


def dropping(rules: Rules, segments: Iterable[Kept], *, wall_ms: int, free: int | None = None) -> list[Drop]:
    """Segments that have to go, oldest first. Twice does no harm."""
    loose = sorted((each for each in segments if not each.pinned), key=lambda each: (each.to_ms, each.name))
    total = sum(each.bytes for each in loose)
    over = 0 if rules.size is None else total - rules.size
    lacking = 0
    if rules.shed == "archive" and free is not None and free < rules.room // DIRE:
        lacking = rules.room // DIRE - free
    drops: list[Drop] = []
    for each in loose:
        why = _why(each, rules, wall_ms=wall_ms, over=over, lacking=lacking)
        if why:
            drops.append(Drop(each.name, why))
            over, lacking = over - each.bytes, lacking - each.bytes
    return drops


def _why(segment: Kept, rules: Rules, *, wall_ms: int, over: int, lacking: int) -> str:
    if segment.to_ms <= wall_ms - rules.keep_ms:
        return f"older than {format_ms(rules.keep_ms)}"
    if over > 0:
        return f"the archive is more than {format_bytes(rules.size or 0)}"
    if lacking > 0:
        return f"less than {format_bytes(rules.room // DIRE)} are free on its disk"
    return ""
