"""Who paces: Longwatch on each of its engines, and what else is in use, each as its documentation says and at its best.

A pacer is made in each process for itself and gives turns: `with turn():` waits until the call may leave.

spacing         no state at all: each of n processes sleeps n/rate between two calls
pyrate-limiter  its SQLite bucket for several processes; a strict burst b is told as b per b/rate seconds
limits          a moving window in Redis, asked again when the window moves; it knows no burst, whole seconds only
throttled-py    GCRA in Redis with a burst; asked again after the time it tells (its own waiting sleeps 0.2 s at least)
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from longwatch.testing import postgres, redis

SOONEST_S = 0.002  # nobody asks again sooner than this
LONGWATCH = "Longwatch "
Turn = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Place:
    """Where a round is: a service of the sandbox, the files, the servers, and what everybody is told about the limit.

    state, redis: addresses; redis is empty where none is needed. rate: calls per second. services: of Longwatch's config.
    """

    api: str
    folder: str
    state: str
    redis: str = ""
    rate: int = 50
    burst: int = 50
    processes: int = 15
    services: Mapping[str, Any] = field(default_factory=dict[str, Any])


def opened(place: Place) -> Any:
    """A fleet with these services."""
    import longwatch

    told = {"fleet": {"name": "bench", "root": place.folder}, "service": place.services}
    return longwatch.open(place.state, config=told, admission=place.redis or None, agent="bench")


def limited(rate: int, burst: int) -> dict[str, Any]:
    """What a round is told whose service has the sandbox's limit."""
    return {"rate": rate, "burst": burst, "services": {"api": {"rate": f"{rate}/s", "burst": burst}}}


def longwatch_turns(place: Place) -> Turn:
    lw = opened(place)
    with lw.call("github"):  # known and without a limit: everything is loaded then
        pass
    return lambda: lw.call("api")


def spacing(place: Place) -> Turn:
    first = [True]

    def ask() -> None:
        if not first.pop():
            time.sleep(place.processes / place.rate)
        first.append(False)

    return after(ask)


def after(ask: Callable[[], object]) -> Turn:
    def turn() -> AbstractContextManager[object]:
        ask()
        return nullcontext()

    return turn


def pyrate(place: Place) -> Turn:
    from pyrate_limiter import Limiter, Rate, SQLiteBucket

    span_ms = 1000 * place.burst // place.rate
    path = str(Path(place.folder) / "pyrate.db")
    bucket = SQLiteBucket.init_from_file([Rate(place.burst, span_ms)], db_path=path, use_file_lock=True)
    limiter = Limiter(bucket)
    return after(lambda: limiter.try_acquire("api"))


def limits(place: Place) -> Turn:
    from limits import RateLimitItemPerSecond
    from limits.storage import RedisStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(place.redis.replace("redis://", "redis+unix://")))
    item = RateLimitItemPerSecond(place.rate)
    limiter.test(item, "warm")

    def ask() -> None:
        while not limiter.hit(item, "api"):
            again = limiter.get_window_stats(item, "api").reset_time
            time.sleep(max(SOONEST_S, again - time.time()))

    return after(ask)


def throttled(place: Place) -> Turn:
    from throttled import RateLimiterType, Throttled, rate_limiter, store

    kept = store.RedisStore(server=place.redis.replace("redis://", "unix://"))
    quota = rate_limiter.per_sec(place.rate, burst=place.burst)
    limiter = Throttled(key="api", using=RateLimiterType.GCRA.value, quota=quota, store=kept)
    limiter.peek("warm")

    def ask() -> None:
        while (found := limiter.limit()).limited:
            time.sleep(max(SOONEST_S, found.state.retry_after))

    return after(ask)


@dataclass(frozen=True)
class Rival:
    """packages: without which it cannot run."""

    name: str
    turns: Callable[[Place], Turn]
    engine: Literal["files", "postgres", "redis"] = "files"
    packages: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        return self.name.startswith(LONGWATCH)

    def missing(self) -> str:
        """The packages that are not installed, in words; empty when it can run."""
        found: list[str] = []
        for package in self.packages:
            try:
                version(package)
            except PackageNotFoundError:
                found.append(package)
        return ", ".join(found)


ENGINES = {"sqlite": "files", "postgres": "postgres", "redis": "redis"}
RIVALS = {
    rival.name: rival
    for rival in (
        Rival("spacing", spacing),
        Rival("pyrate-limiter SQLite", pyrate, "files", ("pyrate-limiter", "filelock")),
        Rival("limits Redis", limits, "redis", ("limits", "redis")),
        Rival("throttled-py Redis", throttled, "redis", ("throttled-py", "redis")),
        Rival(f"{LONGWATCH}SQLite", longwatch_turns),
        Rival(f"{LONGWATCH}PostgreSQL", longwatch_turns, "postgres", ("psycopg",)),
        Rival(f"{LONGWATCH}Redis", longwatch_turns, "redis", ("redis",)),
    )
}


def versions(rivals: list[Rival]) -> str:
    """Of everything that runs, in one line."""
    names = dict.fromkeys(["longwatch", *(package for rival in rivals for package in rival.packages)])
    found: list[str] = []
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


class Servers:
    """The PostgreSQL of a bench, started when it is first needed; it syncs its disk. A Redis is new in every round."""

    def __init__(self) -> None:
        self._postgres: postgres.Server | None = None

    def close(self) -> None:
        if self._postgres is not None:
            self._postgres.stop()

    @contextmanager
    def place(self, rival: Rival, api: str, **told: Any) -> Generator[Place]:
        """Empty, for the length of a round. told: the rest of the place."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lw-limits-"))
            state, url = str(Path(folder) / "longwatch.db"), ""
            if rival.engine == "redis":
                server = redis.Server.start()
                stack.callback(server.stop)
                url = server.url
            elif rival.engine == "postgres":
                state = self._database()
            place = Place(api, folder, state, url, **told)
            if rival.ours:
                opened(place).close()
            yield place

    def _database(self) -> str:
        if self._postgres is None:
            self._postgres = postgres.Server.start()
            self._postgres.end()
            self._postgres.launch("fsync=on", "full_page_writes=on")
        return self._postgres.new_database()
