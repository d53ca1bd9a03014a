"""What it costs calls that are admitted that memory is written and compacted beside them.

    python -m bench memory_beside [--turns 10] [--seconds 2] [--state sqlite | postgresql]

One process admits and settles calls (three rates, concurrency, a quota, three budgets) as fast as it can, in turns; beside
every second turn another process records results as fast as it can and makes the snapshots that are due. Bar: at most a tenth
fewer calls.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import longwatch
from bench.admit import engine, limits, open_limiter, request
from bench.harness import keep, table
from bench.memory import Log
from longwatch.runtime.world import Machine

BAR = 0.9  # calls with memory beside them, of calls alone
AT_ONCE = 200  # records of one batch


def write(state: str, up: Event, on: Event, ended: Event, told: "multiprocessing.Queue[tuple[int, int]]") -> None:
    """Records whenever `on`, until `ended`; tells how many, and how many snapshots."""
    records = snapshots = 0
    with longwatch.open(state) as lw:
        memory, log = lw.memory("seo"), Log(10**6).records()
        memory.charter("Grow the shop, honestly, and never pay for links.")
        up.set()
        while not ended.is_set():
            if on.wait(0.05):
                records += memory.record_many(next(log) for _ in range(AT_ONCE))
                snapshots += memory.compact()
    told.put((records, snapshots))


@dataclass(frozen=True)
class Turn:
    """pairs: calls admitted and settled per second. p50, p99: of a pair, in ms."""

    pairs: float
    p50: float
    p99: float


def turn(ask: "Asking", seconds: float) -> Turn:
    took: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - start))
    took.sort()
    return Turn(len(took) / seconds, took[len(took) // 2], took[len(took) * 99 // 100])


class Asking:
    """One call, admitted and settled."""

    def __init__(self, path: Path, url: str) -> None:
        self.limiter, self.world = open_limiter(path, url), Machine()
        self.owner = self.world.new_id("owner")
        with self.limiter.database.read() as tx:
            found = tx.one("fleet.found")
        assert found is not None
        self.limiter.adopt(limits(), found.rules)  # as if the other process had the same config

    def __call__(self) -> None:
        asked = request(self.world, self.owner)
        self.limiter.admit(asked)
        self.limiter.settle(asked.id, owner=self.owner, money=900, tokens=1_000)


def measure(path: Path, url: str, turns: int, seconds: float) -> tuple[list[Turn], list[Turn], tuple[int, int]]:
    """Turns alone, turns with memory beside them, and what that wrote."""
    context = multiprocessing.get_context("spawn")
    up, on, ended, told = context.Event(), context.Event(), context.Event(), context.Queue()
    writer = context.Process(target=write, args=(url or str(path), up, on, ended, told), daemon=True)
    writer.start()
    assert up.wait(60), "the other process did not open the fleet"
    ask = Asking(path, url)
    turn(ask, seconds)  # warm
    alone, beside = list[Turn](), list[Turn]()
    for number in range(turns):
        print(f"turn {number + 1} of {turns}", file=sys.stderr, flush=True)
        on.clear()
        time.sleep(0.3)  # until it has ended what it had begun
        alone.append(turn(ask, seconds))
        on.set()
        beside.append(turn(ask, seconds))
    ended.set()
    wrote = told.get(timeout=60)
    writer.join(60)
    ask.limiter.close()
    return alone, beside, wrote


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench memory_beside", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--state", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args(arguments)
    decides = "postgres" if given.state == "postgresql" else "state"
    with engine(decides) as url, tempfile.TemporaryDirectory(prefix="longwatch-bench-") as folder:
        alone, beside, (records, snapshots) = measure(Path(folder) / "state.db", url, given.turns, given.seconds)
    share = round(statistics.median(two.pairs / one.pairs for one, two in zip(alone, beside, strict=True)), 3)
    rows = [
        (
            name,
            *(round(statistics.median(getattr(each, what) for each in found), 2) for what in ("pairs", "p50", "p99")),
        )
        for name, found in (("alone", alone), ("beside memory", beside))
    ]
    table(f"calls admitted, {given.state}", ("", "pairs/s", "p50 ms", "p99 ms"), rows)
    print(
        f"{share} of the calls with memory beside them; the bar is {BAR}; it wrote {records:,} records, {snapshots} snapshots"
    )
    result = {"share": share, "bar": BAR, "records": records, "snapshots": snapshots, "rows": rows}
    keep(f"memory_beside_{given.state}", result)
    return 0 if share >= BAR else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
