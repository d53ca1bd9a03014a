"""The usual decision: of a call that nothing but rates limits, in few words.

`script.lua` makes it, before everything else that it does, if the state is the one that this process believes in and the
slot is near; in every other case nothing has happened, and the caller asks in the ordinary way. So nothing is decided
here that would be decided otherwise there. What is gained: what the meters need is made once for all calls of a kind, in
figures of `policy.meter`, and goes to the script as one word, behind what is the call's own; it answers in numbers.

Not usual are caps, places, keys that a service remembers, `once`, weights above a burst, and calls that draw on what their
batch has set aside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from operator import attrgetter
from struct import Struct
from typing import Any

import msgspec

from longwatch.admission.calls import HOLD_MS, CallRequest
from longwatch.admission.in_force import InForce
from longwatch.admission.redis.engine_clock import EngineClock
from longwatch.admission.redis.link import Link
from longwatch.admission.redis.usual import SERVERS, Kind, State, Usual, Weighed, kind_of, packed
from longwatch.admission.redis.values import is_heavy, text
from longwatch.db.connection import Clock
from longwatch.policy import meter
from longwatch.policy.admission import HORIZON_US, HORIZONS_US
from longwatch.policy.meter import NEW
from longwatch.policy.scope import Gauge, Scope
from longwatch.policy.window import MINUTE_MS, calendar_at

KINDS = 1_024  # kept
WEIGHED = 15  # meters that a call weighs on, at most: a longer map begins otherwise, packed
PAUSE_MS = 1_000  # between two looks at a state that is not the one believed in
NEVER_US = 2**53
CHANGED = [1]  # what is answered when the state is another one
FIXED = Struct("<ddd").pack  # when the calendar moves, the state's stamp, the hold
FIGURES = Struct("<ddddd").pack
SHORT = Struct("<H").pack  # how long a word of a meter is

decode = msgspec.msgpack.Decoder(dict[str, Any]).decode

of_kind = attrgetter(
    "service", "model", "agent", "budget", "owner", "lane", "task", "run", "step", "money", "tokens", "past", "turn",
    "batch",
)  # fmt: skip
"""What, with its weights, tells the kind of a call."""


@dataclass
class Scoped:
    """A usual call's scope, and the kind that it is of as long as the state is the one that the kind was made for."""

    scope: Scope
    keyed: bool  # its service remembers keys
    kind: Kind | None = None


Place = tuple[tuple[Any, ...], Weighed]
Kinds = dict[Place, Scoped | None]
"""What the limits in force make of calls; None of such as are not usual."""


@dataclass
class Rates:
    """Safe in threads. given: decide by the clock, not by the server's."""

    link: Link
    clock: Clock
    fleet_ms: Callable[[], int]
    engine: EngineClock
    given: bool
    _state: State | None = None
    _look_ms: int = 0
    _kinds: tuple[InForce | None, Kinds] = (None, {})

    def admit(self, force: InForce, request: CallRequest, generation: str) -> Usual | None:
        """The call, admitted. None: whether it may be has to be asked in the ordinary way. Errors: ConfigError."""
        made_by, kinds = self._kinds
        place = of_kind(request), tuple(request.weights.items())
        if made_by is not force or place not in kinds:
            kinds = self._looked_up(place, force, request)
        found = kinds[place]
        if found is None or request.once or request.capped or request.instead_of:
            return None
        if found.keyed and request.key != request.id:
            return None
        if (state := self._believed(force, generation)) is None:
            return None
        kind = found.kind
        if kind is None or kind.state is not state:
            kind = found.kind = self._made(found, state, request)
        now_ms = self.fleet_ms()
        now_us = now_ms * 1000 if self.given else SERVERS
        said = kind.question(request.id, request.key, patience_us=_patience_us(request, now_ms), now_us=now_us)
        answer = self.link.numbers(said, aside=kind.aside)
        if answer is None or len(answer) == 1:
            self._state = None if answer == CHANGED else state
            return None
        at_us, slot_us, *totals = map(int, answer)
        shift_us = 0 if self.given else self.engine.shift_us(at_us, asked_ms=now_ms, heard_ms=self.fleet_ms())
        at_ms = at_us // 1000 + shift_us // 1000
        return Usual(request.id, request.key, kind, slot_us + shift_us, at_ms, tuple(totals))

    # -- what the engine is believed to know -----------------------------------------------------------------------------

    def _believed(self, force: InForce, generation: str) -> State | None:
        """The state, if this process may decide by it. The server sees to it that it is so still."""
        state = self._state or self._learnt(self.fleet_ms())
        if state is None or state.generation != generation or state.rules != force.rules:
            self._state = None
            return None
        if state.calendar_ms >= force.turns_ms or (self.given and self._has_turned(state)):
            self._state = None
            return None
        return state

    def _has_turned(self, state: State) -> bool:
        wall_ms, steady_ms = self.clock.wall_ms(), self.fleet_ms()
        return calendar_at(state.calendar_ms, wall_ms=wall_ms, steady_ms=steady_ms) != state.calendar_ms

    def _learnt(self, now_ms: int) -> State | None:
        if now_ms < self._look_ms:
            return None
        self._look_ms = now_ms + PAUSE_MS
        words = self.link.state()
        kept = decode(words) if words else {}
        if kept.get("ready"):
            self._state = State(_stamp(words), text(kept["gen"]), kept["rules"], kept["cal"], kept["born"])
        return self._state

    # -- how it is asked ---------------------------------------------------------------------------------------------------

    def _looked_up(self, place: Place, force: InForce, request: CallRequest) -> Kinds:
        """With the kind of this call. Errors: ConfigError."""
        prepared, weights = force.asked(request), request.weights
        scope = prepared.scope
        usual = not (scope.caps or scope.service.concurrency is not None or is_heavy(prepared, weights))
        usual = usual and 0 < sum(1 for gauge in scope.gauges if weights.get(gauge.dimension)) <= WEIGHED
        made_by, kinds = self._kinds
        if made_by is not force or len(kinds) >= KINDS:
            kinds = {}
            self._kinds = force, kinds
        kinds[place] = Scoped(scope, scope.service.key_memory_ms is not None) if usual else None
        return kinds

    def _made(self, found: Scoped, state: State, request: CallRequest) -> Kind:
        weights = request.weights
        gauges = sorted(found.scope.gauges, key=lambda gauge: not weights.get(gauge.dimension))  # weighed on first
        meters = tuple((gauge.meter, weights[gauge.dimension]) for gauge in gauges if weights.get(gauge.dimension))
        first, *others = _between(meters)
        rest = self._rest(state, gauges, request, others) + packed([f"\0{purse}" for purse in found.scope.purses])
        return kind_of(state, found.scope.purses, request, meters=meters, kept=first, rest=rest)

    def _rest(self, state: State, gauges: Sequence[Gauge], request: CallRequest, between: Sequence[bytes]) -> bytes:
        """What of the question is behind the call itself, but for the purses."""
        turns_us = NEVER_US if self.given else (state.calendar_ms + MINUTE_MS) * 1000
        behind = [*between, *([] if request.aside is None else [request.aside.encode()])]
        form = b"<" + b"Hc0" * len(gauges) + b"ddddd" * len(gauges) + b"Hc0" * len(behind)
        names = b"".join(_short(gauge.meter.encode()) for gauge in gauges)
        weights = [request.weights.get(gauge.dimension, 0) for gauge in gauges]
        figures = [
            FIGURES(*_figures(gauge, weight, born_us=state.born_us))
            for gauge, weight in zip(gauges, weights, strict=True)
        ]
        fixed = FIXED(turns_us, state.stamp, HOLD_MS)
        counts = bytes([len(gauges), len(between) + 1])
        return b"".join((fixed, counts, _short(form), names, *figures, *map(_short, behind)))


def _stamp(state: bytes) -> int:
    """As the script keeps it beside the state."""
    return int(sha1(state, usedforsecurity=False).hexdigest()[:13], 16)


def _figures(gauge: Gauge, weight: int, *, born_us: int) -> tuple[int, int, int, int, int]:
    """What the burst leaves free, what the call takes, where a meter begins that was forgotten, the call's weight, and how far
    behind the last slot it is."""
    burst = meter.usable_burst(gauge.rate)
    spare_us = -meter.earliest_us(NEW, gauge.rate, weight=weight, now_us=-NEVER_US)
    forgotten_us = born_us + HORIZON_US + meter.span_us(gauge.rate, burst) if born_us else 0
    return spare_us, meter.span_us(gauge.rate, weight), forgotten_us, weight, meter.apart_us(gauge.rate, weight)


def _between(meters: Weighed) -> list[bytes]:
    """Of the packed call, what stands before the total of each meter."""
    entries = [packed(name) + b"\x92" + packed(weight) for name, weight in meters]
    return [packed("w") + bytes([0x80 | len(meters)]) + entries[0], *entries[1:]]


def _short(word: bytes) -> bytes:
    return SHORT(len(word)) + word


def _patience_us(request: CallRequest, now_ms: int) -> int:
    """How far from now the slot may be."""
    horizon_us = HORIZONS_US[request.lane]
    if request.until_ms is None:
        return horizon_us
    return min(horizon_us, max(0, request.until_ms - now_ms) * 1000)
