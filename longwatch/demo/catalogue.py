"""The catalogue that all agents write: several files that must agree, and how to tell whether they do.

    index.json     what is known of each module, how many there are, the sum booked
    ledger.jsonl   one line per booking: a running number, the amount, the running sum
    letters/a.md   a page for each letter

Both programs of the demo change it by `book`; they differ in what stands behind `Files`.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

INDEX, LEDGER = "index.json", "ledger.jsonl"


@dataclass(frozen=True)
class Entry:
    """What a task knows of its module when it comes to the catalogue."""

    module: str
    letter: str
    summary: str
    review: str | None
    payment: str
    issue: int | None
    pence: int
    agent: str
    pid: int

    @property
    def page(self) -> str:
        return f"letters/{self.letter}.md"


class Files(Protocol):
    """Reading and writing the catalogue, by names relative to it."""

    def read(self, name: str) -> str: ...
    def write(self, name: str, text: str) -> None: ...
    def append(self, name: str, text: str) -> None: ...


def book(files: Files, entry: Entry, halfway: Callable[[], None]) -> int:
    """Enter the module in all three files; its running number. halfway: called when the first file is written."""
    index: dict[str, Any] = json.loads(files.read(INDEX) or '{"count": 0, "pence": 0, "modules": {}}')
    number, total = index["count"] + 1, index["pence"] + entry.pence
    known = {"number": number, "page": entry.page, "payment": entry.payment, "issue": entry.issue}
    modules = {**index["modules"], entry.module: known}
    files.write(INDEX, json.dumps({"count": number, "pence": total, "modules": modules}, indent=1) + "\n")
    halfway()
    line = {"n": number, "module": entry.module, "pence": entry.pence, "sum": total, "payment": entry.payment}
    files.append(LEDGER, json.dumps({**line, "agent": entry.agent, "pid": entry.pid}) + "\n")
    files.write(entry.page, files.read(entry.page) + _paragraph(entry))
    return int(number)


def _paragraph(entry: Entry) -> str:
    review = f" Second opinion: {entry.review}" if entry.review else ""
    return f"## {entry.module}\n\n{entry.summary}{review}\n\n"


# -- the audit -----------------------------------------------------------------------------------------------------------


def read_all(folder: Path) -> dict[str, str]:
    """The catalogue as it lies there, file by file."""
    names = [INDEX, LEDGER, *(f"letters/{page.name}" for page in sorted(folder.glob("letters/*.md")))]
    return {name: (folder / name).read_text("utf-8", "replace") for name in names if (folder / name).exists()}


def lines_of(ledger: str) -> list[dict[str, Any]]:
    """Its lines, as far as they can be read."""
    found: list[dict[str, Any]] = []
    for line in ledger.splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def flaws(texts: Mapping[str, str]) -> list[str]:
    """Everything in which the files do not agree, as sentences; none for a sound catalogue. Missing files are empty."""
    try:
        index = cast("dict[str, Any]", json.loads(texts.get(INDEX) or '{"count": 0, "pence": 0, "modules": {}}'))
        lines = [cast("dict[str, Any]", json.loads(line)) for line in texts.get(LEDGER, "").splitlines()]
        return _counted(index, lines) + _listed(index, lines, texts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"a file cannot be read: {error}"]


def _counted(index: Mapping[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    found: list[str] = []
    if index["count"] != len(lines) or index["count"] != len(index["modules"]):
        found.append(
            f"index.json counts {index['count']} of {len(index['modules'])}, ledger.jsonl has {len(lines)} lines"
        )
    skips = sum(line["n"] != place for place, line in enumerate(lines, 1))
    if skips:
        found.append(f"{skips} lines of ledger.jsonl are out of number")
    total, slips = 0, 0
    for line in lines:
        total += line["pence"]
        slips += line["sum"] != total
    if slips:
        found.append(f"{slips} running sums of ledger.jsonl are wrong")
    if index["pence"] != total:
        found.append(f"index.json sums to {index['pence']} pence, ledger.jsonl to {total}")
    return found


def _listed(index: Mapping[str, Any], lines: list[dict[str, Any]], texts: Mapping[str, str]) -> list[str]:
    """Each module of the index once in the ledger and once on its page, with the same particulars."""
    modules: dict[str, Any] = index["modules"]
    booked = Counter((line["module"], line["n"], line["payment"]) for line in lines)
    wanted = {(module, known["number"], known["payment"]) for module, known in modules.items()}
    paged = Counter(
        (heading.removeprefix("## "), name)
        for name, text in texts.items()
        if name.startswith("letters/")
        for heading in text.splitlines()
        if heading.startswith("## ")
    )
    pages = {(module, known["page"]) for module, known in modules.items()}
    return [*_differences("ledger.jsonl", wanted, booked), *_differences("the letters' pages", pages, paged)]


def _differences(name: str, wanted: set[Any], found: Mapping[Any, int]) -> list[str]:
    missing, extra = len(wanted - set(found)), len(set(found) - wanted)
    repeated = sum(count > 1 for count in found.values())
    told = [f"{name} lacks {missing} entries of index.json and has {extra} others"] if missing or extra else []
    return [*told, *([f"{repeated} entries are more than once in {name}"] if repeated else [])]
