"""What this process has had of each meter, for it to let others go first when that was more than its share."""

import threading
from typing import TYPE_CHECKING, NamedTuple

from longwatch.admission.calls import CallRequest
from longwatch.policy import fair
from longwatch.policy.fair import NOTHING, Had
from longwatch.policy.gauge import Gauge
from longwatch.policy.meter import span_us, usable_burst
from longwatch.policy.scope import Scope

if TYPE_CHECKING:
    from longwatch.runtime.world import World


class Turn(NamedTuple):
    """When to ask, and when there will be a slot; steady."""

    ask_ms: int
    slot_ms: int


class Fair:
    """Safe in threads."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._guard = threading.Lock()
        self._had: dict[str, Had] = {}  # by meter

    def later(self, scope: Scope, request: CallRequest, *, until_ms: int) -> Turn | None:
        """None: the call may ask now. until_ms: the latest slot of use to it, steady; it loses none that it would have had."""
        gauge = slowest(scope, request)
        if gauge is None or request.lane == "urgent":
            return None
        now_ms = self._world.steady_ms()
        amount_us = span_us(gauge.rate, request.weights[gauge.dimension])
        burst_us = span_us(gauge.rate, usable_burst(gauge.rate))
        with self._guard:
            had = self._had.get(gauge.meter, NOTHING)
            late_us = fair.ahead_us(had, burst_us=burst_us, amount_us=amount_us, now_us=now_ms * 1000)
            ask_ms, wait_ms = now_ms + late_us // 1000, had.wait_us // 1000
            if not late_us or ask_ms + 2 * wait_ms >= until_ms:
                return None
            self._had[gauge.meter] = had._replace(let_us=had.let_us + late_us)
        return Turn(ask_ms, ask_ms + wait_ms)

    def given(self, scope: Scope, request: CallRequest, *, slot_ms: int) -> None:
        """slot_ms: steady."""
        gauge = slowest(scope, request)
        if gauge is not None:
            now_us = self._world.steady_ms() * 1000
            amount_us = span_us(gauge.rate, request.weights[gauge.dimension])
            with self._guard:
                had = self._had.get(gauge.meter, NOTHING)
                self._had[gauge.meter] = fair.given(had, slot_us=slot_ms * 1000, amount_us=amount_us, now_us=now_us)


def slowest(scope: Scope, request: CallRequest) -> Gauge | None:
    """The rate that gives calls of this weight the fewest slots."""
    weighed = [gauge for gauge in scope.rates if request.weights.get(gauge.dimension, 0)]
    return max(weighed, key=lambda gauge: span_us(gauge.rate, request.weights[gauge.dimension]), default=None)
