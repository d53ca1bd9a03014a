"""The archive: how much logs of agents shrink, and what finding something in 26 segments costs.

    python -m bench archive [--weeks N] [--megabytes N] [--runs FILE]

Writes generated logs of 20 agents, a segment for each week. A search through all of it costs in proportion to its size; a
task's entries and the sums by agent and day do not. Every question is asked of an archive that was just opened, and processor
time is counted, with nothing kept from before.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench._agent_logs import DAY_MS, AgentLogs
from bench.harness import keep, median, table
from longwatch.runtime.world import Machine
from longwatch.store.archive import Archive, Entry, Folder

FROM_MS = 1_780_272_000_000
WHOLE = 2_400  # MB of lines that the bars are about
TASK_MS, COSTS_MS, TEXT_MS, FACTOR, RUNS_FACTOR = 50.0, 10.0, 4_000.0, 5.0, 7.0
NEEDLE = "zqx-rare-4711"
ASKED = 20


def fill(folder: Path, weeks: int, megabytes: float) -> tuple[list[str], dict[str, Any]]:
    """Ids of tasks of all weeks, and what writing came to."""
    archive, logs, tasks = Archive(Folder(folder), Machine()), AgentLogs(1), list[str]()
    began = took = 0.0
    for week in range(weeks):
        print(f"week {week + 1} of {weeks}", file=sys.stderr, flush=True)
        entries = list(logs.entries(FROM_MS + 7 * week * DAY_MS, raw_bytes=int(megabytes * 1e6 / weeks)))
        tasks.append(entries[len(entries) // 2].task)
        if week == weeks // 2:
            entries.append(
                Entry("log", "needle", entries[-1].at_ms, "seo-1", tasks[-1], b'{"line":"a %s b"}' % NEEDLE.encode())
            )
        began = time.process_time()
        archive.write(entries, source=f"week-{week}")
        took += time.process_time() - began
    segments = archive.segments()
    raw, size = sum(each.raw_bytes for each in segments), sum(each.bytes for each in segments)
    archive.close()
    index = sum(path.stat().st_size for path in folder.glob("index.db*"))
    return tasks, {
        "segments": len(segments),
        "entries": sum(each.count for each in segments),
        "raw_mb": round(raw / 1e6, 1),
        "files_mb": round(size / 1e6, 1),
        "index_mb": round(index / 1e6, 1),
        "factor": round(raw / size, 2),
        "factor_with_index": round(raw / (size + index), 2),
        "write_mb_per_cpu_s": round(raw / 1e6 / took, 1),
    }


def runs_of(path: Path) -> Iterator[Entry]:
    """What is said in runs of an agent: a list of {"traj": [message, ...]}, each message an entry."""
    at_ms = FROM_MS
    for number, run in enumerate(json.loads(path.read_bytes())):
        for message in run["traj"]:
            at_ms += 1_000
            yield Entry("log", "message", at_ms, "agent", f"task_{number:04}", json.dumps(message).encode())


def shrunk(folder: Path, entries: Iterable[Entry]) -> dict[str, float]:
    archive = Archive(Folder(folder), Machine())
    archive.write(list(entries), source="runs")
    segments = archive.segments()
    archive.close()
    raw, size = sum(each.raw_bytes for each in segments), sum(each.bytes for each in segments)
    index = sum(path.stat().st_size for path in folder.glob("index.db*"))
    return {"runs_factor": round(raw / size, 2), "runs_factor_with_index": round(raw / (size + index), 2)}


def asked(folder: Path, ask: Callable[[Archive], object]) -> float:
    """Milliseconds of processor time, of an archive that was just opened."""
    began = time.process_time()
    archive = Archive(Folder(folder), Machine())
    answer = ask(archive)
    took = 1000 * (time.process_time() - began)
    archive.close()
    assert answer, "it found nothing"
    return took


def entries_of(task: str) -> Callable[[Archive], object]:
    return lambda archive: archive.find(task=task).entries


def everything_of(name: str) -> Callable[[Archive], object]:
    return lambda archive: archive.show(name).entries


def measure(folder: Path, tasks: list[str], wrote: dict[str, Any]) -> dict[str, Any]:
    of_tasks = [asked(folder, entries_of(task)) for task in (tasks * ASKED)[:ASKED]]
    costs = [asked(folder, lambda archive: archive.costs()) for _ in range(5)]
    shown = [asked(folder, everything_of(task)) for task in tasks[:5]]
    texts = [asked(folder, lambda archive: archive.find(text=NEEDLE).entries) for _ in range(3)]
    began = time.process_time()
    archive = Archive(Folder(folder), Machine())
    findings = archive.verify()
    verify = time.process_time() - began
    archive.close()
    assert not findings, findings
    scale = WHOLE / wrote["raw_mb"]
    return {
        "task_first_ms": round(of_tasks[0], 1),  # of the process: its statements are read for the first time
        "task_ms": median(of_tasks),
        "task_worst_ms": round(max(of_tasks), 1),
        "costs_ms": median(costs),
        "show_ms": median(shown),
        "text_ms": median(texts),
        "text_ms_of_2400_mb": round(scale * median(texts)),
        "verify_s_of_2400_mb": round(scale * verify, 1),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench archive", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weeks", type=int, default=26)
    parser.add_argument("--megabytes", type=float, default=240, help="of all weeks; 2400 takes half an hour")
    parser.add_argument(
        "--runs", type=Path, help="a file of tool-using runs, [{traj: [message, ...]}, ...], to shrink too"
    )
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="longwatch-bench-") as name:
        folder = Path(name) / "archive"
        tasks, wrote = fill(folder, given.weeks, given.megabytes)
        found = measure(folder, tasks, wrote)
        runs = shrunk(Path(name) / "runs", runs_of(given.runs)) if given.runs else {}
    rows = [
        ("segments, entries", f"{wrote['segments']}, {wrote['entries']:,}", ""),
        ("MB of lines, of files, of the index", f"{wrote['raw_mb']:,} / {wrote['files_mb']} / {wrote['index_mb']}", ""),
        ("shrinks by, with the index", f"{wrote['factor']} / {wrote['factor_with_index']}", f">= {FACTOR}"),
        ("written and read back, MB per processor second", wrote["write_mb_per_cpu_s"], ""),
        ("a task's entries, cpu ms: first of the process", found["task_first_ms"], f"<= {TASK_MS}"),
        ("  median / worst of 20", f"{found['task_ms']} / {found['task_worst_ms']}", f"<= {TASK_MS}"),
        ("cost by agent and day, cpu ms", found["costs_ms"], f"<= {COSTS_MS}"),
        ("everything of an id, cpu ms", found["show_ms"], ""),
        ("a rare text, cpu ms: here", found["text_ms"], ""),
        (f"  of {WHOLE:,} MB, in proportion", found["text_ms_of_2400_mb"], f"<= {TEXT_MS}"),
        (f"verify, cpu s of {WHOLE:,} MB, in proportion", found["verify_s_of_2400_mb"], ""),
    ]
    if runs:
        told = f"{runs['runs_factor']} / {runs['runs_factor_with_index']}"
        rows.insert(3, ("the given runs shrink by, with the index", told, f">= {RUNS_FACTOR}"))
    table("archive", ("", "measured", "bar"), rows)
    keep("archive", {**wrote, **found, **runs}, "zstandard")
    met = (
        max(found["task_first_ms"], found["task_worst_ms"]) <= TASK_MS
        and found["costs_ms"] <= COSTS_MS
        and found["text_ms_of_2400_mb"] <= TEXT_MS
        and wrote["factor"] >= FACTOR
        and runs.get("runs_factor", RUNS_FACTOR) >= RUNS_FACTOR
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
