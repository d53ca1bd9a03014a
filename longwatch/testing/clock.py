"""The time of a fleet under test: it stands still while code runs, and jumps when somebody sleeps.

Whoever sleeps in the foreground (the test itself, a handler that waits for its turn) moves time on: not in one leap, but
from one wake time to the next of the threads that the fleet runs beside it. Each of those does what it has to do and
sleeps again before time moves further, so that beats keep leases and holds alive over an hour that takes a millisecond.

The instant is kept in memory that forked processes share: a process that is started after another one was killed goes on
where that one was. What is not virtual: time.sleep, datetime.now, and services outside, such as the sandbox.
"""

import mmap
import random
import secrets
import select
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from longwatch.policy.duration import Duration, parse_ms
from longwatch.runtime.loop import Bell
from longwatch.runtime.world import format_id

START: Final = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)  # a Monday morning: no window of a budget begins soon
STEADY_MS = 1_000  # the steady clock when the calendar says START
SLEEPS_MOST = 30_000  # between two calls of `advance`: who sleeps more often waits for what never comes
STUCK_S = 60.0  # of real time, for a thread beside to come to rest


class Stuck(RuntimeError):
    """Time cannot go on, or goes on without end. The message says who waits."""


class Over(BaseException):
    """The fleet is closed: a thread beside it ends."""


class Clock:
    """`advance("31d")` lets time pass, `now()` is the instant. Safe in threads."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._beside: dict[int, int | None] = {}  # wake times of the threads beside; None: it does not sleep
        self._over, self._sleeps = False, 0

    def forked(self) -> None:
        """In a forked child: the instant is the same, the threads are gone."""
        self._begin()

    # -- for tests ---------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The instant by the calendar, in UTC."""
        return datetime.fromtimestamp(self.wall_ms() / 1000, UTC)

    def advance(self, duration: Duration) -> None:
        """Let this much time pass: "90s", "31d", seconds. What is due to the fleet's own threads meanwhile happens."""
        self._sleeps = 0
        self.sleep_until(self.now_ms + parse_ms(duration))

    # -- for the fleet -----------------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """Since the beginning."""
        return int.from_bytes(self._shared[:8])

    def wall_ms(self) -> int:
        return round(START.timestamp() * 1000) + self.now_ms

    def put(self, now_ms: int) -> None:
        """It is this instant, as it was when the state was kept that has now been put back."""
        self._shared[:8] = now_ms.to_bytes(8)

    def is_beside(self) -> bool:
        """Whether the calling thread is one that the fleet has started for itself."""
        return threading.get_ident() in self._beside

    def sleep_until(self, at_ms: int, over: Callable[[], bool] = lambda: False) -> None:
        """Return at the instant, or when it is over. Errors: Stuck."""
        with self._changed:
            if threading.get_ident() in self._beside:
                self._doze(at_ms, over)
            else:
                self._pass(at_ms, over)

    def start(self, work: Callable[[], None], *, name: str) -> threading.Thread:
        """Run `work` beside, up to where it first sleeps; one that is beside itself goes on at once."""

        def run() -> None:
            try:
                work()
            except Over:
                pass
            finally:
                with self._changed:
                    self._beside.pop(threading.get_ident(), None)
                    self._changed.notify_all()

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._changed:
            thread.start()
            assert thread.ident is not None
            self._beside[thread.ident] = None
            if threading.get_ident() not in self._beside:
                self._settle()
        return thread

    def nudge(self) -> None:
        """Let the threads beside look whether what they wait for has come."""
        with self._changed:
            self._changed.notify_all()

    def end_beside(self) -> None:
        """End the threads beside: the fleet is closed. Errors: Stuck."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._beside, STUCK_S):
                raise Stuck(f"{len(self._beside)} threads of the fleet do not end")
            self._over = False

    # -- inside, with the condition held -------------------------------------------------------------------------------

    def _doze(self, at_ms: int, over: Callable[[], bool]) -> None:
        me = threading.get_ident()
        self._beside[me] = at_ms
        self._changed.notify_all()
        while self.now_ms < at_ms and not over():
            if self._over:
                raise Over
            self._changed.wait()
        self._beside[me] = None

    def _pass(self, at_ms: int, over: Callable[[], bool]) -> None:
        self._sleeps += 1
        if self._sleeps > SLEEPS_MOST:
            raise Stuck(
                f"this test has slept {SLEEPS_MOST} times, until {self.now()}: somebody waits for what never comes. "
                "Give the wait an end (wait=, timeout=), and work with until_idle=True"
            )
        self._settle()
        while self.now_ms < at_ms and not over():
            wakes = [wake for wake in self._beside.values() if wake is not None]
            self.put(max(self.now_ms, min([at_ms, *wakes])))
            self._changed.notify_all()
            self._settle()

    def _settle(self) -> None:
        """Wait until every thread beside sleeps, and none of them is due."""

        def settled() -> bool:
            return all(wake is not None and wake > self.now_ms for wake in self._beside.values())

        if not self._changed.wait_for(settled, STUCK_S):
            raise Stuck(f"a thread of the fleet has not slept for {STUCK_S:.0f} s: it waits for something real")


class ClockWorld:
    """runtime.world.World, by a clock that is not real. on_reach: told of every rare place."""

    def __init__(self, clock: Clock, on_reach: Callable[[str], None] | None = None) -> None:
        self._clock, self._on_reach = clock, on_reach
        self._jitter = random.Random(0)

    def steady_ms(self) -> int:
        return STEADY_MS + self._clock.now_ms

    def wall_ms(self) -> int:
        return self._clock.wall_ms()

    def boot_id(self) -> str:
        return "virtual"

    def new_id(self, sort: str) -> str:
        return format_id(sort, at_ms=self.wall_ms(), entropy=int.from_bytes(secrets.token_bytes(10)))

    def fraction(self) -> float:
        return self._jitter.random()

    def reach(self, mark: str) -> None:
        if self._on_reach is not None:
            self._on_reach(mark)


class ClockSleeper:
    """runtime.loop.Sleeper, by the same clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def sleep_until(self, steady_ms: int) -> None:
        self._clock.sleep_until(steady_ms - STEADY_MS)

    def wait_for_ring(self, bell: Bell | None, steady_ms: int) -> bool:
        rung = self.wait_readable([] if bell is None else [bell.descriptor], steady_ms)
        if bell is None or not rung:
            return False
        bell.heed()
        return True

    def wait_for_flag(self, flag: threading.Event, steady_ms: int) -> bool:
        self._clock.sleep_until(steady_ms - STEADY_MS, over=flag.is_set)
        return flag.is_set()

    def wait_readable(self, descriptors: Sequence[int], steady_ms: int) -> list[int]:
        def ready() -> list[int]:
            return select.select(descriptors, [], [], 0)[0] if descriptors else []

        self._clock.sleep_until(steady_ms - STEADY_MS, over=lambda: bool(ready()))
        return ready()

    def start(self, name: str, work: Callable[[], None]) -> "Joining":
        return Joining(self._clock, self._clock.start(work, name=f"longwatch-{name}"))


class Joining:
    """runtime.loop.Joinable: whoever is joined may wait for a flag that has just been set."""

    def __init__(self, clock: Clock, thread: threading.Thread) -> None:
        self._clock, self._thread = clock, thread

    def join(self, timeout: float | None = None) -> None:
        self._clock.nudge()
        self._thread.join(timeout)
