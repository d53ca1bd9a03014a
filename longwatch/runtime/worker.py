"""One worker: claims tasks, runs their handlers one after the other, and ends each run in the ledger.

It claims a few short tasks at a time (as many as half a second of its own recent work), starts the first in the claim's
commit and every next one in the commit that ends its predecessor. Leases are beaten from a thread of their own, started
before the first claim; a beat that fails means that nobody knows, so the worker claims nothing new until one succeeds.

What it does not do: keep processes alive (runtime/pool.py), or decide what a failure means (policy/task.py).
"""

import contextlib
import logging
import threading
import traceback
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from longwatch.errors import (
    ConfigError,
    GiveUp,
    LeaseLost,
    NotStorable,
    Refused,
    RetryLater,
    StepReused,
    StoreUnavailable,
)
from longwatch.policy.duration import format_ms, parse_ms
from longwatch.policy.task import Failed, Finished, HandedBack, Lost, Outcome
from longwatch.runtime.handler import Handler, Registry
from longwatch.runtime.loop import Bell
from longwatch.runtime.parts import Parts
from longwatch.runtime.persist import persist
from longwatch.runtime.run import OutcomeLost, Run
from longwatch.runtime.storable import to_json
from longwatch.runtime.upkeep import Upkeep
from longwatch.store.moves import Run as Claimed

logger = logging.getLogger("longwatch")
T = TypeVar("T")

AHEAD_MS = 500  # work claimed ahead, at the worker's recent pace
AHEAD_MOST = 64
SWEEP_MS = 1_000  # an idle worker looks by itself, should a ring be lost
DUE_SOON_MS = 60_000  # "idle" means that nothing is due within a minute
AWAY_MOST_MS = 120_000  # a state that stays away longer ends the worker
GRACE_MS = 30_000
ERROR_MOST = 4_000  # characters of a traceback kept
UNTIMED = contextlib.nullcontext()


Overrun = Literal["timeout", "stop"]


class Stop:
    """Whether the worker shall stop: `ask` finishes the task in hand, within the grace; then it is handed back."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.by_ms: int | None = None

    def ask(self, *, by_ms: int) -> None:
        """A signal handler may interrupt this very method and call it: the second call then finds it asked."""
        if self.by_ms is None:
            self.by_ms = by_ms
            self.asked.set()


@dataclass
class Held:
    """What a worker holds now: the run in hand, and those it has claimed for later."""

    runs: list[Claimed] = field(default_factory=list[Claimed])
    current: Run | None = None
    beats_known: bool = True
    guard: threading.Lock = field(default_factory=threading.Lock)

    def fences(self) -> list[int]:
        with self.guard:
            return [run.fence for run in self.runs]


class Worker:
    """Runs tasks of the registry's kinds until told to stop, or until idle."""

    def __init__(
        self,
        parts: Parts,
        registry: Registry,
        *,
        owner: str,
        agent: str | None = None,
        kinds: Iterable[str] | None = None,
        on_overrun: Callable[[Overrun], None] | None = None,
        drive: Callable[[Handler[Any, Any], Run, str], Any] | None = None,
    ) -> None:
        """on_overrun: called when a run has passed its timeout or the grace of a stop, and was given up.

        drive: runs an async handler; the surface brings it.
        """
        self.parts, self.registry, self.owner, self.agent = parts, registry, owner, agent
        self.kinds = sorted(kinds if kinds is not None else registry.handlers)
        self.stop = Stop()
        self._drive, self._on_overrun = drive, on_overrun
        self._held, self._upkeep = Held(), Upkeep(parts)
        self._pace_ms = float(AHEAD_MS)
        self._over = threading.Event()
        self._away_since_ms: int | None = None

    def ask_to_stop(self) -> None:
        """Finish the task in hand within the grace, hand back the rest. Safe in a signal handler and from any thread."""
        self.stop.ask(by_ms=self.parts.steady_ms() + GRACE_MS)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def work(self, *, until_idle: bool) -> None:
        """Claim and run until stopped; until_idle: or until nothing is ready, running or due within a minute."""
        self.parts.enrol(self.owner, self.agent)
        beats = self.parts.sleeper.start(f"beat-{self.owner[-6:]}", self._beat_on)
        try:
            while not self.stop.asked.is_set() and self._go_on(until_idle=until_idle):
                pass
        finally:
            self._let_go()
            self._over.set()
            self.stop.ask(by_ms=self.parts.steady_ms())  # what the beats wait for
            beats.join(timeout=1)
            self.parts.dismiss(self.owner)

    def _go_on(self, *, until_idle: bool) -> bool:
        """One round, or a wait; False when there is nothing left to do. Errors: StoreUnavailable, when it stays away."""
        try:
            more = self._round() or self._wait(until_idle=until_idle)
            self._away_since_ms = None
            return more
        except StoreUnavailable as error:
            now_ms = self.parts.steady_ms()
            if self._away_since_ms is None:
                self._away_since_ms = now_ms
                logger.warning("the state is away; %s waits for it: %s", self.owner, error)
            if now_ms - self._away_since_ms > AWAY_MOST_MS:
                raise
            self.parts.sleeper.sleep_until(now_ms + SWEEP_MS)
            return True

    def _patiently(self, write: Callable[[], T]) -> T:
        """Make a write that must not be lost: again while the state is away, as long as the lease may still be ours."""
        until_ms = self.parts.steady_ms() + self.parts.lease_ms
        while True:
            try:
                return persist(write)
            except StoreUnavailable:
                now_ms = self.parts.steady_ms()
                if now_ms >= until_ms:
                    raise
                self.parts.sleeper.sleep_until(now_ms + SWEEP_MS // 2)

    def _round(self) -> bool:
        """Claim some and run them to the end; whether there were any."""
        runs = self._claim() if self._held.beats_known else []
        found = bool(runs)
        while runs:
            runs = self._run_next(runs)
        return found

    def _claim(self) -> list[Claimed]:
        limit = max(1, min(AHEAD_MOST, int(AHEAD_MS / max(self._pace_ms, 1.0))))
        start, lease_ms = self.parts.world.new_id("run"), self.parts.lease_ms
        runs = persist(
            lambda: self.parts.runs.claim(self.owner, kinds=self.kinds, limit=limit, lease_ms=lease_ms, start=start)
        )
        return self._hold(runs)

    def _hold(self, runs: list[Claimed]) -> list[Claimed]:
        with self._held.guard:
            self._held.runs = list(runs)
        return runs

    def _run_next(self, runs: list[Claimed]) -> list[Claimed]:
        """Run the first, end it and start the second; what is left to run."""
        claimed, *rest = runs
        began_ms = self.parts.steady_ms()
        outcome = self._execute(claimed)
        took_ms = self.parts.steady_ms() - began_ms
        self._pace_ms = 0.7 * self._pace_ms + 0.3 * took_ms
        if self.stop.asked.is_set() and rest:
            self._hand_back(rest)
            rest = []
        return self._hold(self._end(claimed, outcome, rest))

    def _end(self, claimed: Claimed, outcome: Outcome | None, rest: list[Claimed]) -> list[Claimed]:
        while True:
            then = (rest[0], self.parts.world.new_id("run")) if rest else None
            if outcome is None:
                return self._start_alone(rest)
            try:
                ended = self._patiently(
                    lambda then=then, outcome=outcome: self.parts.runs.conclude(  # type: ignore[misc]
                        claimed, outcome, then=then, lease_ms=self.parts.lease_ms
                    )
                )
            except LeaseLost:
                outcome = None
                continue
            self.parts.ring(ended.runnable)
            if ended.started is not None:
                return [ended.started, *rest[1:]]
            return self._start_alone(rest[1:])

    def _start_alone(self, rest: list[Claimed]) -> list[Claimed]:
        """The run before these left no commit to start the next one in: give them back and claim afresh."""
        if rest:
            self._hand_back(rest)
        return []

    # -- one run -----------------------------------------------------------------------------------------------------

    def _execute(self, claimed: Claimed) -> Outcome | None:
        """Run the handler; how it ended, or None when the run was lost meanwhile and nothing may be written."""
        handler = self.registry.handlers[claimed.task.kind]
        run = Run(self.parts, claimed, owner=self.owner, handler=getattr(handler.function, "__code__", None))
        with self._held.guard:
            self._held.current = run
        try:
            with run.entered(), self._timed(handler, run):
                return self._outcome(handler, run, claimed)
        finally:
            with self._held.guard:
                self._held.current = None

    def _timed(self, handler: Handler[Any, Any], run: Run) -> AbstractContextManager[None]:
        """Give the run up when it passes its timeout, if it has one."""
        timeout_ms = run.claimed.task.timeout_ms or handler.options.timeout_ms
        return self._within(timeout_ms, handler, run) if timeout_ms else UNTIMED

    @contextlib.contextmanager
    def _within(self, timeout_ms: int, handler: Handler[Any, Any], run: Run) -> Generator[None]:
        over, until_ms = threading.Event(), self.parts.steady_ms() + timeout_ms

        def watch() -> None:
            if not self.parts.sleeper.wait_for_flag(over, until_ms):
                late = f"TimeoutError: the run passed its timeout of {format_ms(timeout_ms)}"
                self._give_up(run, Failed(late, delay_ms=self._backoff_ms(handler, run.claimed)), "timeout")

        self.parts.sleeper.start("timeout", watch)
        try:
            yield
        finally:
            over.set()

    def _outcome(self, handler: Handler[Any, Any], run: Run, claimed: Claimed) -> Outcome | None:
        try:
            result = self._call(handler, run, claimed)
            if run.outcome_lost is not None:
                return Lost(run.outcome_lost)
            run.check()
            return Finished(self._told(run, claimed, result), run.last)
        except LeaseLost:
            return None
        except KeyboardInterrupt:
            self.stop.ask(by_ms=self.parts.steady_ms())
            return HandedBack()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises is its task's failure, not ours
            return Lost(run.outcome_lost) if run.outcome_lost is not None else self._failure(handler, claimed, error)

    def _told(self, run: Run, claimed: Claimed, result: object) -> str:
        try:
            return to_json(result, what=f"the result of {claimed.task.kind}", most=self.parts.payload_max)
        except NotStorable:
            if run.last is not None:
                self.parts.steps.store(claimed, run.last.name, run.last.result)
            raise

    def _call(self, handler: Handler[Any, Any], run: Run, claimed: Claimed) -> Any:
        if handler.is_async and self._drive is not None:
            return self._drive(handler, run, claimed.task.args)
        return handler.call(run, claimed.task.args)

    def _failure(self, handler: Handler[Any, Any], claimed: Claimed, error: BaseException) -> Outcome:
        if isinstance(error, OutcomeLost):
            return Lost(str(error))
        text = described(error)
        if isinstance(error, GiveUp | NotStorable | StepReused | ConfigError):
            return Failed(text, final=True)  # the last three are mistakes in the handler: another run makes them again
        if isinstance(error, RetryLater):
            return Failed(text, delay_ms=parse_ms(error.delay))  # type: ignore[arg-type]
        delay_ms = self._backoff_ms(handler, claimed)
        if isinstance(error, Refused) and error.retry_after:
            delay_ms = max(delay_ms, round(error.retry_after * 1000))
        return Failed(text, delay_ms=delay_ms)

    def _backoff_ms(self, handler: Handler[Any, Any], claimed: Claimed) -> int:
        attempt = claimed.task.failures + 1
        return handler.options.backoff.delay_ms(attempt, fraction=self.parts.world.fraction())

    # -- waiting, stopping -------------------------------------------------------------------------------------------

    def _wait(self, *, until_idle: bool) -> bool:
        """Wait for a ring or the next sweep; False when there is nothing left to wait for."""
        soon_ms = self.parts.fleet_ms() + DUE_SOON_MS
        if until_idle and not self.parts.tasks.busy(self.kinds, before_ms=soon_ms):
            return False
        bell = self.parts.hang_bell(self.owner)
        try:
            if not self._round():  # something may have come between the claim and the bell
                self._sleep(bell)
        finally:
            if bell is not None:
                bell.silence()
        return True

    def _sleep(self, bell: Bell | None) -> None:
        """Until a ring, the next scheduled task, or the next sweep."""
        due_ms = self.parts.tasks.next_due()
        left_ms = SWEEP_MS if due_ms is None else due_ms - self.parts.fleet_ms()
        if not 0 < left_ms < SWEEP_MS:  # past, and not ours to take now: a beat has failed, or somebody else was faster
            left_ms = SWEEP_MS
        self.parts.sleeper.wait_for_ring(bell, self.parts.steady_ms() + left_ms)

    def _hand_back(self, runs: list[Claimed]) -> None:
        self.parts.ring(self._patiently(lambda: self.parts.runs.hand_back_claimed(runs)))

    def _let_go(self) -> None:
        """Give back whatever is still held, whatever made the loop end."""
        with self._held.guard:
            runs, self._held.runs = self._held.runs, []
        for run in runs:
            if run.id:  # it was running, and an interrupt came between its handler and its end
                with contextlib.suppress(LeaseLost):
                    self._patiently(lambda run=run: self.parts.runs.conclude(run, HandedBack()))  # type: ignore[misc]
        if runs:
            self._hand_back(runs)

    # -- beats -------------------------------------------------------------------------------------------------------

    def _beat_on(self) -> None:
        """The beat thread: push every lease, notice what was lost, end what outlasts the grace of a stop."""
        while not self._over.is_set():
            try:
                next_ms = self._beat()
            except Exception:  # a thread that dies here would let every lease run out, and nobody would know why
                logger.exception("a beat of %s failed; the next one tries again", self.owner)
                next_ms = self.parts.steady_ms() + self.parts.lease_ms // 12
            asked = self.stop.asked.is_set()
            self.parts.sleeper.wait_for_flag(self._over if asked else self.stop.asked, next_ms)

    def _beat(self) -> int:
        now_ms = self.parts.steady_ms()
        try:
            known = self._held.fences()
            held = self.parts.beat(self.owner, known)
            self._held.beats_known = True
        except StoreUnavailable:
            self._held.beats_known = False
            return now_ms + self.parts.lease_ms // 12
        with self._held.guard:
            current = self._held.current
        if current is not None and current.claimed.fence in known and current.claimed.fence not in held:
            current.lose()
        if current is not None and self.stop.by_ms is not None and now_ms >= self.stop.by_ms:
            self._give_up(current, HandedBack(), "stop")
        with contextlib.suppress(StoreUnavailable):  # whoever beats next does it
            self._upkeep.step()
        wake_ms, stop_ms = now_ms + self.parts.lease_ms // 3, self.stop.by_ms
        return wake_ms if stop_ms is None or stop_ms <= now_ms else min(wake_ms, stop_ms)

    def _give_up(self, run: Run, outcome: Outcome, overrun: Overrun) -> None:
        """End a run whose handler does not: the ledger first, then whatever runs it. Its handler may go on, unheard."""
        run.lose()
        with contextlib.suppress(LeaseLost, StoreUnavailable):
            self._patiently(lambda: self.parts.runs.conclude(run.claimed, outcome))
        with self._held.guard:
            if self._held.current is run:
                self._held.current = None
        if self._on_overrun is not None:
            self._on_overrun(overrun)


def described(error: BaseException) -> str:
    """The error as the ledger keeps it: its class and words, then its last three places, innermost first, bounded."""
    head = f"{type(error).__qualname__}: {error}"
    frames = reversed(traceback.extract_tb(error.__traceback__)[-3:])
    places = "".join(f"\n  at {Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames)
    text = (head + places)[:ERROR_MOST].replace("\0", "\ufffd")
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair comes with the name of a file, for one
