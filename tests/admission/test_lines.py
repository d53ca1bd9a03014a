"""Calls in line at a limit: lanes, places, and what becomes of those who die or give up."""

import gc
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import longwatch
from longwatch import Longwatch, WaitTimeout
from longwatch.policy.admission import HORIZON_US
from longwatch.testing import postgres, redis

CONFIG: dict[str, Any] = {"fleet": {"currency": "USD"}, "service": {"api": {"rate": "20/s", "burst": 4}}}
HORIZON_S = HORIZON_US / 1_000_000
WAITER = textwrap.dedent("""
    import sys, threading, longwatch
    config = {"fleet": {"currency": "USD"}, "service": {"api": {"rate": "20/s", "burst": 4}}}
    with longwatch.open(sys.argv[1], config=config, agent="main") as lw:
        def wait():
            with lw.call("api", money="0 USD", lane="urgent"):
                pass
        threads = [threading.Thread(target=wait, daemon=True) for _ in range(200)]
        for thread in threads:
            thread.start()
        print("waiting", flush=True)
        sys.stdin.readline()
""")


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def lw(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Longwatch]:
    state = postgres.shared().new_database() if request.param == "postgresql" else str(tmp_path / "state.db")
    admission = redis.shared().url if request.param == "redis" else None
    with longwatch.open(state, config=CONFIG, agent="main", admission=admission) as opened:
        yield opened


class Crowd:
    """Threads that make one call each, in a lane."""

    def __init__(self, lw: Longwatch, lane: Any, size: int) -> None:
        self.left: list[float] = []
        self._lw, self._lane = lw, lane
        self.threads = [threading.Thread(target=self._call, daemon=True) for _ in range(size)]
        for thread in self.threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    def _call(self) -> None:
        with self._lw.call("api", money="0 USD", lane=self._lane):
            self.left.append(time.monotonic())

    def join(self) -> None:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


def until(said: str, holds: Any) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, said
        time.sleep(0.02)


def waiting(lw: Longwatch) -> dict[str, int]:
    return {each.lane: each.waiting for each in lw.opened.parts.calls.limiter.lines.all()}


def test_an_urgent_call_waits_no_longer_than_the_horizon(lw: Longwatch) -> None:
    with Crowd(lw, "batch", 120) as crowd:
        until("nobody stands in line", lambda: waiting(lw).get("batch", 0) > 50)
        began = time.monotonic()
        with lw.call("api", money="0 USD", lane="urgent") as call:
            urgent = time.monotonic()
    assert urgent - began <= HORIZON_S + 1.5, "and not behind those who came before: that would be 4 s and more"
    assert call.eta == call.start_at
    assert waiting(lw) == {}
    after = [at for at in crowd.left if at > urgent]
    assert len(after) > 40
    assert max(crowd.left) - min(crowd.left) < 120 / 20 * 2, "nobody was slowed down by the line"


def test_whoever_gives_up_leaves_the_line(lw: Longwatch) -> None:
    with Crowd(lw, "normal", 60):
        until("nobody stands in line", lambda: waiting(lw).get("normal", 0) > 10)
        with pytest.raises(WaitTimeout), lw.call("api", money="0 USD", lane="batch", wait="0.3s"):
            pytest.fail("there is no slot so soon")
        assert "batch" not in waiting(lw)
    assert waiting(lw) == {}


def test_a_call_in_line_can_tell_when_it_will_leave(tmp_path: Path) -> None:
    with longwatch.open(str(tmp_path / "state.db"), config=CONFIG, agent="main") as lw, Crowd(lw, "normal", 80):
        until("nobody stands in line", lambda: waiting(lw).get("normal", 0) > 20)
        call = lw.call("api", money="0 USD")
        assert call.eta is None
        waited: list[int] = []

        def wait() -> None:
            with call as it:
                waited.append(it.waited_ms)

        caller = threading.Thread(target=wait)
        caller.start()
        until("it cannot tell", lambda: call.eta is not None)
        expected = call.eta
        caller.join(30)
        assert expected is not None
        assert call.eta is not None
        assert abs((call.eta - expected).total_seconds()) < 1
        assert waited[0] > 1_000


def test_a_call_that_was_dropped_in_line_leaves_it(tmp_path: Path) -> None:
    """As a coroutine that is never resumed: nobody gives its place up, and its process goes on looking."""
    with longwatch.open(str(tmp_path / "state.db"), config=CONFIG, agent="main") as lw, Crowd(lw, "normal", 60):
        until("nobody stands in line", lambda: waiting(lw).get("normal", 0) > 10)
        call = lw.call("api", money="0 USD", lane="urgent")
        call._part.attempt()
        assert waiting(lw).get("urgent") == 1
        del call
        gc.collect()
        until("its place is kept", lambda: "urgent" not in waiting(lw))


def test_the_dead_are_passed_over(tmp_path: Path) -> None:
    """A process dies with two hundred urgent calls in line: it costs others the slots it had been given, and no more."""
    state = str(tmp_path / "state.db")
    with longwatch.open(state, config=CONFIG, agent="main") as lw:
        child = subprocess.Popen(
            [sys.executable, "-c", WAITER, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "waiting\n"
            until("nobody stands in line", lambda: waiting(lw).get("urgent", 0) > 100)
        finally:
            child.kill()
            child.communicate()
        began = time.monotonic()
        with lw.call("api", money="0 USD", lane="batch"):
            pass
        assert time.monotonic() - began < 2 + HORIZON_S + 1.5, "two hundred urgent ones would be ten seconds"
