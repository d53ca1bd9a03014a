"""What benches share: versions and the machine in every result, medians, a table on the screen, JSON in bench/results/."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
WIDE = 120  # columns, where nobody says how many there are


def machine(*packages: str) -> dict[str, object]:
    """Where and with what it was measured; a shared, loaded machine says so by its load."""
    versions = {name: importlib.metadata.version(name) for name in ("longwatch", "apsw", *packages)}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "load_1m": os.getloadavg()[0],
        "sqlite": apsw.sqlite_lib_version(),
        "versions": versions,
    }


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    made = Table(*columns, title=title, title_justify="left")
    for row in rows:
        made.add_row(*map(str, row))
    screen = Console()
    (screen if screen.is_terminal else Console(width=WIDE)).print(made)


def keep(name: str, result: Mapping[str, object], *packages: str, folder: Path = RESULTS) -> Path:
    """Write NAME.json into bench/results, or another folder."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(*packages), **result}, indent=2) + "\n", "utf-8")
    return path
