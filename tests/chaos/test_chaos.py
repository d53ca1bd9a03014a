"""Chaos on the servers and the ways to them, under load: nothing is lost, nothing is done twice, no limit is passed, and
work goes on within the lease and ten seconds.

A kind of fault to a test, fifty rounds of it (LONGWATCH_SHARE for less), the calls decided by the state and by Redis. The
seed is in every message; which process is where when a fault comes is up to the machine.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from fleet import LEASE_S, RECOVERY_S, UNDISTURBED, Fleet, Way, fleet
from proxy import Proxy
from rounds import rounds, skip_in_a_part

from longwatch.testing import postgres, redis

ROUNDS = 50
WORKERS = 8
Fault = Callable[[], float | None]
Kind = Callable[[Fleet, postgres.Server], Fault]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]


@pytest.fixture(params=["state", "redis"])
def decides(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def report(name: str, made: Fleet, capsys: pytest.CaptureFixture[str], more: str = "") -> None:
    calls, figures = made.sandbox.counts()["stripe"]["statuses"], made.figures
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {figures.line()}; {made.orders} orders, calls {calls}{more}\n{figures.longest}\n")


def run(made: Fleet, fault: Fault, amount: int) -> None:
    """Errors: AssertionError as soon as a promise is seen to be broken.

    Some rounds are undisturbed: what their orders take is not recovery.
    """
    for _ in range(UNDISTURBED):
        made.round(lambda: None)
    figures, work_s = made.figures, max(made.figures.recovered_s)
    made.figures.begin()
    for _ in range(amount):
        made.round(fault)
        took_s = figures.recovered_s[-1]
        late = f"round {figures.rounds}: {took_s:.1f} s, undisturbed {work_s:.1f}, {figures.slower:.1f} times slower than alone"
        assert took_s < RECOVERY_S * figures.slower + work_s, f"{late}\n{made.errors()}\n{made.slowest()}"
        assert not set(made.sandbox.counts()["stripe"]["statuses"]) - {"200", "409"}
    made.stop()
    made.judge()


def engine_url(decides: str, engine: redis.Server) -> str:
    return engine.url if decides == "redis" else ""


# -- the server of the state -------------------------------------------------------------------------------------------------


def ended_in_order(made: Fleet, server: postgres.Server) -> Fault:
    def fault() -> None:
        server.end()
        time.sleep(made.chance.uniform(0, 0.5))
        server.launch()

    return fault


def crashed(made: Fleet, server: postgres.Server) -> Fault:
    def fault() -> None:
        server.crash()
        time.sleep(made.chance.uniform(0, 0.5))
        server.launch()

    return fault


def crashed_while_it_recovers(made: Fleet, server: postgres.Server) -> Fault:
    def fault() -> None:
        server.crash()
        for _ in range(made.chance.randrange(1, 3)):
            server.begin()
            time.sleep(made.chance.uniform(0.01, 0.15))
            server.crash()
        server.launch()

    return fault


def cut_off_by_the_server(made: Fleet, server: postgres.Server) -> Fault:
    """Backends are ended, any of them, several times in a second."""

    def fault() -> None:
        for _ in range(made.chance.randrange(3, 10)):
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'longwatch'"
                    " order by random() limit %s",
                    (made.chance.randrange(1, 12),),
                )
            time.sleep(made.chance.uniform(0, 0.1))

    return fault


@pytest.mark.parametrize(
    "kind", [ended_in_order, crashed, crashed_while_it_recovers, cut_off_by_the_server], ids=lambda kind: kind.__name__
)
def test_a_server_of_the_state_that_fails_breaks_no_promise(
    kind: Kind,
    decides: str,
    server: postgres.Server,
    engine: redis.Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if decides == "redis" and kind is not crashed:
        skip_in_a_part()
    amount, seed = rounds(ROUNDS), random.SystemRandom().randrange(1 << 32)
    way = Way(server.new_database(), engine_url(decides, engine))
    with fleet(tmp_path, desk=way, hosts=[way], processes=WORKERS, rounds=amount, seed=seed) as made:
        run(made, kind(made, server), amount)
        report(f"{kind.__name__}, {decides} decides, seed {seed}", made, capsys)


# -- the engine that decides about calls --------------------------------------------------------------------------------------


def test_a_redis_killed_and_started_again_empty_breaks_no_promise(
    server: postgres.Server, engine: redis.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amount, seed = rounds(ROUNDS), random.SystemRandom().randrange(1 << 32)
    way = Way(server.new_database(), engine.url)
    with fleet(tmp_path, desk=way, hosts=[way], processes=WORKERS, rounds=amount, seed=seed) as made:

        def fault() -> None:
            engine.kill()
            time.sleep(made.chance.uniform(0, 0.5))
            engine.launch()

        run(made, fault, amount)
        report(f"Redis killed, seed {seed}", made, capsys)


# -- the ways to them ---------------------------------------------------------------------------------------------------------


@contextmanager
def proxied(server: postgres.Server, url: str) -> Generator[tuple[Proxy, str]]:
    """A way to the server that can fail, and the state's address by it."""
    proxy = Proxy.start(str(server.folder / ".s.PGSQL.5432"))
    database = url.split("/")[3].split("?")[0]
    yield proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}?sslmode=disable&gssencmode=disable"
    proxy.stop()


def test_commits_that_land_and_whose_replies_are_lost_break_no_promise(
    decides: str, server: postgres.Server, engine: redis.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amount, seed = rounds(ROUNDS), random.SystemRandom().randrange(1 << 32)
    url = server.new_database()
    with proxied(server, url) as (proxy, address):
        way = Way(address, engine_url(decides, engine))
        with fleet(tmp_path, desk=way, hosts=[way], processes=WORKERS, rounds=amount, seed=seed) as made:

            def fault() -> None:
                """Now and then nobody can be asked what became of them either."""
                proxy.lose_commits(made.chance.randrange(3, 20))
                made.until(lambda: proxy.commits_to_lose <= 0 or made.ended() == made.orders, "no commit is made")
                if made.chance.random() < 0.2:
                    proxy.refuse()
                    time.sleep(6)
                    proxy.flow()

            run(made, fault, amount)
            report(
                f"replies lost, {decides} decides, seed {seed}", made, capsys, f", {proxy.commits_lost} replies lost"
            )


# -- hosts --------------------------------------------------------------------------------------------------------------------


def test_hosts_cut_off_for_longer_than_their_lease_break_no_promise(
    decides: str, server: postgres.Server, engine: redis.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of three: nothing passes, or everything is refused, or what is sent is lost and connections stay half open.

    Stripe can be reached all the time. Files belong to one host: these have none. Recovery counts from the cut: the others
    take over.
    """
    amount, seed = rounds(ROUNDS), random.SystemRandom().randrange(1 << 32)
    url = server.new_database()
    with ExitStack() as stack:
        cuts: list[list[Proxy]] = []
        ways: list[Way] = []
        for _ in range(3):
            proxy, address = stack.enter_context(proxied(server, url))
            cuts.append([proxy])
            if decides == "redis":
                beside = Proxy.start(str(engine.socket))
                stack.callback(beside.stop)
                cuts[-1].append(beside)
            ways.append(Way(address, f"redis://127.0.0.1:{cuts[-1][1].port}/0" if decides == "redis" else ""))
        desk = Way(url, engine_url(decides, engine))
        with fleet(tmp_path, desk=desk, hosts=ways, processes=3, rounds=amount, seed=seed, edits=False) as made:

            def fault() -> float:
                proxies, how = made.chance.choice(cuts), made.chance.choice(["stall", "deafen", "refuse"])
                began = time.monotonic()
                for proxy in proxies:
                    getattr(proxy, how)()
                time.sleep(LEASE_S * made.chance.uniform(1.2, 2))
                for proxy in proxies:
                    proxy.flow()
                return began

            run(made, fault, amount)
            report(f"hosts cut off, {decides} decides, seed {seed}", made, capsys)


SAME_NAME = (
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--uts",
    "sh",
    "-c",
    'hostname shop && exec "$@"',
)


def why_no_hosts() -> str:
    """Why this machine cannot play several hosts; nothing when it can."""
    tried = subprocess.run([*SAME_NAME, "sh", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


@pytest.mark.skipif(bool(why_no_hosts()), reason=f"this kernel or user may make no namespaces: {why_no_hosts()}")
def test_two_hosts_with_one_name_and_the_same_process_numbers_break_no_promise(
    decides: str, server: postgres.Server, engine: redis.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them goes down with all that runs on it, and comes up again. There are no files here either."""
    if decides == "redis":
        skip_in_a_part()
    amount, seed = rounds(ROUNDS), random.SystemRandom().randrange(1 << 32)
    way = Way(server.new_database(), engine_url(decides, engine))
    host = Way(way.state, way.engine, (*SAME_NAME, "sh"))
    hosts = [host, host]
    with fleet(
        tmp_path, desk=way, hosts=hosts, processes=3, rounds=amount, seed=seed, edits=False, killed=True
    ) as made:

        def fault() -> float:
            down, began = made.chance.choice(made.hosts), time.monotonic()
            gone, down.workers = down.workers, []
            made.kill(gone)
            made.start(down, 3)
            return began

        run(made, fault, amount)
        report(f"two hosts of one name, {decides} decides, seed {seed}", made, capsys)
