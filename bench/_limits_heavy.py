"""How long one decision takes for a weight of 50,000 tokens, beside one for a weight of 1: one process, in turn.

Nothing is ever refused: what is measured is the price of the weight. A Longwatch decision also keeps the call; its end is
not measured.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench._limits_crew import Crew, Start
from bench._limits_rivals import RIVALS, Place, Rival, opened

HEAVY, WIDE = 50_000, 100_000_000  # units; WIDE: a second
SERVICES = {"api": {"rate": {"requests": f"{WIDE}/s", "input_tokens": f"{WIDE}/s"}}}
BAR = 1.5
Admit = Callable[[int], float]
"""Of a weight: the milliseconds of one decision."""


def longwatch(place: Place) -> Admit:
    lw = opened(place)

    def admit(weight: int) -> float:
        call, begun_s = lw.call("api", weight={"input_tokens": weight}), time.perf_counter()
        with call:
            return (time.perf_counter() - begun_s) * 1000

    return admit


def timed(ask: Callable[[int], object]) -> Admit:
    def admit(weight: int) -> float:
        begun_s = time.perf_counter()
        answer = ask(weight)
        took_ms = (time.perf_counter() - begun_s) * 1000
        assert answer, "it was refused"
        return took_ms

    return admit


def pyrate(place: Place) -> Admit:
    from pyrate_limiter import Limiter, Rate, SQLiteBucket

    path = str(Path(place.folder) / "pyrate.db")
    limiter = Limiter(SQLiteBucket.init_from_file([Rate(WIDE, 1000)], db_path=path, use_file_lock=True))
    return timed(lambda weight: limiter.try_acquire("api", weight=weight))


def limits(place: Place) -> Admit:
    from limits import RateLimitItemPerSecond
    from limits.storage import RedisStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(place.redis.replace("redis://", "redis+unix://")))
    item = RateLimitItemPerSecond(WIDE)
    return timed(lambda weight: limiter.hit(item, "api", cost=weight))


def throttled(place: Place) -> Admit:
    from throttled import RateLimiterType, Throttled, rate_limiter, store

    kept = store.RedisStore(server=place.redis.replace("redis://", "unix://"))
    quota = rate_limiter.per_sec(WIDE, burst=WIDE)
    limiter = Throttled(key="api", using=RateLimiterType.GCRA.value, quota=quota, store=kept)
    return timed(lambda weight: not limiter.limit(cost=weight).limited)


HOMEMADE = {"pyrate-limiter SQLite": pyrate, "limits Redis": limits, "throttled-py Redis": throttled}


def work(start: Start, rival: str, place: Place, admits: int) -> tuple[float, float]:
    """Medians of a weight of 1 and of the heavy one, in ms."""
    admit = HOMEMADE.get(rival, longwatch)(place)
    admit(1)
    start()
    both = [(admit(1), admit(HEAVY)) for _ in range(admits)]
    return median(one for one, _ in both), median(heavy for _, heavy in both)


def runs(rival: Rival) -> bool:
    return rival.ours or rival.name in HOMEMADE


@dataclass(frozen=True)
class Row:
    """Milliseconds of one decision."""

    rival: str
    light_ms: float
    heavy_ms: float
    ratio: float

    def values(self) -> tuple[object, ...]:
        return tuple(asdict(self).values())


COLUMNS = ("rival", "weight 1 ms", f"weight {HEAVY:,} ms", "ratio")


def measure(rival: str, place: Place, admits: int) -> tuple[float, float]:
    with Crew(work, [(rival, place, admits)]) as crew:
        crew.begin()
        found: tuple[float, float] = crew.answers()[0]
    return found


def row(rival: str, rounds: list[tuple[float, float]]) -> Row:
    light, heavy = (median(one[place] for one in rounds) for place in (0, 1))
    return Row(rival, round(light, 3), round(heavy, 3), round(heavy / light, 2))


def bars(rows: list[Row]) -> dict[str, bool]:
    return {
        f"{one.rival}: a heavy decision takes at most {BAR} x a light one ({one.ratio})": one.ratio <= BAR
        for one in rows
        if RIVALS[one.rival].ours
    }
