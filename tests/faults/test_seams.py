"""Exactly once at the seams: a kill between an edit and the end of its step, or between a charge and its result.

Whichever place the run is killed at, and although the submit script is started again twice: one task, one charge at the
provider (a sandbox with idempotency keys, over HTTP), one line in the ledger file.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from share import share

from longwatch.sandbox import Sandbox, started

PROGRAM = Path(__file__).with_name("seam_trials.py")
FEE = 200_000  # micro-units of GBP


@pytest.fixture(scope="module")
def sandbox() -> Generator[Sandbox]:
    with started() as found:
        yield found


def trials(sort: str, times: int, folder: Path, sandbox: Sandbox) -> list[dict[str, Any]]:
    command = [sys.executable, str(PROGRAM), sort, str(times), str(folder), sandbox.base_urls["stripe"]]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == times
    for trial in found:
        assert (trial["status"], trial["again"]) == (-signal.SIGKILL, [0, 0]), f"{trial} {run.stderr[-2000:]}"
        ((state, _, crashes),) = trial["tasks"]
        assert (state, crashes, trial["checked"]) == ("done", 1, [["ok"]]), trial
        assert [state for _, state in trial["steps"]] == ["stored"], trial
    return found


def check_edits(found: list[dict[str, Any]]) -> None:
    for trial in found:
        assert trial["files"]["ledger.txt"].count("\n") == 1, trial
        assert trial["files"]["count.txt"] == "1", trial


def check_charges(found: list[dict[str, Any]], sandbox: Sandbox) -> None:
    charges = sandbox.effects()["charges"]
    for trial in found:
        made = [charge for charge in charges if charge["metadata"].get("trial") == trial["name"]]
        assert len(made) == 1, trial
        assert len({key for key, _, _ in trial["calls"]}) == 1, "every attempt sends the same key"
        *_, (_, state, money) = trial["calls"]
        assert (state, money) == ("settled", FEE), trial
        counted = sum(money for _, state, money in trial["calls"] if state in ("settled", "unknown"))
        assert counted == FEE, f"what is recorded is what was billed: {trial}"
        assert trial["spent"] == [[counted]], trial


@pytest.mark.timeout(240)
def test_an_edit_is_applied_once_wherever_its_run_is_killed(tmp_path: Path, sandbox: Sandbox) -> None:
    check_edits(trials("edit", 9, tmp_path, sandbox))


@pytest.mark.timeout(240)
def test_a_charge_is_made_once_wherever_its_run_is_killed(tmp_path: Path, sandbox: Sandbox) -> None:
    check_charges(trials("charge", 6, tmp_path, sandbox), sandbox)


@pytest.mark.timeout(240)
def test_a_charge_in_the_last_step_is_made_once_wherever_its_run_is_killed(tmp_path: Path, sandbox: Sandbox) -> None:
    check_charges(trials("last", 5, tmp_path, sandbox), sandbox)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_between_an_edit_and_the_end_of_its_step(tmp_path: Path, sandbox: Sandbox) -> None:
    check_edits(trials("edit", share(100), tmp_path, sandbox))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_between_a_charge_and_its_result(tmp_path: Path, sandbox: Sandbox) -> None:
    check_charges(trials("charge", share(100), tmp_path, sandbox), sandbox)
