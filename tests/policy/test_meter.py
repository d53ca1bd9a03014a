"""The meter against the token bucket that providers enforce."""

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import assume, given
from hypothesis import strategies as st

from longwatch.policy import meter
from longwatch.policy.admission import Ask, Later, Metered, Slot, decide
from longwatch.policy.limits import Rate
from longwatch.policy.meter import JITTER_MS, NEW, Meter

RATES = st.builds(
    Rate,
    amount=st.integers(1, 2_000),
    per_ms=st.sampled_from([1_000, 60_000]),
    burst=st.integers(1, 400),
)
STEPS = st.lists(
    st.tuples(st.integers(0, 3_000_000), st.integers(1, 40), st.integers(0, JITTER_MS * 1000)), min_size=1, max_size=60
)


@dataclass
class Bucket:
    """What the provider does: `burst` units, refilled at the rate, exact."""

    rate: Rate
    level: Fraction = Fraction(0)
    at_us: int = 0

    def __post_init__(self) -> None:
        self.level = Fraction(self.rate.burst)

    def takes(self, units: int, at_us: int) -> bool:
        refill = Fraction((at_us - self.at_us) * self.rate.amount, self.rate.per_ms * 1000)
        self.level, self.at_us = min(Fraction(self.rate.burst), self.level + refill), at_us
        self.level -= units
        return self.level >= 0


def admit(ask: Ask) -> tuple[int, dict[str, Meter]]:
    """Ask until there is a slot; (slot, meters)."""
    for _ in range(10_000):
        answer = decide(ask)
        if isinstance(answer, Slot):
            return answer.at_us, answer.meters
        assert isinstance(answer, Later)
        assert answer.at_us is not None
        assert answer.at_us > ask.now_us
        ask = ask._replace(now_us=answer.at_us)
    raise AssertionError("no slot within 10,000 attempts")


def has_room(rate: Rate) -> bool:
    """Whether the burst is large enough for its headroom; a smaller one leaves one call at a time and no promise."""
    return rate.burst - meter.usable_burst(rate) >= max(2, -(-rate.amount * JITTER_MS // rate.per_ms))


@given(rates=st.lists(RATES, min_size=1, max_size=3), steps=STEPS)
def test_no_window_gets_more_than_burst_and_rate_whatever_other_limits_say(
    rates: list[Rate], steps: list[tuple[int, int, int]]
) -> None:
    meters = {str(place): NEW for place in range(len(rates))}
    given: list[tuple[int, int]] = []
    now_us = 0
    for pause_us, weight, _ in steps:
        now_us += pause_us
        weight = min([weight, *(meter.usable_burst(rate) for rate in rates)])
        metered = tuple(Metered(name, rate, meters[name], weight) for name, rate in zip(meters, rates, strict=True))
        slot_us, changed = admit(Ask(now_us, None, metered, None, ()))
        meters |= changed
        given.append((slot_us, weight))
    given.sort()
    for rate in rates:
        for first in range(len(given)):
            total = 0
            for at_us, weight in given[first:]:
                total += weight
                span_us = at_us - given[first][0]
                assert total <= meter.usable_burst(rate) + Fraction(span_us * rate.amount, rate.per_ms * 1000)


@given(rates=st.lists(RATES, min_size=1, max_size=3), steps=STEPS)
def test_the_provider_never_refuses_calls_that_arrive_up_to_the_jitter_late(
    rates: list[Rate], steps: list[tuple[int, int, int]]
) -> None:
    assume(all(has_room(rate) for rate in rates))
    meters = {str(place): NEW for place in range(len(rates))}
    arrivals: list[tuple[int, int]] = []
    now_us = 0
    for pause_us, weight, late_us in steps:
        now_us += pause_us
        weight = min([weight, *(meter.usable_burst(rate) for rate in rates)])
        metered = tuple(Metered(name, rate, meters[name], weight) for name, rate in zip(meters, rates, strict=True))
        slot_us, changed = admit(Ask(now_us, None, metered, None, ()))
        meters |= changed
        arrivals.append((slot_us + late_us, weight))
    for rate in rates:
        bucket = Bucket(rate)
        assert all(bucket.takes(weight, at_us) for at_us, weight in sorted(arrivals))


@given(
    rate=st.builds(Rate, amount=st.integers(50, 1_000), per_ms=st.just(1_000), burst=st.integers(200, 500)),
    steps=st.lists(
        st.tuples(st.integers(0, 400_000), st.integers(1, 300), st.integers(0, 300), st.integers(0, 6)),
        min_size=1,
        max_size=60,
    ),
)
def test_what_is_given_back_is_never_more_than_the_provider_has_left(
    rate: Rate, steps: list[tuple[int, int, int, int]]
) -> None:
    """Calls reserve, use less or nothing, and are corrected some calls later; the bucket sees what they used."""
    now_us, found = 0, NEW
    used: list[tuple[int, int]] = []
    due: list[tuple[int, int, int, int, int]] = []
    for place, (pause_us, weight, saved, delay) in enumerate(steps):
        now_us += pause_us
        weight = min(weight, meter.usable_burst(rate))
        saved = min(saved, weight)
        slot_us, changed = admit(Ask(now_us, None, (Metered("m", rate, found, weight),), None, ()))
        found = changed["m"]
        used.append((slot_us, weight - saved))
        due.append((place + delay, weight, weight - saved, slot_us, found.total))
        for _, reserved, actual, then_us, total in [entry for entry in due if entry[0] == place]:
            found = meter.correct(found, rate, reserved=reserved, used=actual, slot_us=then_us, total_then=total)
    bucket = Bucket(rate)
    assert all(bucket.takes(units, at_us) for at_us, units in sorted(used) if units)


@given(
    rate=st.builds(Rate, amount=st.integers(1, 500), per_ms=st.just(1_000), burst=st.integers(1, 500)),
    calls=st.integers(200, 600),
)
def test_a_saturated_meter_gives_at_least_98_percent_of_the_rate(rate: Rate, calls: int) -> None:
    slots: list[int] = []
    found = NEW
    for _ in range(calls):
        slot_us, changed = admit(Ask(0, None, (Metered("m", rate, found, 1),), None, ()))
        found = changed["m"]
        slots.append(slot_us)
    beyond = calls - meter.usable_burst(rate)
    assume(beyond > 50)
    assert beyond / rate.amount >= 0.98 * slots[-1] / 1_000_000


def test_fifty_a_second_with_a_burst_of_fifty_leaves_room_for_four_late_calls() -> None:
    assert meter.usable_burst(Rate(50, 1_000, 50)) == 46
    assert meter.usable_burst(Rate(25, 1_000, 5)) == 3
    assert meter.usable_burst(Rate(50, 1_000, 5)) == 1
    assert meter.usable_burst(Rate(50, 60_000, 1)) == 1


def test_a_weight_above_the_burst_waits_for_the_whole_burst_and_leaves_a_debt() -> None:
    rate = Rate(1_000, 1_000, 82)
    assert meter.usable_burst(rate) == 2
    slot_us = meter.earliest_us(NEW, rate, weight=500, now_us=0)
    after = meter.reserve(NEW, rate, weight=500, slot_us=slot_us)
    assert slot_us == 0
    assert meter.earliest_us(after, rate, weight=1, now_us=0) == 499_000


def test_using_more_than_reserved_is_a_debt_that_later_calls_pay() -> None:
    rate = Rate(60_000, 60_000, 60_000)
    found = meter.reserve(NEW, rate, weight=1_000, slot_us=0)
    owed = meter.correct(found, rate, reserved=1_000, used=60_000, slot_us=0, total_then=found.total)
    assert owed.free_us == found.free_us + 59_000_000
    assert meter.earliest_us(owed, rate, weight=1_000, now_us=0) > 0


def test_what_nobody_reserved_is_owed_from_the_slot_of_its_call_on() -> None:
    rate = Rate(60_000, 60_000, 60_000)
    owed = meter.correct(NEW, rate, reserved=0, used=1_000, slot_us=5_000_000, total_then=0)
    assert owed == Meter(free_us=6_000_000, last_us=5_000_000, total=1_000)


def test_a_correction_at_once_leaves_the_meter_as_if_less_had_been_reserved() -> None:
    rate = Rate(60_000, 60_000, 60_000)
    big = meter.reserve(NEW, rate, weight=20_000, slot_us=5_000_000)
    small = meter.reserve(NEW, rate, weight=500, slot_us=5_000_000)
    back = meter.correct(big, rate, reserved=20_000, used=500, slot_us=5_000_000, total_then=big.total)
    assert back.free_us == small.free_us


def test_nothing_is_given_back_to_a_bucket_that_was_full_again_in_between() -> None:
    rate = Rate(60_000, 60_000, 60_000)
    first = meter.reserve(NEW, rate, weight=10_000, slot_us=0)
    second = meter.reserve(first, rate, weight=10_000, slot_us=100_000_000)
    assert meter.give_back(second, rate, units=10_000, total_then=first.total) == second


def test_free_units_shows_what_could_leave_now() -> None:
    rate = Rate(50, 1_000, 50)
    assert meter.free_units(NEW, rate, now_us=1) == 46
    after = meter.reserve(NEW, rate, weight=46, slot_us=1_000_000)
    assert meter.free_units(after, rate, now_us=1_000_000) == 0
    assert meter.free_units(after, rate, now_us=1_100_000) == 5


def spaced(
    rate: Rate, last_us: int, now_us: int = 1_000_000, *, used: int = 7, weight: int = 1, patience_us: int | None = None
) -> int:
    """How long a call waits whose meter gave its last slot at last_us. used: units that have not refilled yet."""
    metered = Metered("api", rate, Meter(now_us + meter.span_us(rate, used), last_us, used), weight)
    until_us = None if patience_us is None else now_us + patience_us
    return admit(Ask(now_us, until_us, (metered,), None, ()))[0] - now_us


def test_calls_of_a_burst_leave_one_behind_the_other() -> None:
    slow, brisk, quick = Rate(50, 1_000, 50), Rate(100, 1_000, 100), Rate(151, 1_000, 151)
    assert spaced(slow, 1_000_000) == 3_000
    assert spaced(brisk, 1_000_000) == 1_000, "whole milliseconds of 15 hundredths of a unit's refill"
    assert spaced(quick, 1_000_000) == 0
    assert spaced(slow, 997_500) == 500
    assert spaced(slow, 996_000) == 0, "the last one left long enough ago"
    assert spaced(slow, 0) == 0, "none has left yet"
    assert spaced(slow, 1_000_000, weight=0) == 0
    assert spaced(slow, 1_000_000, weight=20) == 3_000


def test_a_whole_burst_leaves_within_150_milliseconds() -> None:
    for burst in range(3, 400):
        rate = Rate(1, 1_000, burst)
        assert meter.apart_us(rate, 1) * meter.usable_burst(rate) <= 150_000
    assert meter.apart_us(Rate(50, 1_000, 155), 1) == 0


def test_nobody_keeps_apart_from_what_a_slower_meter_has_put_far_from_now() -> None:
    slow, fast = Rate(1, 1_000, 3), Rate(50, 1_000, 50)
    asked = Metered("slow", slow, Meter(1_800_000, 0, 1), 1), Metered("fast", fast, NEW, 1)
    slot_us, after = admit(Ask(1_000_000, None, asked, None, ()))
    assert slot_us == 1_800_000
    for now_us in range(1_000_000, 1_800_000, 1_000):
        waited_us = meter.earliest_us(after["fast"], fast, weight=1, now_us=now_us) - now_us
        assert waited_us <= meter.APART_US * 2, now_us


def test_calls_of_one_instant_have_slots_in_the_order_in_which_they_ask() -> None:
    rate, found, slots = Rate(50, 1_000, 50), NEW, list[int]()
    for _ in range(80):
        slots.append(meter.earliest_us(found, rate, weight=1, now_us=1_000_000))
        found = meter.reserve(found, rate, weight=1, slot_us=slots[-1])
    assert slots == sorted(set(slots))
    assert slots[-1] == 1_000_000 + 20_000 * (80 - meter.usable_burst(rate)), "as late as without gaps"


def test_a_call_that_cannot_wait_so_long_leaves_at_once() -> None:
    rate = Rate(50, 1_000, 50)
    assert spaced(rate, 1_010_000, patience_us=0) == 0
    assert spaced(rate, 1_010_000, patience_us=12_999) == 0
    assert spaced(rate, 1_010_000, patience_us=13_000) == 13_000
    assert spaced(rate, 1_010_000, patience_us=-5_000_000) == 0, "as far as it is late it may leave now"


@given(rate=RATES, threads=st.integers(1, 20), calls=st.integers(1, 200), busy_us=st.integers(0, 50_000))
def test_who_is_alone_loses_a_gap_a_call_at_most_and_nothing_where_the_rate_decides(
    rate: Rate, threads: int, calls: int, busy_us: int
) -> None:
    def done_us(*, apart: bool) -> int:
        found, ready = NEW, [1_000_000] * threads
        for _ in range(calls):
            now_us = ready.pop(0)
            slot_us = meter.earliest_us(found, rate, weight=1, now_us=now_us, apart=apart)
            assert slot_us - meter.earliest_us(found, rate, weight=1, now_us=now_us, apart=False) <= longest_us
            found = meter.reserve(found, rate, weight=1, slot_us=slot_us)
            ready = sorted([*ready, slot_us + busy_us])
        return found.last_us - 1_000_000

    gap_us, longest_us = meter.apart_us(rate, 1), meter.BURST_US + meter.APART_US
    late_us = done_us(apart=True) - done_us(apart=False)
    assert late_us <= calls * gap_us
    if done_us(apart=False) > calls * (busy_us + gap_us) + longest_us:
        assert late_us <= 0
