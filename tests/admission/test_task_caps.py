"""A task with caps of its own: what all its runs, retries and steps may cost together, on every engine."""

import random
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from engines_open import ENGINES, place_of

import longwatch
from longwatch import BudgetExceeded, ConfigError, Longwatch, Run
from longwatch.admission.calls import Word
from longwatch.policy.window import LAST_MS

CONFIG: dict[str, Any] = {
    "fleet": {"currency": "GBP", "exchange": {"USD": "0.80 GBP"}},
    "service": {"stripe": {}, "api": {"price": "0.30 GBP"}, "models": {}},
    "budget": {
        "growth": {"money": "50 GBP total", "then": "cheaper", "models": ["claude-sonnet-5-5", "claude-haiku-5-5"]}
    },
}
WORKER = Path(__file__).parent / "cap_worker.py"
PROCESSES, KILLED = 4, 10
CAP = 1_000_000


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[str, str]]:
    with place_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def lw(place: tuple[str, str]) -> Generator[Longwatch]:
    state, admission = place
    with longwatch.open(state, admission=admission, config=CONFIG) as opened:
        yield opened


def stands(lw: Longwatch, task: str) -> dict[str, tuple[int, int, int]]:
    """Of each cap: spent, held, and the cap."""
    found = lw.opened.parts.calls.limiter.task_caps.all(task)
    return {cap.dimension: (cap.spent, cap.held, cap.cap.amount) for cap in found}


def declare(lw: Longwatch, refusals: list[BudgetExceeded], **caps: Any) -> None:
    """A handler that makes a call in each of its steps, for 0.40 GBP, and fails until it has made `steps` of them."""

    @lw.task("spend", retries=9, backoff="0s", **caps)
    def spend(run: Run, steps: int, fails: bool = False) -> int:
        def pay() -> int:
            with run.call("stripe", money="0.40 GBP") as call:
                call.settle(money="0.40 GBP")
            return 1

        for step in range(steps):
            try:
                run.step(f"pay-{step}", pay)
            except BudgetExceeded as error:
                refusals.append(error)
                raise longwatch.GiveUp("no money") from error
            if fails and run.attempt <= step + 1:
                raise ValueError("again")
        return steps


def test_all_attempts_of_a_task_share_its_cap_and_it_stops_with_what_to_do(lw: Longwatch) -> None:
    refusals: list[BudgetExceeded] = []
    declare(lw, refusals)
    task = lw.submit("spend", {"steps": 4, "fails": True}, money="1 GBP")
    lw.work(until_idle=True)
    assert lw.get(task.id).state == "failed"
    assert lw.get(task.id).failures > 1  # what it spent, it spent in several runs
    error = refusals[0]
    assert (error.budget, error.cap, error.spent, error.held) == (task.id, 1_000_000, 800_000, 0)
    assert f"{task.id} cannot hold 0.40 GBP more" in str(error)
    assert "spent 0.80 GBP, held 0.00 GBP by 0 calls, cap 1.00 GBP; it is for all attempts" in str(error)
    assert f"longwatch budget set {task.id} AMOUNT" in (error.hint or "")
    assert f"longwatch task retry {task.id}" in (error.hint or "")
    assert stands(lw, task.id) == {"money": (800_000, 0, 1_000_000)}


def test_a_cap_that_is_raised_lets_the_task_go_on_where_it_stood(lw: Longwatch) -> None:
    refusals: list[BudgetExceeded] = []
    declare(lw, refusals)
    task = lw.submit("spend", {"steps": 4}, money="1 GBP")
    lw.work(until_idle=True)
    caps = lw.opened.parts.calls.limiter.task_caps
    caps.close_over()
    assert stands(lw, task.id) == {"money": (800_000, 0, 1_000_000)}  # also when nothing is kept of it
    assert caps.move(task.id, {"money": 1_600_000}, by="ada") == {"money": 1_000_000}
    lw.retry(task.id)
    lw.work(until_idle=True)
    assert lw.get(task.id).result == 4
    assert stands(lw, task.id) == {"money": (1_600_000, 0, 1_600_000)}
    with pytest.raises(ConfigError, match="without a cap on tokens"):
        caps.move(task.id, {"tokens": 5}, by="ada")


def test_a_kind_has_caps_and_a_task_is_submitted_with_others(lw: Longwatch) -> None:
    refusals: list[BudgetExceeded] = []
    declare(lw, refusals, money="1 GBP", calls=2)
    plain, more, dollars = (
        lw.submit("spend", {"steps": 3}),
        lw.submit("spend", {"steps": 3}, calls=9, money="5 GBP total"),
        lw.submit("spend", {"steps": 3}, calls=9, money="1 USD"),
    )
    batch = lw.submit_batch("three", [("spend", {"steps": 3})])
    lw.work(until_idle=True)
    assert [lw.get(each.id).state for each in (plain, more, dollars, batch[0])] == [
        "failed",
        "done",
        "failed",
        "failed",
    ]
    assert stands(lw, plain.id) == {"calls": (2, 0, 2), "money": (800_000, 0, 1_000_000)}
    assert stands(lw, dollars.id)["money"] == (800_000, 0, 800_000)
    assert stands(lw, batch[0].id) == stands(lw, plain.id)
    by = {error.budget: error.dimension for error in refusals}
    assert by == {plain.id: "calls", dollars.id: "money", batch[0].id: "calls"}


def test_tasks_that_a_task_submits_have_caps_of_their_own(lw: Longwatch) -> None:
    declare(lw, [])
    children: list[str] = []

    @lw.task("parent")
    def parent(run: Run) -> None:
        with lw.call("stripe", money="0.10 GBP"):
            children.append(lw.submit("spend", {"steps": 2}).id)

    task = lw.submit("parent", money="0.20 GBP")
    lw.work(until_idle=True)
    assert [lw.get(each).state for each in (task.id, *children)] == ["done", "done"]
    assert stands(lw, task.id) == {"money": (100_000, 0, 200_000)}
    assert stands(lw, children[0]) == {}


def test_what_nobody_knows_of_is_charged_to_the_task_and_a_person_can_say_otherwise(lw: Longwatch) -> None:
    @lw.task("lose", retries=1, backoff="0s")
    def lose(run: Run) -> None:
        with run.call("api", key=f"attempt-{run.attempt}"):
            raise OSError("the reply was lost")

    task = lw.submit("lose", money="0.50 GBP")
    lw.work(until_idle=True)
    assert stands(lw, task.id) == {"money": (300_000, 0, 500_000)}
    assert "BudgetExceeded" in (lw.get(task.id).error or "")
    limiter = lw.opened.parts.calls.limiter
    (lost,) = limiter.of_task(task.id)
    limiter.reconcile(lost.id, Word(None, "ada"))
    assert stands(lw, task.id) == {"money": (0, 0, 500_000)}


def test_thresholds_of_a_task_are_told_once(lw: Longwatch) -> None:
    declare(lw, [])
    task = lw.submit("spend", {"steps": 5}, money="2 GBP")
    lw.work(until_idle=True)
    lw.opened.parts.calls.limiter.flush()
    told = lw.opened.parts.journal.latest(limit=50, subject=f"task:{task.id}")
    assert sorted(str(each.data["fraction"]) for each in told if each.kind == "budget.warned") == ["0.5", "0.8", "1.0"]


def test_what_a_replaced_state_knew_to_be_spent_is_not_forgotten_with_the_task(lw: Longwatch) -> None:
    declare(lw, [])
    task = lw.submit("spend", {"steps": 1}, money="1 GBP")
    lw.work(until_idle=True)
    limiter = lw.opened.parts.calls.limiter
    limiter.flush()
    carried = f'[["task:{task.id}", {LAST_MS}, "money", "total", 0, 900000]]'
    with lw.opened.parts.database.transaction() as tx:
        tx.count("backup.carry_spend", rows=carried)
    assert limiter.task_caps.close_over() == 0
    assert stands(lw, task.id) == {"money": (900_000, 0, 1_000_000)}


def test_there_are_no_more_purses_than_capped_tasks_that_go_on(lw: Longwatch) -> None:
    declare(lw, [])
    for steps in range(5):
        lw.submit("spend", {"steps": steps}, money="9 GBP", calls=20)
    lw.work(until_idle=True)
    limiter = lw.opened.parts.calls.limiter
    limiter.flush()
    limiter.task_caps.close_over()
    with lw.opened.parts.database.read() as tx:
        purses = {str(row.purse) for row in tx.all("spend.every", minute_ms=0)}
    assert not {purse for purse in purses if purse.startswith("task:")}


def test_a_call_falls_back_to_a_cheaper_model_when_the_task_has_no_money_for_the_dear_one(lw: Longwatch) -> None:
    models: list[str | None] = []

    @lw.task("ask")
    def ask(run: Run) -> None:
        weight = {"input_tokens": 10_000}
        with run.call("anthropic", budget="growth", model="claude-sonnet-5-5", weight=weight, max_tokens=1_000) as call:
            call.settle(money="0 GBP")
        models.extend(each.model for each in lw.opened.parts.calls.limiter.of_task(run.task))

    lw.submit("ask", money="0.02 GBP")
    lw.work(until_idle=True)
    assert models == ["claude-haiku-5-5"]


def test_a_cap_on_tokens_wants_to_know_them(lw: Longwatch) -> None:
    errors: list[str] = []

    @lw.task("ask")
    def ask(run: Run) -> None:
        for weight in ({}, {"input_tokens": 100}, {"input_tokens": 100}):
            try:
                with run.call(
                    "anthropic", model="claude-haiku-5-5", weight=weight, money="0 GBP", max_tokens=50
                ) as call:
                    call.settle(input_tokens=90, output_tokens=20)
            except longwatch.LongwatchError as error:
                errors.append(error.code)

    task = lw.submit("ask", tokens=200)
    lw.work(until_idle=True)
    assert errors == ["config_error", "budget_exceeded"]
    assert stands(lw, task.id) == {"tokens": (110, 0, 200)}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_processes_that_race_for_one_cap_and_are_killed_never_pass_it(place: tuple[str, str], tmp_path: Path) -> None:
    state, admission = place
    sent, chance, owners = tmp_path / "sent", random.Random(7), set[str]()
    with longwatch.open(state, admission=admission) as lw:
        declare(lw, [])
        task = lw.submit("spend", {"steps": 0}, money="1 USD").id
        running = [_worker(place, task, sent, seed, owners) for seed in range(PROCESSES)]
        for killed in range(KILLED):
            time.sleep(chance.uniform(0.02, 0.2))
            one = chance.randrange(PROCESSES)
            _kill(running[one])
            running[one] = _worker(place, task, sent, 100 + killed, owners)
            (spent, held, cap), *_ = stands(lw, task).values()
            assert spent + held <= cap == CAP
        for worker in running:
            _kill(worker)
        for owner in owners:
            lw.opened.parts.calls.bury(owner)
        bill = sum(int(line) for line in sent.read_text().split())
        spent, held, _ = stands(lw, task)["money"]
        calls = lw.opened.parts.calls.limiter.of_task(task, limit=10_000)
        assert spent == sum(call.money for call in calls if call.phase != "released")
        assert held == 0
        assert 0 < bill <= spent <= CAP
        assert spent > CAP // 2  # they did race for it


def _worker(place: tuple[str, str], task: str, sent: Path, seed: int, owners: set[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, str(WORKER), *place, task, str(sent), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    owners.add(process.stdout.readline().strip())
    return process


def _kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()
