"""What tables grow to, and how many dead rows are left in them, while tasks run for a long time and what ended is archived.

Four processes work off tasks of one step each; what waits is kept at a few thousands. One more process archives what ended
five seconds ago, as a worker does once a week: a round every few seconds, so that a short run shows many of them. The same
tasks run once more with nothing archived. By turns of a tenth of the tasks the rows and bytes of the state are looked at,
on PostgreSQL with the dead rows, autovacuum on. The bar: half-way and at the end the state is of one size, within a tenth
or one PAGE of tasks.

    python -m bench growth [--tasks 100000] [--state sqlite | postgresql]
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import psycopg

import longwatch
from bench.harness import keep, table
from bench.ledger import PROCESSES, join, run
from bench.ledger_postgres import SYNCED
from longwatch.policy.retention import Close
from longwatch.store.look import Look
from longwatch.testing.postgres import Server

PAGE, WAITING, TENTHS = 1_000, 4_000, 10
AGE_MS, REST_S = 5_000, 2.0
PATIENCE_S = 1_800
COUNTED = ("task", "run", "step", "record", "call", "retired_key", "retired_cost")
SIZES = """
select c.relname, pg_total_relation_size(c.oid), s.n_live_tup, s.n_dead_tup, s.autovacuum_count
  from pg_class c join pg_stat_user_tables s on s.relid = c.oid where c.relkind = 'r' order by 2 desc limit 8
"""


class Seen(NamedTuple):
    """done: tasks that were submitted so far and do not wait. rows: in the state. dead: rows; None on SQLite."""

    done: int
    rows: int
    bytes: int
    dead: int | None


class Grown(NamedTuple):
    per_s: float
    looks: list[Seen]
    tables: list[list[Any]]
    archived_bytes: int


def open_fleet(state: str, folder: str) -> Any:
    lw = longwatch.open(state, config={"fleet": {"root": folder}, "archive": {"room": "1 B", "every": "52w"}})

    @lw.task("one")
    def one(run: longwatch.Run, number: int) -> int:
        return run.step("step", abs, number)

    return lw


def work(state: str, folder: str, over: Event) -> None:
    with open_fleet(state, folder) as lw:
        while not over.is_set():
            if not lw.work(until_idle=True):
                time.sleep(0.05)


def archive(state: str, folder: str, over: Event) -> None:
    with open_fleet(state, folder) as lw:
        while not over.wait(REST_S):
            lw.opened.parts.archives.round(Close(AGE_MS))


def waiting(lw: Any) -> int:
    counts = Look(lw.opened.parts.database).counts()
    return sum(counts.get(state, 0) for state in ("ready", "running", "scheduled"))


def grow(state: str, folder: str, tasks: int, *, archived: bool) -> Grown:
    context = multiprocessing.get_context("spawn")
    over, looks = context.Event(), list[Seen]()
    with open_fleet(state, folder) as lw:
        run(workers := [context.Process(target=work, args=(state, folder, over)) for _ in range(PROCESSES)])
        run(beside := [context.Process(target=archive, args=(state, folder, over))] if archived else [])
        begun_s = time.monotonic()
        for first in range(0, tasks, PAGE):
            until(lambda: waiting(lw) < WAITING)
            lw.submit_batch(f"bench-{first}", [("one", {"number": first + number}) for number in range(PAGE)])
            if (first + PAGE) % (tasks // TENTHS) == 0:
                looks.append(look(state, first + PAGE))
        until(lambda: waiting(lw) == 0)
        took_s = time.monotonic() - begun_s
        over.set()
        join(workers + beside)
        if archived:
            time.sleep(AGE_MS / 1000)
            lw.opened.parts.archives.round(Close(AGE_MS))
        looks.append(look(state, tasks))
        size = sum(each.bytes for each in lw.opened.parts.archives.segments())
    return Grown(round(tasks / took_s, 1), looks, sizes(state), size)


def until(met: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not met():
        if time.monotonic() > ends:
            raise TimeoutError(f"the workers took more than {PATIENCE_S} s")
        time.sleep(0.1)


def look(state: str, done: int) -> Seen:
    if "://" not in state:
        file = apsw.Connection(state, flags=apsw.SQLITE_OPEN_READONLY)
        rows = sum(file.execute(f'select count(*) from "{name}"').get for name in COUNTED)
        return Seen(done, rows, Path(state).stat().st_size, None)
    with psycopg.connect(state, autocommit=True) as server:
        count = " + ".join(f'(select count(*) from "{name}")' for name in COUNTED)
        ((rows, size),) = server.execute(f"select {count}, pg_database_size(current_database())".encode()).fetchall()
        ((dead,),) = server.execute(b"select sum(n_dead_tup)::bigint from pg_stat_user_tables").fetchall()
        return Seen(done, rows, size, dead)


def sizes(state: str) -> list[list[Any]]:
    if "://" not in state:
        return []
    with psycopg.connect(state, autocommit=True) as server:
        return [list(row) for row in server.execute(SIZES.encode()).fetchall()]


@contextmanager
def states(engine: str, folder: Path) -> Generator[tuple[str, str]]:
    if engine == "sqlite":
        yield str(folder / "archived.db"), str(folder / "kept.db")
        return
    server = Server.start()
    try:
        server.end()
        server.launch(*SYNCED)
        yield server.new_database(), server.new_database()
    finally:
        server.stop()


def compare(engine: str, tasks: int) -> dict[str, Grown]:
    with tempfile.TemporaryDirectory() as made, states(engine, Path(made)) as (first, second):
        names = {"archived": first, "all kept": second}
        for name in names:
            (Path(made) / name).mkdir()
        return {
            name: grow(state, str(Path(made) / name), tasks, archived=name == "archived")
            for name, state in names.items()
        }


def is_flat(grown: Grown) -> bool:
    half, end = grown.looks[TENTHS // 2 - 1].rows, grown.looks[TENTHS - 1].rows
    return end <= half * 1.1 + 5 * PAGE


def show(engine: str, name: str, grown: Grown) -> None:
    rows: Sequence[Sequence[object]] = [
        (f"{each.done:,}", f"{each.rows:,}", f"{each.bytes / (1 << 20):.1f}", each.dead) for each in grown.looks
    ]
    title = f"{engine}, {name}: {grown.per_s} tasks/s, archive {grown.archived_bytes / (1 << 20):.1f} MiB"
    table(title, ("tasks", "rows", "MiB", "dead rows"), rows)
    if grown.tables:
        table(f"{engine}, {name}: at the end", ("table", "bytes", "rows", "dead rows", "vacuumed"), grown.tables)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--state", choices=("sqlite", "postgresql"), action="append")
    given = parser.parse_args(arguments)
    found = {engine: compare(engine, given.tasks) for engine in given.state or ("postgresql", "sqlite")}
    for engine, runs in found.items():
        for name, grown in runs.items():
            show(engine, name, grown)
    kept = {engine: {name: grown._asdict() for name, grown in runs.items()} for engine, runs in found.items()}
    keep("growth", {"tasks": given.tasks, "runs": kept}, "psycopg")
    return 0 if all(is_flat(runs["archived"]) for runs in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
