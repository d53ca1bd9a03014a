"""What the archive's tests share: a clock, entries, files that somebody damages."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from longwatch.store.archive import Archive, Entry, Folder, Segment

START_MS = 1_780_272_000_000  # 1 June 2026, 00:00 UTC


class Clock:
    """Stands still, and tells somebody of every mark."""

    def __init__(self, reached: Callable[[str], None] = lambda mark: None) -> None:
        self.now_ms, self._reached = START_MS, reached

    def reach(self, mark: str) -> None:
        self._reached(mark)

    def wall_ms(self) -> int:
        return self.now_ms

    def steady_ms(self) -> int:
        return self.now_ms

    def boot_id(self) -> str:
        return "boot"


def opened(folder: Path) -> Archive:
    return Archive(Folder(folder), Clock())


def made(number: int, *, seed: int = 1, text: str = "", agents: int = 3) -> list[Entry]:
    """Calls, each of a task of five, an hour apart; words by chance, so that frames differ."""
    dice = random.Random(seed)
    entries: list[Entry] = []
    for n in range(number):
        body = {
            "n": n,
            "text": text or " ".join(dice.choices(("alpha", "beta", "gamma", "delta"), k=12)),
            "key": dice.random(),
        }
        entries.append(
            Entry(
                "call",
                f"call_{seed}_{n}",
                START_MS + n * 3_600_000,
                f"agent-{n % agents}",
                f"task_{seed}_{n // 5}",
                json.dumps(body).encode(),
                cost_micros=1000 + n,
                currency="GBP",
                error=n % 10 == 0,
            )
        )
    return entries


def file_of(archive: Archive, segment: Segment) -> Path:
    assert isinstance(archive.place, Folder)
    return archive.place.path / "segments" / segment.name


def manifest_of(archive: Archive) -> Path:
    assert isinstance(archive.place, Folder)
    return archive.place.path / "manifest.jsonl"


def flip(path: Path, at: int) -> None:
    """One bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)
