"""The bench of limits in small: every scenario with a few processes, what its figures are made from, and its interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench._limits_outage import back_s
from bench._limits_pace import by_leaving, spread
from bench._limits_rivals import RIVALS, Place
from longwatch.sandbox.tally import Event

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
SMALL = (
    "--processes=3 --repeats=1 --calls=24 --long-calls=72 --half-calls=72 --tasks=30 --outage-s=1 --waiting=30 --urgent-s=4"
    " --admits=3 --rounds=2"
)


def bench(folder: Path, scenarios: str, only: str, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench", "limits", "--scenarios", scenarios, "--only", only]
    return subprocess.Popen(
        [*command, "--results", str(folder), *SMALL.split(), *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def figures(folder: Path, scenario: str) -> dict[str, Any]:
    return json.loads((folder / f"limits_{scenario}.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nobody_is_refused_under_longwatch_and_a_strict_burst_refuses_who_only_spaces(tmp_path: Path) -> None:
    running = bench(tmp_path, "share,strict,long,half", "spacing,Longwatch", "--processes=8", "--calls=48")
    said, _ = running.communicate(timeout=280)
    assert running.returncode in (0, 1), said
    for scenario in ("share", "strict", "long", "half"):
        rounds = figures(tmp_path, scenario)["rounds"]
        ours = [one for name, (one,) in rounds.items() if RIVALS[name].ours]
        assert len(ours) == 3, said
        for one in ours:
            assert one["by_leaving"] == 0, said  # by arrival, a machine that stands still would refuse
            assert one["total_s"] > 0, said
    (spaced,) = figures(tmp_path, "strict")["rounds"]["spacing"]
    assert spaced["refused"] + spaced["by_leaving"] > 0, "the bench can find harm"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_outage_urgent_calls_heavy_weights_and_killed_processes_are_measured(tmp_path: Path) -> None:
    running = bench(tmp_path, "outage,urgent,heavy,killed", "Longwatch SQLite")
    said, _ = running.communicate(timeout=280)
    assert running.returncode in (0, 1), said
    outage = {row["rival"]: row for row in figures(tmp_path, "outage")["rows"]}
    assert set(outage) == {"SDK defaults", "per-process backoff", "Longwatch SQLite"}
    assert all(row["wasted"] > 0 for row in outage.values()), said
    assert outage["per-process backoff"]["failed"] == {}, said
    (urgent,) = figures(tmp_path, "urgent")["rows"]
    assert urgent["urgent"] > 0, said
    assert urgent["alone_per_s"] > 0, said
    (heavy,) = figures(tmp_path, "heavy")["rows"]
    assert heavy["heavy_ms"] > 0, said
    killed = figures(tmp_path, "killed")
    assert all(killed["bars"].values()), said
    rounds = killed["rounds"]["Longwatch SQLite"]
    assert sum(one["killed"] for one in rounds) >= 2, said
    assert sum(one["unknown"] for one in rounds) > 0, said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupted_bench_leaves_no_process_behind(tmp_path: Path) -> None:
    running = bench(tmp_path, "share", "Longwatch Redis", "--calls=100000")
    family = psutil.Process(running.pid)
    until = time.monotonic() + PATIENCE_S
    while len(started := family.children(recursive=True)) < 7:  # sandbox, Redis, two of multiprocessing, three workers
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < until, f"there were only {started}"
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does it
    said, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130, said
    _, alive = psutil.wait_procs(started, timeout=PATIENCE_S)
    assert alive == [], said


def test_last_to_first_is_told_of_those_with_equal_shares() -> None:
    assert spread([10, 2, 2], [100.0, 4.0, 5.0]) == 1.25
    assert spread([10, 2], [100.0, 4.0]) == 1.0


def test_a_bucket_that_saw_the_calls_leave_refuses_what_is_above_the_burst_and_the_rate() -> None:
    place = Place("", "", "", rate=10, burst=2)
    at_ms = [0, 0, 0, 100, 100, 1_000, 1_000]
    assert by_leaving([ms * 1_000_000 for ms in reversed(at_ms)], place) == 2


def test_the_fleet_is_back_once_a_second_holds_nine_tenths_of_the_speed_before() -> None:
    before = list(range(0, 1_000, 100))
    slow = [4_000, 4_400, 4_800]
    after = list(range(5_000, 7_000, 100))
    events = [Event(0, at_ms, "anthropic", 200, 0) for at_ms in before + slow + after]
    assert back_s(events, fell_ms=1_000, over_ms=3_500) == 1.3
    assert back_s(events[:13], fell_ms=1_000, over_ms=3_500) is None
