"""What a handler is given: the run. Steps are stored once, calls carry the same key on every attempt, edits inside a step
are published in the transaction that stores the step's result.

A run that has lost its lease raises LeaseLost on every further use, however often that is caught.
"""

import contextlib
import inspect
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from types import CodeType
from typing import Any, ParamSpec, TypeVar

from longwatch.db.connection import Transaction
from longwatch.errors import GiveUp, LeaseLost, Refused, RetryLater, StepReused
from longwatch.policy.duration import Duration, parse_ms
from longwatch.policy.lease import Holder
from longwatch.policy.memory import Record
from longwatch.policy.money import Money
from longwatch.policy.naming import check_name
from longwatch.policy.price import Caching
from longwatch.policy.task import LastStep
from longwatch.runtime.call import Call, KeyForgotten
from longwatch.runtime.calls import Caller
from longwatch.runtime.contents import Reading
from longwatch.runtime.edit import Edit
from longwatch.runtime.frame import Frame
from longwatch.runtime.last import is_last
from longwatch.runtime.lease import Lease
from longwatch.runtime.notes import Notes
from longwatch.runtime.parts import Parts
from longwatch.runtime.persist import persist
from longwatch.runtime.staging import Staged
from longwatch.runtime.storable import from_json, result_type, to_json
from longwatch.store.moves import Run as Claimed
from longwatch.store.moves import Step
from longwatch.store.runs import lost
from longwatch.store.steps import put_step

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

current_run: ContextVar["RunCore | None"] = ContextVar("longwatch_run", default=None)
current_frame: ContextVar[Frame | None] = ContextVar("longwatch_frame", default=None)


class OutcomeLost(Exception):
    """An effect that must not be repeated may or may not have taken place: the task's outcome is `unknown`."""


class RunCore:
    """One attempt at a task, whatever its handler's flavour: `.id` of the run, `.task` of the task, `.attempt` from 1."""

    def __init__(self, parts: Parts, claimed: Claimed, *, owner: str, handler: CodeType | None = None) -> None:
        """handler: the code of the function that does the task."""
        self.parts, self.claimed, self._owner, self._handler = parts, claimed, owner, handler
        self.id, self.task, self.key = claimed.id, claimed.task.id, claimed.task.key
        self.attempt = claimed.task.failures + claimed.task.crashes + 1
        self.agent, self.budget = claimed.task.agent, claimed.task.budget
        self.outcome_lost: str | None = None
        self.last: LastStep | None = None  # is stored with the task's end
        self._lost = self._caught_up = False
        self._names: set[str] = set()
        self._outside = Frame("")
        self._notes = Notes(parts, claimed)

    # -- calls, edits, leases ----------------------------------------------------------------------------------------

    def call(
        self,
        service: str,
        *,
        key: str | None = None,
        budget: str | None = None,
        model: str | None = None,
        money: str | Money | None = None,
        weight: Mapping[str, int] | None = None,
        max_tokens: int | None = None,
        caching: Caching = "none",
        lane: str = "normal",
        wait: Duration | None = None,
    ) -> Call:
        """One use of a service: admitted and held when the block is entered, settled when it is left.

        `call.key` is the same on every attempt: fleet, task, step, and the call's place among those without a key of theirs.
        Errors: Refused and its kinds; nothing was sent then.
        """
        self.check()
        frame = self._here()
        return self.parts.calls.call(
            service,
            caller=self._caller(frame),
            key=key or f"{self.parts.fleet}:{self.task}:{frame.step}:{frame.next_call()}",
            budget=budget or self.budget,
            model=model,
            money=money,
            weight=weight,
            max_tokens=max_tokens,
            caching=caching,
            lane=lane,
            wait_ms=None if wait is None else parse_ms(wait),
            once=frame.once,
        )

    def wrap(
        self,
        client: C,
        *,
        service: str | None = None,
        budget: str | None = None,
        money: str | Money | None = None,
        max_tokens: int | None = None,
        lane: str = "normal",
        wait: Duration | None = None,
        retries: int | None = None,
        count_tokens: bool = False,
    ) -> C:
        """As `lw.wrap`: a client of the same type whose every request is a call of this run. Errors: ConfigError."""
        self.check()
        assert self.parts.calls.wrapper is not None
        wrapped: C = self.parts.calls.wrapper(
            client,
            self,
            service=service,
            budget=budget,
            money=money,
            max_tokens=max_tokens,
            lane=lane,
            wait=wait,
            retries=retries,
            count_tokens=count_tokens,
        )
        return wrapped

    def edit(self, *names: str, root: str = ".", ttl: Duration = "60s", wait: Duration | None = None) -> Edit:
        """Change several files, all or none, under leases. root: the folder that names start from, below the fleet's.

        Inside a step it is published with the step's result; outside one it is a step of its own, named by its files
        and place: after its commit a retry drops its writes (`edit.replayed`).
        """
        self.check()
        edits, frame, holder = self.parts.edits, self._here(), self._holder()
        place, ttl_ms, wait_ms = frame.next_edit(), parse_ms(ttl), None if wait is None else parse_ms(wait)
        if frame.step:
            staged, keep = tuple(frame.staged), frame.staged.append
            return edits.edit(
                names, holder=holder, ttl_ms=ttl_ms, wait_ms=wait_ms, inside=root, then=keep, after=staged
            )
        step = f"edit {' '.join(sorted(names))} #{place}"
        if self._kept(step) is not None:
            return edits.replay(names, holder=holder, ttl_ms=ttl_ms, inside=root)
        return edits.edit(
            names,
            holder=holder,
            ttl_ms=ttl_ms,
            wait_ms=wait_ms,
            inside=root,
            then=lambda staged: self._publish([staged], step, "null", "edit"),
        )

    def read(self, *names: str, root: str = ".") -> Reading:
        """Several files as of one instant: no commit is seen by half."""
        self.check()
        return self.parts.edits.read(names, inside=root)

    def lease(
        self,
        *names: str,
        root: str = ".",
        mode: str = "exclusive",
        ttl: Duration = "60s",
        wait: Duration | None = None,
    ) -> Lease:
        """The right to write `names` (files, or "name:deploy"), all or none, while the block is open."""
        self.check()
        wait_ms = None if wait is None else parse_ms(wait)
        return self.parts.leases.lease(
            *names, holder=self._holder(), ttl_ms=parse_ms(ttl), wait_ms=wait_ms, mode=mode, inside=root
        )

    def _holder(self) -> Holder:
        return Holder(owner=self._owner, agent=self.agent, task=self.task)

    def _publish(self, staged: list[Staged], name: str, text: str, sort: str) -> None:
        """Publish what was staged, in the transaction that stores the step's result; or drop it."""

        def store(tx: Transaction) -> None:
            put_step(tx, self.parts.journal, self.claimed, name, text, sort=sort)

        try:
            persist(lambda: self.parts.edits.publish(staged, also=store))
        except BaseException:
            self.parts.edits.abandon(staged)
            raise

    def _caller(self, frame: Frame) -> Caller:
        return Caller(
            agent=self.agent,
            budget=self.budget,
            task=self.task,
            run=self.id,
            step=frame.step or None,
            owner=self._owner,
            batch=self.claimed.task.batch,
            capped=self.claimed.capped,
        )

    def record(
        self,
        kind: str,
        text: str,
        *,
        data: object = None,
        key: str | None = None,
        supersedes: str | None = None,
        trust: str | None = None,
    ) -> Record:
        """Remember something of this task: see `longwatch.policy.memory` for the kinds. Its place is given later.

        The same said again in this task, by this run or another attempt, is the same record; so is what has the same key.
        Errors: ConfigError for an unknown kind, NotStorable, KeyConflict, LeaseLost.
        """
        self.check()
        return self._notes.note(kind, text, data=data, key=key, supersedes=supersedes, trust=trust)

    def earned(self, amount: str | Money, note: str = "") -> None:
        """Money this task brought in; shown beside what it cost. What a retry says again replaces what was said before."""
        self.check()
        money, frame = Money.parse(amount), self._here()
        key = f"{self.task}:{frame.step}:{frame.next_earning()}"
        self.parts.earnings.earn(key, money, note, task=self.task, agent=self.agent, budget=self.budget)

    # -- steps, in the pieces that both flavours are made of ----------------------------------------------------------

    def begin_step(self, name: str) -> str | None:
        """The JSON of the step's result when it is stored already. Errors: StepReused, LeaseLost."""
        self._enter(name)
        kept = self._kept(name)
        return None if kept is None else kept.result

    def begin_once(self, name: str) -> str | None:
        """As `begin_step`; else the effect is written down as begun. Errors: OutcomeLost when it may have taken place."""
        self._enter(name)
        kept = self._kept(name)
        if kept is not None and kept.result is not None:
            return kept.result
        if kept is not None or not persist(lambda: self.parts.steps.begin(self.claimed, name)):
            raise self._lose_outcome(f"the outcome of {name!r} is not known: it may have taken place before")
        self.parts.world.reach("once.begun")
        return None

    def _kept(self, name: str) -> Step | None:
        """What an earlier run left of the step. Its edits were committed with it, and may still have to be put in place.

        Nobody is asked when there was none and the lease as it was taken still runs: whatever is written is checked.
        """
        if self.claimed.blank and self.parts.fleet_ms() < self.claimed.until_ms:
            return None
        kept = self.parts.steps.find(self.claimed, name)
        if kept is not None and not self._caught_up:
            self._caught_up = True
            self.parts.edits.recover()
        return kept

    @contextlib.contextmanager
    def frame(self, name: str, *, once: bool = False) -> Generator[Frame]:
        """Inside it the code is in the step `name`; once: in one that is never repeated."""
        frame = Frame(name, once)
        token = current_frame.set(frame)
        try:
            yield frame
        except BaseException as error:
            self.parts.edits.abandon(frame.staged)
            if isinstance(error, KeyForgotten):
                raise self._lose_outcome(str(error)) from error
            raise
        finally:
            current_frame.reset(token)

    @contextlib.contextmanager
    def attempted_once(self, name: str) -> Generator[None]:
        """What an exception inside a `once` means: nothing took place, or nobody knows."""
        try:
            yield
        except (Refused, GiveUp, RetryLater):
            persist(lambda: self.parts.steps.forget(self.claimed, name))
            raise
        except (LeaseLost, OutcomeLost):
            raise
        except Exception as error:
            why = f"the outcome of {name!r} is not known: it raised {type(error).__name__}: {error}"
            raise self._lose_outcome(why) from error

    def _lose_outcome(self, why: str) -> "OutcomeLost":
        self.outcome_lost = why
        return OutcomeLost(why)

    def store(self, frame: Frame, value: object, *, sort: str) -> str:
        """Store the result, and publish what the step staged, in one transaction; the result's JSON."""
        text = self._told(frame, value)
        if frame.staged:
            self._publish(frame.staged, frame.step, text, sort)
        else:
            persist(lambda: self.parts.steps.store(self.claimed, frame.step, text, sort=sort))
        self.parts.world.reach("step.stored")
        return text

    def _told(self, frame: Frame, value: object) -> str:
        try:
            text = to_json(value, what=f"the result of step {frame.step!r}", most=self.parts.payload_max)
            self.check()
        except BaseException:
            self.parts.edits.abandon(frame.staged)  # else this thread would keep their leases for ever
            raise
        self.parts.world.reach("step.returned")
        return text

    def put_off(self, frame: Frame, value: object) -> str:
        """Leave the result to be stored with the end, because the handler does nothing any more; its JSON."""
        self.last = LastStep(frame.step, self._told(frame, value))
        return self.last.result

    def rebuilt(self, text: str, function: Callable[..., Any]) -> Any:
        return from_json(text, result_type(function))

    # -- being alive -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Errors: LeaseLost when the run has lost its task; the outcome's loss when a `once` ended so."""
        if self._lost:
            raise lost(self.claimed)
        if self.outcome_lost is not None:
            raise OutcomeLost(self.outcome_lost)

    def lose(self) -> None:
        """The lease is gone: every further use is refused."""
        self._lost = True

    @contextlib.contextmanager
    def entered(self) -> Generator[None]:
        """Make this the current run of the calling context."""
        token, frame = current_run.set(self), current_frame.set(self._outside)
        try:
            yield
        finally:
            current_run.reset(token)
            current_frame.reset(frame)

    def _here(self) -> Frame:
        return current_frame.get() or self._outside

    def _enter(self, name: str) -> None:
        self.check()
        check_name("the step", name)
        if name in self._names:
            raise StepReused(
                f"the step {name!r} was used before in this run of {self.task}",
                hint='Names are unique in a run: put the item in it, such as f"page-{n}".',
            )
        self._names.add(name)


class Run(RunCore):
    """What a handler is given: one attempt at its task, with steps, calls, edits and leases that survive it."""

    def step(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result, stored once: a retry reads it instead of running it again. At least once.

        Errors: StepReused, NotStorable when the result is not JSON, LeaseLost; whatever the function raises.
        """
        kept = self.begin_step(name)
        if kept is None:
            with self.frame(name) as frame:
                value = function(*args, **kwargs)
            last = not frame.staged and is_last(inspect.currentframe(), self._handler)
            kept = self.put_off(frame, value) if last else self.store(frame, value, sort="step")
        rebuilt: R = self.rebuilt(kept, function)
        return rebuilt

    def once(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `step`, at most once: written down before it starts, never repeated.

        When its outcome is lost (the worker died, or the function raised) the task ends `unknown`, for a person to
        resolve; unless the function raised GiveUp, RetryLater or a refusal, which say that nothing took place.
        """
        kept = self.begin_once(name)
        if kept is None:
            with self.frame(name, once=True) as frame, self.attempted_once(name):
                value = function(*args, **kwargs)
            kept = self.store(frame, value, sort="once")
        rebuilt: R = self.rebuilt(kept, function)
        return rebuilt
