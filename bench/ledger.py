"""Tasks per second of the ledger, beside DBOS on SQLite, in the same run.

Four processes, tasks of one step each that do nothing. The tasks are submitted beforehand; the processes import, open
the state, wait for each other, and begin together. Measured is the span from the first start of a task to the end of the
last one, as each product's own tables tell it. Rounds are interleaved, so that both see the same machine; medians count.

DBOS is given its best: its file switched to WAL by hand, the queue polled every 10 ms, one workflow after the other in
each process taken by eights (`--explore` tries the settings around these), in both durabilities that SQLite has in WAL.
The bars: 4 times DBOS with full durability on both sides, 10 times with normal on both sides.

The last rounds are Longwatch alone, while 15 more processes admit and settle calls on the same state.

    python -m bench ledger [--rounds 3] [--tasks 4000] [--dbos-tasks 400] [--explore]
"""

import argparse
import logging
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier, Event
from typing import Any

from bench.harness import keep, median, table

PROCESSES = 4
ADMITTERS = 15
BAR_FULL, BAR_NORMAL = 4.0, 10.0
PATIENCE_S = 300


@dataclass(frozen=True)
class DbosSettings:
    """poll_s: of its queue. at_once: workflows that one process runs at the same time; None: no bound."""

    poll_s: float = 0.01
    at_once: int | None = 8


@dataclass(frozen=True)
class Round:
    product: str
    durability: str
    tasks: int
    seconds: float
    per_s: float


# -- Longwatch -----------------------------------------------------------------------------------------------------------


def open_longwatch(folder: str, durability: str) -> Any:
    import longwatch

    def one(run: longwatch.Run, number: int) -> int:
        return run.step("step", abs, number)

    config = {"fleet": {"durability": durability, "root": folder}, "service": {"api": {"rate": "1000000/s"}}}
    lw = longwatch.open(f"{folder}/longwatch.db", config=config)
    lw.task("one")(one)
    return lw


def work_longwatch(folder: str, durability: str, ready: Barrier) -> None:
    lw = open_longwatch(folder, durability)
    ready.wait(PATIENCE_S)
    lw.work(until_idle=True)
    lw.close()


def admit(folder: str, durability: str, over: Event) -> None:
    lw = open_longwatch(folder, durability)
    while not over.is_set():
        with lw.call("api"):
            pass
    lw.close()


def longwatch_round(durability: str, tasks: int, *, admitters: int = 0) -> Round:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        lw = open_longwatch(folder, durability)
        lw.submit_batch("bench", [("one", {"number": number}) for number in range(tasks)])
        over, ready = context.Event(), context.Barrier(PROCESSES)
        beside = [context.Process(target=admit, args=(folder, durability, over)) for _ in range(admitters)]
        run(beside)
        run(
            workers := [
                context.Process(target=work_longwatch, args=(folder, durability, ready)) for _ in range(PROCESSES)
            ]
        )
        join(workers)
        over.set()
        join(beside)
        with lw.opened.parts.database.read():
            (row,) = lw.opened.parts.database.connection.execute(
                "select min(started_ms), max(ended_ms), sum(outcome = 'finished') from run"
            )
        lw.close()
    begun_ms, ended_ms, done = row
    assert done == tasks, f"{done} of {tasks} tasks are done"
    return rated(
        "Longwatch" + (f" beside {admitters} admitting" if admitters else ""), durability, tasks, ended_ms - begun_ms
    )


# -- DBOS ----------------------------------------------------------------------------------------------------------------


def open_dbos(path: str, durability: str, *, executor: str) -> Any:
    """(The module's class, a workflow of one step.) Every connection of its engine is in WAL, as durable as asked."""
    import sqlalchemy
    from dbos import DBOS
    from sqlalchemy import event

    logging.disable(logging.CRITICAL)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"  # as DBOS sets it for an engine of its own
        connection.execute("pragma busy_timeout = 30000")
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {durability}")

    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{path}",
            "system_database_engine": engine,
            "executor_id": executor,
            "application_version": "1",
            "log_level": "CRITICAL",
            "console_log_level": "CRITICAL",
        }
    )

    @DBOS.step()
    def step(number: int) -> int:
        return abs(number)

    @DBOS.workflow()
    def one(number: int) -> int:
        return step(number)

    return DBOS, one


def submit_dbos(path: str, durability: str, settings: DbosSettings, tasks: int) -> None:
    DBOS, one = open_dbos(path, durability, executor="submitter")
    DBOS.listen_queues([])
    DBOS.launch()
    queue = DBOS.register_queue("bench", worker_concurrency=settings.at_once, polling_interval_sec=settings.poll_s)
    for number in range(tasks):
        queue.enqueue(one, number)
    DBOS.destroy()


def work_dbos(path: str, durability: str, name: str, ready: Barrier, over: Event) -> None:
    DBOS, _ = open_dbos(path, durability, executor=name)
    ready.wait(PATIENCE_S)
    DBOS.launch()
    over.wait(PATIENCE_S)
    DBOS.destroy(workflow_completion_timeout_sec=1)


def dbos_round(durability: str, tasks: int, settings: DbosSettings) -> Round:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/dbos.db"
        run(first := [context.Process(target=submit_dbos, args=(path, durability, settings, tasks))])
        join(first)
        over, ready = context.Event(), context.Barrier(PROCESSES)
        workers = [
            context.Process(target=work_dbos, args=(path, durability, f"worker-{place}", ready, over))
            for place in range(PROCESSES)
        ]
        run(workers)
        begun_ms, ended_ms = span_of_dbos(path, tasks)
        over.set()
        join(workers)
    return rated("DBOS", durability, tasks, ended_ms - begun_ms)


DBOS_SPAN = """
import json, sqlite3, sys
state = sqlite3.connect(sys.argv[1], timeout=30)
done, there = state.execute("select sum(status = 'SUCCESS'), count(*) from workflow_status").fetchone()
span = state.execute("select min(started_at_epoch_ms), max(completed_at_epoch_ms) from operation_outputs").fetchone()
print(json.dumps([done, there, *span]))
"""


def span_of_dbos(path: str, tasks: int) -> tuple[int, int]:
    """Looks twice a second, from a process of its own, until all have succeeded.

    The times of its steps: those of its workflows come in whole seconds.
    """
    import json

    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        told = subprocess.run([sys.executable, "-c", DBOS_SPAN, path], capture_output=True, text=True, check=True)
        done, there, begun_ms, ended_ms = json.loads(told.stdout)
        assert there == tasks, f"{there} of {tasks} workflows are there"
        if done == tasks:
            return begun_ms, ended_ms
        threading.Event().wait(0.5)
    raise TimeoutError(f"DBOS had not done {tasks} tasks after {PATIENCE_S} s")


# -- the run -------------------------------------------------------------------------------------------------------------


def rated(product: str, durability: str, tasks: int, took_ms: int) -> Round:
    found = Round(product, durability, tasks, round(took_ms / 1000, 3), round(tasks * 1000 / max(1, took_ms), 1))
    print(f"{found.product}, {found.durability}: {found.per_s} tasks/s", file=sys.stderr, flush=True)
    return found


def run(processes: Sequence[Any]) -> None:
    for process in processes:
        process.start()


def join(processes: Sequence[Any]) -> None:
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0, f"{process.name} ended with {process.exitcode}"


def explore(tasks: int) -> None:
    """DBOS's own best, to be put into DbosSettings."""
    for poll_s in (0.05, 0.01, 0.005):
        for at_once in (2, 8, 32, None):
            found = dbos_round("normal", tasks, DbosSettings(poll_s, at_once))
            print(f"polled every {poll_s} s, {at_once or 'any number'} at once: {found.per_s} tasks/s", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench ledger", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--dbos-tasks", type=int, default=400)
    parser.add_argument("--explore", action="store_true", help="try DBOS's settings, and nothing else")
    given = parser.parse_args(arguments)
    if given.explore:
        explore(given.dbos_tasks)
        return 0
    rounds: list[Round] = []
    for _ in range(given.rounds):
        for durability in ("full", "normal"):
            rounds.append(dbos_round(durability, given.dbos_tasks, DbosSettings()))
            rounds.append(longwatch_round(durability, given.tasks))
    for _ in range(given.rounds):
        rounds.append(longwatch_round("full", given.tasks, admitters=ADMITTERS))
    return report(rounds)


def report(rounds: Sequence[Round]) -> int:
    kinds = list(dict.fromkeys((found.product, found.durability) for found in rounds))
    medians = {kind: median([r.per_s for r in rounds if (r.product, r.durability) == kind]) for kind in kinds}
    spread = {kind: sorted(r.per_s for r in rounds if (r.product, r.durability) == kind) for kind in kinds}
    rows = [(*kind, medians[kind], f"{spread[kind][0]} to {spread[kind][-1]}") for kind in kinds]
    table(f"{PROCESSES} processes, one step each", ("product", "durability", "tasks/s", "rounds"), rows)
    ratios = {name: round(medians["Longwatch", name] / medians["DBOS", name], 2) for name in ("full", "normal")}
    good = ratios["full"] >= BAR_FULL and ratios["normal"] >= BAR_NORMAL
    print(f"times DBOS: full {ratios['full']} (bar {BAR_FULL:.0f}), normal {ratios['normal']} (bar {BAR_NORMAL:.0f})")
    named = {f"{product}, {durability}": per_s for (product, durability), per_s in medians.items()}
    keep(
        "ledger",
        {
            "medians_per_s": named,
            "ratios": ratios,
            "bars": {"full": BAR_FULL, "normal": BAR_NORMAL},
            "dbos": asdict(DbosSettings()),
            "rounds": [asdict(found) for found in rounds],
        },
        "dbos",
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
