"""Single-meter decisions of several limiters on one Redis: limits, throttled-py, pyrate-limiter, and Longwatch's.

One rate, wide enough never to refuse, asked for by real processes. A Longwatch decision is one `admit`: it also keeps the
call, so that a repeated one changes nothing and a dead caller is noticed, and writes it into the ledger; the others count.
Rounds are interleaved; the figures are medians.

    python -m bench admit --admission redis --peers
"""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench import harness
from bench.admit import PATIENCE_S, WIDE, open_limiter
from longwatch.admission.calls import Admitted, CallRequest
from longwatch.policy.limits import Limits, Rate, Service
from longwatch.runtime.world import Machine

ROUNDS = 3
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


def work(name: str, url: str, folder: Path, start: Barrier, seconds: float, answers: "Queue[int]") -> None:
    ask, asked = PEERS[name](url, folder), 0
    ask()
    start.wait(PATIENCE_S)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ask()
        asked += 1
    answers.put(asked)


def measure(name: str, url: str, folder: Path, *, processes: int, seconds: float) -> float:
    """Decisions per second of all processes together."""
    context = multiprocessing.get_context("spawn")
    answers: Queue[int] = context.Queue()
    start = context.Barrier(processes)
    workers = [
        context.Process(target=work, args=(name, url, folder, start, seconds, answers)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    asked = sum(answers.get(timeout=seconds + PATIENCE_S) for _ in workers)
    for worker in workers:
        worker.join(30)
    return asked / seconds


def compare(url: str, folder: Path, *, processes: int, seconds: float) -> int:
    found: dict[str, list[float]] = {name: [] for name in PEERS}
    for place in range(ROUNDS):
        for name, rates in found.items():
            own = folder / f"{place}-{name.partition(',')[0]}-{len(rates)}"
            own.mkdir(exist_ok=True)
            rates.append(measure(name, url, own, processes=processes, seconds=seconds))
    medians = {name: harness.median(rates) for name, rates in found.items()}
    fastest = max(rate for name, rate in medians.items() if name != "longwatch")
    rows = [(name, rate, round(rate / fastest, 2)) for name, rate in medians.items()]
    harness.table(f"single-meter decisions, {processes} processes", ("limiter", "decisions/s", "of the fastest"), rows)
    harness.keep("admit_peers", {"processes": processes, "rounds": found, "medians": medians}, "redis")
    return 0 if medians["longwatch"] >= fastest else 1
