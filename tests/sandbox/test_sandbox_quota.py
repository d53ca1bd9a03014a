"""Buckets and windows never admit too much, never too little, and tell the truth about waiting."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from longwatch.sandbox.quota import NS_PER_MS, Bucket, Need, Rate, Window, admit, buckets, seconds

RATES = st.builds(
    Rate,
    amount=st.integers(1, 10_000),
    per_ms=st.sampled_from([1, 7, 1_000, 60_000, 3_600_000]),
    burst=st.none() | st.integers(1, 500),
)
ASKS = st.lists(st.tuples(st.integers(0, 10_000_000_000), st.integers(1, 20)), min_size=1, max_size=40)


def admitted(rate: Rate, asks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(instant, units) of what a bucket admits; asks: (nanoseconds since the one before, units)."""
    bucket, now_ns, taken = Bucket(rate, 0), 0, list[tuple[int, int]]()
    for gap_ns, units in asks:
        now_ns += gap_ns
        if bucket.wait_ns(units, now_ns) == 0:
            bucket.take(units, now_ns)
            taken.append((now_ns, units))
    return taken


@given(RATES, ASKS)
def test_no_window_admits_more_than_the_burst_and_the_rate(rate: Rate, asks: list[tuple[int, int]]) -> None:
    taken = admitted(rate, asks)
    period_ns = rate.per_ms * NS_PER_MS
    for first in range(len(taken)):
        units = 0
        for last in range(first, len(taken)):
            units += taken[last][1]
            window_ns = taken[last][0] - taken[first][0]
            assert units * period_ns <= rate.capacity * period_ns + rate.amount * window_ns


@given(RATES, ASKS, st.integers(1, 500))
def test_a_wait_is_exact_to_the_nanosecond(rate: Rate, asks: list[tuple[int, int]], units: int) -> None:
    bucket, now_ns = Bucket(rate, 0), 0
    for gap_ns, taken in asks:
        now_ns += gap_ns
        bucket.take(taken, now_ns)
    wait_ns = bucket.wait_ns(units, now_ns)
    if wait_ns is None:
        assert units > rate.capacity
    elif wait_ns:
        assert bucket.wait_ns(units, now_ns + wait_ns - 1) != 0
        assert bucket.wait_ns(units, now_ns + wait_ns) == 0


@given(RATES, ASKS)
def test_a_bucket_is_full_when_it_said_it_would_be(rate: Rate, asks: list[tuple[int, int]]) -> None:
    bucket = Bucket(rate, 0)
    bucket.take(asks[0][1], 0)
    assert bucket.remaining(bucket.full_ns(0)) == rate.capacity


@given(st.integers(1, 50), ASKS)
def test_a_fixed_window_admits_its_amount_and_no_more(amount: int, asks: list[tuple[int, int]]) -> None:
    window, now_ns, used = Window(Rate(amount, per_ms=1_000), 0), 0, dict[int, int]()
    for gap_ns, _ in asks:
        now_ns += gap_ns
        ends_ns = now_ns + window.ends_ns(now_ns)
        if window.remaining(now_ns):
            window.take(1, now_ns)
            used[ends_ns] = used.get(ends_ns, 0) + 1
    ends = sorted(used)
    assert all(used[end] <= amount for end in ends)
    assert all(later - earlier >= 1_000 * NS_PER_MS for earlier, later in itertools.pairwise(ends))


def test_admission_takes_of_every_bucket_or_of_none() -> None:
    wide, narrow = Bucket(Rate(10), 0), Bucket(Rate(1), 0)
    needs = [Need("wide", wide, 1), Need("narrow", narrow, 1)]
    assert admit(needs, 0) is None
    short = admit(needs, 0)
    assert short is not None
    assert (short.need.name, short.wait_ns) == ("narrow", 60_000 * NS_PER_MS)
    assert wide.remaining(0) == 9


def test_a_need_beyond_the_bucket_is_never_admitted() -> None:
    short = admit([Need("tokens", Bucket(Rate(10), 0), 11)], 0)
    assert short is not None
    assert short.wait_ns is None
    assert seconds(short.wait_ns) == 60


def test_only_a_changed_rate_starts_full() -> None:
    before = buckets({"a": Rate(10), "b": Rate(10)}, {}, 0)
    for bucket in before.values():
        bucket.take(10, 0)
    after = buckets({"a": Rate(10), "b": Rate(20)}, before, 0)
    assert [after["a"].remaining(0), after["b"].remaining(0)] == [0, 20]


def test_a_retry_after_is_rounded_up_and_never_zero() -> None:
    assert [seconds(ns) for ns in (1, 1_000_000_000, 1_000_000_001)] == [1, 1, 2]
