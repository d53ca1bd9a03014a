"""The usual decision: of a call that nothing but rates limits, in few words.

`script.lua` makes it, before everything else that it does, if the state is the one that this process believes in and the
slot is near; in every other case nothing has happened, and the caller asks in the ordinary way. So nothing is decided
here that would be decided otherwise there. What is gained: what the meters need is made once for all calls of a scope, in
figures of `policy.meter`, and goes to the script as one word, behind what is the call's own; it answers in numbers.

Not usual are caps, places, keys that a service remembers, `once`, weights above a burst, and calls that draw on what their
batch has set aside.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from longwatch.admission.calls import HOLD_MS, CallRequest
from longwatch.admission.in_force import InForce
from longwatch.admission.keys import Charge
from longwatch.admission.redis.link import Link
from longwatch.admission.redis.values import Known, Who, is_heavy, is_keyed, pack, text, who_of
from longwatch.admission.standing import Prepared
from longwatch.db.connection import Clock
from longwatch.policy import meter
from longwatch.policy.admission import HORIZON_US, HORIZONS_US
from longwatch.policy.meter import NEW
from longwatch.policy.scope import Gauge
from longwatch.policy.window import MINUTE_MS, calendar_at

QUESTIONS = 1_024  # kept, of scopes and weights
PAUSE_MS = 1_000  # between two looks at a state that is not the one believed in
NEVER_US = 2**53
CHANGED = [1]  # what is answered when the state is another one
CALL = b"\xde\x00\x0d"  # a map of 13: four that begin it, four of the call itself, five that the script finds
LONG = struct.Struct(">BI").pack  # how a word of any length begins, packed

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(dict[str, Any]).decode

Weighed = tuple[tuple[str, int], ...]
"""Units by dimension, or by meter."""


@dataclass(frozen=True)
class Question:
    """What is the same for every call of a scope with these weights: how it is told of, and what is told beside it.

    meters: those that it weighs on.
    """

    prepared: Prepared
    call: bytes
    rest: bytes
    meters: Weighed


@dataclass(frozen=True)
class State:
    """What this process believes of the engine. calendar_ms: of the budgets; born_us: when it lost its memory, or 0."""

    packed: bytes
    generation: str
    rules: int
    calendar_ms: int
    born_us: int
    questions: dict[tuple[int, Weighed], Question | None] = field(default_factory=dict[Any, Any])


@dataclass
class Rates:
    """Safe in threads. given: decide by the clock, not by the server's."""

    link: Link
    clock: Clock
    fleet_ms: Callable[[], int]
    given: bool
    _state: State | None = None
    _look_ms: int = 0

    def admit(self, force: InForce, prepared: Prepared, request: CallRequest, generation: str) -> Known | None:
        """The call, admitted. None: whether it may be has to be asked in the ordinary way."""
        if prepared.scope.caps or prepared.scope.service.concurrency is not None or request.once:
            return None
        state = self._believed(force, generation)
        asked = None if state is None else self._question(state, prepared, request)
        if state is None or asked is None or is_keyed(prepared, request):
            return None
        now_ms = 0 if request.until_ms is None and not self.given else self.fleet_ms()
        who, hold = who_of(request, keyed=False), Charge(request.money, request.calls, request.tokens)
        of_call = asked.call + encode({"o": request.owner, "h": hold, "ch": hold, "row": pack(who)})[1:]
        patience_us, aside = _patience_us(request, now_ms), request.aside
        own = encode((request.id, patience_us, self.given and now_ms * 1000, aside or False))[1:]
        said = b"%b%b%b%b" % (own, LONG(0xDB, len(of_call)), of_call, asked.rest)
        answer = self.link.numbers(said, aside=aside is not None)
        if answer is None or len(answer) == 1:
            self._state = None if answer == CHANGED else state
            return None
        return self._known(request, state, answer, who=who, hold=hold, meters=asked.meters)

    def _known(
        self, request: CallRequest, state: State, answer: Sequence[int], *, who: Who, hold: Charge, meters: Weighed
    ) -> Known:
        now_us, slot_us, *totals = answer
        shift_us = 0 if self.given else (self.fleet_ms() + 1) * 1000 - now_us
        at_ms = now_us // 1000 + shift_us // 1000
        return Known(
            id=request.id,
            who=who,
            owner=request.owner,
            state="open",
            version=1,
            slot_us=slot_us + shift_us,
            admitted_ms=at_ms,
            calendar_ms=state.calendar_ms,
            until_ms=at_ms + HOLD_MS,
            ended_ms=None,
            hold=hold,
            told=hold,
            weights={name: (weight, total) for (name, weight), total in zip(meters, totals, strict=True)},
            generation=state.generation,
        )

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
            self._state = State(words, text(kept["gen"]), kept["rules"], kept["cal"], kept["born"])
        return self._state

    # -- how it is asked ---------------------------------------------------------------------------------------------------

    def _question(self, state: State, prepared: Prepared, request: CallRequest) -> Question | None:
        """None: such a call is not usual."""
        place = id(prepared), tuple(request.weights.items())
        if place in state.questions:
            found = state.questions[place]
            if found is None or found.prepared is prepared:
                return found
        if len(state.questions) >= QUESTIONS:
            state.questions.clear()
        state.questions[place] = made = self._made(state, prepared, request)
        return made

    def _made(self, state: State, prepared: Prepared, request: CallRequest) -> Question | None:
        scope, weights = prepared.scope, request.weights
        meters = tuple(
            (found.meter, weights[found.dimension]) for found in scope.gauges if weights.get(found.dimension)
        )
        if not meters or is_heavy(prepared, weights):
            return None
        head = CALL + encode({"s": "open", "v": 1, "cal": state.calendar_ms, "ps": scope.purses})[1:]
        turns_us = NEVER_US if self.given else (state.calendar_ms + MINUTE_MS) * 1000
        counts = turns_us, HOLD_MS, len(scope.gauges), len(scope.purses)
        names = *(gauge.meter for gauge in scope.gauges), *(f"\0{purse}" for purse in scope.purses)
        told = iter([b"\xa1w" + bytes([0x80 | len(meters)]), *[b""] * len(meters)])
        figures = b""
        for gauge in scope.gauges:
            weight = weights.get(gauge.dimension, 0)
            figures += b"".join(map(encode, _figures(gauge, weight, born_us=state.born_us)))
            figures += _long(_told(gauge, weight, next(told)) if weight else b"")
        rest = _long(state.packed) + b"".join(map(encode, counts + names)) + figures
        return Question(prepared, head, rest, meters)


def _figures(gauge: Gauge, weight: int, *, born_us: int) -> tuple[int, int, int, int]:
    """What the burst leaves free, what the call takes, where a meter begins that was forgotten, and the call's weight."""
    burst = meter.usable_burst(gauge.rate)
    spare_us = -meter.earliest_us(NEW, gauge.rate, weight=weight, now_us=-NEVER_US)
    forgotten_us = born_us + HORIZON_US + meter.span_us(gauge.rate, burst) if born_us else 0
    return spare_us, meter.span_us(gauge.rate, weight), forgotten_us, weight


def _told(gauge: Gauge, weight: int, begins: bytes) -> bytes:
    """Of the packed call, a meter's entry but for its total."""
    return begins + encode(gauge.meter) + b"\x92" + encode(weight)


def _long(word: bytes) -> bytes:
    return LONG(0xDB, len(word)) + word


def _patience_us(request: CallRequest, now_ms: int) -> int:
    """How far from now the slot may be."""
    horizon_us = HORIZONS_US[request.lane]
    if request.until_ms is None:
        return horizon_us
    return min(horizon_us, max(0, request.until_ms - now_ms) * 1000)
