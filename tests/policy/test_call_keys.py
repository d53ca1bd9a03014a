"""Calls with one key: what is charged is what is known of the one effect, and never less than any of them proves."""

from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy.call import LATENESS_MS, STATES, Told, borne, forgotten

told = st.builds(Told, st.sampled_from(STATES), st.integers(0, 9)).map(
    lambda call: call._replace(amount=0) if call.state == "released" else call
)
HOUR_MS = 3_600_000


@given(st.lists(told, max_size=6))
def test_at_most_one_ended_call_is_charged_and_at_what_it_told(calls: list[Told]) -> None:
    charges = borne(calls)
    ended = [charge for call, charge in zip(calls, charges, strict=True) if call.state != "open"]
    assert sum(charge > 0 for charge in ended) <= 1
    assert all(charge in (0, call.amount) for call, charge in zip(calls, charges, strict=True))
    assert all(charge == call.amount for call, charge in zip(calls, charges, strict=True) if call.state == "open")


@given(st.lists(told, max_size=6), st.integers(1, 9), st.integers(0, 6))
def test_one_effect_of_a_known_cost_is_charged_whatever_became_of_the_other_calls(
    calls: list[Told], cost: int, place: int
) -> None:
    """Every answer tells the cost of the effect, or nothing; one of them was heard."""
    truthful = [call._replace(amount=cost if call.amount else 0) if call.state == "settled" else call for call in calls]
    truthful.insert(place, Told("settled", cost))
    charges = borne(truthful)
    assert sum(charge for call, charge in zip(truthful, charges, strict=True) if call.state != "open") == cost


@given(st.lists(told.filter(lambda call: call.state != "settled" or call.amount == 0), max_size=6))
def test_while_no_actual_is_known_the_dearest_unknown_call_is_charged(calls: list[Told]) -> None:
    charged = sum(charge for call, charge in zip(calls, borne(calls), strict=True) if call.state != "open")
    assert charged == max((call.amount for call in calls if call.state == "unknown"), default=0)


def test_a_key_is_not_used_when_it_could_arrive_forgotten() -> None:
    day = 24 * HOUR_MS
    assert not forgotten(age_ms=day - LATENESS_MS, memory_ms=day)
    assert forgotten(age_ms=day - LATENESS_MS + 1, memory_ms=day)
    assert not forgotten(age_ms=30_000, memory_ms=60_000)
    assert forgotten(age_ms=30_001, memory_ms=60_000)
