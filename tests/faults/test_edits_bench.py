"""The fault bench in small: four writers of shared files, one of them killed, stopped, or stopped in a lock."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOES_ON_MS = 20_000  # the others go on at all; how soon is the bench's to say, on a machine that has nothing else to do


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_corrupt_lost_or_stuck_whoever_is_hit_and_the_home_made_lock_fails(tmp_path: Path) -> None:
    results = tmp_path / "faults.json"
    command = [
        sys.executable,
        "-m",
        "bench.faults",
        "--trials",
        "6",
        "--recipe",
        "3",
        "--jobs",
        "2",
        "--results",
        str(results),
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = {(row["way"], row["fault"]): row for row in json.loads(results.read_text())["rows"]}
    ours = [row for (way, _), row in rows.items() if way == "longwatch"]
    assert {row["fault"] for row in ours} == {"kill", "stop", "stop in lock"}
    for row in ours:
        assert (row["corrupt"], row["lost"], row["stuck"]) == (0, 0, 0), told.stdout
        assert row["torn reads"].startswith("0/"), told.stdout
        assert row["still ms"] <= GOES_ON_MS, told.stdout
    assert rows["home-made", "kill"]["corrupt"] + rows["home-made", "stop"]["corrupt"] >= 3, "the bench can find harm"
