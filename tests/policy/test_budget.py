"""What a purse may hold."""

from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy.budget import BROKEN, Standing, decide, first_told, mark, newly_reached
from longwatch.policy.limits import Cap

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["hold", "settle", "release", "expire", "settle_late"]), st.integers(0, 60), st.integers(0, 7)
    ),
    max_size=80,
)


def standing(cap: int, spent: int, held: int) -> Standing:
    return Standing("budget:growth", "money", Cap(cap, "month"), 0, 1, spent, held, 0)


@given(cap=st.integers(0, 200), moves=MOVES)
def test_spent_and_held_never_pass_the_cap_in_any_order_of_moves(cap: int, moves: list[tuple[str, int, int]]) -> None:
    held: list[int] = []
    charged: list[tuple[int, int]] = []  # (hold, charge) of calls whose outcome is unknown
    spent = 0
    for move, amount, place in moves:
        if move == "hold" and decide(standing(cap, spent, sum(held)), amount) == "fits":
            held.append(amount)
        elif move == "settle_late" and charged:
            hold, charge = charged.pop(place % len(charged))
            spent += min(amount, hold) - charge
        elif move != "hold" and held:
            hold = held.pop(place % len(held))
            spent += {"settle": min(amount, hold), "expire": hold}.get(move, 0)
            if move == "expire":
                charged.append((hold, hold))
        assert spent + sum(held) <= cap


AMOUNTS = st.integers(0, 80)


@given(cap=st.integers(0, 50), spent=AMOUNTS, held=AMOUNTS, aside=AMOUNTS, need=st.integers(1, 80))
def test_it_waits_exactly_when_it_would_fit_if_nothing_were_held(
    cap: int, spent: int, held: int, aside: int, need: int
) -> None:
    """What a batch has set aside is no hold: nobody can wait for its end."""
    verdict = decide(standing(cap, spent, held)._replace(aside=aside), need)
    assert (verdict == "fits") == (spent + aside + held + need <= cap)
    assert (verdict == "exceeded") == (spent + aside + need > cap)


def test_a_free_call_is_no_matter_of_a_budget() -> None:
    assert decide(standing(10, 10, 0), 0) == "fits"
    assert decide(standing(10, 12, 0), 0) == "fits"


def test_each_threshold_is_told_of_once() -> None:
    warn = (0.5, 0.8, 1.0)
    assert newly_reached(warn, cap=100, spent=49, told=0) == []
    assert newly_reached(warn, cap=100, spent=50, told=0) == [mark(0.5)]
    assert newly_reached(warn, cap=100, spent=60, told=mark(0.5)) == []
    assert newly_reached(warn, cap=100, spent=100, told=mark(0.5)) == [mark(0.8), mark(1.0)]


def test_an_actual_above_the_cap_is_told_as_broken_even_without_thresholds() -> None:
    assert newly_reached((), cap=100, spent=101, told=0) == [BROKEN]
    assert newly_reached((), cap=100, spent=105, told=BROKEN) == []


@given(
    warn=st.lists(st.floats(0.01, 1.0), max_size=4).map(sorted),
    cap=st.integers(1, 10**12),
    spent=st.integers(0, 2 * 10**12),
)
def test_below_the_first_amount_there_is_nothing_to_tell(warn: list[float], cap: int, spent: int) -> None:
    assert (spent >= first_told(warn, cap)) == bool(newly_reached(warn, cap=cap, spent=spent, told=0))
