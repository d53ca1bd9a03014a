"""Processes that race for a small cap, most of them to be killed (-9) between hold and settle: what was held, spent, billed.

A call holds 0.30, costs 0.20 at the sandbox's Stripe, and is settled at 0.20. Who is to die dies at its first or second call,
if the money lasts that long, before it has sent anything or right after the answer. An auditor reads the state from outside by
plain SQL all the while; in the end the clock is put past every deadline, what is overdue expires, and the state is compared
with the sandbox's bill.
The state is SQLite: only there has an outside auditor the same clock.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench._limits_crew import END_S, Api, Crew, Start
from longwatch.admission.calls import HOLD_MS
from longwatch.errors import BudgetExceeded, WaitTimeout
from longwatch.runtime.world import Machine
from longwatch.sandbox.client import Sandbox
from longwatch.surface import opened

AUDITOR = Path(__file__).parents[1] / "tests" / "admission" / "race_auditor.py"
FEE, HOLD, CAP = 200_000, "0.30 GBP", 3_000_000  # micro-units
PATIENCE = "2s"  # for those who wait for money that the dead hold
LATENCY_MS = 20


def config(folder: str) -> dict[str, Any]:
    return {
        "fleet": {"name": "bench", "root": folder, "currency": "GBP"},
        "service": {"stripe": {"rate": "1000/s"}},
        "budget": {"race": {"money": f"{CAP // 1_000_000} GBP total"}},
    }


def work(start: Start, folder: str, api_url: str, seed: int, mortal: bool) -> int:
    """How many calls it made; no answer of those who die."""
    import longwatch

    api, dice = Api(api_url), random.Random(seed)
    fate, end = (dice.choice(("held", "sent")) if mortal else ""), dice.randrange(2)
    lw = longwatch.open(f"{folder}/s.db", config=config(folder), agent="racer", budget="race")
    made = 0
    start()
    try:
        while True:
            with lw.call("stripe", money=HOLD, wait=PATIENCE) as call:
                if fate == "held" and made == end:
                    os.kill(os.getpid(), signal.SIGKILL)
                assert api.pay(call.key) == 200
                if fate == "sent" and made == end:
                    os.kill(os.getpid(), signal.SIGKILL)
                call.settle(money="0.20 GBP")
            made += 1
    except (BudgetExceeded, WaitTimeout):
        return made


@contextmanager
def watched(state: str) -> Generator[list[int]]:
    """Filled at the end: the greatest sum of money ever held and spent, and the most calls open at once."""
    command = [sys.executable, str(AUDITOR), state]
    auditor = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: list[int] = []
    try:
        assert auditor.stdout is not None
        assert auditor.stdout.readline() == "ready\n"
        yield found
        said, _ = auditor.communicate(timeout=END_S)
        found += [int(word) for word in said.split()]
    finally:
        auditor.kill()
        auditor.wait()


class Later(Machine):
    """The same machine, when every hold of now has run out."""

    def steady_ms(self) -> int:
        return super().steady_ms() + HOLD_MS + 1

    def wall_ms(self) -> int:
        return super().wall_ms() + HOLD_MS + 1


@dataclass(frozen=True)
class Round:
    """Micro-units. most: ever held and spent. settled, billed: of the calls that were settled. unknown: what is recorded of
    the calls whose end nobody knows, unknown_billed: their bill. strays: billed for calls that count as nothing.
    left: holds past their deadline."""

    killed: int
    calls: int
    most: int
    settled: int
    billed: int
    unknown: int
    unknown_billed: int
    strays: int
    left: int

    @property
    def good(self) -> bool:
        within = self.most <= CAP and self.settled == self.billed and self.unknown >= self.unknown_billed
        return within and self.strays == 0 and self.left == 0


def measure(sandbox: Sandbox, *, processes: int, seed: int) -> Round:
    import longwatch

    sandbox.reset()
    sandbox.limits(stripe={"requests": None, "endpoint": None, "fee_micros": FEE, "latency_ms": LATENCY_MS})
    with tempfile.TemporaryDirectory(prefix="lw-limits-") as folder:
        longwatch.open(f"{folder}/s.db", config=config(folder)).close()
        api = sandbox.base_urls["stripe"]
        mortals = max(1, 2 * processes // 3)
        given = [(folder, api, seed * 1000 + place, place < mortals) for place in range(processes)]
        with Crew(work, given) as crew, watched(f"{folder}/s.db") as seen:
            crew.begin()
            made = crew.survivors()
        return audit(sandbox, folder, most=seen[0], killed=processes - len(made))


def audit(sandbox: Sandbox, folder: str, *, most: int, killed: int) -> Round:
    billed = Counter(row["idempotency_key"] for row in sandbox.effects()["payment_intents"])
    settings = opened.read(f"{folder}/s.db", config(folder), agent=None, budget=None)
    later = opened.wire(settings, Later())
    try:
        limiter = later.parts.calls.limiter
        while limiter.expire():
            pass
        entries = later.parts.journal.latest(kind="call.admitted", limit=10_000)
        calls = [limiter.find(entry.subject) for entry in entries if entry.subject is not None]
        (cap,) = limiter.peek().caps
        sums = {phase: sum(call.money for call in calls if call.phase == phase) for phase in ("settled", "unknown")}
        owed = {
            phase: FEE * sum(billed[call.key] for call in calls if call.phase == phase)
            for phase in ("settled", "unknown")
        }
        return Round(
            killed=killed,
            calls=len(calls),
            most=max(most, cap.spent + cap.held),
            settled=sums["settled"],
            billed=owed["settled"],
            unknown=sums["unknown"],
            unknown_billed=owed["unknown"],
            strays=sandbox.bill()["stripe"]["micros"] - sum(owed.values()),
            left=len(limiter.open_calls()),
        )
    finally:
        later.close()


MONEY = ("settled", "billed", "unknown", "unknown_billed", "strays")
COLUMNS = ("rounds", "killed", "calls", "most", "cap", "settled", "billed", "unknown", "billed", "strays", "left")


def values(rounds: list[Round]) -> tuple[object, ...]:
    """Sums of all rounds; the most of any. Money in pounds."""
    sums = Counter[str]()
    for one in rounds:
        sums.update(asdict(one))
    most = max(one.most for one in rounds)
    money = (f"{micros / 1_000_000:.2f}" for micros in (most, CAP, *(sums[name] for name in MONEY)))
    return (len(rounds), sums["killed"], sums["calls"], *money, sums["left"])


def bars(rounds: list[Round]) -> dict[str, bool]:
    return {
        "somebody was killed in every round": all(one.killed for one in rounds),
        "never over the cap": all(one.most <= CAP for one in rounds),
        "settled as billed, to the micro-unit": all(one.settled == one.billed for one in rounds),
        "unknown: recorded at least what was billed": all(one.unknown >= one.unknown_billed for one in rounds),
        "nothing billed that counts as nothing": all(one.strays == 0 for one in rounds),
        "no hold left past its deadline": all(one.left == 0 for one in rounds),
    }
