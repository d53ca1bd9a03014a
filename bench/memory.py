"""Memory as it grows: what a brief, a recall, a record and a compaction cost at 1,000 and at 1,000,000 tasks.

    python -m bench memory [TASKS ...]

Every task leaves a result, every fifth a decision or a fact, every five hundredth a lesson, every three hundredth a
commitment, of which most are closed. Beside the brief stands what loading the whole log would cost. At the end all that may
leaves for the archive, and the questions are asked again, of what is hot and of all of it.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import longwatch
from bench.harness import keep, table
from longwatch.policy.retention import Close
from longwatch.runtime import recollect
from longwatch.runtime.compaction import Compaction

SIZES = (1_000, 100_000)
FLAT = 1.5
ASKED = 200  # briefs and recalls of each kind
WINDOW, PRICE = 1_000_000, 4.0  # tokens of a large model's context, and dollars per million of them
SYLLABLES = [consonant + vowel for consonant in "bcdfghklmnpr" for vowel in "aeio"]


def words(number: int) -> list[str]:
    """Made ones, the first used most, as in any language."""
    dice = random.Random(1)
    return ["".join(dice.choices(SYLLABLES, k=dice.choice((2, 3, 3, 4)))) for _ in range(number)]


class Log:
    """What an agent with so many tasks has done."""

    def __init__(self, tasks: int) -> None:
        self.tasks, self.dice = tasks, random.Random(7)
        self.words = words(20_000)
        self.weights: list[float] = []
        total = 0.0
        for place in range(len(self.words)):
            total += 1 / (place + 1)
            self.weights.append(total)

    def said(self, number: int) -> str:
        return " ".join(self.dice.choices(self.words, cum_weights=self.weights, k=number))

    def records(self) -> Iterator[dict[str, Any]]:
        for n in range(self.tasks):
            task = f"task_{n:07}"
            yield {"kind": "result", "text": f"invoice(customer c{n % 977}) done: {self.said(14)}", "task": task}
            if n % 5 == 0:
                yield {"kind": ("decision", "fact")[n % 2], "text": f"order {n}: {self.said(10)}", "task": task}
            if n % 500 == 0:
                yield {"kind": "lesson", "text": self.said(10)}
            if n % 300 == 0:
                yield {"kind": "commitment", "text": f"promise {n}: {self.said(8)}", "key": f"promise {n}"}


def quantiles(ask: Callable[[], object], times: int) -> dict[str, float]:
    """Milliseconds: half, 99 of a hundred, and of the processor."""
    took: list[float] = []
    began = time.process_time()
    for _ in range(times):
        start = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - start))
    cpu = 1000 * (time.process_time() - began) / times
    took.sort()
    return {
        "p50": round(took[times // 2], 2),
        "p99": round(took[min(times - 1, times * 99 // 100)], 2),
        "cpu": round(cpu, 2),
    }


def measure(tasks: int, folder: Path) -> dict[str, Any]:
    place = folder / f"memory-{tasks}" / "state.db"
    with longwatch.open(place, config={"archive": {"to": place.parent / "archive"}}) as lw:
        memories, memory, log = lw.opened.parts.memories, lw.memory("seo"), Log(tasks)
        memory.charter("Grow the shop, honestly, and never pay for links.")
        began = time.perf_counter()
        records = memory.record_many(log.records())
        took = time.perf_counter() - began
        for n in range(0, tasks, 300):
            if n % 900:
                found = memories.store.by_key("seo", f"promise {n}")
                assert found is not None
                memory.close(found.id, "kept")
        compaction = Compaction(memories)
        pace = quantiles(lambda: compaction.step(agent="seo", most=1), max(1, min(20, tasks // 1000)))
        memory.compact()
        brief = memory.brief(6000)
        briefs = quantiles(lambda: memory.brief(6000), ASKED)
        memory.recall("warm up")
        questions = [log.said(6) for _ in range(ASKED)]
        asked = iter(questions * 2)
        recalls = quantiles(lambda: memory.recall(next(asked)), ASKED)
        rare = iter([f"order {log.dice.randrange(0, tasks, 5)}" for _ in range(ASKED)])
        lookups = quantiles(lambda: memory.recall(next(rare)), ASKED)
        letters = sum(len(record["text"]) for record in Log(tasks).records())
        left_out = sum(brief.left_out.values())
        archives = lw.opened.parts.archives
        assert archives is not None
        began = time.perf_counter()
        entries = archives.round(Close(0)).entries
        archived_s = time.perf_counter() - began
        recollect.recollection_of(memories).forget()
        hot = quantiles(lambda: memory.recall(next(asked)), ASKED)
        asked = iter(questions)
        whole = quantiles(lambda: memory.recall(next(asked), archive=True), ASKED)
        rare = iter([f"order {log.dice.randrange(0, tasks, 5)}" for _ in range(ASKED)])
        found_rare = quantiles(lambda: memory.recall(next(rare), archive=True), ASKED)
        segments = sum(segment.bytes for segment in archives.segments())
        index = sum(path.stat().st_size for path in archives.archive.place.index.parent.glob("index.db*"))
    size = sum(path.stat().st_size for path in place.parent.glob("state.db.memory*"))
    tokens = letters // 3
    return {
        "tasks": tasks,
        "records": records,
        "record_per_s": round(records / took),
        "compact_1000_ms": pace,
        "brief_ms": briefs,
        "brief_tokens": brief.tokens,
        "left_out": left_out,
        "recall_ms": recalls,
        "recall_rare_ms": lookups,
        "megabytes": round(size / 1e6, 1),
        "archived": entries,
        "archived_per_s": round(entries / archived_s),
        "recall_hot_ms": hot,
        "recall_whole_ms": whole,
        "recall_rare_whole_ms": found_rare,
        "segments_megabytes": round(segments / 1e6, 2),
        "index_megabytes": round(index / 1e6, 2),
        "whole_log_tokens": tokens,
        "whole_log_usd": round(tokens * PRICE / 1e6, 2),
        "whole_log_windows": round(tokens / WINDOW, 2),
    }


ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("records", lambda found: f"{found['records']:,}"),
    ("records written per second, in batches", lambda found: f"{found['record_per_s']:,}"),
    ("compaction of 1,000 tasks, ms p50 / p99 / cpu", lambda found: told(found["compact_1000_ms"])),
    ("brief of 6,000 tokens, ms p50 / p99 / cpu", lambda found: told(found["brief_ms"])),
    ("recall of six words, ms p50 / p99 / cpu", lambda found: told(found["recall_ms"])),
    ("recall of one order, ms p50 / p99 / cpu", lambda found: told(found["recall_rare_ms"])),
    ("memory's files, MB", lambda found: f"{found['megabytes']:,}"),
    (
        "records that leave for the archive; per second",
        lambda found: f"{found['archived']:,}; {found['archived_per_s']:,}",
    ),
    ("  then recall of six words of what is hot", lambda found: told(found["recall_hot_ms"])),
    ("  and of all, ms p50 / p99 / cpu", lambda found: told(found["recall_whole_ms"])),
    ("  of one order, of all, ms p50 / p99 / cpu", lambda found: told(found["recall_rare_whole_ms"])),
    ("  segments, side index, MB", lambda found: f"{found['segments_megabytes']} / {found['index_megabytes']}"),
    ("tokens of the brief, at most", lambda found: f"{found['brief_tokens']:,}"),
    ("tokens of the whole log, about", lambda found: f"{found['whole_log_tokens']:,}"),
    ("  at 4 USD a million, each time", lambda found: f"{found['whole_log_usd']:,} USD"),
    ("  context windows of a million", lambda found: f"{found['whole_log_windows']:,}"),
)


def told(found: dict[str, float]) -> str:
    return f"{found['p50']} / {found['p99']} / {found['cpu']}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="*", type=int, default=list(SIZES), help="how many; several show the growth")
    given = parser.parse_args(arguments)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="longwatch-bench-") as folder:
        for tasks in given.tasks:
            print(f"measuring {tasks:,} tasks", file=sys.stderr, flush=True)
            found.append(measure(tasks, Path(folder)))
    growth = round(found[-1]["brief_ms"]["cpu"] / max(found[0]["brief_ms"]["cpu"], 0.01), 2)
    columns = ("", *(f"{each['tasks']:,} tasks" for each in found))
    table("memory", columns, [(name, *(value(each) for each in found)) for name, value in ROWS])
    print(f"a brief of the last takes {growth} times the processor time of one of the first; the bar is {FLAT}")
    keep("memory", {"sizes": found, "growth": growth})
    return 0 if growth <= FLAT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
