"""How many calls per second the fleet can decide about: real processes, one state, full decisions.

A pair is one `admit` (three rates, concurrency, a quota and three budgets in one transaction) and its `settle`. The
limits are wide enough never to refuse: what is measured is the price of deciding. Bar: 2,500 pairs a second on two cores
with 15 processes, the busiest doing at most twice the work of the least busy.

The second round stops one process (SIGSTOP) at a random instant. If it stands inside the turnstile it is killed after a
second; the others must go on either way.

    python -m bench admit [--processes 15] [--seconds 10] [--open 0] [--admission postgres | redis [--peers]]
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench import harness
from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.admission.postgres import PostgresLimiter
from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.db.sqlite import SqliteDatabase
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal

WIDE = 10**9
BARS, BAR_RATIO = {"state": 2_500, "postgres": 800, "redis": 3_000}, 2.0  # pairs a second, by who decides
PATIENCE_S = 120  # for all processes to start on a loaded machine
STAND_STILL_BAR_S = 3.0  # a second until the stopped holder is killed, and as much again for a loaded machine


def limits() -> Limits:
    rate = Rate(WIDE, 1000, WIDE)
    caps: dict[str, tuple[Cap, ...]] = {"money": (Cap(WIDE * 1000, "month"),)}
    return Limits(
        fleet_money=caps["money"],
        services={
            "api": Service(
                "api",
                rates={"requests": rate, "input_tokens": rate, "output_tokens": rate},
                concurrency=WIDE,
                quota=Cap(WIDE, "month"),
            )
        },
        budgets={"growth": Budget("growth", caps, (0.5, 0.8, 1.0))},
        agents={"seo": Budget("seo", caps)},
    )


def open_limiter(path: Path, url: str = "", decided: Limits | None = None) -> Limiter:
    """url: of the PostgreSQL whose state decides, or of the Redis that does; empty, the state at `path`."""
    world = Machine()
    on_server = url.startswith("postgresql:")
    database: SqliteDatabase | PostgresDatabase
    database = PostgresDatabase(url, world) if on_server else SqliteDatabase(str(path), world)
    migrate(database)
    fleet.enter(database, world, name="bench", redaction_key="00")
    journal = Journal(database, Redactor(b"bench"))
    if isinstance(database, PostgresDatabase):
        return PostgresLimiter(database, journal, decided or limits())
    if not url:
        return Limiter(database, journal, decided or limits())
    from longwatch.admission.redis import Link, RedisLimiter

    link = Link(url, "bench")
    return RedisLimiter(
        database, journal, decided or limits(), link=link, clock=world, new_token=lambda: world.new_id("engine")
    )


def request(world: Machine, owner: str) -> CallRequest:
    call = world.new_id("call")
    weights = {"requests": 1, "input_tokens": 900, "output_tokens": 200}
    return CallRequest(call, call, "api", "seo", owner, budget="growth", weights=weights, money=1_000, tokens=1_100)


@dataclass(frozen=True)
class Work:
    """What one process did: pairs, each pair's milliseconds, and the processor's seconds it took for all of them."""

    pairs: int
    took_ms: list[float]
    cpu_s: float


def work(path: Path, url: str, start: Barrier, seconds: float, answers: "Queue[Work]") -> None:
    limiter, world = open_limiter(path, url), Machine()
    owner = world.new_id("owner")
    took_ms: list[float] = []
    start.wait(PATIENCE_S)
    until, cpu_s = time.monotonic() + seconds, time.process_time()
    while (begun := time.monotonic()) < until:
        asked = request(world, owner)
        assert isinstance(limiter.admit(asked), Admitted)
        limiter.settle(asked.id, owner=owner, money=900, tokens=1_000)
        took_ms.append((time.monotonic() - begun) * 1000)
    limiter.flush()  # what is decided and not written down yet counts as work too
    answers.put(Work(len(took_ms), took_ms, time.process_time() - cpu_s))


@dataclass(frozen=True)
class Round:
    """pairs_per_s over all processes; p50, p99, max of one pair in ms; ratio: busiest to least busy process.

    cpu_us: processor time of one pair, which the load of other programs does not change much.
    """

    what: str
    processes: int
    pairs_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    ratio: float
    cpu_us: float
    killed: int


def measure(path: Path, url: str, *, processes: int, seconds: float, stop_one: bool) -> Round:
    context = multiprocessing.get_context("spawn")
    answers: Queue[Work] = context.Queue()
    start = context.Barrier(processes + 1)
    workers = [context.Process(target=work, args=(path, url, start, seconds, answers)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    start.wait(PATIENCE_S)
    if stop_one:
        time.sleep(random.uniform(0.1, 0.5) * seconds)
        stop(workers[0])
    expected = processes - 1 if stop_one else processes
    works = [answers.get(timeout=seconds + 60) for _ in range(expected)]
    killed = end(workers[0]) if stop_one else 0
    for worker in workers:
        worker.join(30)
    return summary(works, seconds=seconds, what="one stopped" if stop_one else "all run", killed=killed)


def stop(worker: BaseProcess) -> None:
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)


def end(worker: BaseProcess) -> int:
    """1 when the turnstile had to kill the stopped process, 0 when it stood where it held up nobody."""
    killed = int(not worker.is_alive())
    worker.kill()
    return killed


def summary(works: list[Work], *, seconds: float, what: str, killed: int) -> Round:
    took = sorted(took for one in works for took in one.took_ms)
    pairs = [one.pairs for one in works]
    return Round(
        what=what,
        processes=len(works),
        pairs_per_s=round(sum(pairs) / seconds, 1),
        p50_ms=round(took[len(took) // 2], 3),
        p99_ms=round(took[len(took) * 99 // 100], 3),
        max_ms=round(took[-1], 1),
        ratio=round(max(pairs) / max(1, min(pairs)), 2),
        cpu_us=round(sum(one.cpu_s for one in works) / max(1, sum(pairs)) * 1e6, 1),
        killed=killed,
    )


def hold_open(path: Path, url: str, amount: int) -> None:
    """So many calls open beside the measured ones: their holds are summed in every decision."""
    limiter, world = open_limiter(path, url), Machine()
    for _ in range(amount):
        limiter.admit(request(world, "holder"))
    limiter.close()
    limiter.database.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench admit", description="Decisions per second over real processes.")
    parser.add_argument("--processes", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--open", type=int, default=0, help="calls held open beside the measured ones")
    parser.add_argument("--admission", choices=tuple(BARS), default="state", help="who decides")
    parser.add_argument("--peers", action="store_true", help="single meters beside other limiters on the same Redis")
    given = parser.parse_args(arguments)
    if given.peers:
        from bench._admit_peers import compare

        with tempfile.TemporaryDirectory() as folder:
            return compare(Path(folder), processes=given.processes, seconds=given.seconds)
    with engine(given.admission) as url, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "longwatch.db"
        open_limiter(path, url).close()
        hold_open(path, url, given.open)
        rounds = [
            measure(path, url, processes=given.processes, seconds=given.seconds, stop_one=stop_one)
            for stop_one in (False, True)
        ]
    bar = BARS[given.admission]
    report(rounds, bar=bar, name="admit" if given.admission == "state" else f"admit_{given.admission}")
    good = rounds[0].pairs_per_s >= bar and all(found.ratio <= BAR_RATIO for found in rounds)
    return 0 if good and rounds[1].max_ms <= STAND_STILL_BAR_S * 1000 else 1


@contextmanager
def engine(admission: str) -> Generator[str]:
    """The address of a server for the length of the block; empty when the state on this machine decides."""
    if admission == "state":
        yield ""
        return
    if admission == "postgres":
        with postgres() as url:
            yield url
        return
    from longwatch.testing.redis import Server

    server = Server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def postgres() -> Generator[str]:
    """A state on a server that syncs its disk."""
    from longwatch.testing import postgres

    server = postgres.Server.start()
    try:
        server.end()
        server.launch("fsync=on", "full_page_writes=on")
        yield server.new_database()
    finally:
        server.stop()


def report(rounds: list[Round], *, bar: int, name: str) -> None:
    columns = ("round", "processes", "pairs/s", "p50 ms", "p99 ms", "max ms", "max/min", "cpu us", "killed")
    title = f"admit + settle; bar: {bar} pairs/s, max/min at most {BAR_RATIO:.0f}"
    harness.table(title, columns, [tuple(asdict(found).values()) for found in rounds])
    harness.keep(name, {"bar": {"pairs_per_s": bar, "ratio": BAR_RATIO}, "rounds": [asdict(r) for r in rounds]})


if __name__ == "__main__":
    sys.exit(main())
