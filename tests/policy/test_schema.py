"""Which code may use a schema, and what a start applies."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy.schema import is_post, is_welcome, needed, pending

NUMBERS = st.lists(st.integers(1, 400), min_size=1, unique=True).map(sorted)


class Step(NamedTuple):
    number: int


def numbers(steps: list[Step]) -> list[int]:
    return [step.number for step in steps]


@pytest.mark.parametrize(
    ("known", "found", "welcome"),
    [(5, 5, True), (5, 0, True), (5, 99, True), (5, 100, False), (100, 6, True), (199, 200, False), (301, 200, True)],
)
def test_code_may_use_what_was_only_added_to_since(known: int, found: int, welcome: bool) -> None:
    assert is_welcome(known, found) == welcome


@pytest.mark.parametrize(
    ("known", "found", "applied"),
    [
        ([5, 6], 5, [6]),
        ([5, 6, 100], 5, [6]),
        ([5, 6, 100], 6, []),
        ([5, 6, 100, 101], 5, [6, 100, 101]),
        ([5, 6, 100, 101, 200], 6, [100, 101]),
        ([5, 6, 100], 0, [5, 6, 100]),
        ([5], 6, []),
    ],
)
def test_a_start_applies_all_up_to_the_last_pre(known: list[int], found: int, applied: list[int]) -> None:
    assert numbers(needed([Step(number) for number in known], found)) == applied


@given(NUMBERS, st.integers(0, 400))
def test_a_start_leaves_behind_only_what_takes_away(known: list[int], found: int) -> None:
    steps = [Step(number) for number in known]
    applied, lacking = needed(steps, found), pending(steps, found)
    assert applied == lacking[: len(applied)], "in order, and none left out"
    assert all(is_post(step.number) for step in lacking[len(applied) :])


@given(NUMBERS, st.integers(1, 400), st.integers(1, 400))
def test_what_a_start_applies_keeps_the_code_welcome_that_knows_every_post_in_it(
    known: list[int], found: int, other: int
) -> None:
    reached = max([found, *numbers(needed([Step(number) for number in known], found))])
    posts = [number for number in range(found + 1, reached + 1) if is_post(number)]
    if is_welcome(other, found):
        assert is_welcome(other, reached) == all(post <= other for post in posts)
