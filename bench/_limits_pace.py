"""Processes that share one rate: how many calls the provider refuses, how long all of it takes, and who waits.

A call that is answered with 429 asks for another turn, so that everybody does all of the work in the end; its wait is from
its first question to the turn that was good. `by leaving`: how many the provider's bucket would have refused had it read
every call at the instant it left; what is above that is the machine's doing.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench import harness
from bench._limits_crew import Api, Crew, Start, at
from bench._limits_rivals import RIVALS, Place, Rival
from longwatch.sandbox.client import Sandbox
from longwatch.sandbox.quota import Bucket, Need, Rate, admit

FAIR = 1.1  # last process done, to the first
LATER = 1.03, 1.05  # total, to what is possible at best: in general, and with a burst below the processes
AS_GOOD = 1.05  # p99 wait, to the best rival's: closer is chance
USED = 1.2  # total of a rival, to what is possible at best: who leaves more of the limit unused has nobody in line


@dataclass(frozen=True)
class Work:
    """What one process did: left_ns of every call, the good ones' waits, and when it was done, after the start."""

    left_ns: list[int]
    waited_ms: list[float]
    done_s: float


def work(start: Start, rival: str, place: Place, calls: int) -> Work:
    turn, api = RIVALS[rival].turns(place), Api(place.api)
    left_ns: list[int] = []
    waited_ms: list[float] = []
    begun_s = start()
    for _ in range(calls):
        asked_ns, status = time.monotonic_ns(), 429
        while status == 429:
            with turn():
                left_ns.append(time.monotonic_ns())
                status = api.get()
        assert status == 200, f"the sandbox answered {status}"
        waited_ms.append((left_ns[-1] - asked_ns) / 1e6)
    return Work(left_ns, waited_ms, time.monotonic() - begun_s)


@dataclass(frozen=True)
class Round:
    """refused: 429s of the server; by_leaving: of a bucket that saw the calls leave. total_s: until the last was done.
    spread: the last done to the first, of those with equal shares."""

    refused: int
    by_leaving: int
    total_s: float
    spread: float
    p50_ms: float
    p99_ms: float


def measure(sandbox: Sandbox, rival: Rival, place: Place, shares: Sequence[int]) -> Round:
    sandbox.reset()
    rate = {"amount": place.rate, "per_ms": 1000, "burst": place.burst}
    sandbox.limits(stripe={"requests": rate, "endpoint": None, "concurrency": None})
    with Crew(work, [(rival.name, place, calls) for calls in shares]) as crew:
        crew.begin()
        found: list[Work] = crew.answers()
    statuses = sandbox.counts()["stripe"]["statuses"]
    assert statuses["200"] == sum(shares)
    done = [one.done_s for one in found]  # in the order of their shares
    waits = [wait for one in found for wait in one.waited_ms]
    return Round(
        refused=statuses.get("429", 0),
        by_leaving=by_leaving([at_ns for one in found for at_ns in one.left_ns], place),
        total_s=round(max(done), 3),
        spread=round(spread(shares, done), 3),
        p50_ms=round(at(waits, 50), 1),
        p99_ms=round(at(waits, 99), 1),
    )


def spread(shares: Sequence[int], done_s: Sequence[float]) -> float:
    """The last done to the first, of those with equal shares."""
    alike = [[at_s for share, at_s in zip(shares, done_s, strict=True) if share == each] for each in set(shares)]
    return max(max(group) / min(group) for group in alike)


def by_leaving(left_ns: Sequence[int], place: Place) -> int:
    ordered = sorted(left_ns)
    bucket = Bucket(Rate(place.rate, 1000, place.burst), ordered[0])
    return sum(admit([Need("requests", bucket, 1)], at_ns) is not None for at_ns in ordered)


@dataclass(frozen=True)
class Row:
    """Of one rival: what was refused in all rounds together, medians of the rest. ratio: of total_s to least_s."""

    rival: str
    refused: int
    by_leaving: int
    total_s: float
    least_s: float
    ratio: float
    spread: float
    p50_ms: float
    p99_ms: float


def row(rival: str, rounds: Sequence[Round], least_s: float) -> Row:
    total_s = harness.median([one.total_s for one in rounds])
    return Row(
        rival=rival,
        refused=sum(one.refused for one in rounds),
        by_leaving=sum(one.by_leaving for one in rounds),
        total_s=total_s,
        least_s=round(least_s, 2),
        ratio=round(total_s / least_s, 3),
        spread=harness.median([one.spread for one in rounds]),
        p50_ms=harness.median([one.p50_ms for one in rounds]),
        p99_ms=harness.median([one.p99_ms for one in rounds]),
    )


COLUMNS = ("rival", "429", "by leaving", "total s", "least s", "ratio", "last/first", "p50 ms", "p99 ms")


def bars(rows: Sequence[Row], *, strict: bool, equal: bool) -> dict[str, bool]:
    """By what is asked of Longwatch on each engine: whether it is so. The best rival is one that was never refused, and that
    used the limit: a call waits little where others that might leave do not."""
    later = LATER[strict]
    clean = [one.p99_ms for one in rows if not RIVALS[one.rival].ours and one.refused == 0 and one.ratio <= USED]
    found: dict[str, bool] = {}
    for one in rows:
        if RIVALS[one.rival].ours:
            found[f"{one.rival}: 0 x 429"] = one.refused == 0
            found[f"{one.rival}: total at most {later} x the least ({one.ratio})"] = one.ratio <= later
            if equal:
                found[f"{one.rival}: last at most {FAIR} x first ({one.spread})"] = one.spread <= FAIR
            if clean:
                wait = f"{one.rival}: p99 wait as the best rival's ({one.p99_ms:.0f} to {min(clean):.0f} ms)"
                found[wait] = one.p99_ms <= AS_GOOD * min(clean)
    return found


def values(one: Row) -> tuple[object, ...]:
    return tuple(asdict(one).values())
