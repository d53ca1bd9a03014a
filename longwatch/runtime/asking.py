"""How a call gets its slot: through gates, in line when others wait, with a cheaper model where its budget says so."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.refusals import nor_cheaper
from longwatch.errors import BudgetExceeded, LimitRefused, Refused
from longwatch.policy.admission import HORIZONS_US, Later
from longwatch.policy.breaker import is_open
from longwatch.policy.degrade import Way, helps
from longwatch.policy.lane import look_at_turn_ms
from longwatch.policy.meter import span_us
from longwatch.policy.scope import Scope, gate_of_meter
from longwatch.runtime.fair import Turn
from longwatch.runtime.passage import Passage
from longwatch.runtime.place import Place

if TYPE_CHECKING:
    from longwatch.runtime.calls import Calls

SOONEST_MS = 5  # after which to ask again at an open gate


class Asking:
    """Of one call. request: as it is asked for now; ways: cheaper models that are left to fall back on."""

    def __init__(self, calls: "Calls", request: CallRequest, ways: tuple[Way, ...]) -> None:
        self._calls, self.request, self.ways = calls, request, ways
        self.passage = Passage(calls.world, calls.limiter, calls.seen, request, calls.lessons)
        self.place = Place(calls.looks)
        self._ask_ms = 0  # from when there may be a slot; steady
        self._fair = False  # it has let others go first, or need not
        self._lets: Turn | None = None

    def again(self) -> CallRequest:
        """What is asked for once more, under another id."""
        return replace(self.request, id=self._calls.world.new_id("call"))

    def ask(self, until_ms: int | None) -> Admitted | Later:
        """until_ms: the latest slot of use, by the fleet's clock.

        Refused for money, it is asked for with the next cheaper model, which it keeps from then on (policy.degrade).
        Errors: of the model that was asked for, when no other fits either.
        """
        first: Refused | None = None
        while True:
            request = replace(self.request, until_ms=until_ms, turn=self.place.taken)
            try:
                return self.passage.ask(request)
            except (BudgetExceeded, LimitRefused) as refusal:
                first = first or refusal
                if helps(first) and self.ways:
                    self._step_down()
                elif first is refusal:
                    raise
                else:
                    raise nor_cheaper(first, request, self._calls.limiter.limits) from refusal

    def _step_down(self) -> None:
        """Ask for the next model from now on. Nothing is held for the one before it: it was refused."""
        way, self.ways = self.ways[0], self.ways[1:]
        asked = self.request.instead_of or self.request.model
        self.request = replace(self.request, model=way.model, money=way.micros, instead_of=asked)
        self.passage.give_up()
        self.passage.request = self.request
        self._calls.world.reach("call.degraded")

    def not_yet(self, *, patient: bool) -> int | None:
        """When to look again, steady. None: it may ask: it stands in no line, or it is its turn and there may be a slot.

        patient: it has time enough to let others go first.
        """
        if not self._fair:
            self._fair = True
            self._lets = self._calls.fair.later(self._calls.scope(self.request), self.request) if patient else None
        now_ms = self._calls.world.steady_ms()
        if self._lets is not None and now_ms < self._lets.ask_ms:
            return self._lets.ask_ms
        if self.place.taken and self.place.line != self._calls.scope(self.request).line:
            self.place.leave(self.request, served=False)  # others decide now, and it waits among those who ask them
            self._ask_ms = 0
        if not self.place.is_turn(self.request):
            return self._look_ms()
        return look_at_turn_ms(now_ms, self._ask_ms) if self.place.taken and now_ms < self._ask_ms else None

    def _look_ms(self) -> int:
        return self.place.look_ms(self._slot_us(self._calls.scope(self.request)))

    def again_ms(self, later: Later, soon_ms: int) -> int:
        """When to ask again; soon_ms: where nobody knows an instant. Whoever waits for a rate or a place stands in line."""
        gate, now_ms = gate_of_meter(later.what), self._calls.world.steady_ms()
        if gate is not None and later.at_us is not None and is_open(later.at_us):
            wait = self.passage.becomes_probe(gate)
            return now_ms if wait is None else max(wait.at_ms, now_ms + SOONEST_MS)
        known_ms = soon_ms if later.at_us is None else -(-later.at_us // 1000) - self._calls.limiter.database.offset_ms
        if gate is not None:
            self._calls.lessons.read_again()  # what closed it may have taught something
        if gate is not None or later.reason == "budget":
            return known_ms
        scope = self._calls.scope(self.request)
        if scope.line is None:
            return known_ms
        if self.place.taken:
            self.place.busy()
            self._ask_ms = known_ms + self.place.rank * self._slot_us(scope) // 1000
            return look_at_turn_ms(now_ms, self._ask_ms)
        self._calls.world.reach("call.in_line")
        return now_ms if self.place.take(scope, self.request) else self._look_ms()

    def expected_ms(self) -> int | None:
        """When it will have its slot if nobody else comes, by the calendar; None: it is not in line, or for no rate."""
        now_ms = self._calls.world.steady_ms()
        if self._lets is not None and now_ms < self._lets.ask_ms:
            return self._calls.world.wall_ms() + self._lets.slot_ms - now_ms
        slots = self._calls.limiter.lines.before(self.request.id) if self.place.taken else None
        scope = self._calls.scope(self.request)
        if slots is None or not scope.rates:
            return None
        return self._calls.world.wall_ms() + (HORIZONS_US[self.request.lane] + slots * self._slot_us(scope)) // 1000

    def _slot_us(self, scope: Scope) -> int:
        """How far apart slots are, if all calls weigh what this one does."""
        weights = self.request.weights
        return max((span_us(gauge.rate, weights.get(gauge.dimension, 0)) for gauge in scope.rates), default=0)

    @property
    def has_let(self) -> bool:
        """Others go or went first."""
        return self._lets is not None

    def admitted(self, slot_ms: int) -> None:
        """It has its slot; steady."""
        self.place.leave(self.request, served=True)
        self._calls.fair.given(self._calls.scope(self.request), self.request, slot_ms=slot_ms)

    def give_up(self) -> None:
        """It will not be asked for any more."""
        self.passage.give_up()
        self.place.leave(self.request, served=False)
