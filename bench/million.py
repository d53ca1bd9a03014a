"""What a million finished tasks cost: claim, submit and status beside an empty ledger, on both engines.

One real task is run to its end; its rows (the task, its run, step and records) are then multiplied by SQL, so that the
ledger holds as many as asked. In it and in an empty one, by turns, tasks are submitted, claimed, ended and looked at, one
by one. The bar: each p99 at most twice that of the empty ledger.

    python -m bench million [--tasks 1000000] [--each 3000] [--state sqlite | postgresql]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import psycopg

import longwatch
from bench.harness import keep, table
from longwatch.db.sqlite import tables
from longwatch.policy.task import Finished
from longwatch.testing.postgres import Server

BAR = 2.0
LEASE_MS = 60_000
TURNS = 30
CHANGED = {  # what differs between the copies of a row; every other column is as in the first
    "task": {"id": "'old_' || i", "key": "null", "batch": "null"},
    "run": {"id": "'oldrun_' || i", "task": "'old_' || i", "fence": "-i"},
    "step": {"task": "'old_' || i"},
    "record": {"task": "'old_' || i", "subject": "'old_' || i"},
}
NO_FILTER = {"kind": None, "agent": None, "since_ms": None}
SERIES = {
    "sqlite": "with recursive series (i) as (select 1 union all select i + 1 from series where i < {n}) ",
    "postgresql": "with series (i) as (select cast(i as bigint) from generate_series(1, {n}) as i) ",
}


def open_fleet(state: str, folder: Path) -> Any:
    lw = longwatch.open(state, config={"fleet": {"root": str(folder)}})

    @lw.task("one")
    def one(run: longwatch.Run, number: int) -> int:
        return run.step("step", abs, number)

    return lw


def copies(dialect: str, amount: int, task: str) -> list[str]:
    """The statements that multiply the rows of the one finished task."""
    made: list[str] = []
    for found in tables():
        changed = CHANGED.get(found.name)
        if changed is None:
            continue
        names = [name for name, _ in found.columns if name in changed or not (found.numbered and name in found.key)]
        values = ", ".join(changed.get(name, f"first.{name}") for name in names)
        whose = "id" if found.name == "task" else "task"
        first = f"(select * from {found.name} where {whose} = '{task}') as first"
        series = SERIES[dialect].format(n=amount)
        made.append(
            f"{series} insert into {found.name} ({', '.join(names)}) select {values} from {first} cross join series"
        )
    return made


def fill(state: str, amount: int, task: str) -> None:
    if "://" in state:
        with psycopg.connect(state, autocommit=True) as server:
            for statement in copies("postgresql", amount, task):
                server.execute(statement.encode())
            server.execute("vacuum analyze")
            server.execute("checkpoint")
        return
    file = apsw.Connection(state)
    try:
        file.execute("pragma synchronous = off")
        for statement in copies("sqlite", amount, task):
            file.execute(statement)
    finally:
        file.close()


def timed(times: list[float], act: Callable[[], Any]) -> Any:
    begun = time.perf_counter()
    answer = act()
    times.append((time.perf_counter() - begun) * 1000)
    return answer


ACTS = ("submit", "claim", "end", "status")
Times = dict[str, list[float]]  # ms, by act


def act_all(lw: Any, times: Times, each: int) -> None:
    """Every act `each` times, on one task after the other."""
    parts = lw.opened.parts

    def claim() -> Any:
        start = parts.world.new_id("run")
        return parts.runs.claim("bench", kinds=["one"], limit=1, lease_ms=LEASE_MS, start=start)[0]

    for number in range(each):
        task = timed(times["submit"], partial(lw.submit, "one", {"number": number}))
        run = timed(times["claim"], claim)
        timed(times["end"], partial(parts.runs.conclude, run, Finished("1")))
        timed(times["status"], partial(lw.get, task.id))


@contextmanager
def two_states(engine: str, folder: Path) -> Generator[tuple[str, str]]:
    if engine == "sqlite":
        yield str(folder / "empty.db"), str(folder / "full.db")
        return
    server = Server.start()
    try:
        server.end()
        server.launch("fsync=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB")
        yield server.new_database(), server.new_database()
    finally:
        server.stop()


def prepared(state: str, folder: Path, amount: int) -> Any:
    """A fleet with one finished task, and `amount` copies of it."""
    lw = open_fleet(state, folder)
    first = lw.submit("one", {"number": 1}).id
    lw.work(until_idle=True)
    lw.close()
    if amount:
        fill(state, amount, first)
    lw = open_fleet(state, folder)
    if amount:
        check(lw, f"old_{amount}")
    return lw


def check(lw: Any, task: str) -> None:
    with lw.opened.parts.database.read() as tx:
        story = [tx.one("tasks.by_id", id=task), tx.one("tasks.step", task=task, name="step")]
        story += tx.all("journal.list_of", after=0, limit=9, subject=task, **NO_FILTER)
    assert None not in story
    assert len(story) >= 6, story


def compare(engine: str, amount: int, each: int) -> dict[str, dict[str, float]]:
    """p99 of each act; the two ledgers take turns, so that both see the same machine."""
    with tempfile.TemporaryDirectory() as made, two_states(engine, Path(made)) as (empty, full):
        fleets = [prepared(empty, Path(made), 0), prepared(full, Path(made), amount)]
        for lw in fleets:
            act_all(lw, {act: [] for act in ACTS}, each // 5)  # whatever is done for the first time
        taken: list[Times] = [{act: [] for act in ACTS} for _ in fleets]
        for _ in range(TURNS):
            for lw, times in zip(fleets, taken, strict=True):
                act_all(lw, times, each // TURNS)
        for lw in fleets:
            lw.close()
    first, second = ({act: sorted(took)[len(took) * 99 // 100] for act, took in times.items()} for times in taken)
    return {act: {"empty": first[act], "full": second[act], "ratio": second[act] / first[act]} for act in ACTS}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench million", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=3000)
    parser.add_argument("--state", choices=("sqlite", "postgresql"), action="append")
    given = parser.parse_args(arguments)
    found = {engine: compare(engine, given.tasks, given.each) for engine in given.state or ("sqlite", "postgresql")}
    rows = [
        (engine, act, f"{one['empty']:.2f}", f"{one['full']:.2f}", f"{one['ratio']:.2f}")
        for engine, acts in found.items()
        for act, one in acts.items()
    ]
    table(f"{given.tasks} finished tasks; p99 in ms", ("engine", "act", "empty", "full", "ratio"), rows)
    keep("million", {"tasks": given.tasks, "bar": BAR, "p99_ms": found}, "psycopg")
    return 0 if all(one["ratio"] <= BAR for acts in found.values() for one in acts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
