"""Whether this process can reach the engine, and who is told when it cannot.

After a failure the engine is left alone for a while, longer with every further one: nobody waits for an answer that will
not come. A fleet without a share for this time is never cut off: its calls wait for the engine, and each finds out itself.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from longwatch.admission.calls import CallRequest
from longwatch.admission.redis.link import EngineAway
from longwatch.admission.share import SILENT_MS, cut_off
from longwatch.db.connection import Database
from longwatch.policy.backoff import Backoff
from longwatch.store.journal import Journal

WAITS = Backoff(first_ms=100, most_ms=500)
STEADY_MS = 10_000  # who fails again within so long waits as if he had never been back
LEFT_MS = 1_500  # after its time nobody else has tried: whoever asks does it
SEEN_MS = 5_000  # how often the state is told that this process is still cut off


@dataclass
class Cut:
    """Safe in threads. now_ms: the fleet's clock. percent: of the share now in force, 0: none."""

    database: Database
    journal: Journal
    place: str
    now_ms: Callable[[], int]
    new_token: Callable[[], str]
    percent: Callable[[], int]
    error: EngineAway | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _trying: threading.Lock = field(default_factory=threading.Lock)
    _local: threading.local = field(default_factory=threading.local)
    _failures: int = 0
    _next_ms: int = 0
    _back_ms: int = -STEADY_MS
    _process: str | None = None  # as the state knows it
    _seen_ms: int = 0

    @property
    def holds(self) -> bool:
        """Whether the engine is not to be asked: but by this thread, if it is finding out."""
        return self.error is not None and self.percent() > 0 and not getattr(self._local, "tries", False)

    def check(self) -> None:
        """Errors: EngineAway."""
        error = self.error
        if error is not None and self.holds:
            raise EngineAway(error.message, hint=error.hint)

    def failed(self, error: EngineAway) -> None:
        """The engine did not answer, or may not decide yet."""
        now_ms = self.now_ms()
        with self._guard:
            if self.percent() == 0 or (self.error is not None and not getattr(self._local, "tries", False)):
                return  # somebody else has found out already
            if self.error is None and now_ms - self._back_ms >= STEADY_MS:
                self._failures = 0
            self.error, self._failures = error, self._failures + 1
            self._next_ms = now_ms + WAITS.delay_ms(self._failures, fraction=1.0)

    def is_due(self, *, left: bool = False) -> bool:
        """Whether it is time to try again. left: for somebody who would rather leave it to others."""
        return self.error is not None and self.now_ms() >= self._next_ms + (LEFT_MS if left else 0)

    @contextmanager
    def trying(self) -> Generator[bool]:
        """In the block this thread may ask the engine; False: another one is at it."""
        mine = self._trying.acquire(blocking=False)
        self._local.tries = mine
        try:
            yield mine
        finally:
            self._local.tries = False
            if mine:
                self._trying.release()

    # -- the state is told ---------------------------------------------------------------------------------------------------

    def goes(self, request: CallRequest) -> None:
        """A call is decided by the share. The first one of a process is news."""
        now_ms = self.now_ms()
        if self._process is not None and now_ms - self._seen_ms < SEEN_MS:
            return
        error = self.error
        with self._guard:
            fresh, self._seen_ms = self._process is None, now_ms
            process = self._process = self._process or self.new_token()
        who = {"owner": request.owner, "agent": request.agent}
        reason = "" if error is None else error.message
        with self.database.transaction(part="calls", durable=False) as tx:
            tx.count("away.cut", process=process, reason=reason, **who)
            tx.count("away.forgotten", silent_ms=SILENT_MS)
            if fresh:
                self.journal.append(
                    tx,
                    "engine.away",
                    "redis",
                    agent=request.agent,
                    place=self.place,
                    percent=self.percent(),
                    reason=reason,
                )

    def back(self) -> None:
        """The engine decides again."""
        with self._guard:
            process, self._process, self.error = self._process, None, None
            self._back_ms = self.now_ms()
        if process is None:
            return
        with self.database.transaction(part="calls", durable=False) as tx:
            row = tx.one("away.back", process=process)
            took_ms = None if row is None else tx.now_ms - row.since_ms
            self.journal.append(tx, "engine.back", "redis", place=self.place, took_ms=took_ms)

    def leave(self) -> None:
        """The process ends while the engine is still away: it goes by nothing any more."""
        with self._guard:
            process, self._process = self._process, None
        if process is not None:
            with self.database.transaction(part="calls", durable=False) as tx:
                tx.one("away.back", process=process)

    def bury(self, owner: str) -> None:
        if all(each.owner != owner for each in cut_off(self.database)):
            return
        with self.database.transaction(part="calls", durable=False) as tx:
            tx.count("away.buried", owner=owner)
