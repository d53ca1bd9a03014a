"""Redis is killed, stopped and started again under paying processes that go on by the share. The sandbox counts.

No call is refused by the provider and no cap is passed; calls go on within a second, at about the share's rate; every one is
recorded as it was billed; and Redis decides again soon after it is back.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import longwatch
from longwatch.admission.redis.memory import GRACE_MS
from longwatch.sandbox.client import Sandbox, started
from longwatch.testing import postgres
from longwatch.testing.redis import Server

WORKER = Path(__file__).parent / "away_worker.py"
CONFIG = """
[fleet]
name = "shop"
currency = "GBP"
state = "{state}"
admission = "{admission}"
away = "20%"

[service.stripe]
rate = "25/s"
burst = 5
concurrency = 20

[budget.growth]
money = "{money} GBP total"
"""
SHARE_PER_S = 5
GOES_ON_S = 1.0
BACK_S = 2.0  # and the grace of a Redis that has forgotten
SLACK_S = 0.7  # of a machine with others on it


@dataclass
class Fleet:
    folder: Path
    state: str
    sandbox: Sandbox
    money: int = 400
    workers: "list[subprocess.Popen[str]]" = field(default_factory=list["subprocess.Popen[str]"])
    ends: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def config(self, admission: str, name: str = "longwatch") -> Path:
        found = self.folder / f"{name}.toml"
        found.write_text(CONFIG.format(state=self.state, admission=admission, money=self.money))
        return found

    def start(self, config: Path, processes: int, *, seconds: float, every_s: float = 0.0) -> None:
        command = [
            sys.executable,
            str(WORKER),
            str(config),
            self.sandbox.base_urls["stripe"],
            str(seconds),
            str(every_s),
        ]
        self.workers += [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]

    def go(self) -> None:
        for worker in self.workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in self.workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()

    def finish(self) -> list[tuple[float, bool]]:
        """When each call left, and whether the state had decided about it."""
        said = [worker.communicate(timeout=120)[0] for worker in self.workers]
        assert {worker.returncode for worker in self.workers} == {0}
        self.ends = [json.loads(text) for text in said]
        with longwatch.open(config=str(self.folder / "longwatch.toml")) as lw, lw.opened.parts.database.read() as tx:
            paid: list[tuple[str, float]] = [each for end in self.ends for each in end["paid"]]
            rows = [tx.one("away.by_id", id=id) for id, _ in paid]
        marks = [bool(row.away) for row in rows if row is not None]
        return sorted((at, mark) for (_, at), mark in zip(paid, marks, strict=True))

    def judge(self) -> None:
        """Every call is settled, as it was billed."""
        statuses, bill = self.sandbox.counts()["stripe"]["statuses"], self.sandbox.bill()["stripe"]["micros"]
        came = Counter[str]()
        for end in self.ends:
            came.update(end["came"])
        with longwatch.open(config=str(self.folder / "longwatch.toml")) as lw:
            limiter = lw.opened.parts.calls.limiter
            cap = next(cap for cap in limiter.peek().caps if cap.purse == "budget:growth")
            doubts = limiter.doubts()
            states = Counter(str(row.state) for row in limiter.doubts(state="settled", limit=9_999))
            kinds = Counter(each.kind for each in lw.opened.parts.journal.after(0, limit=99_999))
        print("statuses", statuses, "came", came, "bill", bill, "recorded", cap.spent, "held", cap.held)  # noqa: T201
        print({kind: kinds[kind] for kind in ("engine.away", "engine.back", "engine.forgot", "budget.parked")})  # noqa: T201
        assert set(statuses) == {"200"}, statuses
        assert set(came) <= {"200", "spent"}, came
        assert not doubts
        assert states["settled"] * 200_000 == bill
        assert bill <= cap.spent <= cap.cap
        assert cap.held == 0
        assert kinds["engine.back"] == kinds["engine.away"] > 0
        if not kinds["budget.parked"]:
            assert cap.spent == bill


@pytest.fixture(params=["sqlite", "postgres"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    url = postgres.shared().new_database() if request.param == "postgres" else ""
    with started() as sandbox:
        made = Fleet(tmp_path, url or str(tmp_path / "s.db"), sandbox)
        yield made
        for worker in made.workers:
            worker.kill()
            worker.wait()
    if url:
        postgres.shared().drop(url)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_calls_go_on_by_the_share_and_back_to_redis(fleet: Fleet, own_server: Server, how: str) -> None:
    fleet.start(fleet.config(own_server.url), 6, seconds=14)
    fleet.go()
    time.sleep(3)
    process = own_server.process.pid
    cut = time.time()
    if how == "killed":
        own_server.kill()
    else:
        os.kill(process, signal.SIGSTOP)
    time.sleep(5)
    if how == "killed":
        own_server.launch()
    else:
        os.kill(process, signal.SIGCONT)
    back = time.time()
    left = fleet.finish()
    meanwhile = [at for at, _ in left if cut + GOES_ON_S < at < back]
    first = min((at - cut for at, away in left if away), default=99.0)
    last = max(at - back for at, away in left if away)
    after = sum(at > back + last for at, _ in left)
    per_s = len(meanwhile) / (back - cut - GOES_ON_S)
    print(f"{how}: by the share after {first:.2f} s, {per_s:.1f}/s of {SHARE_PER_S}/s")  # noqa: T201
    print(f"last {last:.2f} s after its return, {after} calls after that")  # noqa: T201
    fleet.judge()
    assert first < GOES_ON_S + SLACK_S
    assert 0.6 * SHARE_PER_S <= per_s <= 1.05 * SHARE_PER_S + 1
    assert last < BACK_S + SLACK_S + (GRACE_MS / 1_000 if how == "killed" else 0)
    assert after > 25, "Redis did not go on"


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_small_cap_is_kept_by_those_who_see_redis_and_those_who_do_not(fleet: Fleet, own_server: Server) -> None:
    """Half of them never reach it: their socket is not there, until the budget is nearly spent."""
    fleet.money = 12
    way = fleet.folder / "way.sock"
    config = fleet.config(own_server.url)
    with longwatch.open(config=str(config)):
        pass
    fleet.start(config, 3, seconds=9)
    fleet.start(fleet.config(f"redis://{way}", "cut"), 3, seconds=9)
    fleet.go()
    time.sleep(1.5)
    way.symlink_to(own_server.socket)
    left = fleet.finish()
    fleet.judge()
    assert {away for _, away in left} == {True, False}
    assert len(left) == fleet.money * 5, "something of the cap was lost"
