"""What becomes of shared files when one of four writers dies, or stands still past its lease.

Four real processes count on by one, as fast as they can: read and write a.json, think a few milliseconds, append to the
ledger, think, write b.json. a and b must agree, and the ledger must be 1..n. In each trial one process is hit at a random
instant inside such a step: killed (SIGKILL), or stopped for 1.3 to 3 times the lease of one second and then woken. Every
third stop is aimed at the instants at which the process stands in one of Longwatch's own locks. A reader looks on.

Beside it, on the same machine and in the same minutes, runs the recipe that most people write at home: a lockfile,
overridden when it is older than the lease.

Bar for Longwatch: 0 corrupt trials, 0 steps lost that were acknowledged, 0 trials in which the others do not go on, and
nobody stands still for longer than the lease and a second.

    python -m bench faults [--trials 100] [--recipe 20] [--jobs 3] [--seed 1]
"""

import argparse
import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from bench.fault_writers import LEASE_S, WAYS, Files, Way, agree
from longwatch.db.turnstile import is_stopped

RESULTS = Path(__file__).parent / "results"
WRITERS = 4
BAR_STILL_MS = round(LEASE_S * 1000) + 1_000
STUCK_S = 12.0  # without a single step of the others after the fault
HUNT = 2_000  # stops tried until one falls into a lock


# -- one trial -------------------------------------------------------------------------------------------------------


class Board:
    """Shared memory of one trial: whether to go on, who is inside of a step, what the reader saw."""

    OVER, READS, TORN, INSIDE = 0, 1, 2, 8  # places of eight bytes

    def __init__(self, folder: Path) -> None:
        self._memory, self._folder, self._slot = mmap.mmap(-1, 4096), folder, 0

    def join(self, slot: int) -> None:
        self._slot = slot
        self._acks = os.open(self._folder / f"acks-{slot}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def get(self, place: int) -> int:
        return int(struct.unpack_from("q", self._memory, place * 8)[0])

    def put(self, place: int, value: int) -> None:
        struct.pack_into("q", self._memory, place * 8, value)

    def inside(self, yes: bool) -> None:
        self.put(self.INSIDE + self._slot, int(yes))

    def acknowledge(self, n: int) -> None:
        os.write(self._acks, struct.pack("qq", n, time.monotonic_ns()))

    def acks(self, slot: int) -> list[tuple[int, int]]:
        """(number, instant in ns) of every step that this writer was told is done."""
        file = self._folder / f"acks-{slot}"
        data = file.read_bytes() if file.exists() else b""
        return list(struct.iter_unpack("qq", data[: len(data) // 16 * 16]))


@dataclass(frozen=True)
class Trial:
    way: str
    fault: str  # kill, stop, stop in lock
    seed: str


@dataclass(frozen=True)
class Outcome:
    """What the audit found. still_ms: the longest time without a step of the processes that were not hit, from the
    fault on; calm_ms: before it, which is what the machine alone does.
    """

    way: str
    fault: str
    seed: str
    inside: bool
    corrupt: bool
    lost: int
    stuck: bool
    steps: int
    still_ms: int
    calm_ms: int
    reads: int
    torn: int


def write_on(way: Way, board: Board, slot: int) -> None:
    random.seed(f"{os.getpid()} {slot}")
    board.join(slot)
    while not board.get(Board.OVER):
        n = way.step(f"writer{slot}", board.inside)
        if n is not None:
            board.acknowledge(n)


def look_on(way: Way, board: Board) -> None:
    while not board.get(Board.OVER):
        board.put(Board.TORN, board.get(Board.TORN) + (not agree(way.look())))
        board.put(Board.READS, board.get(Board.READS) + 1)
        time.sleep(0.005)


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def run(trial: Trial, folder: Path) -> Outcome:
    """Start everybody, let the fault happen, wait until the others have gone on, stop everybody, look."""
    dice, board, files = random.Random(trial.seed), Board(folder), folder / "files"
    files.mkdir()
    make = WAYS[trial.way]

    def writing(slot: int) -> Callable[[], None]:
        return lambda: write_on(make(files), board, slot)

    pids = [forked(writing(slot)) for slot in range(WRITERS)]
    reader = forked(lambda: look_on(make(files), board))
    victim = dice.randrange(WRITERS)
    others = [slot for slot in range(WRITERS) if slot != victim]
    wait_until(lambda: all(len(board.acks(slot)) >= 2 for slot in range(WRITERS)), 20)
    time.sleep(dice.uniform(0, 0.2))
    inside, struck = hit(trial.fault, pids[victim], victim, board, dice)
    woken = time.monotonic_ns()
    stuck = not wait_until(lambda: goes_on(board, others, since=woken), STUCK_S)
    board.put(Board.OVER, 1)
    stuck |= sum(map(gone, [*pids, reader])) < WRITERS + 1
    found = seen_from_outside(make, files, folder / "found")
    return audit(trial, board, others, found, inside=inside, stuck=stuck, struck=struck)


def seen_from_outside(make: Callable[[Path], Way], files: Path, answer: Path) -> Files | None:
    """What a new process reads, or None: it does not come back."""

    def look() -> None:
        seen = make(files).look()
        answer.write_text(json.dumps({name: data and data.hex() for name, data in seen.items()}))

    if not gone(forked(look)) or not answer.exists():
        return None
    return {name: data and bytes.fromhex(data) for name, data in json.loads(answer.read_text()).items()}


def hit(fault: str, pid: int, victim: int, board: Board, dice: random.Random) -> tuple[bool, int]:
    """Strike inside a step of the victim's; whether it was inside, and when. The stopped are woken before this returns."""
    if fault == "stop in lock":
        inside = hunt(pid, dice)
    else:
        wait_until(lambda: board.get(Board.INSIDE + victim) == 1, 5, every_s=0.0002)
        time.sleep(dice.uniform(0, 0.02))
        inside = board.get(Board.INSIDE + victim) == 1
        os.kill(pid, signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
    struck = time.monotonic_ns()
    if fault != "kill":
        time.sleep(LEASE_S * dice.uniform(1.3, 3))
        with contextlib.suppress(ProcessLookupError):  # whoever waited for its lock may have had to kill it
            os.kill(pid, signal.SIGCONT)
    return inside, struck


def hunt(pid: int, dice: random.Random) -> bool:
    """Stop the process again and again, until it stands in a lock."""
    for _ in range(HUNT):
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(pid), 1, every_s=0.0001)
        if holds_a_lock(pid):
            return True
        os.kill(pid, signal.SIGCONT)
        time.sleep(dice.uniform(0, 0.004))
    os.kill(pid, signal.SIGSTOP)
    return False


def holds_a_lock(pid: int) -> bool:
    rows = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
    return any(row[1] == "FLOCK" and row[4] == str(pid) for row in rows if len(row) >= 6)


def goes_on(board: Board, others: Iterable[int], *, since: int) -> bool:
    """Whether the others have done five steps since, and a moment has passed for a woken process to do its harm."""
    steps = sum(at > since for slot in others for _, at in board.acks(slot))
    return steps >= 5 and time.monotonic_ns() > since + 700_000_000


def wait_until(true: Callable[[], bool], seconds: float, *, every_s: float = 0.02) -> bool:
    ends = time.monotonic() + seconds
    while not (yes := true()) and time.monotonic() < ends:
        time.sleep(every_s)
    return yes


def gone(pid: int) -> bool:
    """Wait for the end of a child, up to 10 s; then it is killed, and False."""
    yes = wait_until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0), 10)
    if not yes:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return yes


def audit(
    trial: Trial, board: Board, others: list[int], found: Files | None, *, inside: bool, stuck: bool, struck: int
) -> Outcome:
    files = found or {}
    ledger = set((files.get("ledger.txt") or b"").decode(errors="replace").splitlines())
    told = [f"{n} writer{slot}" for slot in range(WRITERS) for n, _ in board.acks(slot)]
    instants = sorted(at for slot in others for _, at in board.acks(slot))
    gaps = [(after, after - before) for before, after in pairwise(instants)]
    return Outcome(
        **asdict(trial),
        inside=inside,
        corrupt=found is None or not agree(found),
        lost=sum(line not in ledger for line in told),
        stuck=stuck or found is None,
        steps=len(told),
        still_ms=max((gap for after, gap in gaps if after > struck), default=0) // 1_000_000,
        calm_ms=max((gap for after, gap in gaps if after <= struck), default=0) // 1_000_000,
        reads=board.get(Board.READS),
        torn=board.get(Board.TORN),
    )


# -- all of them -----------------------------------------------------------------------------------------------------


def run_all(trials: list[Trial], *, jobs: int, folder: Path) -> list[Outcome]:
    """Each trial in a process and a folder of its own, `jobs` at a time."""
    running: dict[int, Path] = {}
    outcomes: list[Outcome] = []
    queue = list(enumerate(trials))
    while queue or running:
        while queue and len(running) < jobs:
            number, trial = queue.pop(0)
            place = folder / str(number)
            place.mkdir()
            running[start(trial, place)] = place
        pid, _ = os.wait()
        place = running.pop(pid)
        outcomes.append(Outcome(**json.loads((place / "outcome").read_text())))
        shutil.rmtree(place, ignore_errors=True)
        if sys.stderr.isatty():
            print(f"\r{len(outcomes)} of {len(trials)} trials", end="", file=sys.stderr)
    return outcomes


def start(trial: Trial, place: Path) -> int:
    def conduct() -> None:
        (place / "outcome").write_text(json.dumps(asdict(run(trial, place))))

    return forked(conduct)


def planned(*, trials: int, recipe: int, seed: int) -> list[Trial]:
    plan = [Trial("longwatch", "kill", f"{seed} kill {n}") for n in range(trials)]
    plan += [Trial("longwatch", "stop in lock" if n % 3 == 2 else "stop", f"{seed} stop {n}") for n in range(trials)]
    plan += [Trial("home-made", fault, f"{seed} {fault} {n}") for fault in ("kill", "stop") for n in range(recipe)]
    random.Random(seed).shuffle(plan)
    return plan


def table(outcomes: list[Outcome]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for way, fault in dict.fromkeys(sorted((one.way, one.fault) for one in outcomes)):
        these = [one for one in outcomes if (one.way, one.fault) == (way, fault)]
        rows.append(
            {
                "way": way,
                "fault": fault,
                "trials": len(these),
                "corrupt": sum(one.corrupt for one in these),
                "lost": sum(one.lost for one in these),
                "stuck": sum(one.stuck for one in these),
                "torn reads": f"{sum(one.torn for one in these)}/{sum(one.reads for one in these)}",
                "still ms": max(one.still_ms for one in these),
                "calm ms": max(one.calm_ms for one in these),
                "steps": sum(one.steps for one in these),
                "inside": sum(one.inside for one in these),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench faults", description="Files under four writers, one of them hit.")
    parser.add_argument("--trials", type=int, default=100, help="of each fault, through Longwatch")
    parser.add_argument("--recipe", type=int, default=20, help="of each fault, by the home-made recipe")
    parser.add_argument("--jobs", type=int, default=3, help="trials at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS / "faults.json")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="longwatch-faults-") as folder:
        plan = planned(trials=given.trials, recipe=given.recipe, seed=given.seed)
        outcomes = run_all(plan, jobs=given.jobs, folder=Path(folder))
    rows, seconds = table(outcomes), round(time.monotonic() - began)
    print("".join(f"{name:>14}" for name in rows[0]))
    for row in rows:
        print("".join(f"{value!s:>14}" for value in row.values()))
    ours = [one for one in outcomes if one.way == "longwatch"]
    bad = [one for one in ours if one.corrupt or one.lost or one.stuck or one.torn or one.still_ms > BAR_STILL_MS]
    print(f"{seconds} s; bar: longwatch 0 corrupt, lost, stuck, torn; nobody still for over {BAR_STILL_MS} ms")
    given.results.parent.mkdir(exist_ok=True)
    results = {"seed": given.seed, "seconds": seconds, "rows": rows, "bad": [asdict(one) for one in bad]}
    given.results.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
