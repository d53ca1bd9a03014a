"""Six real processes against an API with a hard limit, none configured: they find it together, or are told of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from longwatch.sandbox import started
from longwatch.sandbox.quota import Rate
from longwatch.sandbox.settings import Anthropic, Settings, Stripe
from longwatch.testing import redis
from longwatch.testing.postgres import shared

HERE = Path(__file__).parent
PROCESSES = 6
ENGINES = ("sqlite", "postgres", "redis")


Answers = list[tuple[float, int]]


def called(state: str, engine: str, service: str, url: str, seconds: float, processes: int = PROCESSES) -> Answers:
    """When each answer came, and its status."""
    admission = redis.shared().url if engine == "redis" else ""
    command = [sys.executable, str(HERE / "learn_worker.py"), state, admission, service, url, str(seconds)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    words = [word.split(":") for worker in workers for word in worker.communicate(timeout=200)[0].split()]
    assert {worker.returncode for worker in workers} == {0}
    found = sorted((float(at), int(status)) for at, status in words)
    return [(at - found[0][0], status) for at, status in found]


def statuses(answers: Answers, *, after: float, before: float) -> list[int]:
    return [status for at, status in answers if after <= at < before]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("limit", "burst"), [(50, 5)])
def test_a_limit_that_nobody_publishes_is_found(tmp_path: Path, engine: str, limit: int, burst: int) -> None:
    settings = Settings(stripe=Stripe(requests=Rate(limit, 1_000, burst), endpoint=None, concurrency=None))
    with started(settings) as sandbox:
        state = shared().new_database() if engine == "postgres" else str(tmp_path / "s.db")
        answers = called(state, engine, "stripe", sandbox.base_urls["stripe"] + "/v1/customers", 40)
    first = next(at for at, status in answers if status == 429)
    begun, later = statuses(answers, after=0, before=first + 10), statuses(answers, after=first + 10, before=first + 30)
    refused, passed = later.count(429), later.count(200)
    share = passed / 20 / limit
    print(f"{engine}, {limit}/s, burst {burst}: {begun.count(429)} refused at first, then {refused}, {share:.0%}")  # noqa: T201
    assert set(later) <= {200, 429}
    assert refused <= 10
    assert share >= 0.7, "a ceiling half-way between a limit and its half is three quarters of it, and rises slowly"


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("engine", ENGINES)
def test_after_the_first_answer_a_published_limit_refuses_nobody(tmp_path: Path, engine: str) -> None:
    """One process hears it; six, with wrapped clients, heed it from their first call on."""
    settings = Settings(anthropic=Anthropic(requests=Rate(600, 60_000, 10), input_tokens=None, output_tokens=None))
    with started(settings) as sandbox:
        url = sandbox.base_urls["anthropic"]
        state = shared().new_database() if engine == "postgres" else str(tmp_path / "s.db")
        first = called(state, engine, "anthropic", url, 0.01, processes=1)
        later = called(state, engine, "anthropic", url, 12)
        assert sandbox.counts()["anthropic"]["statuses"] == {"200": len(first) + len(later)}
    seconds = later[-1][0] - later[0][0]
    print(f"{engine}: {len(later)} answers in {seconds:.1f} s at 10/s, none refused")  # noqa: T201
    assert [status for _, status in first] == [200] * len(first)
    assert len(later) >= 0.8 * 10 * (seconds - 1)
