"""The promises hold over simulated agent-days with faults, by seed; and one seed is one history."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from longwatch.testing.faults import KINDS, chosen, swarm
from longwatch.testing.simulation import Result, simulate

# Rare places that a suite must have reached, or it proves nothing about them.
RARE = (
    "call.in_line",
    "call.late",
    "call.released by release",
    "call.unknown by bury_leaving",
    "call.unknown by expire",
    "call.unknown by lose",
    "edit.abandoning",
    "edit.rolling_forward",
    "edit.sweeping",
    "lease.expired",
    "lease.overtaken",
    "once.begun",
    "process.killed",
    "store.claim_found_again",
    "store.commit_found_again",
    "store.end_found_again",
    "store.overtaken",
    "task.cancelled by cancel",
    "task.cancelled by need_failed_cancel",
    "task.done by resolve_done",
    "task.failed by crash_out",
    "task.failed by need_failed_fail",
    "task.failed by resolve_failed",
    "task.ready by expire",
    "task.scheduled by crash",
    "task.scheduled by retry",
    "task.scheduled by retry_later",
    "task.unknown by lose",
)


def sound(result: Result) -> Result:
    assert result.broken is None, result.broken["message"]
    return result


@pytest.fixture(scope="module")
def storms() -> list[Result]:
    """Two storms: every kind of fault, often."""
    return [simulate(days=1, agents=4, seed=seed, faults="storm") for seed in (1, 2)]


def test_without_faults_every_task_ends_as_its_handler_meant() -> None:
    result = sound(simulate(days=1, agents=3, seed=5, faults="none"))
    assert result.faults == {}
    assert set(result.tasks) <= {"done", "failed", "cancelled"}
    assert result.marks["task.done by finish"] == result.tasks["done"]


def test_an_agent_day_is_a_day_of_work() -> None:
    result = sound(simulate(days=1, agents=2, seed=7, faults="none"))
    assert sum(result.tasks.values()) >= 2 * 48, result.tasks
    assert result.calls >= 2 * 200, result.calls
    assert result.edits >= 2 * 48, result.edits


def test_no_promise_breaks_in_a_storm(storms: list[Result]) -> None:
    for result in storms:
        sound(result)
        assert sum(result.faults.values()) > 100, result.faults


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_no_promise_breaks_in_a_swarm(seed: int) -> None:
    sound(simulate(days=1, agents=3, seed=seed, faults="swarm"))


def test_one_seed_is_one_history(storms: list[Result]) -> None:
    again = simulate(days=1, agents=4, seed=1, faults="storm")
    assert (again.trace, again.marks) == (storms[0].trace, storms[0].marks), "seed 1"
    assert again.trace != storms[1].trace


def test_one_seed_is_one_history_in_every_process(storms: list[Result]) -> None:
    program = "from longwatch.testing.simulation import simulate as s; print(s(1, 4, seed=1, faults='storm').trace)"
    environ = os.environ | {"PYTHONHASHSEED": "4711"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == storms[0].trace


def test_each_seed_turns_half_of_the_faults_off() -> None:
    assert all(len(swarm(seed)) == len(KINDS) // 2 for seed in range(20))
    assert {kind for seed in range(20) for kind in swarm(seed)} == set(KINDS)


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="earthquake"):
        chosen(["earthquake"], 1)


def test_a_result_is_json(storms: list[Result]) -> None:
    told = json.loads(json.dumps(storms[0].to_dict()))
    assert told["seed"] == 1
    assert told["broken"] is None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_suite_reaches_every_rare_place() -> None:
    reached: Counter[str] = Counter()
    for seed in range(1, 7):
        reached.update(sound(simulate(days=2, agents=4, seed=seed, faults="storm")).marks)
    missed = [mark for mark in RARE if not reached[mark]]
    assert not missed, f"never reached: {missed}"
