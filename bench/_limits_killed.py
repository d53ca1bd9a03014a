"""Processes that race for a small cap, most of them to be killed (-9) between hold and settle: what was held, spent, billed.

A call holds 0.30, costs 0.20 at the sandbox's Stripe, and is settled at 0.20. Who is to die dies at its first or second call,
if the money lasts that long, before it has sent anything or right after the answer. Somebody looks at what is held and spent
all the while: on SQLite and PostgreSQL from outside by plain SQL, on Redis by `peek`. Holds last 15 s here instead of ten
minutes, and so does what the dead had not written down; then what is overdue expires, and the state is compared with the bill.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench._limits_crew import END_S, Api, Crew, Start
from bench._limits_rivals import Place
from longwatch.errors import BudgetExceeded, WaitTimeout
from longwatch.runtime.world import Machine
from longwatch.sandbox.client import Sandbox
from longwatch.surface import opened

AUDITOR = Path(__file__).parents[1] / "tests" / "admission" / "race_auditor.py"
FEE, HOLD, CAP = 200_000, "0.30 GBP", 3_000_000  # micro-units
PATIENCE = "2s"  # for those who wait for money that the dead hold
LATENCY_MS = 20
HOLD_MS = 15_000
TOGETHER = 12  # rounds after which holds are waited for


def config(place: Place) -> dict[str, Any]:
    return {
        "fleet": {"name": "bench", "root": place.folder, "currency": "GBP"},
        "service": {"stripe": {"rate": "1000/s"}},
        "budget": {"race": {"money": f"{CAP // 1_000_000} GBP total"}},
    }


def work(start: Start, place: Place, seed: int, mortal: bool) -> int:
    """How many calls it made; no answer of those who die."""
    import longwatch

    api, dice = Api(place.api), random.Random(seed)
    fate, end = (dice.choice(("held", "sent")) if mortal else ""), dice.randrange(2)
    admission = place.redis or None
    lw = longwatch.open(place.state, config=config(place), admission=admission, agent="racer", budget="race")
    hold_briefly()
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


def hold_briefly() -> None:
    """In every module that knows by its name how long a hold lasts, or what a process has ended and not written down."""
    for name, module in list(sys.modules.items()):
        for known in ("HOLD_MS", "LOOSE_MS"):
            if name.startswith("longwatch.admission") and hasattr(module, known):
                setattr(module, known, HOLD_MS)


@contextmanager
def parts(place: Place) -> Generator[opened.Opened]:
    settings = opened.read(place.state, config(place), admission=place.redis or None, agent=None, budget=None)
    found = opened.wire(settings, Machine())
    try:
        yield found
    finally:
        found.close()


@contextmanager
def watched(place: Place) -> Generator[list[int]]:
    """Filled at the end: the greatest sum of money ever held and spent."""
    with peeked(place) if place.redis else audited(place.state) as found:
        yield found


@contextmanager
def audited(state: str) -> Generator[list[int]]:
    command = [sys.executable, str(AUDITOR), state]
    auditor = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: list[int] = []
    try:
        assert auditor.stdout is not None
        assert auditor.stdout.readline() == "ready\n"
        yield found
        said, _ = auditor.communicate(timeout=END_S)
        found.append(int(said.split()[0]))
    finally:
        auditor.kill()
        auditor.wait()


@contextmanager
def peeked(place: Place) -> Generator[list[int]]:
    over, found, failed = threading.Event(), [0], list[Exception]()

    def look() -> None:
        try:
            with parts(place) as mine:
                while not over.is_set():
                    (cap,) = mine.parts.calls.limiter.peek().caps
                    found[0] = max(found[0], cap.spent + cap.held)
        except Exception as error:  # noqa: BLE001 - raised where somebody waits for it
            failed.append(error)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield found
    finally:
        over.set()
        looker.join(END_S)
    if failed:
        raise failed[0]
    assert found[0], "nobody has looked"


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


@dataclass(frozen=True)
class Race:
    """One that is over. billed: payments by their keys; bill: all that the sandbox charged, micro-units."""

    place: Place
    killed: int
    most: int
    billed: Counter[str]
    bill: int


def run(sandbox: Sandbox, place: Place, *, processes: int, seed: int) -> Race:
    import longwatch

    sandbox.reset()
    sandbox.limits(stripe={"requests": None, "endpoint": None, "fee_micros": FEE, "latency_ms": LATENCY_MS})
    longwatch.open(place.state, config=config(place), admission=place.redis or None).close()
    mortals = max(1, 2 * processes // 3)
    given = [(place, seed * 1000 + number, number < mortals) for number in range(processes)]
    with Crew(work, given) as crew, watched(place) as seen:
        crew.begin()
        made = crew.survivors()
    billed = Counter(row["idempotency_key"] for row in sandbox.effects()["payment_intents"])
    return Race(place, processes - len(made), seen[0], billed, sandbox.bill()["stripe"]["micros"])


def measure(
    sandbox: Sandbox,
    places: Callable[[], contextlib.AbstractContextManager[Place]],
    seeds: Sequence[int],
    processes: int,
) -> list[Round]:
    """Races of these seeds, each at a place of its own, and what came of each once all holds have run out."""
    with contextlib.ExitStack() as stack:
        races = [run(sandbox, stack.enter_context(places()), processes=processes, seed=seed) for seed in seeds]
        time.sleep(HOLD_MS / 1000 + 1)
        return [audit(race) for race in races]


def audit(race: Race) -> Round:
    with parts(race.place) as mine:
        limiter = mine.parts.calls.limiter
        while limiter.expire():
            pass
        entries = mine.parts.journal.latest(kind="call.admitted", limit=10_000)
        calls = [limiter.find(entry.subject) for entry in entries if entry.subject is not None]
        (cap,) = limiter.peek().caps
        sums = {phase: sum(call.money for call in calls if call.phase == phase) for phase in ("settled", "unknown")}
        owed = {
            phase: FEE * sum(race.billed[call.key] for call in calls if call.phase == phase)
            for phase in ("settled", "unknown")
        }
        return Round(
            killed=race.killed,
            calls=len(calls),
            most=max(race.most, cap.spent + cap.held),
            settled=sums["settled"],
            billed=owed["settled"],
            unknown=sums["unknown"],
            unknown_billed=owed["unknown"],
            strays=race.bill - sum(owed.values()),
            left=len(limiter.open_calls()),
        )


MONEY = ("settled", "billed", "unknown", "unknown_billed", "strays")
COLUMNS = (
    "engine",
    "rounds",
    "killed",
    "calls",
    "most",
    "cap",
    "settled",
    "billed",
    "unknown",
    "billed",
    "strays",
    "left",
)


def values(engine: str, rounds: Sequence[Round]) -> tuple[object, ...]:
    """Sums of all rounds; the most of any. Money in pounds."""
    sums = Counter[str]()
    for one in rounds:
        sums.update(asdict(one))
    most = max(one.most for one in rounds)
    money = (f"{micros / 1_000_000:.2f}" for micros in (most, CAP, *(sums[name] for name in MONEY)))
    return (engine, len(rounds), sums["killed"], sums["calls"], *money, sums["left"])


def bars(engine: str, rounds: Sequence[Round]) -> dict[str, bool]:
    found = {
        "somebody was killed in every round": all(one.killed for one in rounds),
        "never over the cap": all(one.most <= CAP for one in rounds),
        "settled as billed, to the micro-unit": all(one.settled == one.billed for one in rounds),
        "unknown: recorded at least what was billed": all(one.unknown >= one.unknown_billed for one in rounds),
        "nothing billed that counts as nothing": all(one.strays == 0 for one in rounds),
        "no hold left past its deadline": all(one.left == 0 for one in rounds),
    }
    return {f"{engine}: {what}": met for what, met in found.items()}
