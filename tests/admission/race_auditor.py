"""Looks at a state from outside, over and over, by plain SQL: what all calls are charged or hold. Run: race_auditor.py STATE.

Writes "ready", ends with its standard input, and writes the greatest sum ever seen and the most calls that were open at once.
"""

import select
import sys
from typing import Any

import apsw
import psycopg

SUM = """
select coalesce(sum(money), 0), count(*) filter (where state = 'open'),
       coalesce((select settled from spend where purse = 'budget:race'), 0),
       coalesce(sum(money) filter (where state in ('settled', 'unknown')), 0)
  from call where budget = 'race' and state <> 'released'
"""


def connected(state: str) -> Any:
    if state.startswith("postgresql:"):
        return psycopg.connect(state, autocommit=True)
    connection: Any = apsw.Connection(state, flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(10_000)
    return connection


def main() -> None:
    connection = connected(sys.argv[1])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    most = places = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        total, opened, settled, counted = connection.execute(SUM).fetchall()[0]
        assert settled == counted, f"the purse says {settled}, its calls {counted}"
        most, places = max(most, total), max(places, opened)
    sys.stdout.write(f"{most} {places}\n")


if __name__ == "__main__":
    main()
