"""Many workers at once: one process each, replaced when it dies, stopped in order.

The parent decides each child's owner id, so that the moment a child is reaped everything it held is freed: nobody waits
for a lease to run out. When the parent itself is killed, its children see their pipe close and stop by themselves, and
the next parent buries those that did not.
"""

import json
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from longwatch.errors import ConfigError, LongwatchError, StoreUnavailable
from longwatch.policy import restart
from longwatch.runtime.parts import Parts
from longwatch.runtime.process import Child
from longwatch.runtime.worker import GRACE_MS, Stop

logger = logging.getLogger("longwatch")
TICK_MS = 250
LAST_WORD_MS = 2_000  # between the end of the grace and SIGKILL
REFUSED = 2  # exit status of a child that could not begin: wrong use, not a crash
AWAY = 69  # exit status of a child that could not reach the state: it is started again, ever later, however often
AWAY_AGAIN_MS = 1_000
STOPPED_MS = 60_000  # a child that stands still (SIGSTOP, a debugger) for longer is replaced; at least its lease


@dataclass
class Place:
    """One place in the pool: the child in it, or when the next one starts."""

    slot: restart.Slot = restart.Slot()  # noqa: RUF009 - frozen
    child: Child | None = None
    owner: str = ""
    started_ms: int = 0
    start_at_ms: int | None = 0
    stopped_ms: int | None = None  # since when the child was seen to stand still
    finished: bool = False


@dataclass
class Pool:
    """`size` worker processes. command: how to start one; told: what the one with this owner id is told."""

    parts: Parts
    command: Sequence[str]
    told: Callable[[str], object]
    size: int
    stop: Stop = field(default_factory=Stop)
    owners: list[str] = field(default_factory=list[str])
    on_change: Callable[[list[int]], None] | None = None
    places: list[Place] = field(default_factory=list[Place])
    unburied: list[str] = field(default_factory=list[str])

    def work(self) -> None:
        """Run until every child has finished (they are idle, or were told to stop). Errors: ConfigError from a child."""
        self.places = [Place() for _ in range(self.size)]
        try:
            while not all(place.finished for place in self.places):
                self._step()
        except KeyboardInterrupt:
            self._interrupt()
            raise
        finally:
            self._end()

    def pids(self) -> list[int]:
        return [place.child.pid for place in self.places if place.child is not None]

    def _step(self) -> None:
        now_ms = self.parts.steady_ms()
        for place in self.places:
            if place.child is None and not place.finished:
                self._start(place, now_ms)
        living = [place.child for place in self.places if place.child is not None]
        if self.stop.asked.is_set():
            self._hurry(living, now_ms)
        ready = self.parts.sleeper.wait_readable([child.descriptor for child in living], now_ms + TICK_MS)
        for place in self.places:
            if place.child is not None and place.child.descriptor in ready:
                self._reap(place)
            elif place.child is not None:
                self._watch(place, place.child)
        self._bury()

    def _watch(self, place: Place, child: Child) -> None:
        """One that stands still has lost what it held, and nobody may be there to wake it."""
        now_ms = self.parts.steady_ms()
        if not child.stopped():
            place.stopped_ms = None
        elif place.stopped_ms is None:
            place.stopped_ms = now_ms
        elif now_ms - place.stopped_ms > max(STOPPED_MS, self.parts.lease_ms):
            logger.warning("worker process %s has stood still for over a minute: it is killed and replaced", child.pid)
            child.signal(signal.SIGKILL)

    def _start(self, place: Place, now_ms: int) -> None:
        if self.stop.asked.is_set():
            place.finished = True
        elif place.start_at_ms is not None and place.start_at_ms <= now_ms:
            place.owner, place.started_ms = self.parts.world.new_id("worker"), now_ms
            place.stopped_ms = None
            place.child = Child(self.command, told=self.told(place.owner))
            self.owners.append(place.owner)
            if self.on_change is not None:
                self.on_change(self.pids())

    def _hurry(self, living: list[Child], now_ms: int) -> None:
        """SIGTERM asks a child to finish or hand back; past the grace it is killed."""
        late = self.stop.by_ms is not None and now_ms > self.stop.by_ms + LAST_WORD_MS
        for child in living:
            child.signal(signal.SIGKILL if late else signal.SIGTERM)

    def _reap(self, place: Place) -> None:
        assert place.child is not None
        code, said = place.child.reap()
        place.child = None
        if code == REFUSED:
            raise refusal(said)
        self.unburied.append(place.owner)
        if code == 0 or self.stop.asked.is_set():
            place.finished = True
            return
        lived_ms = self.parts.steady_ms() - place.started_ms
        place.slot, delay_ms = restart.after_death(place.slot, lived_ms=lived_ms)
        if code == AWAY:
            delay_ms = restart.MOST_MS if delay_ms is None else max(AWAY_AGAIN_MS, delay_ms)
        if delay_ms is None:
            raise ConfigError(
                f"a worker process dies whenever it starts (last with exit status {code})",
                hint="Run the same module with processes=1 to see why.",
            )
        place.start_at_ms = self.parts.steady_ms() + delay_ms

    def _bury(self) -> None:
        """Free what the dead held; with the state away, at the next step."""
        while self.unburied:
            try:
                self.parts.bury(self.unburied[0])
            except StoreUnavailable:
                return
            del self.unburied[0]

    def _interrupt(self) -> None:
        """Interrupted twice: every child hands back what it holds at once, and ends."""
        living = [place for place in self.places if place.child is not None]
        for place in living:
            if place.child is not None:
                place.child.signal(signal.SIGINT)
        until_ms = self.parts.steady_ms() + LAST_WORD_MS
        while living and self.parts.steady_ms() < until_ms:
            ready = self.parts.sleeper.wait_readable([p.child.descriptor for p in living if p.child], until_ms)
            living = [place for place in living if place.child and place.child.descriptor not in ready]

    def _end(self) -> None:
        """Whatever made the pool end, leave no child behind."""
        for place in self.places:
            if place.child is not None:
                place.child.signal(signal.SIGKILL)
                place.child.reap()
                place.child = None
                self.unburied.append(place.owner)
        self._bury()


def refusal(said: str) -> LongwatchError:
    """The error a child reported before it ended."""
    try:
        told = json.loads(said)
        return ConfigError(str(told["message"]), hint=str(told["hint"]))
    except (ValueError, KeyError, TypeError):
        return ConfigError("a worker process could not begin", hint="Run the same module with processes=1 to see why.")


__all__ = ["GRACE_MS", "Pool"]
