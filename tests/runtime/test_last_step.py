"""A step is stored with its task's end only where nothing of the handler can run in between."""

from collections.abc import Callable, Generator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

import longwatch
from longwatch import Run
from longwatch.errors import LeaseLost
from longwatch.policy.task import Finished, LastStep
from longwatch.store.moves import Run as Claimed
from longwatch.store.steps import Steps


@pytest.fixture
def lw(tmp_path: Path) -> Generator[longwatch.Longwatch]:
    opened = longwatch.open(tmp_path / "state.db", config={"fleet": {"root": str(tmp_path)}})
    yield opened
    opened.close()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the steps that are stored by themselves."""
    names: list[str] = []
    store = Steps.store

    def storing(self: Steps, run: Claimed, name: str, result: str, *, sort: str = "step") -> None:
        names.append(name)
        store(self, run, name, result, sort=sort)

    monkeypatch.setattr(Steps, "store", storing)
    return names


def at_once(run: Run) -> int:
    return run.step("last", abs, -3)


def behind_another(run: Run) -> int:
    first = run.step("first", abs, -3)
    return run.step("last", abs, first)


def largest(*numbers: int) -> int:
    return max(numbers)


def with_lists(run: Run) -> int:
    return run.step("last", largest, *[-3, 3])


def kept_a_moment(run: Run) -> int:
    three = run.step("last", abs, -3)
    return three  # noqa: RET504 - anything could stand between the two


def added_to(run: Run) -> int:
    return run.step("last", abs, -2) + 1


def tidied_up(run: Run) -> int:
    try:
        return run.step("last", abs, -3)
    finally:
        pass


def caught(run: Run) -> int:
    try:
        return run.step("last", abs, -3)
    except LeaseLost:
        return 0


def below(run: Run) -> int:
    return at_once(run)


def shown(function: Callable[..., int]) -> Callable[..., int]:
    @wraps(function)
    def shows(run: Run) -> int:
        return function(run)

    return shows


decorated = shown(at_once)

TOGETHER: tuple[Callable[..., int], ...] = (at_once, behind_another, with_lists)
APART: tuple[Callable[..., int], ...] = (kept_a_moment, added_to, tidied_up, caught, below, decorated)


def done(lw: longwatch.Longwatch, handler: Callable[..., int], times: int = 1) -> list[str]:
    """What the journal says of the last of so many tasks. An interpreter words a call anew once it has made it often."""
    lw.task("one")(handler)
    task = [lw.submit("one") for _ in range(times)][-1]
    lw.work(until_idle=True)
    assert (lw.get(task.id).state, lw.get(task.id).result) == ("done", 3)
    return [entry.kind for entry in lw.opened.parts.journal.after(0, limit=100, subject=task.id)]


@pytest.mark.parametrize("handler", TOGETHER)
@pytest.mark.parametrize("times", [1, 40])
def test_a_step_that_is_returned_at_once_is_stored_with_the_end(
    lw: longwatch.Longwatch, alone: list[str], handler: Callable[..., int], times: int
) -> None:
    told = done(lw, handler, times)
    assert "last" not in alone
    assert told[-2:] == ["step.stored", "task.done"]


@pytest.mark.parametrize("handler", APART)
@pytest.mark.parametrize("times", [1, 40])
def test_a_step_that_something_may_follow_is_stored_by_itself(
    lw: longwatch.Longwatch, alone: list[str], handler: Callable[..., int], times: int
) -> None:
    done(lw, handler, times)
    assert alone == ["last"] * times


def started(lw: longwatch.Longwatch) -> Claimed:
    lw.task("one")(at_once)
    lw.submit("one")
    (run,) = lw.opened.parts.runs.claim("worker_1", kinds=["one"], limit=1, lease_ms=60_000, start="run_1")
    return run


def test_an_end_with_a_step_that_is_repeated_is_no_error_and_stores_it_once(lw: longwatch.Longwatch) -> None:
    run, parts = started(lw), lw.opened.parts
    ends: list[Any] = [parts.runs.conclude(run, Finished("3", LastStep("last", "3"))).state for _ in range(2)]
    assert ends == ["done", "done"]
    told = [entry.kind for entry in parts.journal.after(0, limit=100, subject=run.task.id)]
    assert told.count("step.stored") == told.count("task.done") == 1


def test_a_run_that_has_lost_its_task_stores_no_step_with_its_end(lw: longwatch.Longwatch) -> None:
    run, parts = started(lw), lw.opened.parts
    lw.cancel(run.task.id)
    with pytest.raises(LeaseLost):
        parts.runs.conclude(run, Finished("3", LastStep("last", "3")))
    assert "step.stored" not in [entry.kind for entry in parts.journal.after(0, limit=100, subject=run.task.id)]
