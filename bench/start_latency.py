"""How soon a submitted task starts on an idle worker, and what idle workers cost.

One worker process, idle; another process submits at random moments. Measured is the time from the call of `lw.submit` to
the first line of the handler, both by the machine's monotonic clock; and from the submit's return, which is when the task
is on the disk. Then the processor time of 1 and of 15 idle workers, over 20 s. Bars: p50 at most 10 ms; at most 1 % of
a processor for each idle worker.

    python -m bench start_latency [--submits 200] [--seconds 20]
"""

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

import longwatch
from bench.harness import keep, table
from longwatch.runtime.process import Child

BAR_P50_MS, BAR_CPU = 10.0, 1.0
CODE = "from bench.start_latency import serve; serve({state!r}, {processes})"
NAP = threading.Event()


@longwatch.task("mark")
def mark(run: longwatch.Run, path: str, number: int) -> None:
    with Path(path).open("a") as file:
        file.write(f"{number} {time.monotonic_ns()}\n")


def opened(state: str) -> longwatch.Longwatch:
    lw = longwatch.open(state, config={"fleet": {"root": str(Path(state).parent)}})
    lw.include(mark)
    return lw


def serve(state: str, processes: int) -> None:
    """Work until told to stop, or until whoever started this is gone: its end of standard input closes."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    with opened(state) as lw:
        lw.work(processes=processes)


@dataclass(frozen=True)
class Latency:
    """Milliseconds. from_call: of lw.submit; from_return: of it, negative when the task started before that."""

    from_call: list[float]
    from_return: list[float]


def latency(state: str, submits: int) -> Latency:
    path = str(Path(state).with_name("started.txt"))
    called: dict[int, int] = {}
    returned: dict[int, int] = {}
    with opened(state) as lw:
        lw.wait(lw.submit("mark", {"path": path, "number": -1}), timeout="5m")  # a worker is up
        for number in range(submits):
            NAP.wait(random.uniform(0.02, 0.12))
            called[number] = time.monotonic_ns()
            task = lw.submit("mark", {"path": path, "number": number})
            returned[number] = time.monotonic_ns()
        lw.wait(task, timeout="1m")
    started = {int(number): int(at) for number, at in map(str.split, Path(path).read_text().splitlines())}
    assert len(started) == submits + 1
    return Latency(
        from_call=[(started[number] - at) / 1e6 for number, at in called.items()],
        from_return=[(started[number] - at) / 1e6 for number, at in returned.items()],
    )


def family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def spent_s(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(found.user + found.system for found in times)


def idle_cpu(pid: int, workers: int, seconds: float) -> float:
    """Percent of a processor for each worker, its share of the parent's time included."""
    ends = time.monotonic() + 120
    while len(family(pid)) < (workers + 1 if workers > 1 else 1):
        assert time.monotonic() < ends, "the workers did not start"
        NAP.wait(0.2)
    NAP.wait(8)  # importing is no idling, on a loaded machine
    processes = family(pid)
    before = spent_s(processes)
    NAP.wait(seconds)
    return (spent_s(processes) - before) / seconds / workers * 100


def serving(state: str, workers: int) -> Child:
    return Child([sys.executable, "-c", CODE.format(state=state, processes=workers)], told={})


def stop(child: Child) -> None:
    child.signal(signal.SIGTERM)
    child.reap()


def summary(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 50, "p90": 90, "p99": 99}
    found = {
        name: round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 2) for name, percent in at.items()
    }
    return found | {"max": round(ordered[-1], 2), "mean": round(statistics.mean(ordered), 2)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench start_latency", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--submits", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args(arguments)
    cpu: dict[str, float] = {}
    result: dict[str, Any] = {}
    for workers in (1, 15):
        with tempfile.TemporaryDirectory() as folder:
            state = f"{folder}/longwatch.db"
            child = serving(state, workers)
            try:
                found = latency(state, given.submits)
                result[f"{workers} idle"] = {name: summary(values) for name, values in asdict(found).items()}
                cpu[f"{workers} idle"] = round(idle_cpu(child.pid, workers, given.seconds), 3)
            finally:
                stop(child)
    return report(result, cpu)


def report(result: dict[str, Any], cpu: dict[str, float]) -> int:
    columns = ("workers", "from", "p50 ms", "p90", "p99", "max", "CPU % each")
    rows = [
        (workers, name, values["p50"], values["p90"], values["p99"], values["max"], cpu[workers])
        for workers, both in result.items()
        for name, values in both.items()
    ]
    table("Submit to start", columns, rows)
    p50 = result["1 idle"]["from_call"]["p50"]
    good = p50 <= BAR_P50_MS and all(value <= BAR_CPU for value in cpu.values())
    print(f"bars: p50 {BAR_P50_MS:.0f} ms, {BAR_CPU:.0f} % each: {'met' if good else 'MISSED'}")
    keep(
        "start_latency",
        {"latency_ms": result, "idle_cpu_percent_each": cpu, "bars": {"p50_ms": BAR_P50_MS, "cpu": BAR_CPU}},
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
