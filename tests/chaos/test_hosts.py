"""Three hosts with addresses, process numbers and boot clocks of their own, and one name for all: links are cut, one is slow,
clocks are a minute apart. The promises hold, and no lease is held by two.

The first host has the server of the state, which listens on its address, and works too. The second's clocks, the boot clock
and the calendar, are a minute ahead. The third reaches the server through a proxy that takes 5 ms each way; its calendar is
a minute behind.
"""

import random
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleet import LEASE_S, Way, fleet
from network import Network, why_not
from rounds import rounds
from test_chaos import ROUNDS, report, run

from longwatch.testing import postgres

PORT, SLOW_PORT = 5432, 5433
MINUTE_S = 60
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(bool(why_not()), reason=f"this machine cannot play several hosts: {why_not()}"),
]


@contextmanager
def listening(server: postgres.Server, network: Network) -> Generator[None]:
    """The server, on the first host's address."""
    with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 10.77.0.0/24 trust\n")
    server.end()
    host = network.hosts[0]
    who = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    options = [part for option in postgres.OPTIONS for part in ("-c", option)]
    data, socket = str(server.folder / "data"), str(server.folder)
    program = [str(server.programs / "postgres"), "-D", data, "-h", host.address, "-p", str(PORT), "-k", socket]
    entered = ("nsenter", "-t", str(host.inside), "--net")
    server.started.append(subprocess.Popen([*entered, *who, *program, *options], stderr=subprocess.DEVNULL))
    server.wait_until_up()
    yield
    server.end()


@contextmanager
def slow_way(network: Network) -> Generator[None]:
    third, first = network.hosts[2], network.hosts[0]
    parts = ["127.0.0.1", str(SLOW_PORT), first.address, str(PORT), "5"]
    program = [sys.executable, str(Path(__file__).with_name("proxy.py")), *parts]
    command = ["nsenter", "-t", str(third.inside), "--net", *program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == "ready\n"
        yield
        proxy.kill()


def test_three_hosts_with_cut_and_slow_links_and_clocks_a_minute_apart_break_no_promise(
    server: postgres.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amount, seed = rounds(ROUNDS), random.SystemRandom().randrange(1 << 32)
    url = server.new_database()
    database = url.split("/")[3].split("?")[0]
    socket = tmp_path / "stripe"  # whoever is cut off from the others is not from Stripe
    with Network.built(3, ahead_s=(0, MINUTE_S, -MINUTE_S)) as network, listening(server, network), slow_way(network):
        first = network.hosts[0].address
        places = [f"{first}:{PORT}", f"{first}:{PORT}", f"127.0.0.1:{SLOW_PORT}"]
        ways = [
            Way(f"postgresql://postgres@{place}/{database}", command=host.command())
            for place, host in zip(places, network.hosts, strict=True)
        ]
        desk = Way(url)
        with fleet(
            tmp_path, desk=desk, hosts=ways, processes=2, rounds=amount, seed=seed, edits=False, socket=socket, before=8
        ) as made:

            def fault() -> float | None:
                """A host is cut off, and the others take over; or the one with the server, and all wait for it."""
                number, began = made.chance.randrange(3), time.monotonic()
                network.cut(number)
                time.sleep(LEASE_S * made.chance.uniform(1.2, 2))
                network.join(number)
                return began if number else None

            run(made, fault, amount)
            report(f"three hosts, seed {seed}", made, capsys)
