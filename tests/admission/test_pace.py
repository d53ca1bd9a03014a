"""Fifteen real processes share one rate: their calls, as they left, would all have been taken by the provider's bucket.

Judged by when the calls left and not by when a server read them: on a loaded machine a server that is kept waiting reads
at one instant what arrived over half a second, and would refuse what it should not.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from longwatch.sandbox.quota import Bucket, Need, Rate, admit

HERE = Path(__file__).parent
PROCESSES, CALLS = 15, 14


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(("amount", "burst"), [(25, 5), (50, 5), (50, 50)])
def test_no_call_of_fifteen_processes_would_be_refused(tmp_path: Path, amount: int, burst: int) -> None:
    command = [
        sys.executable,
        str(HERE / "pace_worker.py"),
        str(tmp_path / "s.db"),
        str(amount),
        str(burst),
        str(CALLS),
    ]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    left = sorted(int(word) for worker in workers for word in worker.communicate(timeout=100)[0].split())
    assert len(left) == PROCESSES * CALLS
    bucket = Bucket(Rate(amount, 1_000, burst), left[0] * 1000)
    refused = [at_us for at_us in left if admit([Need("requests", bucket, 1)], at_us * 1000) is not None]
    assert refused == []
