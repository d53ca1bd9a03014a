"""What this process has had of each meter, for it to let others go first when that was more than its share."""

import threading
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from longwatch.admission.calls import CallRequest
from longwatch.policy import fair
from longwatch.policy.fair import NOTHING, Had
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

    def later(self, scope: Scope, request: CallRequest) -> Turn | None:
        """None: the call may ask now."""
        if request.lane == "urgent" or (asked := asked_of(scope, request)) is None:
            return None
        now_ms = self._world.steady_ms()
        with self._guard:
            had = self._had.get(asked.meter, NOTHING)
            late_us = fair.ahead_us(had, burst_us=asked.burst_us, amount_us=asked.amount_us, now_us=now_ms * 1000)
            if not late_us:
                return None
            self._had[asked.meter] = fair.let(had, late_us, now_us=now_ms * 1000)
        ask_ms = now_ms + late_us // 1000
        return Turn(ask_ms, ask_ms + had.wait_us // 1000)

    def given(self, scope: Scope, request: CallRequest, *, slot_ms: int) -> None:
        """slot_ms: steady."""
        if (asked := asked_of(scope, request)) is not None:
            now_us = self._world.steady_ms() * 1000
            with self._guard:
                had = self._had.get(asked.meter, NOTHING)
                self._had[asked.meter] = fair.given(
                    had, slot_us=slot_ms * 1000, amount_us=asked.amount_us, now_us=now_us
                )


class Asked(NamedTuple):
    """Of a meter, in its time: what a call takes, and what may leave at once."""

    meter: str
    amount_us: int
    burst_us: int


def asked_of(scope: Scope, request: CallRequest) -> Asked | None:
    """Of the rate that gives calls of this weight the fewest slots."""
    weights = request.weights
    asked = [(span_us(gauge.rate, weights.get(gauge.dimension, 0)), gauge) for gauge in scope.rates]
    amount_us, gauge = max(asked, key=itemgetter(0), default=(0, None))
    if gauge is None or not amount_us:
        return None
    return Asked(gauge.meter, amount_us, span_us(gauge.rate, usable_burst(gauge.rate)))
