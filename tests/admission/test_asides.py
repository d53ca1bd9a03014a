"""What batches set aside, on a real fleet of each engine: by programs, and by processes that are killed in the middle."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import warm
from aside_worker import CAP, CONFIG, pay
from engines_open import ENGINES, opened, place_of

from longwatch import BudgetExceeded, LimitRefused, Longwatch, Run, task
from longwatch.testing import Clock, VirtualFleet

HERE = Path(__file__).parent
Place = tuple[str, str]


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Place]:
    with place_of(request.param, tmp_path) as found:
        yield found


def money(lw: Longwatch) -> tuple[int, int, int]:
    """(spent, held, set aside) of the budget."""
    caps = lw.opened.parts.calls.limiter.peek().caps
    return next((cap.spent, cap.held, cap.aside) for cap in caps if cap.purse == "budget:growth")


@task("buy")
def buy(run: Run, number: int) -> int:
    with run.call("api", money="0.30 GBP") as call:
        call.settle(money="0.25 GBP")
    return number


def test_a_batch_has_what_it_set_aside_and_gives_back_what_it_did_not_use(place: Place) -> None:
    with opened(place, CONFIG, budget="growth") as lw:
        lw.include(buy)
        batch = lw.submit_batch("five", [buy.bind(n) for n in range(5)], needs={"api": {"money": "1.70 GBP"}})
        assert money(lw) == (0, 0, 1_700_000)
        other = lw.agent("other")
        with pytest.raises(BudgetExceeded, match=r"set aside for batches 1\.70 GBP, cap 2\.00 GBP") as refused:
            other.call("api", money="0.31 GBP").__enter__()
        assert (refused.value.spent, refused.value.held) == (0, 1_700_000)
        with other.call("api", money="0.30 GBP"):
            pass
        assert lw.work(until_idle=True).done == 5
        assert batch.wait(timeout=5).counts == {"done": 5}
        assert money(lw) == (1_550_000, 0, 0)
        with other.call("api", money="0.45 GBP"):
            pass
        assert money(lw) == (2_000_000, 0, 0)
        (kept,) = lw.opened.parts.calls.limiter.asides.all(batch.id)
        assert (kept.money, kept.used_money, kept.ended_ms is None) == (1_700_000, 1_250_000, False)


def test_what_has_no_room_is_refused_with_figures_and_nothing_is_submitted(place: Place) -> None:
    with opened(place, CONFIG, budget="growth") as lw:
        lw.include(buy)
        lw.submit_batch("one", [buy.bind(1)], needs={"api": {"money": "1.50 GBP"}})
        with pytest.raises(BudgetExceeded, match=r"cannot set aside 0\.60 GBP more\.") as refused:
            lw.submit_batch("two", [buy.bind(2)], needs={"api": {"money": "0.60 GBP"}}, schedule=True)
        assert "Nothing was submitted" in str(refused.value)
        assert lw.submit_batch("one", [buy.bind(1)], needs={"api": {"money": "1.50 GBP"}}).fresh == 0
        assert money(lw) == (0, 0, 1_500_000)
        again = lw.submit_batch("two", [buy.bind(2)], needs={"api": {"money": "0.50 GBP"}})
        assert (again.fresh, money(lw)[2]) == (1, 2_000_000)
        lw.cancel(again[0].id)
        assert money(lw)[2] == 1_500_000


MONTHLY: dict[str, Any] = {
    "fleet": {"currency": "GBP", "timezone": "Europe/London"},
    "service": {"api": {"quota": "10/day"}},
    "budget": {"growth": {"money": "2 GBP/month"}},
}


@pytest.mark.longwatch(config=MONTHLY)
def test_a_scheduled_batch_begins_with_the_window_in_which_it_has_room(lw: VirtualFleet, clock: Clock) -> None:
    lw.include(buy)
    lw = lw.agent("main", budget="growth")
    lw.submit_batch("first", [buy.bind(1)], needs={"api": {"money": "1.20 GBP"}})
    with pytest.raises(BudgetExceeded, match="this month"):
        lw.submit_batch("next", [buy.bind(2)], needs={"api": {"money": "1.20 GBP"}})
    batch = lw.submit_batch("next", [buy.bind(2)], needs={"api": {"money": "1.20 GBP"}}, schedule=True)
    (cap,) = [cap for cap in lw.opened.parts.calls.limiter.peek().caps if cap.purse == "budget:growth"]
    assert lw.opened.parts.tasks.get(batch[0].id).ready_ms == cap.resets_at
    clock.advance("31d")
    (cap,) = [cap for cap in lw.opened.parts.calls.limiter.peek().caps if cap.purse == "budget:growth"]
    assert (cap.spent, cap.aside) == (0, 1_200_000)
    with pytest.raises(BudgetExceeded, match=r"set aside for batches 1\.20 GBP"):
        lw.call("api", money="0.81 GBP").__enter__()
    assert lw.work(until_idle=True).done == 2
    with pytest.raises(LimitRefused, match="cannot set aside 11 calls more"):
        lw.submit_batch("never", [buy.bind(3)], needs={"api": {"requests": 11}}, schedule=True)


# -- killed processes ------------------------------------------------------------------------------------------------------


@contextmanager
def started(place: Place, role: str, number: int) -> Generator["subprocess.Popen[str]"]:
    command = [sys.executable, str(HERE / "aside_worker.py"), *place, role, str(number)]
    with warm.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def whole(lw: Longwatch) -> int:
    found = sum(money(lw))
    assert found <= CAP, money(lw)
    return found


def used_up(lw: Longwatch) -> None:
    """Wait until there is nothing left of the cap that is anybody's."""
    until = time.monotonic() + 30
    while whole(lw) < CAP - 30_000:
        assert time.monotonic() < until, money(lw)
        time.sleep(0.01)


def test_a_batch_whose_workers_are_killed_never_lacks_money_and_the_cap_holds(place: Place) -> None:
    chance = random.Random(7)
    with opened(place, CONFIG, budget="growth") as lw:
        lw.include(pay)
        items = [pay.bind(number) for number in range(12)]
        batch = lw.submit_batch("many", items, needs={"api": {"money": "1.50 GBP", "requests": 75}})
        with started(place, "spend", 1), started(place, "spend", 2):
            used_up(lw)
            for number in range(40):
                with started(place, "work", number) as worker:
                    until = time.monotonic() + (chance.uniform(0.05, 0.5) if number < 8 else 30)
                    while worker.poll() is None and time.monotonic() < until:
                        whole(lw)
                        time.sleep(0.01)
                if all(lw.get(each.id).ended for each in batch):
                    break
        assert batch.wait(timeout=5).counts == {"done": 12}
        whole(lw)
        assert money(lw)[2] == 0


def test_a_submitter_that_is_killed_leaves_nothing_set_aside_for_good(place: Place) -> None:
    chance = random.Random(8)
    with opened(place, CONFIG, budget="growth") as lw:
        for number in range(6):
            with started(place, "submit", number):
                until = time.monotonic() + chance.uniform(0.1, 0.4)
                while time.monotonic() < until:
                    whole(lw)
            open_ones = [batch for batch in lw.opened.parts.calls.limiter.asides.all() if batch.ended_ms is None]
            assert sum(money(lw)) == 150_000 * len({batch.batch for batch in open_ones if unended(lw, batch.batch)})
            for batch in open_ones:
                for each in unended(lw, batch.batch):
                    lw.cancel(each)
            assert money(lw) == (0, 0, 0)
            with lw.call("api", money="2 GBP", wait=0) as call:  # all of it is there again, for the engine as well
                call.release()
            assert lw.opened.parts.calls.limiter.asides.all() == []


def unended(lw: Longwatch, batch: str) -> list[str]:
    return [found.id for found in lw.opened.parts.tasks.of_batch(batch) if found.ended_ms is None]
