"""Two ways to keep three files that must agree: a.json, b.json and a ledger of 1..n."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import longwatch
from longwatch.errors import LongwatchError

LEASE_S = 1.0
FILES = ("a.json", "b.json", "ledger.txt")
Files = dict[str, bytes | None]
Inside = Callable[[bool], None]
"""Told when a writer has the right to write, and when it has given it back."""


class Way(Protocol):
    """step: count on by one as `name`; the number reached, or None when it was refused. look: the files, for readers."""

    def step(self, name: str, inside: Inside) -> int | None: ...
    def look(self) -> Files: ...


class Edited:
    """Through Longwatch."""

    def __init__(self, folder: Path) -> None:
        config: Any = {"fleet": {"root": str(folder)}}
        self._lw = longwatch.open(str(folder / ".longwatch" / "longwatch.db"), config=config)

    def step(self, name: str, inside: Inside) -> int | None:
        try:
            with self._lw.edit(*FILES, agent=name, ttl=LEASE_S, wait="30s") as edit:
                inside(True)
                n: int = edit.read_json("a.json", default={"n": 0})["n"] + 1
                edit.write_json("a.json", books(n))
                think()
                edit.append("ledger.txt", f"{n} {name}\n")
                think()
                edit.write_json("b.json", books(n))
        except LongwatchError:
            return None
        finally:
            inside(False)
        return n

    def look(self) -> Files:
        return dict(self._lw.read(*FILES).files)


class HomeMade:
    """The recipe: look whether there is a lockfile, override it when it is old, write in place, remove it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, folder / "lock"

    def step(self, name: str, inside: Inside) -> int | None:
        while self._is_locked():
            time.sleep(0.003)
        self._lock.write_text(name)
        inside(True)
        try:
            return self._write(name)
        except (OSError, ValueError, KeyError):
            return None
        finally:
            self._lock.unlink(missing_ok=True)
            inside(False)

    def _is_locked(self) -> bool:
        try:
            return time.time() - self._lock.stat().st_mtime < LEASE_S
        except FileNotFoundError:
            return False

    def _write(self, name: str) -> int:
        a, b, ledger = (self._folder / file for file in FILES)
        n: int = (json.loads(a.read_text())["n"] if a.exists() else 0) + 1
        a.write_text(json.dumps(books(n)))
        think()
        with open(ledger, "a") as file:
            file.write(f"{n} {name}\n")
        think()
        b.write_text(json.dumps(books(n)))
        return n

    def look(self) -> Files:
        return {name: (self._folder / name).read_bytes() if (self._folder / name).exists() else None for name in FILES}


WAYS: dict[str, Callable[[Path], Way]] = {"longwatch": Edited, "home-made": HomeMade}


def books(n: int) -> dict[str, int]:
    return {"n": n, "sum": n * (n + 1) // 2}


def think() -> None:
    time.sleep(random.uniform(0.001, 0.005))


def agree(files: Files) -> bool:
    """Whether a and b say the same and the ledger is 1..n."""
    if all(data is None for data in files.values()):
        return True
    try:
        a, b = (json.loads(files[name] or b"") for name in FILES[:2])
        numbers = [int(line.split()[0]) for line in (files["ledger.txt"] or b"").decode().splitlines()]
    except (ValueError, IndexError):
        return False
    return bool(a == b == books(len(numbers)) and numbers == list(range(1, len(numbers) + 1)))
