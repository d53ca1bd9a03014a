"""The table of moves: what may happen to a task, from every state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy import task
from longwatch.policy.task import ENDED, LEASED, MOVES, SILENT, STATES, Fate, State

FATES: tuple[Fate, ...] = ("cancel", "fail", "ignore")
BY_A_PERSON = {"retry", "revive", "resolve_done", "resolve_failed", "resolve_cancelled"}
states = st.sampled_from(STATES)
fates = st.sampled_from(FATES)


def test_every_state_is_waiting_for_a_worker_held_by_one_or_ended() -> None:
    assert set(STATES) == ENDED | LEASED | SILENT
    assert not ENDED & LEASED
    assert not (ENDED | LEASED) & SILENT


@pytest.mark.parametrize("name", MOVES)
def test_every_move_leads_from_a_state_to_a_state(name: str) -> None:
    assert set(MOVES[name]) | set(MOVES[name].values()) <= set(STATES)
    assert task.sources(name) == tuple(MOVES[name])


@pytest.mark.parametrize("name", sorted(set(MOVES) - BY_A_PERSON))
def test_nothing_that_has_ended_moves_by_itself(name: str) -> None:
    assert not set(MOVES[name]) & ENDED


def test_done_is_final() -> None:
    assert all(task.moved(name, "done") is None for name in MOVES)


def test_every_state_is_reached_and_every_open_one_can_end() -> None:
    reached: set[State] = {"waiting"}
    for _ in STATES:
        reached |= {after for table in MOVES.values() for before, after in table.items() if before in reached}
    assert reached == set(STATES)
    ending = set(ENDED)
    for _ in STATES:
        ending |= {before for table in MOVES.values() for before, after in table.items() if after in ending}
    assert ending == set(STATES)


def test_only_a_claimed_task_starts_and_only_a_running_one_finishes() -> None:
    assert task.sources("start") == ("claimed",)
    assert task.sources("finish") == ("running",)
    assert task.sources("claim") == ("ready",)


def test_any_open_task_can_be_cancelled() -> None:
    assert set(task.sources("cancel")) == set(STATES) - ENDED


@given(failures=st.integers(1, 9), retries=st.integers(0, 9))
def test_a_failing_task_has_one_run_more_than_its_retries(failures: int, retries: int) -> None:
    verdict = task.after_failure(failures=failures, retries=retries, final=False)
    assert verdict == ("retry_later" if failures < retries + 1 else "fail")
    assert task.after_failure(failures=failures, retries=retries, final=True) == "fail"


@given(crashes=st.integers(1, 9), limit=st.integers(1, 9))
def test_a_crashing_task_runs_as_often_as_its_limit(crashes: int, limit: int) -> None:
    verdict = task.after_crash(crashes=crashes, limit=limit, open_once=False)
    assert verdict == ("crash" if crashes < limit else "crash_out")


@given(crashes=st.integers(1, 9), limit=st.integers(1, 9))
def test_a_crash_inside_an_effect_that_is_never_repeated_leaves_it_unknown(crashes: int, limit: int) -> None:
    assert task.moved(task.after_crash(crashes=crashes, limit=limit, open_once=True), "running") == "unknown"


@given(fates, states)
def test_a_waiting_task_is_told_of_every_end_but_the_unknown_one(fate: Fate, state: State) -> None:
    verdict = task.fate_move(fate, state)
    assert (verdict is None) == (state not in ENDED - {"unknown"})
    assert verdict is None or task.moved(verdict, "waiting") is not None


@given(fates)
def test_a_need_that_ended_well_is_met_whatever_the_fate(fate: Fate) -> None:
    assert task.fate_move(fate, "done") == "need_met"


@pytest.mark.parametrize(("fate", "after"), [("cancel", "cancelled"), ("fail", "failed"), ("ignore", "scheduled")])
@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_need_that_ended_badly_does_what_the_fate_says(fate: Fate, after: State, state: State) -> None:
    verdict = task.fate_move(fate, state)
    assert verdict is not None
    assert task.moved(verdict, "waiting") == after
