"""Ten agent-years with thousands of faults, and no broken promise: the figures are printed.

With every change a quarter of them, before a release all ten.
"""

import math
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from longwatch.testing.simulation import Result, simulate

WHOLE = os.environ.get("LONGWATCH_SHARE", "100") == "100"
YEARS, DAYS, AGENTS = 10 if WHOLE else 2.5, 27, 4
SEEDS = range(1, math.ceil(YEARS * 365 / (DAYS * AGENTS)) + 1)


def swarm(seed: int) -> Result:
    return simulate(days=DAYS, agents=AGENTS, seed=seed, faults="swarm")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(1_800)  # a quarter of an hour on two cores of its own
def test_agent_years_with_faults_break_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(swarm, SEEDS))
    faults = sum((Counter(result.faults) for result in results), Counter[str]())
    tasks = sum((Counter(result.tasks) for result in results), Counter[str]())
    days = sum(result.days * result.agents for result in results)
    calls, edits = sum(result.calls for result in results), sum(result.edits for result in results)
    figures = {
        "agent_years": round(days / 365, 1),
        "faults": sum(faults.values()),
        "faults_by_kind": dict(faults),
        "tasks": dict(tasks),
        "calls": calls,
        "edits": edits,
        "seconds": round(time.monotonic() - began),
        "load": os.getloadavg()[0],
    }
    with capsys.disabled():
        print(f"\n{figures}")  # noqa: T201
    broken = [result.broken["message"] for result in results if result.broken is not None]
    assert not broken, broken[0]
    assert days >= YEARS * 365
    assert tasks["done"] >= 48 * days, "an agent-day is 48 tasks that were done"
    assert calls >= 200 * days, "an agent-day is 200 calls"
    assert edits >= 48 * days, "an agent-day is 48 edits"
    assert sum(faults.values()) >= 1_000
