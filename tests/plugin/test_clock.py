"""Time of a fleet under test: sleeping costs none, and what is due meanwhile happens."""

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

import longwatch
from longwatch import AsyncRun, BudgetExceeded, ConfigError, LeaseLost, Longwatch, RetryLater, Run, WaitTimeout
from longwatch.testing import Clock, VirtualFleet, drain
from longwatch.testing import clock as clocks

PACED = {"service": {"api": {"rate": "1/min", "burst": 1}}}


@contextmanager
def taking(clock: Clock, at_least: timedelta, *, really_most_s: float = 20) -> Generator[None]:
    """The block passes this much of the clock's time, within so much of the real one."""
    before, really = clock.now(), time.monotonic()
    yield
    assert clock.now() - before >= at_least
    assert time.monotonic() - really < really_most_s


def test_time_stands_still_while_code_runs(clock: Clock) -> None:
    before = clock.now()
    sum(range(100_000))
    assert clock.now() == before


def test_time_passes_when_it_is_told_to(clock: Clock) -> None:
    before = clock.now()
    clock.advance("31d")
    clock.advance(90)
    assert clock.now() - before == timedelta(days=31, seconds=90)


@pytest.mark.longwatch(config=PACED)
def test_calls_that_wait_for_their_turn_cost_no_time(lw: VirtualFleet, clock: Clock) -> None:
    with taking(clock, timedelta(minutes=59)):
        for _ in range(60):
            with lw.call("api"):
                pass


@pytest.mark.longwatch(config=PACED)
def test_code_in_an_event_loop_waits_by_the_same_clock(lw: VirtualFleet, clock: Clock) -> None:
    @lw.task()
    async def look(run: AsyncRun) -> int:
        async def once() -> int:
            async with lw.call("api"):
                return 1

        return sum(await asyncio.gather(*(once() for _ in range(5))))

    with taking(clock, timedelta(minutes=4)):
        task = lw.submit(look.bind())
        lw.work(until_idle=True)
        assert lw.wait(task).result == 5


def test_work_ends_where_something_is_due_later_and_drain_does_not(lw: VirtualFleet, clock: Clock) -> None:
    @lw.task(retries=1)
    def later(run: Run) -> int:
        if run.attempt == 1:
            raise RetryLater("1d")
        return run.attempt

    task = lw.submit(later.bind())
    assert lw.work(until_idle=True).retrying == 1
    assert lw.get(task.id).state == "scheduled"
    with taking(clock, timedelta(days=1)):
        report = drain(lw)
    assert (report.done, report.retrying, lw.wait(task).result) == (1, 0, 2)


def test_a_task_of_tomorrow_is_run_tomorrow(lw: VirtualFleet, clock: Clock) -> None:
    @lw.task()
    def greet(run: Run) -> str:
        return clock.now().isoformat()

    due = clock.now() + timedelta(days=1)
    task = lw.submit(greet.bind(), at=due)
    lw.work(until_idle=True)
    assert not lw.get(task.id).ended
    drain(lw)
    assert lw.wait(task).result == due.isoformat()


def test_a_lease_is_kept_alive_over_any_length_of_time(lw: VirtualFleet, clock: Clock) -> None:
    with lw.lease("name:deploy", ttl="30s") as lease:
        clock.advance("6h")
        lease.check()


def test_a_lease_that_nobody_keeps_alive_is_lost(lw: VirtualFleet, clock: Clock) -> None:
    with lw.lease("name:deploy", ttl="30s") as lease:
        lw.opened.parts.leases.close()  # renews nothing any more
        clock.advance("31s")
        with pytest.raises(LeaseLost):
            lease.check()


def test_a_run_keeps_its_task_however_long_it_takes(lw: VirtualFleet, clock: Clock) -> None:
    @lw.task()
    def long(run: Run) -> int:
        clock.advance("12h")
        return run.step("after", lambda: run.attempt)

    task = lw.submit(long.bind())
    lw.work(until_idle=True)
    assert lw.wait(task).result == 1


def test_a_run_past_its_timeout_is_given_up(lw: VirtualFleet, clock: Clock) -> None:
    @lw.task(timeout="10m")
    def long(run: Run) -> None:
        clock.advance("11m")
        run.check()

    task = lw.submit(long.bind())
    lw.work(until_idle=True)
    assert lw.wait(task).state == "failed"
    assert "timeout of 10m" in str(lw.wait(task).error)


@pytest.mark.longwatch(config={"fleet": {"currency": "GBP"}, "budget": {"growth": {"money": "1 GBP/month"}}})
def test_a_budget_is_full_again_next_month(lw: VirtualFleet, clock: Clock) -> None:
    def spend() -> None:
        with lw.call("anything", budget="growth", money="0.60 GBP"):
            pass

    spend()
    with pytest.raises(BudgetExceeded):
        spend()
    clock.advance("31d")
    spend()


def test_waiting_for_what_nobody_works_on_says_so_at_once(lw: VirtualFleet) -> None:
    @lw.task()
    def nothing(run: Run) -> None: ...

    task = lw.submit(nothing.bind())
    with pytest.raises(WaitTimeout, match="nobody works on it"):
        lw.agent("seo").wait(task)


def test_awaiting_what_nobody_works_on_says_so_at_once(lw: VirtualFleet) -> None:
    @lw.task()
    def seven(run: Run) -> int:
        return 7

    async def submitted() -> int:
        task = await lw.aio.submit(seven.bind())
        with pytest.raises(WaitTimeout, match="nobody works on it"):
            await lw.aio.wait(task)
        lw.work(until_idle=True)
        return (await lw.aio.wait(task)).result

    assert asyncio.run(submitted()) == 7


@pytest.mark.longwatch(config={"service": {"api": {"concurrency": 1}}})
def test_a_wait_without_an_end_is_an_error_and_no_hang(
    lw: VirtualFleet, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "SLEEPS_MOST", 50)
    with lw.call("api"), pytest.raises(clocks.Stuck, match="what never comes"), lw.call("api"):
        pass


def test_a_fleet_by_a_virtual_clock_works_in_one_process(lw: VirtualFleet) -> None:
    with pytest.raises(ConfigError, match="2 processes"):
        lw.work(processes=2)


def test_drain_refuses_a_fleet_whose_time_is_real(tmp_path: Path) -> None:
    with longwatch.open(tmp_path / "real.db", config={}) as real, pytest.raises(ConfigError, match="virtual clock"):
        drain(real)


def test_opening_the_state_again_gives_the_same_clock(lw: VirtualFleet) -> None:
    with longwatch.open(lw.opened.settings.state, config={}) as again:
        assert again.opened is lw.opened


def test_what_runs_beside_has_done_its_part_before_time_goes_on(clock: Clock) -> None:
    sleeper, seen = clocks.ClockSleeper(clock), list[int]()

    def beat() -> None:
        for _ in range(5):
            sleeper.sleep_until(clocks.STEADY_MS + clock.now_ms + 10_000)
            time.sleep(0.002)  # however slow it really is
            seen.append(clock.now_ms)

    sleeper.start("beat", beat)
    clock.advance("35s")
    assert seen == [10_000, 20_000, 30_000]
    clock.advance("1h")
    assert seen == [10_000, 20_000, 30_000, 40_000, 50_000]


def test_a_flag_wakes_who_waits_beside_when_it_is_joined(clock: Clock) -> None:
    sleeper, flag, seen = clocks.ClockSleeper(clock), threading.Event(), list[bool]()
    waiting = sleeper.start("waits", lambda: seen.append(sleeper.wait_for_flag(flag, clocks.STEADY_MS + 3_600_000)))
    flag.set()
    waiting.join(10)
    assert seen == [True]
    assert clock.now_ms == 0


def test_no_thread_is_left_when_the_fleet_is_closed(tmp_path: Path) -> None:
    from longwatch.testing.fleet import Bench

    before, bench = set(threading.enumerate()), Bench()
    with VirtualFleet.made(bench, tmp_path) as lw, lw.lease("name:deploy"), lw.call("api"):
        assert set(threading.enumerate()) - before
    bench.clock.end_beside()
    assert set(threading.enumerate()) - before == set()


def test_the_config_may_be_a_file_and_root_and_state_stay_in_the_folder_of_the_test(tmp_path: Path) -> None:
    from longwatch.testing.fleet import Bench

    project, folder = tmp_path / "project", tmp_path / "test"
    project.mkdir()
    folder.mkdir()
    (project / "longwatch.toml").write_text('[fleet]\nname = "shop"\nstate = "real.db"\n', "utf-8")
    with VirtualFleet.made(Bench(), folder, project / "longwatch.toml") as lw:
        assert (lw.name, lw.root) == ("shop", folder)
        with lw.edit("a.txt") as edit:
            edit.write_text("a.txt", "here")
    assert sorted(path.name for path in project.iterdir()) == ["longwatch.toml"]
    assert (folder / "a.txt").read_text("utf-8") == "here"


def test_a_fleet_of_a_test_is_a_fleet(lw: Longwatch) -> None:
    assert isinstance(lw, VirtualFleet)
