"""Plans against a slow simulation of the same limits: the meters and caps of admission, call by call."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from longwatch.policy import meter
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.limits import Cap, Rate
from longwatch.policy.meter import Meter
from longwatch.policy.plan import FAR_US, Pace, Purse, Stream, plan
from longwatch.policy.window import window_of

LONDON = ZoneInfo("Europe/London")
NOON_MS = 1_795_521_600_000  # 24 Nov 2026 12:00 UTC
NOON_US = NOON_MS * 1000


def pace_of(rate: Rate, *, full_us: int, units: int, calls: int, name: str = "api/requests") -> Pace:
    burst, most = meter.usable_burst(rate), meter.ceiling(rate)
    return Pace(name, rate.amount, rate.per_ms * 1000, burst, most, full_us, units, -(-units // calls))


# -- the slow way --------------------------------------------------------------------------------------------------------


def share(total: int, calls: int, place: int) -> int:
    """What the call at this place bears of the total, evenly."""
    return -(-total * (place + 1) // calls) - -(-total * place // calls)


@dataclass
class Slow:
    """Makes the calls one after the other: each in the first slot that its meters give, and its caps if `capped`."""

    streams: tuple[Stream, ...]
    purses: tuple[Purse, ...]
    capped: bool

    def __post_init__(self) -> None:
        self.meters = [[Meter(free_us=pace.full_us) for pace in stream.paces] for stream in self.streams]
        self.done = [0 for _ in self.streams]
        self.windows = [(purse.used, purse.ends_ms) for purse in self.purses]
        self.peaks = [purse.used for purse in self.purses]
        self.first_us: int | None = None
        self.last_us: int | None = None

    def run(self) -> "Slow":
        """Of all streams, the one whose next call can leave first goes first. Ends too when no call can leave any more."""
        if self.capped and any(purse.heaviest > purse.cap.amount for purse in self.purses):
            return self
        while waiting := [place for place, stream in enumerate(self.streams) if self.done[place] < stream.calls]:
            slot_us, place = min((self.slot(place), place) for place in waiting)
            if slot_us > NOON_US + FAR_US:
                self.last_us = None
                return self
            self.leave(place, slot_us)
        return self

    def slot(self, place: int) -> int:
        stream, slot_us = self.streams[place], NOON_US
        for pace, found in zip(stream.paces, self.meters[place], strict=True):
            weight = share(pace.units, stream.calls, self.done[place])
            spare_us = max(0, pace.burst - weight) * pace.per_us // pace.amount
            slot_us = max(slot_us, found.free_us - spare_us)
        return self.when_all_have_room(place, slot_us) if self.capped else slot_us

    def when_all_have_room(self, place: int, slot_us: int) -> int:
        while slot_us <= NOON_US + FAR_US and (full := self.full(place, slot_us)):
            slot_us = max(full)
        return slot_us

    def full(self, place: int, slot_us: int) -> list[int]:
        """When the windows end that have no room for the stream's next call."""
        stream, found = self.streams[place], list[int]()
        for at, purse in enumerate(self.purses):
            need, (used, ends_ms) = share(stream.draws[at], stream.calls, self.done[place]), self.window(at, slot_us)
            if need and used + need > purse.cap.amount:
                found.append(ends_ms * 1000)
        return found

    def window(self, at: int, slot_us: int) -> tuple[int, int]:
        used, ends_ms = self.windows[at]
        if slot_us < ends_ms * 1000:
            return used, ends_ms
        return 0, window_of(slot_us // 1000, self.purses[at].cap.window, LONDON).ends_ms

    def leave(self, place: int, slot_us: int) -> None:
        stream, done = self.streams[place], self.done[place]
        for at, pace in enumerate(stream.paces):
            rate, weight = Rate(pace.amount, pace.per_us // 1000, pace.burst), share(pace.units, stream.calls, done)
            self.meters[place][at] = meter.reserve(self.meters[place][at], rate, weight=weight, slot_us=slot_us)
        for at, draw in enumerate(stream.draws):
            used, ends_ms = self.window(at, slot_us)
            used += share(draw, stream.calls, done)
            self.windows[at], self.peaks[at] = (used, ends_ms), max(self.peaks[at], used)
        self.done[place] += 1
        self.first_us = slot_us if self.first_us is None else self.first_us
        self.last_us = slot_us if self.last_us is None else max(self.last_us, slot_us)


# -- the comparison ------------------------------------------------------------------------------------------------------


RATES = st.builds(
    Rate,
    amount=st.integers(1, 300),
    per_ms=st.sampled_from([1_000, 60_000, 3_600_000]),
    burst=st.integers(1, 200),
)
WINDOWS = st.sampled_from(["minute", "hour", "day", "month", "total"])


@st.composite
def streams(draw: st.DrawFn, purses: int, *, even: bool) -> Stream:
    calls = draw(st.integers(1, 250))
    paces = tuple(
        pace_of(
            draw(RATES),
            full_us=draw(st.sampled_from([0, NOON_US - 1, NOON_US + 700_000, NOON_US + 90_000_000])),
            units=draw(st.integers(0, 5)) * calls if even else draw(st.integers(0, 3_000)),
            calls=calls,
        )
        for _ in range(draw(st.integers(0, 3)))
    )
    draws = tuple(
        draw(st.integers(0, 4)) * calls if even else draw(st.integers(0, 2_000)) for _ in range(purses)
    )  # fmt: skip
    return Stream("api", calls, paces, draws)


@st.composite
def batches(
    draw: st.DrawFn, *, streams_most: int, even: bool
) -> tuple[tuple[Stream, ...], tuple[Purse, ...]]:  # fmt: skip
    count = draw(st.integers(0, 3))
    made = tuple(draw(streams(count, even=even)) for _ in range(draw(st.integers(1, streams_most))))
    purses = tuple(draw(purse(place, made)) for place in range(count))
    return made, purses


@st.composite
def purse(draw: st.DrawFn, place: int, made: tuple[Stream, ...]) -> Purse:
    cap = Cap(draw(st.integers(1, 600)), draw(WINDOWS))
    need = sum(stream.draws[place] for stream in made)
    heaviest = max(-(-stream.draws[place] // stream.calls) for stream in made)
    ends_ms = window_of(NOON_MS, cap.window, LONDON).ends_ms
    return Purse(f"budget:{place}", "money", cap, draw(st.integers(0, cap.amount)), ends_ms, need, heaviest)


def light(made: tuple[Stream, ...]) -> bool:
    return all(pace.heaviest <= pace.most for stream in made for pace in stream.paces)


def slack_us(made: tuple[Stream, ...]) -> int:
    """How far off a plan may be: the horizon, and a unit's time where the calls' weights differ by one."""
    uneven = [pace for stream in made for pace in stream.paces if pace.units % stream.calls]
    return HORIZON_US + max((-(-pace.per_us // pace.amount) for pace in uneven), default=0)


@settings(max_examples=150, deadline=None)
@given(st.booleans().flatmap(lambda even: batches(streams_most=3, even=even)))
def test_it_is_feasible_if_and_only_if_the_caps_have_room_at_the_pace_of_the_rates(
    batch: tuple[tuple[Stream, ...], tuple[Purse, ...]],
) -> None:
    made, purses = batch
    found, slow = plan(NOON_US, made, purses, LONDON), Slow(made, purses, capped=False).run()
    slack = slack_us(made)
    if slack == HORIZON_US:  # else a call may lie in the next window by the plan and in this one by the simulation
        fits = [peak <= purse.cap.amount or not purse.need for peak, purse in zip(slow.peaks, purses, strict=True)]
        assert [each.fits for each in found.purses] == fits
        assert found.feasible == (light(made) and all(fits))
    if found.feasible:
        assert slow.first_us == found.starts_us
        assert slow.last_us is not None
        assert found.ends_us is not None
        assert abs(slow.last_us - found.ends_us) <= slack


@settings(max_examples=150, deadline=None)
@given(st.booleans().flatmap(lambda even: batches(streams_most=1, even=even)))
def test_what_is_not_feasible_is_spread_over_windows_as_the_simulation_would(
    batch: tuple[tuple[Stream, ...], tuple[Purse, ...]],
) -> None:
    made, purses = batch
    found, slow = plan(NOON_US, made, purses, LONDON), Slow(made, purses, capped=True).run()
    if light(made) and slow.last_us is not None and slack_us(made) == HORIZON_US:
        assert found.ends_us is not None
        assert abs(found.ends_us - slow.last_us) <= HORIZON_US
        assert found.starts_us == slow.first_us
    if slow.last_us is None:
        assert found.ends_us is None
        assert not found.feasible


@settings(max_examples=150, deadline=None)
@given(batches(streams_most=3, even=True))
def test_with_the_caps_that_are_wanted_it_is_feasible_and_with_one_less_it_is_not(
    batch: tuple[tuple[Stream, ...], tuple[Purse, ...]],
) -> None:
    made, purses = batch
    found = plan(NOON_US, made, purses, LONDON)
    raised = tuple(
        purse._replace(cap=purse.cap if each.fits else Cap(each.wanted, purse.cap.window))
        for purse, each in zip(purses, found.purses, strict=True)
    )
    assert plan(NOON_US, made, raised, LONDON).feasible == light(made)
    for place, each in enumerate(found.purses):
        if not each.fits:
            less = raised[place]._replace(cap=Cap(each.wanted - 1, raised[place].cap.window))
            assert not plan(NOON_US, made, (*raised[:place], less, *raised[place + 1 :]), LONDON).feasible
