"""Real processes that race for one cap, and one that is killed with money in its hands."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from race_worker import CAP, LIMITS, MOST, open_limiter, request

from longwatch.admission.calls import HOLD_MS, Admitted
from longwatch.errors import BudgetExceeded
from longwatch.runtime.world import Machine
from longwatch.testing.postgres import shared

HERE = Path(__file__).parent
PROCESSES = 15


class LaterOn(Machine):
    """The same machine, when every hold of now has run out."""

    def steady_ms(self) -> int:
        return super().steady_ms() + HOLD_MS + 1

    def wall_ms(self) -> int:
        return super().wall_ms() + HOLD_MS + 1


def start(script: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(HERE / script), *(str(argument) for argument in arguments)]
    return warm.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def answer(process: "subprocess.Popen[str]") -> list[int]:
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    return [int(word) for word in output.split()]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_fifteen_processes_never_hold_and_spend_more_than_the_cap(engine: str, tmp_path: Path) -> None:
    state = shared().new_database() if engine == "postgres" else str(tmp_path / "s.db")
    limiter = open_limiter(state, Machine())
    workers = [start("race_worker.py", state, seed) for seed in range(PROCESSES)]
    for worker in workers:
        ready(worker)
    auditor = start("race_auditor.py", state)
    ready(auditor)
    for worker in workers:
        go(worker)
    made = [answer(worker)[0] for worker in workers]
    most, places = answer(auditor)
    (cap,) = limiter.peek().caps
    limiter.database.close()
    assert most <= CAP
    assert CAP - MOST <= cap.spent <= CAP, "the race ended before the cap was reached"
    assert cap.held == 0
    assert 1 < places <= 10
    assert sum(map(bool, made)) > PROCESSES // 2, "most of them never came to their turn"


def test_money_in_the_hands_of_a_killed_process_is_charged_and_never_lost(tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    program = (
        "import sys; import race_worker as race; from longwatch.runtime.world import Machine\n"
        "world = Machine(); limiter = race.open_limiter(sys.argv[1], world)\n"
        "for _ in range(3): limiter.admit(race.request(world, 'doomed', 1_500_000))\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{HERE}:{os.getcwd()}"},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)

    limiter = open_limiter(path, Machine())
    assert not isinstance(limiter.admit(request(Machine(), "next", 600_000)), Admitted)
    assert limiter.expire() == 0
    limiter.database.close()

    later = open_limiter(path, LaterOn())
    assert later.expire() == 3
    (cap,) = later.peek().caps
    assert (cap.spent, cap.held) == (4_500_000, 0)
    with pytest.raises(BudgetExceeded):
        later.admit(request(Machine(), "next", 600_000))
    assert isinstance(later.admit(request(Machine(), "next", 500_000)), Admitted)
    later.database.close()
    assert LIMITS.budgets["race"].caps["money"][0].amount == CAP
