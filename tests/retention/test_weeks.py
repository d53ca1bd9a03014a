"""Half a year of constant load, by a clock of its own: from the third week on the state stays as it is, on every engine.

Rows are counted, and bytes. On PostgreSQL every day ends with the vacuum that it does by itself, which gives hardly a page
back: a table whose dead rows come faster than their room is used again grows here, and so does an index.

What memory holds goes up and down with its snapshots, by the twelfth week for the first time to its height. What is left behind
of what has gone grows by what was done, by promise, and is counted apart.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

import longwatch
from longwatch import Run
from longwatch.db.connection import Database
from longwatch.surface.engines import is_remote
from longwatch.testing.fleet import Bench, VirtualFleet

WEEKS = max(12, 26 * int(os.environ.get("LONGWATCH_SHARE", "100")) // 100)
A_DAY = 12
CONFIG: dict[str, Any] = {
    "archive": {"every": "1w", "room": "1 B"},
    "fleet": {"money": ["100 USD/hour", "1000 USD/month"]},
    "service": {"api": {"price": "0.01 USD"}},
    "budget": {"growth": {"calls": "100/day"}, "main": {}},
}
TABLES = ("task", "run", "step", "call", "record", "spend", "need", "batch", "restored", "retiring")
LEFT = {  # of what has gone: keys, places, what was spent, and what snapshots say
    "memory_left",
    "memory_left_gone",
    "memory_left_key",
    "memory_receipt",
    "memory_snapshot",
    "retired_cost",
    "retired_key",
}
LEFT_MOST = 500  # bytes of a task that has gone, with its records
ON_SERVER = """select relname, pg_total_relation_size(oid) from pg_class
 where relkind = 'r' and relnamespace = 'public'::regnamespace"""
IN_FILE = """select coalesce(tbl_name, dbstat.name), sum(pgsize) from dbstat left join sqlite_schema using (name) group by 1"""


class Week(NamedTuple):
    """At its end. rows: of the state, by table. records: in memory's tables. The others are bytes, with those of indexes."""

    rows: dict[str, int]
    records: int
    state: int
    memory: int
    left: int

    @property
    def total(self) -> int:
        return sum(self.rows.values())


@pytest.fixture
def bench() -> Generator[Bench]:
    yield (made := Bench())
    made.clock.end_beside()


def one_week(lw: VirtualFleet, week: int, place: str) -> None:
    for day in range(7):
        for n in range(A_DAY):
            lw.agent(f"agent-{n % 3}").submit("invoice", {"n": n, "of": f"{week}-{day}"})
        lw.work(until_idle=True)
        assert lw.opened.parts.archives is not None
        lw.opened.parts.archives.rest()
        if is_remote(place):
            with psycopg.connect(place, autocommit=True) as connection:
                tables = ", ".join(name for name, _ in connection.execute(ON_SERVER))
                connection.execute(f"vacuum {tables}".encode())
        lw.bench.clock.advance("1d")


def asked(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.read() as tx:
        return list(tx.plain(statement))  # type: ignore[attr-defined]


def sizes(lw: VirtualFleet, place: str) -> dict[str, int]:
    """Bytes of each table with its indexes."""
    parts = lw.opened.parts
    if is_remote(place):
        return {str(name): int(size) for name, size in asked(parts.database, ON_SERVER)}
    places = (parts.database, ""), (parts.memories.store.database, "memory_")
    return {
        str(name) if str(name).startswith(start) else f"{start}{name}": int(size)
        for database, start in places
        for name, size in asked(database, IN_FILE)
    }


def ended(lw: VirtualFleet, place: str) -> Week:
    rows = {table: int(asked(lw.opened.parts.database, f'select count(*) from "{table}"')[0][0]) for table in TABLES}
    found = sizes(lw, place)
    left = sum(found[table] for table in LEFT)
    memory = sum(size for table, size in found.items() if table.startswith("memory_") and table not in LEFT)
    return Week(rows, remembered(lw), sum(found.values()) - memory - left, memory, left)


def declare(lw: VirtualFleet) -> None:
    @lw.task("invoice")
    def invoice(run: Run, n: int, of: str) -> str:
        run.step("letter", lambda: f"letter {n} of {of}")
        with run.call("api", budget="growth", money="0.02 USD"):
            pass
        if n == 7:
            raise longwatch.GiveUp("no such customer")
        return f"billed {n} of {of}"


def remembered(lw: VirtualFleet) -> int:
    """Records that are in memory's own tables."""
    store = lw.opened.parts.memories.store
    return sum(len(store.range(each.agent, 1, 1 << 40, limit=1 << 20)) for each in store.agents())


def stays(what: list[int], since: int) -> None:
    """From this week on it is as it was then, but for a tenth."""
    for week, size in enumerate(what[since:], start=since + 1):
        assert abs(size - what[since - 1]) <= 0.1 * what[since - 1], (week, what)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_constant_load_the_state_is_flat_from_the_third_week_on(bench: Bench, place: str, tmp_path: Path) -> None:
    weeks: list[Week] = []
    files: list[int] = []
    with VirtualFleet.made(bench, tmp_path, CONFIG, state=place) as lw:
        declare(lw)
        for week in range(WEEKS):
            one_week(lw, week, place)
            weeks.append(ended(lw, place))
            files.append(0 if is_remote(place) else Path(place).stat().st_size)
            print(f"week {week + 1}: {weeks[-1]}, file {files[-1]}")  # noqa: T201
        archives = lw.opened.parts.archives
        assert archives is not None
        archived = sum(segment.entries.get("task", 0) for segment in archives.segments())
        assert archives.archive.verify() == []
        assert [lw.memory(f"agent-{n}").verify(whole=True) for n in range(3)] == [(), (), ()]
    assert archived + weeks[-1].rows["task"] == WEEKS * 7 * A_DAY  # each is in one place
    stays([week.total for week in weeks], 3)
    stays([week.state for week in weeks], 3)
    stays(files, 3)
    for what in ([week.records for week in weeks], [week.memory for week in weeks]):
        assert max(what[12:], default=0) <= 1.1 * max(what[6:12]), what
    assert weeks[-1].left - weeks[0].left <= LEFT_MOST * archived
