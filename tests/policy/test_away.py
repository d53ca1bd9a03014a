"""A limit that is split: the parts never come to more than the whole, whatever both of them let through."""

from hypothesis import example, given
from hypothesis import strategies as st

from longwatch.policy.away import MOST_PERCENT, lacking, parts_of, places_of, rest_of, share_of
from longwatch.policy.limits import Limits, Rate, Service
from longwatch.policy.meter import JITTER_MS, NEW, Meter, earliest_us, reserve, usable_burst
from longwatch.policy.scope import Scope, scope_of

RATES = st.builds(
    Rate,
    st.one_of(st.integers(1, 60), st.integers(1, 5_000_000)),
    st.sampled_from([1_000, 60_000, 3_600_000, 86_400_000]),
    st.one_of(st.integers(1, 40), st.integers(1, 5_000_000)),
)
PERCENT = st.integers(1, MOST_PERCENT)


@given(RATES, PERCENT)
@example(Rate(25, 1_000, 5), 10)
@example(Rate(50, 60_000, 50), 50)
def test_the_parts_of_a_rate_come_to_no_more_than_the_whole(rate: Rate, percent: int) -> None:
    rest, share = parts_of(rate, percent)
    if share is None:
        assert rest == rate
        assert usable_burst(rate) == 1
        return
    together = rest.amount * share.per_ms + share.amount * rest.per_ms  # over both of their times
    assert together * rate.per_ms <= rate.amount * rest.per_ms * share.per_ms
    assert share.amount * rate.per_ms * 100 <= rate.amount * share.per_ms * percent
    assert rest.burst + share.burst <= rate.burst
    assert min(rest.burst, share.burst) >= 1
    assert usable_burst(rest) + usable_burst(share) <= usable_burst(rate)
    assert max(rest.amount, share.amount) <= rate.amount


@given(RATES.filter(lambda rate: rate.amount < 200), PERCENT)
def test_hardly_anything_of_a_rate_is_lost(rate: Rate, percent: int) -> None:
    rest, share = parts_of(rate, percent)
    if share is not None:
        together = rest.amount / rest.per_ms + share.amount / share.per_ms
        assert 0.995 * rate.amount / rate.per_ms <= together


@given(st.integers(1, 10_000), PERCENT)
def test_places_are_split_where_there_are_two(most: int, percent: int) -> None:
    rest, share = places_of(most, percent)
    assert rest + share == most
    assert rest >= 1
    assert (share == 0) == (most < 2)


@given(
    st.builds(Rate, st.integers(1, 100), st.just(1_000), st.integers(1, 120)),
    PERCENT,
    st.lists(st.tuples(st.booleans(), st.integers(0, 400_000)), max_size=120),
)
def test_a_bucket_of_the_whole_limit_never_runs_dry(rate: Rate, percent: int, asked: list[tuple[bool, int]]) -> None:
    """Both sides give slots, each by its own meter, and the worst jitter bunches them together in front of the provider."""
    rest, share = parts_of(rate, percent)
    meters: dict[bool, Meter] = {False: NEW, True: NEW}
    now_us, slots = 0, list[int]()
    for is_away, passed_us in asked:
        now_us += passed_us
        part = share if is_away else rest
        if part is not None:
            slot_us = earliest_us(meters[is_away], part, weight=1, now_us=now_us)
            meters[is_away] = reserve(meters[is_away], part, weight=1, slot_us=slot_us)
            slots.append(slot_us)
    if usable_burst(rate) < rate.burst:
        assert at_most(sorted(slots), rate, late_us=JITTER_MS * 1_000)
    else:
        assert at_most(sorted(slots), rate, late_us=0)


def at_most(slots: list[int], rate: Rate, *, late_us: int) -> bool:
    """Whether in every stretch of time no more arrive than the bucket held and was refilled with."""
    if rate.burst - usable_burst(rate) < -(-rate.amount * late_us // 1_000_000):
        late_us = 0  # so small a burst has no room for it
    refilled = rate.amount / (rate.per_ms * 1_000)
    return all(
        end - start + 1 <= rate.burst + refilled * max(0, slots[end] - slots[start] - late_us) + 1e-6
        for start in range(len(slots))
        for end in range(start, len(slots))
    )


def test_what_is_too_small_is_named() -> None:
    limits = Limits(
        services={
            "one": Service("one", concurrency=1),
            "slow": Service("slow", rates={"requests": Rate(1, 1_000, 1)}),
            "wide": Service("wide", rates={"requests": Rate(25, 1_000, 5)}, concurrency=20),
        }
    )

    def whole(service: str) -> Scope:
        return scope_of(limits, service=service, model=None, budget=None, agent="a")

    assert lacking(whole("one"), 10) == "the concurrency of one, 1"
    assert lacking(whole("slow"), 10) == "the burst of slow/requests, 1"
    assert not lacking(whole("wide"), 10)


def test_both_parts_heed_the_same_gates_and_wait_in_lines_of_their_own() -> None:
    limits = Limits(services={"wide": Service("wide", rates={"requests": Rate(25, 1_000, 5)}, concurrency=20)})
    whole = scope_of(limits, service="wide", model="m", budget=None, agent="a")
    rest, share = rest_of(whole, 10), share_of(whole, 10)
    assert [gauge.meter for gauge in rest.gauges] == ["wide/requests", "wide/gate", "wide/m/gate", "wide/line"]
    assert [gauge.meter for gauge in share.gauges] == [
        "wide/requests@away",
        "wide/gate",
        "wide/m/gate",
        "wide@away/line",
    ]
    assert (rest.line, share.line) == ("wide", "wide@away")
    assert (rest.service.concurrency, share.service.concurrency) == (18, 2)
    assert rest_of(whole, 0) is whole
