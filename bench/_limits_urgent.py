"""How long an urgent call waits while many calls of the lane `batch` do, and what that costs those.

Every thread of a few processes has a call of the lane `batch` in line, again and again; the rate is 50 a second with a
burst of 5. Then the same with a process beside them whose calls are urgent. Bar: an urgent call waits no longer than the
horizon, within which slots are given away beforehand, and two slots; the batch loses no more than what the urgent ones took.
"""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from bench._limits_crew import Api, Crew, Start, at
from bench._limits_pace import by_leaving
from bench._limits_rivals import Place, opened
from longwatch.errors import WaitTimeout
from longwatch.policy.admission import HORIZON_US
from longwatch.sandbox.client import Sandbox

PROCESSES, URGENT_THREADS = 5, 4
WARM_S = 2.0  # until everybody is in line
LONGEST_S = 60.0  # nobody waits longer for an urgent call
BAR_KEPT = 0.95


@dataclass(frozen=True)
class Made:
    """batch: calls that left within the time. waited_ms: of the urgent ones. left_ns: of all. refused: by the server."""

    batch: int
    waited_ms: list[float]
    left_ns: list[int]
    refused: int


class Desk:
    """What the threads of one process share."""

    def __init__(self, place: Place) -> None:
        self.lw, self._api, self._guard = opened(place), Api(place.api), threading.Lock()
        self.left_ns: list[int] = []
        self.refused = 0
        logging.getLogger("longwatch").setLevel(logging.ERROR)  # that a call waits long is what is measured

    def call(self, lane: str, wait_s: float) -> float:
        """Milliseconds until it could leave. Errors: WaitTimeout."""
        asked_s = time.monotonic()
        with self.lw.call("api", lane=lane, wait=wait_s):
            left_ns = time.monotonic_ns()
            with self._guard:
                self.left_ns.append(left_ns)
                self.refused += self._api.get() == 429
        return left_ns / 1e6 - asked_s * 1000


def in_threads(threads: int, until: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(until, range(threads)))


def batch(start: Start, place: Place, threads: int, seconds: float) -> Made:
    desk = Desk(place)
    until_s = start() + seconds

    def on(_: int) -> None:
        with contextlib.suppress(WaitTimeout):
            while (left_s := until_s - time.monotonic()) > 0:
                desk.call("batch", left_s)

    in_threads(threads, on)
    return Made(sum(at_ns <= until_s * 1e9 for at_ns in desk.left_ns), [], desk.left_ns, desk.refused)


def urgent(start: Start, place: Place, threads: int, seconds: float) -> Made:
    desk = Desk(place)
    begun_s = start()

    def on(number: int) -> list[float]:
        dice, found = random.Random(number), list[float]()
        time.sleep(max(0.0, begun_s + WARM_S + dice.random() - time.monotonic()))
        while time.monotonic() < begun_s + seconds:
            try:
                found.append(desk.call("urgent", LONGEST_S))
            except WaitTimeout:
                found.append(LONGEST_S * 1000)
            time.sleep(dice.uniform(0.2, 1))
        return found

    waits = [wait for found in in_threads(threads, on) for wait in found]
    return Made(0, waits, desk.left_ns, desk.refused)


def of_lane(start: Start, lane: str, place: Place, threads: int, seconds: float) -> Made:
    return (urgent if lane == "urgent" else batch)(start, place, threads, seconds)


@dataclass(frozen=True)
class Row:
    """alone_per_s, beside_per_s: calls of the batch, without and with urgent ones; kept: with them all counted, to alone."""

    engine: str
    urgent: int
    p50_ms: float
    p99_ms: float
    alone_per_s: float
    beside_per_s: float
    kept: float
    refused: int
    by_leaving: int

    def values(self) -> tuple[object, ...]:
        return tuple(asdict(self).values())


COLUMNS = ("engine", "urgent", "p50 ms", "p99 ms", "batch/s", "beside", "kept", "429", "by leaving")


def run(sandbox: Sandbox, place: Place, *, waiting: int, seconds: float, with_urgent: bool) -> Made:
    sandbox.reset()
    rate = {"amount": place.rate, "per_ms": 1000, "burst": place.burst}
    sandbox.limits(stripe={"requests": rate, "endpoint": None, "concurrency": None})
    given: list[tuple[Any, ...]] = [("batch", place, max(1, waiting // PROCESSES), seconds) for _ in range(PROCESSES)]
    if with_urgent:
        given.append(("urgent", place, URGENT_THREADS, seconds))
    with Crew(of_lane, given) as crew:
        crew.begin()
        found: list[Made] = crew.answers()
    waits = [wait for one in found for wait in one.waited_ms]
    left_ns = [at_ns for one in found for at_ns in one.left_ns]
    return Made(sum(one.batch for one in found), waits, left_ns, sum(one.refused for one in found))


def row(engine: str, place: Place, alone: Made, beside: Made, *, seconds: float) -> Row:
    """alone, beside: of the same time, without and with urgent calls."""
    return Row(
        engine=engine,
        urgent=len(beside.waited_ms),
        p50_ms=round(at(beside.waited_ms, 50), 1),
        p99_ms=round(at(beside.waited_ms, 99), 1),
        alone_per_s=round(alone.batch / seconds, 1),
        beside_per_s=round(beside.batch / seconds, 1),
        kept=round((beside.batch + len(beside.waited_ms)) / max(1, alone.batch), 3),
        refused=alone.refused + beside.refused,
        by_leaving=by_leaving(alone.left_ns, place) + by_leaving(beside.left_ns, place),
    )


def bars(rows: list[Row], *, rate: int) -> dict[str, bool]:
    bar_ms = HORIZON_US // 1000 + 2 * 1000 // rate
    found: dict[str, bool] = {}
    for one in rows:
        found[f"{one.engine}: an urgent call waits at most {bar_ms} ms ({one.p99_ms:.0f})"] = one.p99_ms <= bar_ms
        found[f"{one.engine}: the batch goes on beside them ({one.kept})"] = one.kept >= BAR_KEPT
        found[f"{one.engine}: 0 x 429 ({one.refused})"] = one.refused == 0
    return found
