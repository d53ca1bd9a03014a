"""A power cut leaves the files of an edit all old or all new, and takes no edit that was acknowledged."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import test_power_cut as power

PROGRAM = Path(__file__).with_name("edit_trials.py")
WRITERS = 3
disk = power.disk


def cut_and_look(disk: power.Disk, *how: str, cuts: int, seed: int) -> tuple[int, list[str]]:
    """(How many edits were acknowledged over all cuts, what was found wrong after one of them.)"""
    chance, acknowledged, wrong = random.Random(seed), set[str](), list[str]()
    root = disk.folder / "root"
    root.mkdir()
    for cut in range(cuts):
        command = [sys.executable, str(PROGRAM), "write", str(root)]
        writers = [
            subprocess.Popen([*command, f"w{cut}-{place}", *how], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for place in range(WRITERS)
        ]
        try:
            lines = power.listen(writers, seconds=chance.uniform(0, 0.5), then=disk)
        finally:
            power.end(writers)
        acknowledged |= {line.strip() for line in lines}
        disk.unmount()
        disk.mount()
        found = subprocess.run(
            [sys.executable, str(PROGRAM), "audit", str(root)], capture_output=True, text=True, check=False
        )
        if found.returncode:
            return len(acknowledged), [*wrong, f"cut {cut}: {found.stderr[-300:]}"]
        seen = json.loads(found.stdout)
        ledger = {f"{n} {owner}" for n, owner in enumerate(seen["owners"], start=1)}
        wrong += [f"cut {cut}: the files do not agree"] * (not seen["agree"])
        wrong += [f"cut {cut}: {line} was lost" for line in sorted(acknowledged - ledger)]
        if wrong:
            break
    return len(acknowledged), wrong


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_power_cut_tears_or_takes_an_edit(disk: power.Disk, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    acknowledged, wrong = cut_and_look(disk, cuts=25, seed=seed)
    with capsys.disabled():
        sys.stdout.write(
            f"\n25 power cuts, {WRITERS} writers, seed {seed}: {acknowledged} edits acknowledged, wrong: {wrong}\n"
        )
    assert wrong == [], f"seed {seed}"
    assert acknowledged >= 25 * WRITERS, f"seed {seed}: too few to prove anything"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_the_syncs_a_power_cut_does_harm(disk: power.Disk, capsys: pytest.CaptureFixture[str]) -> None:
    """The control: the test above can fail."""
    acknowledged, wrong = cut_and_look(disk, "unsynced", cuts=10, seed=1)
    with capsys.disabled():
        sys.stdout.write(
            f"\nat most 10 power cuts without the syncs: {acknowledged} acknowledged, wrong: {wrong[:3]}\n"
        )
    assert wrong
