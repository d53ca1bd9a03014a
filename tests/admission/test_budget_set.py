"""A cap that a person sets counts at once for every process, ends by itself, and survives whatever opens the fleet."""

import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import warm
from call_fleet import DAY, HOUR, LIMITS, MINUTE, NOON, Opened, open_fleet
from engines_open import ENGINES, opened, place_of

from longwatch import BudgetExceeded, ConfigError
from longwatch.admission.calls import Admitted
from longwatch.policy.limits import Budget, Cap, Override
from longwatch.store import fleet as fleets

CONFIG: dict[str, Any] = {"budget": {"growth": {"money": "50 USD/month"}}}
WORKER = """
import sys
import longwatch
state, admission = sys.argv[1:]
lw = longwatch.open(state, admission=admission, config={"budget": {"growth": {"money": "50 USD/month"}}})
print("ready", flush=True)
for line in sys.stdin:
    try:
        with lw.call("stripe", budget="growth", money=line.strip(), wait="0s") as call:
            call.settle(money="0 USD")
        print("went", flush=True)
    except longwatch.BudgetExceeded as error:
        print(f"refused at {error.cap}", flush=True)
lw.close()
"""


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[str, str]]:
    with place_of(request.param, tmp_path) as made:
        yield made


class Worker:
    """A process that has the fleet open all the time."""

    def __init__(self, place: tuple[str, str]) -> None:
        command = [sys.executable, "-c", WORKER, *place]
        self.process = warm.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.heard() == "ready"

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def calls(self, money: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{money}\n")
        self.process.stdin.flush()
        return self.heard()

    def ends(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


def longwatch_says(folder: Path, place: tuple[str, str], *words: str) -> str:
    state, admission = place
    told = f'[fleet]\nstate = "{state}"\nadmission = "{admission}"\n[budget.growth]\nmoney = "50 USD/month"\n'
    (folder / "longwatch.toml").write_text(told, "utf-8")
    command = [sys.executable, "-m", "longwatch", *words]
    done = warm.run(command, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_processes_that_run_go_by_the_new_cap_at_their_next_call(place: tuple[str, str], tmp_path: Path) -> None:
    workers = [Worker(place) for _ in range(2)]
    assert [worker.calls("55 USD") for worker in workers] == ["refused at 50000000"] * 2
    said = longwatch_says(tmp_path, place, "budget", "set", "growth", "60 USD/month", "--until", "2100-01-01")
    assert "growth: 50.00 USD/month -> 60.00 USD/month, until 1 Jan 00:00 UTC" in said
    assert [worker.calls("55 USD") for worker in workers] == ["went"] * 2
    longwatch_says(tmp_path, place, "budget", "set", "growth", "1 USD/month")
    assert [worker.calls("5 USD") for worker in workers] == ["refused at 1000000"] * 2
    longwatch_says(tmp_path, place, "budget", "set", "growth", "--clear")
    assert [worker.calls("45 USD") for worker in workers] == ["went"] * 2
    assert [worker.calls("55 USD") for worker in workers] == ["refused at 50000000"] * 2
    for worker in workers:
        worker.ends()


def test_it_outlives_programs_that_open_the_fleet_and_a_change_of_the_config(place: tuple[str, str]) -> None:
    with opened(place, CONFIG) as lw:
        set_to(lw, Override("growth", Cap(60_000_000, "month")))
    other: dict[str, Any] = {"budget": {"growth": {"money": "40 USD/month", "calls": "9/day"}}}
    for config in (CONFIG, other, CONFIG):
        with opened(place, config) as lw, lw.call("stripe", budget="growth", money="55 USD") as call:
            call.settle(money="0 USD")
    with (
        opened(place, {"fleet": {"currency": "GBP"}, "budget": {"growth": {"money": "50 GBP/month"}}}) as lw,
        pytest.raises(BudgetExceeded),
        lw.call("stripe", budget="growth", money="55 GBP"),
    ):
        raise AssertionError("what was set was an amount of another currency")


def set_to(lw: Any, *wanted: Override) -> None:
    parts = lw.opened.parts
    parts.calls.adopt(*fleets.set_budget(parts.database, parts.journal, wanted, parts.calls.limiter.limits))
    parts.calls.limiter.announce()


def test_who_could_not_tell_the_engine_is_made_up_for_by_a_beat(place: tuple[str, str]) -> None:
    with opened(place, CONFIG) as lw:
        parts = lw.opened.parts
        with lw.call("stripe", budget="growth", money="1 USD"):
            wanted = [Override("growth", Cap(2_000_000, "month"))]
            fleets.set_budget(parts.database, parts.journal, wanted, parts.calls.limiter.limits)  # and dies
            parts.calls.limiter.beat(lw.opened.owner)
        with pytest.raises(BudgetExceeded) as refused, lw.call("stripe", budget="growth", money="5 USD"):
            raise AssertionError("it was let through")
        assert refused.value.cap == 2_000_000


def test_another_config_still_keeps_a_running_process_out(place: tuple[str, str]) -> None:
    with opened(place, CONFIG) as lw:
        parts = lw.opened.parts
        told = '{"budgets": {"growth": {"name": "growth"}}}'
        _, rules = fleets.kept_config(parts.database)
        fleets.keep_config(parts.database, parts.journal, told, [], rules=rules)
        parts.calls.limiter.announce()
        if place[1]:  # Redis goes by what it was told last: as a program that opens the fleet tells it
            parts.calls.limiter._run("rules", {"rules": rules + 1})  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match="were changed by another process"), lw.call("stripe", budget="growth"):
            raise AssertionError("it was let through")


# -- its end, by a clock that is moved ---------------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path: Path) -> Generator[Opened]:
    until = (
        Override("small", Cap(5_000, "day"), NOON + HOUR),
        Override("small", Cap(7_000, "total"), NOON + 30 * HOUR),
    )
    made = open_fleet(tmp_path / "s.db", limits=replace(LIMITS, overrides=until))
    yield made
    made.database.close()


def test_past_its_date_the_configs_cap_counts_again_with_nobody_awake(fleet: Opened) -> None:
    fleet.admit(fleet.request(money=4_000))
    fleet.hand.advance(HOUR - MINUTE)
    fleet.admit(fleet.request(money=500))
    fleet.hand.advance(MINUTE)
    with pytest.raises(BudgetExceeded) as refused:
        fleet.limiter.admit(fleet.request(money=1))
    assert (refused.value.cap, refused.value.spent + refused.value.held) == (1_000, 4_500)


def test_a_cap_over_a_window_that_the_config_has_none_for_goes_with_its_date(fleet: Opened) -> None:
    fleet.hand.advance(HOUR)
    for _ in range(2):
        fleet.limiter.settle(fleet.admit(fleet.request(money=1_000)).id, owner="owner-me", money=1_000)
        fleet.hand.advance(DAY)
    assert [cap.cap for cap in fleet.limiter.peek().caps if cap.purse == "budget:small"] == [1_000]


def test_a_wall_clock_that_jumps_ahead_ends_nothing(fleet: Opened) -> None:
    fleet.admit(fleet.request(money=100))
    fleet.hand.wall += 3 * DAY
    assert isinstance(fleet.limiter.admit(fleet.request(money=4_000)), Admitted)


def test_what_is_shown_is_what_counts_with_what_is_configured_beside_it(fleet: Opened) -> None:
    def shown() -> list[tuple[int, str, int | None]]:
        caps = fleet.limiter.peek().caps
        return [(cap.cap, cap.window, cap.configured) for cap in caps if cap.purse == "budget:small"]

    assert shown() == [(5_000, "day", 1_000), (7_000, "total", None)]
    fleet.hand.advance(HOUR)
    assert shown() == [(1_000, "day", None), (7_000, "total", None)]
    fleet.hand.advance(30 * HOUR)
    assert shown() == [(1_000, "day", None)]


def test_a_budget_is_set_in_the_state_and_in_the_journal(fleet: Opened) -> None:
    database, journal = fleet.database, fleet.limiter.journal
    wanted = Override("growth", Cap(9_000_000, "day"), NOON + DAY)
    limits, rules = fleets.set_budget(database, journal, [wanted], LIMITS)
    assert limits.overrides == (wanted,)
    assert fleets.kept_config(database)[1] == rules == 1
    (entry,) = fleet.journal("budget.set")
    assert (entry.subject, entry.data) == (
        "budget:growth",
        {"per": "day", "money": 9_000_000, "before": 1_000_000, "until_ms": NOON + DAY},
    )
    limits, rules, gone = fleets.clear_budget(database, journal, "growth", LIMITS)
    assert (limits.overrides, rules, gone) == ((), 2, (wanted,))
    assert fleets.clear_budget(database, journal, "growth", LIMITS) == (limits, 2, ())
    assert len(fleet.journal("budget.cleared")) == 1
    with pytest.raises(ConfigError, match=r"unknown budget grwoth: did you mean growth\?"):
        fleets.set_budget(database, journal, [Override("grwoth", Cap(1, "day"))], LIMITS)
    assert Budget("growth") not in limits.budgets.values()
