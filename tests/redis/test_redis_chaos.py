"""Redis is killed under fifteen paying processes, and started again with nothing in it. The sandbox counts.

No call is refused by the provider, the bill stays under the cap, what is recorded is no less than the bill, and calls go on
within seconds: also when some of the processes die at the same instant.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import longwatch
from longwatch.sandbox.client import Sandbox, started
from longwatch.testing.redis import Server

WORKER = Path(__file__).parent / "redis_chaos_worker.py"
PROCESSES = 15
CAP_MICROS = 40_000_000
RECOVERY_S = 10  # and the lease, at most

CONFIG = """
[fleet]
name = "shop"
currency = "GBP"
state = "{state}"
admission = "{admission}"

[service.stripe]
rate = "25/s"
burst = 5
concurrency = 20

[budget.growth]
money = "40 GBP total"
"""


@dataclass
class Fleet:
    config: Path
    sandbox: Sandbox
    server: Server
    workers: "list[subprocess.Popen[str]]"

    @classmethod
    def start(cls, folder: Path, sandbox: Sandbox, server: Server, *, seconds: float) -> "Fleet":
        config = folder / "longwatch.toml"
        config.write_text(CONFIG.format(state=folder / "s.db", admission=server.url))
        with longwatch.open(config=str(config)):
            pass
        command = [sys.executable, str(WORKER), str(config), sandbox.base_urls["stripe"], str(seconds)]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        return cls(config, sandbox, server, workers)

    def ends(self) -> list[dict[str, Any]]:
        """What every worker that was not killed says at its end."""
        said = [worker.communicate(timeout=200)[0] for worker in self.workers]
        codes = [worker.returncode for worker in self.workers]
        assert set(codes) <= {0, -9}, codes
        return [json.loads(text) for text, code in zip(said, codes, strict=True) if code == 0]

    def spent(self) -> int:
        with longwatch.open(config=str(self.config)) as lw:
            caps = lw._parts.calls.limiter.peek().caps
        return next(cap.spent + cap.held for cap in caps if cap.purse == "budget:growth")

    def judge(self) -> None:
        statuses = self.sandbox.counts()["stripe"]["statuses"]
        bill = self.sandbox.bill()["stripe"]["micros"]
        print("statuses", statuses, "bill", bill, "recorded", self.spent())  # noqa: T201 - what the test measures
        assert set(statuses) == {"200"}, statuses
        assert 0 < bill <= CAP_MICROS
        assert bill <= self.spent() <= CAP_MICROS


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("dying", [0, 3])
def test_a_redis_that_is_killed_and_restarted_empty_costs_nothing(
    tmp_path: Path, own_server: Server, dying: int
) -> None:
    with started() as sandbox:
        fleet = Fleet.start(tmp_path, sandbox, own_server, seconds=16)
        time.sleep(3)
        own_server.kill()
        for worker in fleet.workers[:dying]:
            worker.kill()
        time.sleep(0.5)
        own_server.launch()
        restarted = time.time()
        ends = fleet.ends()
        fleet.judge()
        came = Counter[str]()
        for end in ends:
            came.update(end["came"])
        paid: list[float] = sorted(at for end in ends for at in end["paid"])
        pause = max(later - earlier for earlier, later in pairwise(paid))
        print("came", came, "longest pause", round(pause, 2), "s; last", round(paid[-1] - restarted, 2), "s")  # noqa: T201
        assert restarted + 2 < paid[-1], "nobody went on"
        assert pause < RECOVERY_S
        assert set(came) <= {"200", "spent"} | ({"wait_timeout"} if dying else set()), (
            came
        )  # what the dead hold is held
