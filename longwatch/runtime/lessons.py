"""What this process's calls hear of limits, told to the fleet; and what the fleet has learned, heeded by this process.

The fleet's rates are read at most once a second, by a call that is about to ask. An answer costs a look at a dictionary, unless
it says what the fleet does not know. How much remains is told at most once a second for each meter.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from longwatch.admission.calls import CallRequest
from longwatch.admission.learned import key_of
from longwatch.errors import StoreUnavailable
from longwatch.policy import learning
from longwatch.policy.learning import Key, Learned
from longwatch.policy.limits import DIMENSIONS, Rate
from longwatch.policy.scope import gauges_of
from longwatch.policy.told import Told, floor_us
from longwatch.runtime.persist import persist

if TYPE_CHECKING:
    from longwatch.admission.limiter import Limiter
    from longwatch.runtime.world import World

logger = logging.getLogger("longwatch")

FRESH_MS = 1_000
ABOUT_US = 100_000  # processes whose clocks differ a little shall not correct each other


class Lessons:
    """Of one process. Safe in threads."""

    def __init__(self, world: "World", limiter: "Limiter") -> None:
        self._world, self._limiter = world, limiter
        self._guard = threading.Lock()
        self._rows: dict[Key, Learned] = {}
        self._read_ms = -FRESH_MS
        self._held: dict[str, tuple[int, int]] = {}
        """By meter: when it was told last what remains, and where the meter stood then."""

    # -- heeding -----------------------------------------------------------------------------------------------------------

    def heed(self) -> None:
        """Decide by what the fleet has learned. An engine that is away says so itself when it is asked for a slot."""
        if self._world.steady_ms() - self._read_ms < FRESH_MS:
            return
        with self._guard, contextlib.suppress(StoreUnavailable):
            if self._world.steady_ms() - self._read_ms >= FRESH_MS:
                found = self._limiter.learned.all()
                self._rows = {each.key: each for each in found}
                self._limiter.heed(learning.rates_of(found))
                self._read_ms = self._world.steady_ms()

    def read_again(self) -> None:
        """Something has happened: whoever asks next reads what was learned of it."""
        self._read_ms = -FRESH_MS

    # -- hearing -----------------------------------------------------------------------------------------------------------

    def is_news(self, request: CallRequest, told: Sequence[Told]) -> bool:
        """Whether the fleet does not know it yet. Asks nobody."""
        return any(self._is_new(request, each) for each in told) or bool(told and self._floors(request, told))

    def tell(self, request: CallRequest, told: Sequence[Told], evidence: str) -> None:
        """Say it to the fleet, as far as it is news. evidence: the words of it."""
        fresh = [each for each in told if self._is_new(request, each)]
        if fresh:
            learned, model = self._limiter.learned, request.model or ""
            how = {"call": request.id, "evidence": evidence}
            self._written(lambda: learned.published(request.service, model, fresh, **how))
            self.read_again()
            self.heed()
        floors = self._floors(request, told)
        if floors:
            now_ms = self._world.steady_ms()
            self._held |= {meter: (now_ms, free_us) for meter, free_us in floors.items()}
            self._quietly(lambda: self._limiter.hold_back(floors))

    def refused(self, request: CallRequest, told: Sequence[Told], *, left_ms: int, reason: str) -> bool:
        """The service has refused it as one of too many; whether the fleet comes more slowly from now on.

        left_ms: when it left, by the fleet's clock.
        """
        if any(each.dimension in DIMENSIONS and each.rate is not None for each in told) or _explained(told):
            return False
        most, model = self._configured(request), request.model or ""
        found: list[Learned | None] = []

        def lower() -> None:
            how = {"call": request.id, "evidence": reason}
            found.append(self._limiter.learned.lowered(request.service, model, left_ms=left_ms, most=most, **how))

        self._written(lower)
        self.read_again()
        if found and found[0] is not None:
            self._world.reach("limit.lowered")
        return bool(found) and found[0] is not None

    def answered(self, request: CallRequest, *, left_ms: int) -> None:
        """It had to wait for a rate, and was answered: if the rate is one that was found, it may rise."""
        if not self._may_rise(request, left_ms):
            return
        self.read_again()
        self.heed()  # somebody else may have raised it already
        if self._may_rise(request, left_ms):
            most, model, learned = self._configured(request), request.model or "", self._limiter.learned
            self._written(lambda: learned.raised(request.service, model, left_ms=left_ms, most=most, call=request.id))
            self.read_again()

    # -- one call ----------------------------------------------------------------------------------------------------------

    def _is_new(self, request: CallRequest, told: Told) -> bool:
        if told.rate is None:
            return False
        key = key_of(request.service, request.model or "", told)
        before = self._rows.get(key)
        return learning.published(before, key, told.rate, evidence="", now_ms=self._fleet_ms()) is not before

    def _floors(self, request: CallRequest, told: Sequence[Told]) -> dict[str, int]:
        """By meter, where it has to stand at least: of those that were not told lately."""
        if all(each.remaining is None for each in told):
            return {}
        rates = self._limiter.rates_of(request.service, request.model)
        floors: dict[str, int] = {}
        now_ms = self._world.steady_ms()
        for each in told:
            gauge = learning.gauge_for(each, rates, request.service)
            if gauge is None:
                continue
            found_us = floor_us(each, gauge.rate, now_us=self._fleet_ms() * 1000)
            told_ms, told_us = self._held.get(gauge.meter, (-FRESH_MS, 0))
            ahead = each.whole and found_us is not None and found_us >= told_us + FRESH_MS * 1000
            if found_us is not None and (ahead or now_ms - told_ms >= FRESH_MS):
                floors[gauge.meter] = found_us - found_us % ABOUT_US
        return floors

    def _may_rise(self, request: CallRequest, left_ms: int) -> bool:
        before = self._rows.get((request.service, request.model or "", "requests"))
        if before is None or before.source != "found":
            return False
        most = self._configured(request)
        return learning.raised(before, most=most, left_ms=left_ms, now_ms=self._fleet_ms()) is not before

    def _configured(self, request: CallRequest) -> Rate | None:
        service = self._limiter.limits.services.get(request.service)
        rates = () if service is None else gauges_of(service, request.model)
        return next((gauge.rate for gauge in rates if gauge.dimension == "requests"), None)

    def _fleet_ms(self) -> int:
        return self._world.steady_ms() + self._limiter.database.offset_ms

    def _written(self, write: Callable[[], object]) -> None:
        self._quietly(lambda: persist(write))

    def _quietly(self, write: Callable[[], object]) -> None:
        """What is not learned now, the next answer says again."""
        try:
            write()
        except StoreUnavailable as error:
            logger.warning("what a service said of its limits could not be told to the fleet: %s", error)


def _explained(told: Sequence[Told]) -> bool:
    """Whether it was refused because nothing remains of a window that the provider tells of."""
    return any(each.remaining == 0 for each in told)


def words(headers: Mapping[str, str]) -> str:
    """The headers that tell of limits, for people."""
    named = [str(name) for name in headers if "limit" in str(name).lower() and not str(name).lower().endswith("reset")]
    said = [f"{name}: {headers[name]}" for name in named]
    return ", ".join(sorted(said)) or "its headers"
