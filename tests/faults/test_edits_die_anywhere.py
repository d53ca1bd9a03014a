"""Whatever becomes of a process in the middle of an edit: files agree, what was committed stays, the next one goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DONE, LOST, KILLED = 0, 3, -9
AFTER = ("edit.committed", "edit.moving", "edit.moved", "edit.synced", "edit.put_away", "edit.applied")
BEFORE = ("lease.taken", "edit.block", "edit.copied", "edit.prepared", "edit.locked", "edit.checked")
LOCKED = ("edit.locked", "edit.checked", *AFTER)


def trials(sort: str) -> list[dict[str, Any]]:
    program = Path(__file__).with_name("edit_trials.py")
    run = subprocess.run([sys.executable, str(program), sort], capture_output=True, text=True, check=True, timeout=600)
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_a_kill_at_every_place_leaves_all_old_or_all_new_and_the_next_one_goes_on() -> None:
    found = trials("kills")
    assert {trial["place"] for trial in found} == {*BEFORE, *AFTER, ""}, "every place was tried"
    for trial in found:
        landed = trial["place"] not in BEFORE
        assert trial["status"] == (DONE if trial["place"] == "" else KILLED), trial
        assert trial["seen"] == {
            "status": DONE,
            "agree": True,
            "count": 2 if landed else 1,
            "owners": ["first", "victim"] if landed else ["first"],
            "left": [],
        }, trial
        assert landed or trial["raw"] == 1, "before the commit not even a plain reader sees anything"
        assert (trial["follow"], trial["after"]["agree"]) == (DONE, True), trial
        assert trial["after"]["owners"] == [*trial["seen"]["owners"], "next"], trial


def test_a_process_stopped_past_its_lease_neither_commits_nor_damages() -> None:
    found = trials("stops")
    assert {trial["place"] for trial in found} == {*BEFORE, *AFTER, ""}, "every place was tried"
    for trial in found:
        landed = trial["place"] not in BEFORE
        if not trial["place"]:
            assert trial["status"] == DONE, trial
        elif trial["place"] in LOCKED:
            assert trial["status"] == KILLED, trial
        else:  # its beat may have stood in the state's own turnstile: then it was killed too
            assert trial["status"] in (LOST, KILLED), trial
        assert trial["follow"] == DONE, trial
        owners = ["first", "zombie", "next"] if landed else ["first", "next"]
        assert trial["seen"] == {"status": DONE, "agree": True, "count": len(owners), "owners": owners, "left": []}, (
            trial
        )


@pytest.mark.slow
def test_killing_whoever_finishes_the_work_of_the_killed_changes_nothing() -> None:
    found = trials("chains")
    assert sum(trial["second"] == KILLED for trial in found) >= 50
    for trial in found:
        landed = trial["place"] not in BEFORE
        owners = ["first", "victim"] if landed else ["first"]
        assert trial["seen"] == {"status": DONE, "agree": True, "count": len(owners), "owners": owners, "left": []}, (
            trial
        )
