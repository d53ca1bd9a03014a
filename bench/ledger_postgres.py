"""Tasks per second of the ledger on PostgreSQL, beside DBOS and Procrastinate on the same server, in the same run.

Four processes, tasks of one step each that do nothing. Procrastinate has no steps: a job stores its result itself, once, on
a connection of its connector, as somebody would who needs to know after a crash what has been done; how fast it is without
is told beside it. The tasks are submitted beforehand; the processes connect, wait for each other, and begin together.
Measured is the span from the first start of a task to the end of the last one, as each product's own tables tell it. Rounds
are interleaved, so that all see the same machine; medians count. The server syncs its disk, and so does every commit of
every product.

What each does for a task, from its claim on. DBOS takes workflows by eights, stores the step and then the outcome: two
commits. A job of Procrastinate is fetched, stores its step and is marked as done, with an event each time: three commits.
Longwatch claims up to 64 tasks at once; the step, the end and the start of the next task are one commit, because the handler
returns the step's result at once. Beside it is told how fast it is with a handler that keeps the result a moment: the step is
a commit of its own then, as every step but such a last one is. All of them keep what was done through a crash of a worker
or of the server.

Peers are given their best: DBOS polls its queue every 10 ms and takes workflows by eights; a Procrastinate worker runs ten
jobs at once (`--explore` tries the settings around these). The bar: 3 times the better one.

A round takes some seconds: a connection's first transactions make its plans, 20 ms and more, which is no part of what goes on
for months.

    python -m bench ledger_postgres [--rounds 3] [--tasks 9000] [--peer-tasks 2000] [--explore]
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing.synchronize import Barrier, Event
from typing import Any

import psycopg

from bench.harness import keep, median, table
from bench.ledger import PATIENCE_S, PROCESSES, Round, join, rated, run
from longwatch.testing.postgres import Server

BAR = 3.0
BARE = "Procrastinate without the step"
APART = "Longwatch, the step a commit of its own"
AT_ONCE_DBOS, POLL_S, AT_ONCE_PROCRASTINATE = 8, 0.01, 10
SYNCED = ("fsync=on", "full_page_writes=on", "synchronous_commit=on", "shared_buffers=256MB")

LONGWATCH_SPAN = "select count(*) filter (where outcome = 'finished'), min(started_ms), max(ended_ms) from run"
DBOS_SPAN = """
select (select count(*) from dbos.workflow_status where status = 'SUCCESS'),
       min(started_at_epoch_ms), max(completed_at_epoch_ms) from dbos.operation_outputs
"""
PROCRASTINATE_SPAN = """
select count(*) filter (where type = 'succeeded'),
       (extract(epoch from min(at) filter (where type = 'started')) * 1000)::bigint,
       (extract(epoch from max(at) filter (where type = 'succeeded')) * 1000)::bigint from procrastinate_events
"""


def ask(url: str, question: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(question.encode()).fetchall()


def until_done(url: str, question: str, tasks: int) -> int:
    """Looks twice a second until all have succeeded; the span in ms."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        done, begun_ms, ended_ms = ask(url, question)[0]
        if done == tasks:
            return int(ended_ms - begun_ms)
        time.sleep(0.5)
    raise TimeoutError(f"{done} of {tasks} tasks were done after {PATIENCE_S} s")


def in_processes(work: Callable[..., None], *given: object, until: Callable[[], int]) -> int:
    """What `until` answers, while PROCESSES processes work(*given, ready, over)."""
    context = multiprocessing.get_context("spawn")
    over, ready = context.Event(), context.Barrier(PROCESSES)
    run(workers := [context.Process(target=work, args=(*given, ready, over)) for _ in range(PROCESSES)])
    took_ms = until()
    over.set()
    join(workers)
    return took_ms


# -- Longwatch -----------------------------------------------------------------------------------------------------------


def open_longwatch(url: str, folder: str) -> Any:
    import longwatch

    def one(run: longwatch.Run, number: int) -> int:
        return run.step("step", abs, number)

    lw = longwatch.open(url, config={"fleet": {"durability": "full", "root": folder}})

    def apart(run: longwatch.Run, number: int) -> int:
        kept = run.step("step", abs, number)
        return kept  # noqa: RET504 - else it would be stored with the end

    lw.task("one")(one)
    lw.task("apart")(apart)
    return lw


def work_longwatch(url: str, folder: str, ready: Barrier, over: Event) -> None:
    lw = open_longwatch(url, folder)
    ready.wait(PATIENCE_S)
    lw.work(until_idle=True)
    lw.close()


def longwatch_round(url: str, tasks: int, kind: str = "one") -> Round:
    with tempfile.TemporaryDirectory() as folder:
        lw = open_longwatch(url, folder)
        for first in range(0, tasks, 1000):
            numbers = range(first, min(first + 1000, tasks))
            lw.submit_batch(f"bench-{first}", [(kind, {"number": number}) for number in numbers])
        lw.close()
        took_ms = in_processes(work_longwatch, url, folder, until=lambda: until_done(url, LONGWATCH_SPAN, tasks))
    return rated("Longwatch" if kind == "one" else APART, "synced", tasks, took_ms)


# -- DBOS ----------------------------------------------------------------------------------------------------------------


def open_dbos(url: str, executor: str) -> Any:
    from dbos import DBOS

    logging.disable(logging.CRITICAL)
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
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


def submit_dbos(url: str, tasks: int, at_once: int) -> None:
    DBOS, one = open_dbos(url, "submitter")
    DBOS.listen_queues([])
    DBOS.launch()
    queue = DBOS.register_queue("bench", worker_concurrency=at_once, polling_interval_sec=POLL_S)
    for number in range(tasks):
        queue.enqueue(one, number)
    DBOS.destroy()


def work_dbos(url: str, ready: Barrier, over: Event) -> None:
    DBOS, _ = open_dbos(url, f"worker-{os.getpid()}")
    ready.wait(PATIENCE_S)
    DBOS.launch()
    over.wait(PATIENCE_S)
    DBOS.destroy(workflow_completion_timeout_sec=1)


def dbos_round(url: str, tasks: int, at_once: int = AT_ONCE_DBOS) -> Round:
    context = multiprocessing.get_context("spawn")
    run(first := [context.Process(target=submit_dbos, args=(url, tasks, at_once))])
    join(first)
    return rated("DBOS", "synced", tasks, in_processes(work_dbos, url, until=lambda: until_done(url, DBOS_SPAN, tasks)))


# -- Procrastinate ---------------------------------------------------------------------------------------------------------


STEPS = "create table step (job bigint, name text, result text not null, primary key (job, name))"
FIND_STEP = "select result from step where job = %(job)s and name = %(name)s"
STORE_STEP = "insert into step values (%(job)s, %(name)s, %(result)s)"


def open_procrastinate(url: str) -> Any:
    """The app, a job without a step, and a job with one."""
    import procrastinate

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="bare")
    async def bare(number: int) -> int:
        return abs(number)

    @app.task(name="stepped", pass_context=True)
    async def stepped(context: Any, number: int) -> int:
        step = {"job": context.job.id, "name": "step"}
        if context.job.attempts:
            found = await app.connector.execute_query_all_async(FIND_STEP, **step)
            if found:
                return int(found[0]["result"])
        await app.connector.execute_query_async(STORE_STEP, **step, result=str(abs(number)))
        return abs(number)

    return app, bare, stepped


async def submit_procrastinate(url: str, tasks: int, *, steps: bool) -> None:
    app, bare, stepped = open_procrastinate(url)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await app.connector.execute_query_async(STEPS)
        await (stepped if steps else bare).batch_defer_async(*({"number": number} for number in range(tasks)))


def work_procrastinate(url: str, at_once: int, ready: Barrier, over: Event) -> None:
    logging.disable(logging.CRITICAL)

    async def work() -> None:
        app, _, _ = open_procrastinate(url)
        async with app.open_async():
            ready.wait(PATIENCE_S)
            await app.run_worker_async(concurrency=at_once, wait=False, install_signal_handlers=False)

    asyncio.run(work())


def procrastinate_round(url: str, tasks: int, at_once: int = AT_ONCE_PROCRASTINATE, *, steps: bool = True) -> Round:
    asyncio.run(submit_procrastinate(url, tasks, steps=steps))
    took_ms = in_processes(work_procrastinate, url, at_once, until=lambda: until_done(url, PROCRASTINATE_SPAN, tasks))
    return rated("Procrastinate" if steps else BARE, "synced", tasks, took_ms)


# -- the run -------------------------------------------------------------------------------------------------------------


def explore(server: Server, tasks: int) -> None:
    for at_once in (2, 8, 32):
        print("DBOS", at_once, dbos_round(server.new_database(empty=True), tasks, at_once).per_s)
    for at_once in (1, 5, 10, 30):
        print("Procrastinate", at_once, procrastinate_round(server.new_database(empty=True), tasks, at_once).per_s)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench ledger_postgres", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=9000)
    parser.add_argument("--peer-tasks", type=int, default=2000)
    parser.add_argument("--explore", action="store_true", help="try the peers' settings, and nothing else")
    given = parser.parse_args(arguments)
    server = Server.start()
    try:
        server.end()
        server.launch(*SYNCED)
        if given.explore:
            explore(server, given.peer_tasks)
            return 0
        rounds: list[Round] = []
        for _ in range(given.rounds):
            rounds.append(dbos_round(server.new_database(empty=True), given.peer_tasks))
            for steps in (True, False):
                empty = server.new_database(empty=True)
                rounds.append(procrastinate_round(empty, given.peer_tasks, steps=steps))
            rounds.append(longwatch_round(server.new_database(), given.tasks))
            rounds.append(longwatch_round(server.new_database(), given.tasks, "apart"))
        return report(rounds)
    finally:
        server.stop()


def report(rounds: Sequence[Round]) -> int:
    products = list(dict.fromkeys(found.product for found in rounds))
    rates = {product: sorted(found.per_s for found in rounds if found.product == product) for product in products}
    medians = {product: median(found) for product, found in rates.items()}
    rows = [(product, medians[product], f"{found[0]} to {found[-1]}") for product, found in rates.items()]
    table(f"PostgreSQL, {PROCESSES} processes, one step each", ("product", "tasks/s", "rounds"), rows)
    ours, bare = medians["Longwatch"], medians[BARE]
    peer = max(medians["DBOS"], medians["Procrastinate"])
    ratio, apart = round(ours / peer, 2), round(medians[APART] / peer, 2)
    print(f"times the better peer: {ratio} (bar {BAR:.0f}), with the step a commit of its own {apart}; ", end="")
    print(f"times jobs without a step: {ours / bare:.2f}")
    settings = {"dbos_at_once": AT_ONCE_DBOS, "poll_s": POLL_S, "procrastinate_at_once": AT_ONCE_PROCRASTINATE}
    result = {
        "medians_per_s": medians,
        "ratio": ratio,
        "ratio_apart": apart,
        "bar": BAR,
        "settings": settings,
        "server": list(SYNCED),
    }
    result["rounds"] = [asdict(found) for found in rounds]
    print(json.dumps({"medians_per_s": medians, "ratio": ratio}), file=sys.stderr)
    keep("ledger_postgres", result, "dbos", "procrastinate", "psycopg")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
