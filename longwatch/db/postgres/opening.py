"""How a transaction opens: it takes its locks, and behind them the instants that all its statements go by, in one statement."""

from collections.abc import Mapping
from functools import cache

from longwatch.db.connection import Part

# Advisory locks; the first of their two numbers is the schema's.
STATE, CALLS, LINES, MEMORY, DUE, ENDS = 1, 3, 4, 5, 6, 7
BESIDE: Mapping[Part, tuple[int, ...]] = {
    "tasks": (),
    "calls": (CALLS, ENDS),
    "slots": (CALLS,),
    "ends": (ENDS,),
    "lines": (LINES,),
}
"""What transactions of each part keep each other out by."""
Locks = tuple[tuple[bytes, int], ...]  # how each is taken, and the second of its numbers

NOT_DURABLE = b", set_config('synchronous_commit', 'off', true) as unsynced"
ALONE = b"pg_advisory_xact_lock(cast($%d as integer), cast($%d as integer))"
SHARED = b"pg_advisory_xact_lock_shared(cast($%d as integer), cast($%d as integer))"
NUMBER = b"cast(pg_current_xact_id() as text)"
NO_NUMBER = b"''"
SERVER_MS = b"cast(floor(extract(epoch from clock_timestamp()) * 1000) as bigint)"
OFFSET_MS = b"coalesce((select offset_ms from fleet), 0)"
INSTANTS = b"""
select server_ms, offset_ms, number, set_config('longwatch.wall_ms', cast(server_ms as text), true) as wall,
       set_config('longwatch.now_ms', cast(greatest(server_ms + offset_ms, $1) as text), true) as now%(setting)b
  from (select %(server_ms)b as server_ms, %(offset_ms)b as offset_ms, %(number)b as number
          from (select %(locks)b offset 0) as locked offset 0) as clock
"""
GIVEN = b"""
select 0 as server_ms, 0 as offset_ms, %(number)b as number,
       set_config('longwatch.now_ms', cast($1 as text), true) as now,
       set_config('longwatch.wall_ms', cast($2 as text), true) as wall%(setting)b
  from (select %(locks)b offset 0) as locked
"""


def locks_of(part: Part) -> Locks:
    """In the order in which everybody takes them."""
    if part == "all":
        return ((ALONE, STATE),)
    if part == "memory":
        return ((ALONE, MEMORY),)
    return ((SHARED, STATE), *((ALONE, lock) for lock in BESIDE[part]))


@cache
def opening_text(asks: bool, entered: bool, number: bytes, locks: Locks, synced: bool) -> bytes:
    """asks: for the server's clock. entered: the fleet's row is there, and says what the clock needs added."""
    text, first = (INSTANTS, 2) if asks else (GIVEN, 3)
    taken = [lock % (first + 2 * place, first + 2 * place + 1) for place, (lock, _) in enumerate(locks)]
    parts = {
        b"setting": b"" if synced else NOT_DURABLE,
        b"server_ms": SERVER_MS,
        b"offset_ms": OFFSET_MS if entered else b"0",
        b"number": number,
        b"locks": b", ".join(taken) or b"1",
    }
    return text % parts
