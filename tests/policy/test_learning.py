"""What was learned: never more than is allowed, once for everybody, and never far from the limit."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy import learning
from longwatch.policy.gauge import Gauge
from longwatch.policy.learning import Learned, lowered, per_minute, published, raised, rates_of, slower, with_learned
from longwatch.policy.limits import DIMENSIONS, Limits, Rate, Service
from longwatch.policy.scope import scope_of
from longwatch.policy.told import QUOTA
from longwatch.sandbox.quota import Bucket
from longwatch.sandbox.quota import Rate as Hard

NOW = 1_800_000_000_000
KEY = ("api", "", "requests")
RATES = st.builds(Rate, st.integers(1, 10_000), st.sampled_from([1_000, 60_000, 3_600_000]), st.integers(1, 100))


def refused(before: Learned | None, *, passed: int = 100, left_ms: int = NOW, now_ms: int = NOW, **how: Any) -> Learned:
    how = {"most": None, "evidence": "429"} | how
    return lowered(before, KEY, passed=passed, left_ms=left_ms, now_ms=now_ms, **how)


def test_fifteen_processes_that_are_refused_at_one_instant_lower_the_rate_once() -> None:
    first = refused(None, now_ms=NOW + 5)
    assert first.amount == 3_000, "half of what left in the second before, a minute"
    for number in range(14):
        assert refused(first, left_ms=NOW + number % 5, now_ms=NOW + 10 + number) is first
    late = NOW + 5 + learning.HEARD_MS
    assert refused(first, left_ms=late, now_ms=late + 5) is first, "some had not heard of it when they left"
    assert refused(first, left_ms=late + 1, now_ms=late + 5).amount == 1_500


@given(st.data(), RATES, st.integers(2, 5))
def test_whatever_is_learned_no_more_is_allowed_than_is_configured(data: st.DataObject, most: Rate, steps: int) -> None:
    found: Learned | None = None
    now_ms = NOW
    for _ in range(steps * 5):
        now_ms += data.draw(st.sampled_from([1, 900, 1_100, 70_000]))
        what = data.draw(st.sampled_from(["published", "refused", "answered"]))
        if what == "published":
            found = published(found, KEY, data.draw(RATES), evidence="", now_ms=now_ms)
        elif what == "refused":
            passed = data.draw(st.integers(0, 10_000))
            found = refused(found, passed=passed, left_ms=now_ms - 1, now_ms=now_ms, most=most)
        elif found is not None:
            found = raised(found, most=most, left_ms=now_ms, now_ms=now_ms)
        if found is not None:
            assert found.amount >= 1
            service = Service("api", rates={"requests": most})
            scope = scope_of(
                Limits(services={"api": service}),
                service="api",
                model=data.draw(st.sampled_from([None, "big-1"])),
                budget=None,
                agent="main",
                learned=rates_of([found]),
            )
            (gauge,) = scope.rates
            assert gauge.meter == "api/requests", "whatever the rate, it is one meter"
            assert not slower(most, gauge.rate)
            assert gauge.rate.burst <= most.burst


@given(
    st.dictionaries(st.tuples(st.just("api"), st.sampled_from(["", "m"]), st.sampled_from([*DIMENSIONS, QUOTA])), RATES)
)
def test_a_learned_rate_is_a_gauge_of_its_own_where_none_is_configured(learned: dict[learning.Key, Rate]) -> None:
    gauges = with_learned((), learned, "api", "m")
    assert len({gauge.meter for gauge in gauges}) == len(gauges) <= 4
    for dimension in DIMENSIONS:
        expected = learned.get(("api", "m", dimension)) or learned.get(("api", "", dimension))
        found = [gauge.rate for gauge in gauges if gauge.dimension == dimension and gauge.meter != "api/quota"]
        assert found == ([] if expected is None else [expected])
    assert with_learned((Gauge("api/x", "requests", Rate(1, 1_000, 1)),), {}, "api", "m")[0].meter == "api/x"


def test_the_slowest_limit_that_was_said_lately_counts() -> None:
    slow, fast = Rate(50, 60_000, 1), Rate(4_000, 60_000, 66)
    found = published(None, KEY, fast, evidence="", now_ms=NOW)
    found = published(found, KEY, slow, evidence="", now_ms=NOW + 1)
    assert found.rate == slow
    assert published(found, KEY, fast, evidence="", now_ms=NOW + 59_000) is found, "two keys do not take turns"
    assert published(found, KEY, slow, evidence="", now_ms=NOW + 5) is found, "what is known is not written again"
    repeated = published(found, KEY, slow, evidence="", now_ms=NOW + 40_000)
    assert published(repeated, KEY, fast, evidence="", now_ms=NOW + 70_000) is repeated
    assert published(repeated, KEY, fast, evidence="", now_ms=NOW + 101_000).rate == fast


def test_a_published_limit_is_not_searched_for() -> None:
    found = published(None, KEY, Rate(50, 60_000, 1), evidence="", now_ms=NOW)
    assert refused(found, left_ms=NOW + 10, now_ms=NOW + 20) is found
    assert raised(found, most=None, left_ms=NOW + 5_000, now_ms=NOW + 9_000) is found


def test_a_rate_rises_once_a_second_and_only_for_calls_that_left_at_it() -> None:
    found = refused(None)
    assert raised(found, most=None, left_ms=NOW + 500, now_ms=NOW + 900) is found
    assert raised(found, most=None, left_ms=NOW, now_ms=NOW + 1_500) is found, "it left before"
    more = raised(found, most=None, left_ms=NOW + 500, now_ms=NOW + 1_000)
    assert more.amount == 6_000
    assert raised(more, most=None, left_ms=NOW + 900, now_ms=NOW + 2_100) is more
    assert raised(more, most=Rate(75, 1_000, 5), left_ms=NOW + 1_900, now_ms=NOW + 2_100) is more, "that is configured"


@given(st.sampled_from([(25, 25), (50, 50), (50, 5), (10, 10), (100, 100), (25, 5)]))
def test_a_fleet_that_wants_more_finds_the_limit(hard: tuple[int, int]) -> None:
    """Calls at the rate, on a bucket that refuses; a second of quiet after each refusal, as the gate makes it."""
    limit, burst = hard
    bucket = Bucket(Hard(limit, 1_000, burst), 0)
    found, left, refusals, passed, at_ms = None, list[int](), list[int](), list[int](), 0
    while at_ms < 40_000:
        left.append(at_ms)
        if bucket.wait_ns(1, at_ms * 1_000_000) == 0:
            bucket.take(1, at_ms * 1_000_000)
            passed.append(at_ms)
            found = found and raised(found, most=None, left_ms=at_ms, now_ms=at_ms)
        else:
            refusals.append(at_ms)
            since_ms = at_ms - learning.LATELY_MS if found is None else found.lowered_ms
            found = refused(found, passed=sum(at > since_ms for at in left), left_ms=at_ms, now_ms=at_ms)
            at_ms += 1_000
        at_ms += 1 if found is None else max(1, 60_000 // found.amount)
    assert len(refusals) <= 12
    assert len([at for at in refusals if at > 10_000]) <= 5
    assert len([at for at in passed if at > 10_000]) >= 0.8 * 30 * limit
    assert found is not None
    assert per_minute(found.rate) == found.amount
