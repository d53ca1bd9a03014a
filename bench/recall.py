"""How much of what answers a question recall finds, on logs with labelled questions, beside plain SQLite FTS5.

    python -m bench recall [--conversations FILE] [--runs FILE] [--embed MODULE:FUNCTION]

Neither file comes with the project; `bench/_labelled.py` says what they look like. embed: a function from texts to vectors,
with which every question is asked once more. All goes through a memory on disk, as a program would ask it.
"""

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

import longwatch
from bench._labelled import Labelled, Question, conversations, runs
from bench.harness import keep, table
from longwatch.policy.words import STOP, WORD

AT, TOKENS, A_TOKEN = (10, 20), 2_000, 3.2  # ranks; tokens, and characters of English to one
BARS = {"recall@10": 0.83, "with an embedding @10": 0.86, f"in {TOKENS:,} tokens": 0.90}
CPU_MS = 5.0

Find = Callable[[str], Sequence[int]]
"""Numbers of the records that answer a question, best first."""


def share(found: Sequence[int], evidence: frozenset[int]) -> float:
    return len(evidence.intersection(found)) / len(evidence)


def plain(records: Sequence[dict[str, Any]]) -> Find:
    """The floor: any of the words that are no stop words, with who says it, by FTS5's own rank."""
    index = apsw.Connection(":memory:")
    index.execute("create virtual table said using fts5(body, author, tokenize = 'porter unicode61')")
    index.executemany("insert into said values (?, ?)", [(each["text"], each.get("author") or "") for each in records])

    def find(question: str) -> Sequence[int]:
        words = [word for found in WORD.finditer(question) if (word := found[0].lower()) not in STOP]
        match = " OR ".join(f'"{word}"' for word in words)
        rows = (
            index.execute("select rowid from said where said match ? order by rank limit 20", (match,)) if match else ()
        )
        return [int(row[0]) - 1 for row in rows]

    return find


def size(text: str) -> int:
    return -int(-len(text) // A_TOKEN)


def measured(labelled: Labelled, folder: Path, embed: Any) -> Iterator[tuple[Question, dict[str, float]]]:
    """Of each question, what was found by what, and the milliseconds of processor time that asking took."""
    floor = plain(labelled.records)
    with longwatch.open(folder / "state.db") as lw:
        memory = lw.memory("bench")
        memory.record_many(labelled.records)
        memory.recall("warm up")
        for question in labelled.questions:
            began = time.process_time()
            found = [int(hit.ref[1:]) - 1 for hit in memory.recall(question.text, limit=max(AT))]
            took = 1000 * (time.process_time() - began)
            fitting = [int(hit.ref[1:]) - 1 for hit in memory.recall(question.text, tokens=TOKENS, count=size)]
            floored = floor(question.text)
            figures = {"cpu_ms": took, f"in {TOKENS:,} tokens": share(fitting, question.evidence)}
            for most in AT:
                figures[f"recall@{most}"] = share(found[:most], question.evidence)
                figures[f"FTS5 @{most}"] = share(floored[:most], question.evidence)
            if embed is not None:
                meant = [int(hit.ref[1:]) - 1 for hit in memory.recall(question.text, limit=max(AT), embed=embed)]
                figures |= {f"with an embedding @{most}": share(meant[:most], question.evidence) for most in AT}
            yield question, figures


def summed(memories: Iterator[Labelled], folder: Path, embed: Any) -> dict[str, dict[str, float]]:
    """Means by category, and of all; of processor time the median."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number, labelled in enumerate(memories):
        print(f"memory {number + 1}: {len(labelled.records)} records", file=sys.stderr, flush=True)
        for question, figures in measured(labelled, folder / str(number), embed):
            for name in (question.category, "all"):
                found[name].append(figures)
    return {
        name: {"questions": len(each)}
        | {column: round(statistics.fmean(one[column] for one in each), 3) for column in each[0] if column != "cpu_ms"}
        | {"cpu_ms": round(statistics.median(one["cpu_ms"] for one in each), 2)}
        for name, each in sorted(found.items(), key=lambda item: (item[0] == "all", item[0]))
    }


def shown(title: str, found: dict[str, dict[str, float]]) -> None:
    columns = list(found["all"])
    table(
        title,
        ("questions about", *columns),
        [(name, *(each[column] for column in columns)) for name, each in found.items()],
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench recall", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conversations", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--embed", metavar="MODULE:FUNCTION")
    given = parser.parse_args(arguments)
    if given.conversations is None and given.runs is None:
        print("nothing to ask: give --conversations or --runs (they do not come with the project)", file=sys.stderr)
        return 0
    embed = None
    if given.embed:
        module, _, name = given.embed.partition(":")
        embed = getattr(importlib.import_module(module), name)
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="longwatch-bench-") as folder:
        for title, path, read in (("conversations", given.conversations, conversations), ("runs", given.runs, runs)):
            if path is not None:
                results[title] = summed(read(path), Path(folder) / title, embed)
                shown(title, results[title])
    keep("recall", {"bars": BARS | {"cpu_ms": CPU_MS}, **results})
    talked = results.get("conversations", {}).get("all")
    return 0 if talked is None or all(talked.get(name, bar) >= bar for name, bar in BARS.items()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
