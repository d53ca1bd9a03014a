"""Looks at a state from outside, over and over, by plain SQL: what all calls are charged or hold. Run: race_auditor.py STATE.

Ends with its standard input, and writes the greatest sum ever seen and the most calls that were open at once.
"""

import select
import sys
from typing import Any

import apsw

SUM = """
select coalesce(sum(money), 0), count(*) filter (where state = 'open'),
       coalesce((select settled from spend where purse = 'budget:race'), 0),
       coalesce(sum(money) filter (where state in ('settled', 'unknown')), 0)
  from call where budget = 'race' and state <> 'released'
"""


def main() -> None:
    connection: Any = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(10_000)
    most = places = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        total, opened, settled, counted = connection.execute(SUM).fetchall()[0]
        assert settled == counted, f"the purse says {settled}, its calls {counted}"
        most, places = max(most, total), max(places, opened)
    sys.stdout.write(f"{most} {places}\n")


if __name__ == "__main__":
    main()
