"""Writes down, a few times a second, what an engine beside the state has decided for this process.

A thread is started when there is something to write, and ends when there was nothing for a while. It also pays what is
owed, so that calls which ended while the engine was away are settled as soon as it is back; and finds out when it is.
"""

import logging
import threading

from longwatch.admission.limiter import Limiter
from longwatch.errors import StoreUnavailable
from longwatch.runtime.loop import Sleeper
from longwatch.runtime.owed import Owed
from longwatch.runtime.world import World

logger = logging.getLogger("longwatch")

FLUSH_MS = 250  # a process and its engine that die within it lose the records of its calls; never their money
IDLE = 20  # rounds without anything to write, after which the thread ends


class Writing:
    """Safe in threads."""

    def __init__(self, world: World, sleeper: Sleeper, limiter: Limiter, owed: Owed) -> None:
        self._world, self._sleeper, self._limiter, self._owed = world, sleeper, limiter, owed
        self._guard = threading.Lock()
        self._running, self._idle = False, 0

    def wake(self) -> None:
        """There is something to write."""
        if self._running:
            return
        with self._guard:
            starts, self._running = not self._running, True
        if starts:
            self._sleeper.start("writing", self._run)

    def _run(self) -> None:
        told = False
        while not self._over():
            self._sleeper.sleep_until(self._world.steady_ms() + FLUSH_MS)
            self._limiter.ask_again()
            try:
                self._owed.pay()
            except StoreUnavailable as error:
                told = told or self._tell(error)
            try:
                self._idle = 0 if self._limiter.flush() else self._idle + 1
            except StoreUnavailable as error:
                told = told or self._tell(error)

    def _over(self) -> bool:
        with self._guard:
            if self._idle < IDLE or self._limiter.unwritten or self._limiter.away or self._owed:
                return False
            self._running, self._idle = False, 0
            return True

    def _tell(self, error: StoreUnavailable) -> bool:
        logger.warning("the calls of this process could not be written down, trying again: %s", error)
        return True
