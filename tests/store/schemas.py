"""States of other schemas, for tests and for the processes that they start (`python schemas.py VERB PLACE ...`).

PLACE is a file, or the address of a PostgreSQL server. The schemas that come after this code's are made up here.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import longwatch
from longwatch import Run
from longwatch.db import statements
from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.db.sqlite import SqliteDatabase, tables
from longwatch.db.statements import Migration
from longwatch.runtime.world import Machine

KNOWN = statements.migrations()
NEXT = KNOWN[-1].number + 1
ROWS = 20_000  # of a table that a migration fills


def _grown() -> str:
    """Everything that a pre may do: a column for each table, a table, an index."""
    columns = [f'alter table "{table.name}" add column later text;' for table in tables()]
    kept = [f'alter table "{table.name}" add column later_ms bigint not null default 7;' for table in tables()]
    return "\n".join([*columns, *kept, "create table later (id text primary key);", "create index l on task (later);"])


def filled(number: int) -> Migration:
    """One that takes a moment, and fails when it is run twice."""
    counted = f"with recursive counted (n) as (select 1 union all select n + 1 from counted where n < {ROWS})"
    table = f"create table made_{number} (n bigint primary key)"
    return Migration(number, "made", f"{table};\ninsert into made_{number} (n) {counted} select n from counted;")


AHEAD = (*KNOWN, Migration(NEXT, "later", _grown()))
BEYOND = (*AHEAD, Migration(100, "no_line", "drop table lease_waiter;"))
FURTHER = (*BEYOND, Migration(101, "after_it", "create table after_it (id text primary key);"))
MANY = (*KNOWN, *(filled(NEXT + place) for place in range(20)))
SETS = {"ahead": AHEAD, "beyond": BEYOND, "further": FURTHER, "many": MANY}


def opened(place: str) -> SqliteDatabase | PostgresDatabase:
    return PostgresDatabase(place, Machine()) if "://" in place else SqliteDatabase(place, Machine())


def number_of(place: str) -> int:
    """The number of the state's last migration, read from outside."""
    database = opened(place)
    try:
        return _number(database)
    finally:
        database.close()


def _number(database: SqliteDatabase | PostgresDatabase) -> int:
    with database.read() as tx:
        row = tx.one("fleet.schema")
    assert row is not None
    return int(row.number)


def lived_in(place: str, root: Path) -> None:
    """A fleet that has something of nearly everything: tasks in several states, steps, calls, money, files, a lease."""
    config = {"fleet": {"root": str(root)}, "service": {"bank": {"rate": "1000/s", "price": "0.20 USD"}}}
    with longwatch.open(place, config=config) as lw:

        @lw.task("pay")
        def pay(run: Run, number: int) -> int:
            with run.call("bank"):
                run.step("charge", int, number)
            if number == 3:
                raise longwatch.GiveUp("no such customer")
            with run.edit("book.json") as edit:
                edit.write_json("book.json", number)
            return number

        lw.submit_batch("november", [pay.bind(number) for number in (0, 1, 2, 4, 5)])
        lw.submit(pay.bind(7), after=[lw.submit(pay.bind(3))])
        lw.work(until_idle=True)
        lw.submit(pay.bind(8), key="for later")
        lw.submit(pay.bind(9), at="30d")


# -- what the processes do -------------------------------------------------------------------------------------------------


def started(verb: str, *arguments: object) -> "subprocess.Popen[str]":
    import warm  # not in the processes that run this very file

    command = [sys.executable, __file__, verb, *map(str, arguments)]
    return warm.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def say(word: object) -> None:
    print(word, flush=True)  # noqa: T201 - how the process speaks to its test


def bring(place: str, which: str) -> None:
    """Bring the state to this set of migrations."""
    database = opened(place)
    say("opened")
    say(migrate(database, known=SETS[which]))
    database.close()


def work(place: str, root: str, amount: str) -> None:
    """As a worker of this code; what it has done."""
    with longwatch.open(place, config={"fleet": {"root": root}}) as lw:

        @lw.task("note")
        def note(run: Run, number: int) -> int:
            return run.step("note", int, number)

        lw.submit_batch("notes", [note.bind(number) for number in range(int(amount))])
        say("begun")
        say(lw.work(until_idle=True).done)


VERBS: dict[str, Callable[..., None]] = {"bring": bring, "work": work}

if __name__ == "__main__":
    VERBS[sys.argv[1]](*sys.argv[2:])
