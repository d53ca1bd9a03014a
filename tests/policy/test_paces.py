"""The rates that a batch meets: calls of two models on one meter, by different rates, beside the meter itself, call by call."""

from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from longwatch.policy import meter
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.limits import Limits, Rate, Service
from longwatch.policy.meter import Meter
from longwatch.policy.needs import Demand, demand_of
from longwatch.policy.paces import rates_met
from longwatch.policy.plan import Stream, plan

NOW_US = 1_795_521_600_000_000
LIMITS = Limits(services={"api": Service("api", rates={"requests": Rate(60, 60_000, 4)})})
RATES = st.builds(Rate, st.integers(1, 300), st.sampled_from([1_000, 60_000, 3_600_000]), st.integers(1, 50))


def demand(model: str | None, learned: dict[tuple[str, str, str], Rate]) -> Demand:
    need = {"requests": 1} if model is None else {"requests": 1, "model": model}
    return demand_of("api", need, LIMITS, budget=None, agent="main", at_ms=0, learned=learned)


def slow_ends_us(counts: list[int], rates: list[Rate], full_us: int) -> int:
    """Whoever can leave first leaves first; the slot of the last."""
    found, slot_us = Meter(full_us), NOW_US
    while any(counts):
        slot_us, place = min(
            (meter.earliest_us(found, rates[place], weight=1, now_us=NOW_US), place)
            for place, left in enumerate(counts)
            if left
        )
        found, counts[place] = meter.reserve(found, rates[place], weight=1, slot_us=slot_us), counts[place] - 1
    return slot_us


@settings(max_examples=300, deadline=None)
@given(RATES, st.integers(0, 60), st.integers(0, 60), st.sampled_from([0, NOW_US + 700_000, NOW_US + 90_000_000]))
@example(Rate(10, 60_000, 1), 20, 20, 0)
def test_calls_of_two_models_on_one_meter_end_when_the_meter_says(
    rate: Rate, plain: int, slow: int, full_us: int
) -> None:
    learned = {("api", "slow", "requests"): rate}
    shares = [(demand(model, learned), times) for model, times in ((None, plain), ("slow", slow)) if times]
    if not shares:
        return
    (met,) = rates_met(shares, {"api/requests": full_us}, now_us=NOW_US, ahead_us=0, away=0)
    rates = [next(g.rate for g in each.scope.rates) for each, _ in shares]
    counts = [times for _, times in shares]
    binding = rate.amount * 60_000 < 60 * rate.per_ms and slow > 0
    assert (met.origin, met.needs) == ("learned" if binding else "configured", plain + slow)
    found = plan(NOW_US, [Stream("api", sum(counts), (met.pace,), ())], [], ZoneInfo("UTC"))
    assert found.ends_us is not None
    assert found.feasible
    ahead_us = [meter.span_us(each, meter.usable_burst(each) - 1) for each in rates]
    slack_us = HORIZON_US + max(meter.span_us(each, 1) for each in rates) + max(ahead_us) - min(ahead_us)
    assert abs(found.ends_us - slow_ends_us(counts, rates, full_us)) <= slack_us


def test_of_a_meter_that_keeps_a_share_for_when_the_engine_is_away_the_rest_is_met() -> None:
    (met,) = rates_met([(demand(None, {}), 1)], {}, now_us=NOW_US, ahead_us=0, away=50)
    assert (met.rate.amount, met.pace.amount) == (30, 30)


def test_nothing_that_was_learned_of_another_service_counts() -> None:
    (met,) = rates_met(
        [(demand(None, {("other", "", "requests"): Rate(1, 60_000, 1)}), 3)], {}, now_us=NOW_US, ahead_us=0, away=0
    )
    assert (met.rate, met.origin) == (LIMITS.services["api"].rates["requests"], "configured")
