"""Which models may take the place of one that a budget has no room for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from longwatch.errors import BudgetExceeded, LimitRefused, UnknownPrice
from longwatch.policy.degrade import Way, helps, ways_down

COSTS = {"opus": 100, "sonnet": 50, "haiku": 5, "mini": 1}


def most(model: str) -> int:
    if model not in COSTS:
        raise UnknownPrice(model)
    return COSTS[model]


def down(models: list[str], asked: str) -> list[str]:
    return [way.model for way in ways_down(models, asked, micros=COSTS[asked], most=most)]


def test_those_behind_the_model_that_was_asked_for_come_in_their_order() -> None:
    assert down(["opus", "sonnet", "haiku"], "opus") == ["sonnet", "haiku"]
    assert down(["opus", "sonnet", "haiku"], "sonnet") == ["haiku"]
    assert down(["opus", "sonnet", "haiku"], "haiku") == []


def test_a_model_that_is_not_in_the_list_falls_back_on_all_that_are_cheaper() -> None:
    assert down(["sonnet", "haiku"], "opus") == ["sonnet", "haiku"]
    assert down(["opus", "sonnet", "mini"], "haiku") == ["mini"]


def test_a_model_of_another_service_and_one_that_costs_as_much_are_passed_over() -> None:
    assert down(["opus", "gpt", "haiku"], "opus") == ["haiku"]
    assert ways_down(["a", "b"], "c", micros=7, most=lambda model: 7) == ()


@given(st.lists(st.sampled_from([*COSTS, "gpt"]), unique=True), st.sampled_from([*COSTS]))
def test_every_step_down_holds_less(models: list[str], asked: str) -> None:
    held = [Way(asked, COSTS[asked]), *ways_down(models, asked, micros=COSTS[asked], most=most)]
    assert all(after.micros < before.micros for before, after in pairwise(held))
    assert {way.model for way in held[1:]} <= set(models) - {asked}


def exceeded(dimension: str) -> BudgetExceeded:
    return BudgetExceeded("no", budget="b", dimension=dimension, cap=1, spent=1, held=0, resets_at=None)


def test_only_spent_money_is_helped_by_a_cheaper_model() -> None:
    assert helps(exceeded("money"))
    assert not helps(exceeded("calls"))
    assert not helps(exceeded("tokens"))
    assert not helps(LimitRefused("no"))
