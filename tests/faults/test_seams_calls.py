"""Programs that only make calls, killed at any instant and started again: every key is charged what its service billed."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longwatch.sandbox import Rate, started
from longwatch.sandbox.settings import Settings, Stripe

PROGRAM = Path(__file__).with_name("seam_calls.py")
NAMES, EACH, KILLS = ("ann", "bob", "cid"), 25, 12
FEE, HOLD = 200_000, 250_000
ROOM = Rate(25, per_ms=1_000, burst=100)
"""For how late a busy machine may send what was admitted: this is about what is charged, and not about pace."""


def killed_while_it_charges(command: list[str], chance: random.Random) -> None:
    """At any instant of the charge that comes after the first few."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        for _ in range(chance.randint(1, 3)):
            program.stdout.readline()
        time.sleep(chance.uniform(0, 0.02))
        program.kill()


@pytest.mark.timeout(240)
def test_programs_killed_while_they_charge_are_charged_what_was_billed(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance, state = random.Random(seed), str(tmp_path / "s.db")
    with started(Settings(stripe=Stripe(requests=ROOM, endpoint=ROOM))) as sandbox:
        commands = [
            [sys.executable, str(PROGRAM), state, sandbox.base_urls["stripe"], name, str(EACH)] for name in NAMES
        ]
        for number in range(KILLS):
            killed_while_it_charges(commands[number % len(commands)], chance)
        for program in [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]:
            assert program.wait(60) == 0, f"seed {seed}"
        charged = sandbox.effects()["charges"]
    audit = subprocess.run([sys.executable, str(PROGRAM), state, "audit"], capture_output=True, check=True, timeout=60)
    found = json.loads(audit.stdout)
    keys = [f"{name}-{number}" for name in NAMES for number in range(EACH)]
    assert sorted(charge["idempotency_key"] for charge in charged) == sorted(keys), f"seed {seed}: charged once each"
    for key, money in found["keys"].items():
        # What was killed in flight is charged its hold until an actual tells of a cost; an answer of nothing tells of none.
        careful = int(key.rpartition("-")[2]) % 2
        assert money in ((FEE, HOLD) if careful else (FEE,)), f"seed {seed}: {key}"
    assert found["spent"] == [[sum(found["keys"].values())]], f"seed {seed}"
    assert found["open"] == [[0]], f"seed {seed}"
    assert found["repeated"][0][0] > KILLS, f"seed {seed}: no call was made twice"
