"""Ctrl-C at any instant leaves nothing held that another thread, or another process, would wait for."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("interrupt_script.py")


def test_an_interrupt_at_any_instant_of_a_transaction_leaves_no_lock_held(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path / "state.db"), "4"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()
    interrupts, *left = told.split(";")
    assert int(interrupts) > 200
    assert left == []
