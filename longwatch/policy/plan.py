"""What a batch needs of each limit against what is left of it: whether it fits, from when to when it would run, what binds.

A batch is seen as one stream of calls for each service, all of the same weight, made as fast as the service's rates let
them leave. From where its meters stand, the slot of the k-th call is then a formula (each meter's line from the instant
at which all of them would first let one leave, and the latest of these lines counts), so that a plan of a million calls
takes no longer than one of ten. Concurrency is such a line too, where it is known how long a call takes.

Caps are looked at window by window. Feasible: at the pace of the rates no cap is passed in any window, so that no call
is refused. If not, the same calls are spread: in each window as many as the caps have room for, the rest in the next one;
that tells when it could end, and in how many windows.

What it does not know: what others will use meanwhile, how long tasks take beside their calls, how many workers there are.
Instants are microseconds of the wall clock, units as in `policy.limits`.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zoneinfo import ZoneInfo

from longwatch.policy.limits import Cap
from longwatch.policy.window import window_of

FAR_US = 100 * 366 * 86_400_000_000  # what would end later than that ends never
LOOKED = 2_000  # windows with calls of one cap that are looked at for their peak; from then on the pace is an even one
STEPS = 20_000  # windows with calls over which a batch is spread at most


class Pace(NamedTuple):
    """One rate, or the places of a service: `amount` units per `per_us`. burst: units at once, with the whole burst free.

    most: of one call. full_us: from when the whole burst is free. units: of the whole batch. heaviest: of its heaviest call.
    """

    name: str
    amount: int
    per_us: int
    burst: int
    most: int
    full_us: int
    units: int
    heaviest: int


class Purse(NamedTuple):
    """One cap as it stands. used: spent and held in the window that ends at ends_ms. need: of the whole batch."""

    name: str
    dimension: str
    cap: Cap
    used: int
    ends_ms: int
    need: int
    heaviest: int


class Stream(NamedTuple):
    """The calls of one service. draws: what all of them take of each purse, in the order of the purses. from_us: before which
    the service takes none; None: it refuses them."""

    name: str
    calls: int
    paces: tuple[Pace, ...]
    draws: tuple[int, ...]
    takes_us: int = 0
    from_us: int | None = 0


class PaceFound(NamedTuple):
    """How a rate fares. ends_us: when it alone would let the last call leave. fits: every call is light enough."""

    ends_us: int
    fits: bool


class PurseFound(NamedTuple):
    """How a cap fares. wanted: the least cap with which the batch runs through; fits: it is no more than there is."""

    wanted: int
    fits: bool


class Found(NamedTuple):
    """The plan. ends_us: of the last call, spread over windows if it is not feasible; None: never.

    windows: of each purse, how many it is spread over from the one in which it starts, 0 where nothing is taken.
    paces: by stream, in the order given.
    """

    feasible: bool
    starts_us: int | None
    ends_us: int | None
    paces: tuple[tuple[PaceFound, ...], ...]
    purses: tuple[PurseFound, ...]
    windows: tuple[int, ...]


def plan(now_us: int, streams: Sequence[Stream], purses: Sequence[Purse], zone: ZoneInfo) -> Found:
    """Whether the batch fits, and when it would run if it was submitted now."""
    flows = [Flow.begin(stream, now_us) for stream in streams]
    paces = tuple(tuple(flow.alone(place, now_us) for place in range(len(flow.stream.paces))) for flow in flows)
    found = tuple(_peak(purse, place, flows, zone) for place, purse in enumerate(purses))
    light = all(pace.fits for each in paces for pace in each)
    starts_us = min((flow.slot(0) for flow in flows), default=now_us)
    ends_us = max((flow.slot(flow.left - 1) + flow.stream.takes_us for flow in flows), default=now_us)
    fits = light and ends_us <= now_us + FAR_US and all(stream.from_us is not None for stream in streams)
    if fits and all(purse.fits for purse in found):
        return Found(True, starts_us, ends_us, paces, found, tuple(0 for _ in purses))
    possible = fits and all(purse.heaviest <= purse.cap.amount for purse in purses)
    spread = _spread(now_us, streams, purses, zone) if possible else Spread(None, None, tuple(0 for _ in purses))
    return Found(False, spread.starts_us, spread.ends_us, paces, found, spread.windows)


# -- one stream ----------------------------------------------------------------------------------------------------------


@dataclass
class Flow:
    """A stream under way. done: calls that have left. full_us: of each pace, as it stands. first_us: the next slot."""

    stream: Stream
    full_us: list[int]
    first_us: int
    done: int = 0

    @classmethod
    def begin(cls, stream: Stream, now_us: int) -> "Flow":
        flow = cls(stream, [pace.full_us for pace in stream.paces], now_us)
        flow.resume(now_us)
        return flow

    @property
    def left(self) -> int:
        return self.stream.calls - self.done

    def resume(self, now_us: int) -> None:
        """From now on: the first slot that suits every meter, once the service takes calls."""
        ready_us = [full - self._spare_us(pace) for full, pace in zip(self.full_us, self.stream.paces, strict=True)]
        self.first_us = max([now_us, self.stream.from_us or 0, *ready_us])

    def slot(self, ahead: int) -> int:
        """Of the call that comes `ahead` calls after the next one."""
        lines = [
            max(full, self.first_us) + self._span_us(pace, ahead) - self._spare_us(pace)
            for full, pace in zip(self.full_us, self.stream.paces, strict=True)
        ]
        return max([self.first_us, *lines])

    def before(self, end_us: int) -> int:
        """How many of the calls that are left have their slots before the instant."""
        return bisect_left(range(self.left), end_us, key=self.slot)

    def leave(self, calls: int) -> None:
        """So many calls, at least one, have left in their slots. A meter that they have left behind decides no slot again."""
        self.full_us = [
            max(full, self.first_us) + self._span_us(pace, calls)
            for full, pace in zip(self.full_us, self.stream.paces, strict=True)
        ]
        self.done += calls

    def alone(self, place: int, now_us: int) -> PaceFound:
        """How one of the paces would fare if there was no other."""
        pace = self.stream.paces[place]
        only = Flow.begin(self.stream._replace(paces=(pace,)), now_us)
        return PaceFound(only.slot(only.left - 1), pace.heaviest <= pace.most)

    def drawn(self, purse: int, calls: int) -> int:
        """What the next calls take of the purse."""
        return self._drawn(purse, self.done + calls) - self._drawn(purse, self.done)

    def affords(self, purse: int, room: int) -> int:
        """How many of the calls that are left the room is enough for."""
        total = self.stream.draws[purse]
        if not total:
            return self.left
        most = (self._drawn(purse, self.done) + max(0, room)) * self.stream.calls // total
        return min(self.left, most - self.done)

    def _drawn(self, purse: int, calls: int) -> int:
        return -(-self.stream.draws[purse] * calls // self.stream.calls)

    def _spare_us(self, pace: Pace) -> int:
        weight = -(-pace.units // self.stream.calls)
        return max(0, pace.burst - weight) * pace.per_us // pace.amount

    def _span_us(self, pace: Pace, calls: int) -> int:
        """In which the units of the next calls refill: those of each call rounded up, as its meter does."""
        even, more = divmod(pace.units, self.stream.calls)
        heavier = -(-more * (self.done + calls) // self.stream.calls) - -(-more * self.done // self.stream.calls)
        return (calls - heavier) * _span_us(pace, even) + heavier * _span_us(pace, even + 1)


def _span_us(pace: Pace, units: int) -> int:
    return -(-units * pace.per_us // pace.amount)


# -- caps ----------------------------------------------------------------------------------------------------------------


def _peak(purse: Purse, place: int, flows: Sequence[Flow], zone: ZoneInfo) -> PurseFound:
    """The most that one window of the purse would hold if nothing but the rates held the calls back."""
    if purse.used + purse.need <= purse.cap.amount:
        return PurseFound(purse.used + purse.need, fits=True)
    wanted, used, ends_ms = purse.used, purse.used, purse.ends_ms
    before = [0] * len(flows)
    for _ in range(LOOKED):
        after = [flow.before(ends_ms * 1000) for flow in flows]
        used += sum(
            flow.drawn(place, now) - flow.drawn(place, then)
            for flow, now, then in zip(flows, after, before, strict=True)
        )
        wanted = max(wanted, used)
        if all(now == flow.left for flow, now in zip(flows, after, strict=True)) or wanted >= purse.used + purse.need:
            break
        next_us = min(flow.slot(now) for flow, now in zip(flows, after, strict=True) if now < flow.left)
        before, used, ends_ms = after, 0, window_of(next_us // 1000, purse.cap.window, zone).ends_ms
    return PurseFound(wanted, fits=wanted <= purse.cap.amount)


class Spread(NamedTuple):
    starts_us: int | None
    ends_us: int | None
    windows: tuple[int, ...]


@dataclass
class Window:
    """The present window of a purse. taken: whether the batch took anything of it; counted: of how many it did before."""

    purse: Purse
    ends_ms: int
    used: int
    taken: bool = False
    counted: int = field(default=0)

    def room(self) -> int:
        return self.purse.cap.amount - self.used

    def turn(self, at_ms: int, zone: ZoneInfo) -> None:
        """The next one, if this one has ended."""
        if self.ends_ms <= at_ms:
            self.counted += self.taken
            self.used, self.taken, self.ends_ms = 0, False, window_of(at_ms, self.purse.cap.window, zone).ends_ms


def _spread(now_us: int, streams: Sequence[Stream], purses: Sequence[Purse], zone: ZoneInfo) -> Spread:
    """As many calls in each window as the caps have room for."""
    flows = [Flow.begin(stream, now_us) for stream in streams]
    windows = [Window(purse, purse.ends_ms, purse.used) for purse in purses]
    binding = [place for place, purse in enumerate(purses) if purse.used + purse.need > purse.cap.amount]
    starts_us = ends_us = None
    for _ in range(STEPS):
        until_ms = min(windows[place].ends_ms for place in binding)
        for flow in flows:
            calls = _leaving(flow, windows, until_ms * 1000)
            if calls:
                starts_us = flow.slot(0) if starts_us is None else min(starts_us, flow.slot(0))
                last_us = flow.slot(calls - 1) + flow.stream.takes_us
                ends_us = last_us if ends_us is None else max(ends_us, last_us)
                flow.leave(calls)
        if not any(flow.left for flow in flows):
            return Spread(starts_us, ends_us, tuple(window.counted + window.taken for window in windows))
        for flow in flows:
            flow.resume(max(until_ms * 1000, _opens_us(flow, windows)))
        next_us = min(flow.first_us for flow in flows if flow.left)
        if next_us > now_us + FAR_US:
            break
        for window in windows:
            window.turn(next_us // 1000, zone)
    return Spread(starts_us, None, tuple(window.counted + window.taken for window in windows))


def _opens_us(flow: Flow, windows: Sequence[Window]) -> int:
    """When the last of the windows ends that have no room for the next call; 0 when all have."""
    full = [window.ends_ms for place, window in enumerate(windows) if not flow.affords(place, window.room())]
    return max(full, default=0) * 1000


def _leaving(flow: Flow, windows: Sequence[Window], until_us: int) -> int:
    """How many calls leave before the instant; the purses hold what they take."""
    afforded = [flow.affords(place, window.room()) for place, window in enumerate(windows)]
    calls = min([flow.before(until_us), *afforded])
    for place, window in enumerate(windows):
        drawn = flow.drawn(place, calls)
        window.used += drawn
        window.taken = window.taken or drawn > 0
    return calls
