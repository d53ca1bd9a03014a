"""Reads logs into memory: file by file, a thousand lines at a time, from where it was left off.

How far a file was read is written down with its records; whoever is killed goes on from there, and whoever imports a log
again that has grown reads what was added. A line that is no JSON, or not of the form, is counted and passed over: a log is
seldom whole.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from longwatch.errors import ConfigError, NotStorable, nearest
from longwatch.policy.memory import KINDS, TRUSTS, plain
from longwatch.policy.transcript import FORMATS, Entry, Format, Place, entries, guess, short
from longwatch.runtime.memory import Memories
from longwatch.store.memory import NewRecord

AT_ONCE = 500  # lines of one transaction
LONGEST_LINE = 64 << 20  # bytes; a longer one is passed over
CUT = "\n[cut off: {0:,} more bytes]"
ENDINGS = (".jsonl", ".json", ".ndjson")


class Imported(NamedTuple):
    """records: added. known: of them that were there already. passed: lines that said nothing that can be remembered."""

    files: int
    records: int
    known: int
    passed: int


class Line(NamedTuple):
    """number: from 1. end: bytes of the file up to behind it. value: None when it is no JSON object."""

    number: int
    end: int
    value: dict[str, Any] | None


@dataclass
class Importer:
    memories: Memories
    agent: str
    who: str
    told: Callable[[str], None] = lambda _: None

    def take(self, path: Path, form: str | None) -> Imported:
        """A file, or every log below a folder. Errors: ConfigError for what is no log, and an unknown form."""
        files = _logs(path)
        named = None if form is None else _form(form)
        total = Imported(0, 0, 0, 0)
        for number, file in enumerate(files, 1):
            self._file = f"file {number} of {len(files)}, {file.name}"
            one = self._take_file(file, path, named)
            total = Imported(*(before + more for before, more in zip(total, one, strict=True)))
        return total

    def _take_file(self, file: Path, top: Path, form: Format | None) -> Imported:
        name = str(file.resolve())
        done = self.memories.store.imported(self.agent, name)
        size = file.stat().st_size
        start, first = (done.done, done.lines) if done is not None and done.done <= size else (0, 0)
        form = form or guess(line.value for line in _lines(file, 0, 0) if line.value is not None)
        stem = file.name if file == top else str(file.relative_to(top))
        added = known = passed = 0
        for block in _blocks(_lines(file, start, first)):
            new, skipped = self._records(block, form, stem)
            fresh = self.memories.store.take_import(
                self.agent, name, new, done=block[-1].end, lines=block[-1].number, who=self.who
            )
            added, known, passed = added + fresh, known + len(new) - fresh, passed + skipped
            part = 100 * block[-1].end // max(size, 1)
            self.told(f"{self._file}: {part} %, {added:,} records")
        return Imported(1, added, known, passed)

    def _records(self, block: Sequence[Line], form: Format, stem: str) -> tuple[list[NewRecord], int]:
        found: list[NewRecord] = []
        passed = 0
        for line in block:
            try:
                told = [] if line.value is None else entries(form, line.value, Place(stem, line.number))
                found += [self._new(each) for each in told]
                passed += not told
            except (ValueError, TypeError, AttributeError, NotStorable, ConfigError):
                passed += 1
        return found, passed

    def _new(self, entry: Entry) -> NewRecord:
        if entry.kind not in KINDS or entry.trust not in TRUSTS:
            raise ValueError(f"{entry.kind} of trust {entry.trust}")
        return NewRecord(
            id=self.memories.world.new_id("rec"),
            kind=entry.kind,
            body=_cut(plain(entry.body), self.memories.payload_max),
            trust=entry.trust,
            source="import",
            at_ms=entry.at_ms,
            thread=entry.thread,
            author=entry.author,
            key=short(f"import/{entry.key}"),
            data=entry.data,
        )


def _form(name: str) -> Format:
    for form in FORMATS:
        if name == form:
            return form
    raise ConfigError(f"there is no format {name!r}{nearest(name, FORMATS)}", hint=f"One of {', '.join(FORMATS)}.")


def _logs(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"there is no log at {path}", hint="Name a file, or a folder with .jsonl files in it.")
    found = sorted(file for file in path.rglob("*") if file.suffix in ENDINGS and file.is_file())
    if not found:
        raise ConfigError(f"no log is below {path}", hint=f"Logs end in {', '.join(ENDINGS)}.")
    return found


def _lines(file: Path, start: int, first: int) -> Iterator[Line]:
    """From the byte on; a last line without an end is left for next time, unless the file is one JSON document."""
    if file.suffix == ".json":
        yield from _document(file, first)
        return
    with file.open("rb") as reading:
        reading.seek(start)
        number, end = first, start
        while line := reading.readline(LONGEST_LINE):
            if not line.endswith(b"\n") and len(line) < LONGEST_LINE and not _parsed(line):
                return
            number, end = number + 1, end + len(line)
            yield Line(number, end, _parsed(line))


def _document(file: Path, first: int) -> Iterator[Line]:
    """One JSON document: a list of lines, or one."""
    text = file.read_bytes()
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    listed: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    for number, each in enumerate(listed[first:], first + 1):
        yield Line(number, len(text), cast("dict[str, Any]", each) if isinstance(each, dict) else None)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line.decode("utf-8", "replace"))  # takes half a surrogate pair, which logs have
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _blocks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    block: list[Line] = []
    for line in lines:
        block.append(line)
        if len(block) >= AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _cut(text: str, most: int) -> str:
    raw = text.encode()
    if len(raw) <= most:
        return text
    kept = raw[: most - 100].decode("utf-8", "ignore")
    return kept + CUT.format(len(raw) - len(kept.encode()))
