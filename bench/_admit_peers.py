"""Single-meter decisions of several limiters on one Redis: limits, throttled-py, pyrate-limiter, and Longwatch's.

One rate, wide enough never to refuse, asked for by real processes, in each limiter's own way of asking whether one call may
leave now. What one decision is:

- longwatch: `Limiter.admit` of a new call, on a service with one rate and nothing else: a fresh id, the names checked, GCRA
  with reservation over the rate and the service's gate, in one round trip of a script. Redis keeps the call with its owner
  and its deadline, so that a repeated one changes nothing and a dead caller is noticed. And the call is written into the
  ledger, with its entry in the journal: in batches, by the same process, within the time measured. It is the method that
  `lw.call` and the gateway ask. Nothing is given out beforehand.
- limits, moving window: `hit`, a script over a list of as many times as calls are allowed (100,000 here).
- limits, fixed window: `hit`, a script over one counter.
- throttled-py, GCRA: `Throttled.limit`, a script over one instant.
- pyrate-limiter: `try_acquire` of a `RedisBucket`, a script over a sorted set (100,000 allowed).

The peers count and keep nothing of the call. Each limiter has a Redis of its own, and processes that are started once;
rounds are short and interleaved, so that what else the machine does meets all of them; the figures are medians. Beside them
stands the processor time of one decision, of the process and of Redis, which says more on a machine that others use too.

    python -m bench admit --admission redis --peers
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import psutil

from bench import harness
from bench.admit import PATIENCE_S, WIDE, open_limiter
from longwatch.admission.calls import Admitted, CallRequest
from longwatch.policy.limits import Limits, Rate, Service
from longwatch.runtime.world import Machine
from longwatch.testing.redis import Server

ROUNDS = 9
Ask = Callable[[], object]
SINGLE = Limits(services={"api": Service("api", rates={"requests": Rate(WIDE, 1000, WIDE)})})


def longwatch(url: str, folder: Path) -> Ask:
    limiter, world = open_limiter(folder / "longwatch.db", url, SINGLE), Machine()
    owner = world.new_id("owner")

    def ask() -> None:
        call = world.new_id("call")
        assert isinstance(limiter.admit(CallRequest(call, call, "api", "seo", owner)), Admitted)

    return ask


def limits(url: str, folder: Path) -> Ask:
    from limits import RateLimitItemPerSecond
    from limits.storage import RedisStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(url.replace("redis://", "redis+unix://")))
    item = RateLimitItemPerSecond(100_000)
    return lambda: limiter.hit(item, "api")


def limits_fixed(url: str, folder: Path) -> Ask:
    from limits import RateLimitItemPerSecond
    from limits.storage import RedisStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter = FixedWindowRateLimiter(RedisStorage(url.replace("redis://", "redis+unix://")))
    item = RateLimitItemPerSecond(WIDE)
    return lambda: limiter.hit(item, "api")


def throttled(url: str, folder: Path) -> Ask:
    from throttled import RateLimiterType, Throttled, rate_limiter, store

    kept = store.RedisStore(server=url.replace("redis://", "unix://"))
    quota = rate_limiter.per_sec(WIDE, burst=WIDE)
    limiter = Throttled(key="api", using=RateLimiterType.GCRA.value, quota=quota, store=kept)
    return limiter.limit


def pyrate(url: str, folder: Path) -> Ask:
    from pyrate_limiter import Duration, Limiter, RedisBucket
    from pyrate_limiter import Rate as Many
    from redis import Redis

    bucket = RedisBucket.init(
        [Many(100_000, Duration.SECOND)], Redis.from_url(url.replace("redis://", "unix://")), "api"
    )
    limiter = Limiter(bucket)
    return lambda: limiter.try_acquire("api")


PEERS: dict[str, Callable[[str, Path], Ask]] = {
    "longwatch": longwatch,
    "limits, moving window": limits,
    "limits, fixed window": limits_fixed,
    "throttled-py, GCRA": throttled,
    "pyrate-limiter": pyrate,
}


class Round(NamedTuple):
    """Decisions a second of all processes, and microseconds of processor time for one: of the process, and of Redis."""

    per_s: float
    own_us: float
    redis_us: float


@dataclass(frozen=True)
class Crew:
    """The processes of one limiter, and its Redis."""

    server: Server
    start: Barrier
    answers: "Queue[tuple[int, float]]"
    workers: list[BaseProcess]

    @classmethod
    def of(cls, name: str, folder: Path, *, processes: int, seconds: float) -> "Crew":
        context = multiprocessing.get_context("spawn")
        server, start = Server.start(), context.Barrier(processes + 1)
        answers: Queue[tuple[int, float]] = context.Queue()
        given = name, server.url, folder, start, seconds, answers
        workers: list[BaseProcess] = [context.Process(target=work, args=given, daemon=True) for _ in range(processes)]
        for worker in workers:
            worker.start()
        start.wait(PATIENCE_S)  # all are ready
        return cls(server, start, answers, workers)

    def round(self, seconds: float) -> Round:
        before = self.redis_s()
        self.start.wait(PATIENCE_S)
        works = [self.answers.get(timeout=seconds + PATIENCE_S) for _ in self.workers]
        asked, own_s = sum(asked for asked, _ in works), sum(cpu_s for _, cpu_s in works)
        return Round(asked / seconds, own_s / asked * 1e6, (self.redis_s() - before) / asked * 1e6)

    def redis_s(self) -> float:
        """Processor seconds that its Redis has taken."""
        took = psutil.Process(self.server.process.pid).cpu_times()
        return took.user + took.system

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.join(PATIENCE_S)
        self.server.stop()


def work(
    name: str, url: str, folder: Path, start: Barrier, seconds: float, answers: "Queue[tuple[int, float]]"
) -> None:
    ask = PEERS[name](url, folder)
    ask()
    start.wait(PATIENCE_S)
    for _ in range(ROUNDS):
        start.wait(ROUNDS * PATIENCE_S)
        asked, began_s, until = 0, time.process_time(), time.monotonic() + seconds
        while time.monotonic() < until:
            ask()
            asked += 1
        answers.put((asked, time.process_time() - began_s))


def compare(folder: Path, *, processes: int, seconds: float) -> int:
    """0: as many decisions a second as the fastest of the others, or more."""
    crews = {name: Crew.of(name, own_folder(folder, name), processes=processes, seconds=seconds) for name in PEERS}
    found: dict[str, list[Round]] = {name: [] for name in PEERS}
    try:
        for _ in range(ROUNDS):
            for name, rounds in found.items():
                rounds.append(crews[name].round(seconds))
    finally:
        for crew in crews.values():
            crew.end()
    medians = {name: Round(*(harness.median(figures) for figures in zip(*found[name], strict=True))) for name in PEERS}
    fastest = max(median.per_s for name, median in medians.items() if name != "longwatch")
    rows = [(name, version(name), *median, round(median.per_s / fastest, 2)) for name, median in medians.items()]
    columns = ("limiter", "version", "decisions/s", "own us", "redis us", "of the fastest")
    harness.table(f"single-meter decisions, {processes} processes", columns, rows)
    kept = {name: [median._asdict() for median in rounds] for name, rounds in found.items()}
    harness.keep("admit_peers", {"processes": processes, "rounds": kept}, "redis")
    return 0 if medians["longwatch"].per_s >= fastest else 1


def own_folder(folder: Path, name: str) -> Path:
    own = folder / name.replace(", ", "-").replace(" ", "-")
    own.mkdir()
    return own


def version(name: str) -> str:
    return metadata.version(name.partition(",")[0])
