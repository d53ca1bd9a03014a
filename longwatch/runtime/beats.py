"""Keeps the holds of this process's open calls alive while it lives.

A worker beats for its owner anyway. For every other owner a thread is started with its first open call; it ends when no
call is open any more, and is started again with the next one.
"""

import logging
import threading

from longwatch.admission.limiter import Limiter
from longwatch.errors import StoreUnavailable
from longwatch.runtime.loop import Sleeper
from longwatch.runtime.world import World

logger = logging.getLogger("longwatch")

BEAT_MS = 20_000


class Beats:
    """Safe in threads."""

    def __init__(self, world: World, sleeper: Sleeper, limiter: Limiter) -> None:
        self._world, self._sleeper, self._limiter = world, sleeper, limiter
        self._guard = threading.Lock()
        self._open: dict[str, str] = {}  # owner by call
        self._beaten: dict[str, int] = {}  # steady instant of each owner's last beat
        self._running = False

    def opened(self, call: str, owner: str) -> None:
        with self._guard:
            self._open[call] = owner
            self._beaten.setdefault(owner, self._world.steady_ms())
            starts = not self._running
            self._running = True
        if starts:
            self._sleeper.start("calls", self._run)

    def closed(self, call: str) -> None:
        with self._guard:
            self._open.pop(call, None)

    def beat(self, owner: str) -> None:
        """Push the owner's holds on, if it has any. Errors: StoreUnavailable."""
        with self._guard:
            self._beaten[owner] = self._world.steady_ms()
            holds = owner in self._open.values()
        if holds:
            self._limiter.beat(owner)

    def _run(self) -> None:
        while True:
            self._sleeper.sleep_until(self._world.steady_ms() + BEAT_MS)
            silent = self._silent()
            if silent is None:
                return
            for owner in silent:
                self._beat_or_tell(owner)

    def _silent(self) -> list[str] | None:
        """Owners of open calls for whom nobody has beaten lately; None when nothing is open and the thread may end."""
        with self._guard:
            if not self._open:
                self._running = False
                self._beaten.clear()
                return None
            due_ms = self._world.steady_ms() - BEAT_MS
            return [owner for owner in sorted(set(self._open.values())) if self._beaten.get(owner, 0) <= due_ms]

    def _beat_or_tell(self, owner: str) -> None:
        try:
            self.beat(owner)
        except StoreUnavailable as error:
            logger.warning("the holds of this process's calls could not be kept alive, trying again: %s", error)
