"""The Python API: one fleet, as a program uses it. Every method goes down once, to one part, and comes back once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from longwatch.errors import ConfigError, NotFound, StoreUnavailable, WaitTimeout, nearest
from longwatch.policy.duration import Duration, parse_ms
from longwatch.policy.money import Money
from longwatch.policy.naming import check_name
from longwatch.policy.needs import plain
from longwatch.policy.own_caps import OwnCaps, own_amounts, own_caps
from longwatch.policy.task import ENDED, LANES, Fate
from longwatch.runtime import ended
from longwatch.runtime.handler import Bound, Handler, bound_by_name
from longwatch.runtime.loop import FOREVER_MS, Retry, wait_for
from longwatch.runtime.persist import persist
from longwatch.runtime.storable import canonical, digest
from longwatch.store.moves import NewTask
from longwatch.store.tasks import Earmark
from longwatch.surface import spawned
from longwatch.surface.awaitable import Aio
from longwatch.surface.caps import Capped
from longwatch.surface.declare import Declares, declare
from longwatch.surface.handles import Batch, Report, Task, view
from longwatch.surface.opened import Opened, release
from longwatch.surface.pieces import Lane
from longwatch.surface.planning import Wanted, plan_of, wants_of
from longwatch.surface.plans import Plan
from longwatch.surface.working import work

R = TypeVar("R")
Item = Bound[Any] | tuple[str, Mapping[str, Any]]
ASK_FIRST_MS, ASK_MOST_MS = 10, 250


class Longwatch(Capped):
    """A fleet. Safe in threads; closed by `with` or `close()`; refused after a fork. Made by `longwatch.open`."""

    def __init__(self, opened: Opened, *, agent: str, budget: str | None) -> None:
        self._opened, self._agent, self._budget, self._closed = opened, agent, budget, False

    # -- the handle itself -------------------------------------------------------------------------------------------

    def agent(self, name: str, *, budget: str | None = None) -> "Longwatch":
        """The same fleet, on another agent's account."""
        self._opened.handles += 1
        return Longwatch(self._opened, agent=name, budget=budget or self._budget)

    def close(self) -> None:
        """Give everything back. Twice does no harm."""
        if not self._closed:
            self._closed = True
            release(self._opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def opened(self) -> Opened:
        """The state behind the handle. Errors: StoreUnavailable when the handle is closed."""
        if self._closed:
            raise StoreUnavailable("this handle is closed", hint="Open the fleet again: longwatch.open(...).")
        return self._opened

    @property
    def aio(self) -> Aio:
        """The methods of this handle, awaitable."""
        return Aio(self)

    @property
    def name(self) -> str:
        """What the fleet is called."""
        return self._parts.fleet

    @property
    def root(self) -> Path:
        """The folder that every path is relative to."""
        return Path(self._opened.settings.root)

    # -- handlers ----------------------------------------------------------------------------------------------------

    def task(
        self,
        name: str | None = None,
        *,
        retries: int = 0,
        timeout: Duration | None = None,
        crashes: int = 3,
        backoff: Duration = "2s",
        needs: Mapping[str, Mapping[str, Any]] | None = None,
        money: str | Money | None = None,
        calls: int | None = None,
        tokens: int | None = None,
    ) -> Declares:
        """Declare the decorated function as the handler of a kind of task: its own name unless `name` is given.

        retries: runs beyond the first when it raises. crashes: runs in which its worker may die, before the task fails.
        timeout: of one run. backoff: the first wait before a retry; it doubles, up to five minutes.
        money, calls, tokens: on what all calls of one task may cost, in all its runs together, unless it is submitted with
        other caps.
        """
        return declare(
            name,
            retries=retries,
            timeout=timeout,
            crashes=crashes,
            backoff=backoff,
            needs=needs,
            caps=own_caps(money=money, calls=calls, tokens=tokens),
            then=self.include,
        )

    def include(self, *handlers: Handler[Any, Any]) -> None:
        """Add handlers that were declared without a fleet. Errors: ConfigError when a kind is taken."""
        for handler in handlers:
            self._opened.registry.add(handler)

    # -- tasks -------------------------------------------------------------------------------------------------------

    @overload
    def submit(
        self,
        task: Bound[R],
        *,
        key: str | None = None,
        after: Iterable["Task[Any] | str"] = (),
        after_failed: Fate = "cancel",
        lane: Lane = "normal",
        at: datetime | Duration | None = None,
        money: str | Money | None = None,
        calls: int | None = None,
        tokens: int | None = None,
    ) -> Task[R]: ...
    @overload
    def submit(
        self,
        task: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        after: Iterable["Task[Any] | str"] = (),
        after_failed: Fate = "cancel",
        lane: Lane = "normal",
        at: datetime | Duration | None = None,
        money: str | Money | None = None,
        calls: int | None = None,
        tokens: int | None = None,
    ) -> Task[Any]: ...
    def submit(
        self,
        task: Bound[Any] | str,
        arguments: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        after: Iterable["Task[Any] | str"] = (),
        after_failed: Fate = "cancel",
        lane: Lane = "normal",
        at: datetime | Duration | None = None,
        money: str | Money | None = None,
        calls: int | None = None,
        tokens: int | None = None,
    ) -> Task[Any]:
        """Write a task down. The same key with the same arguments is the same task, also when it ended and was archived.

        after: tasks it needs; after_failed: what becomes of it when one of them does not succeed. at: not before.
        money, calls, tokens: caps of its own, on what all its calls may cost in all its runs; those of its kind where left out.
        Errors: KeyConflict, NotFound, NotStorable, ConfigError; StoreUnavailable.
        """
        spawned.refuse_while_importing("lw.submit")
        self._learn()
        bound = task if isinstance(task, Bound) else self._by_name(task, arguments or {})
        needs = tuple(need if isinstance(need, str) else need.id for need in after)
        own, ready_ms = own_caps(money=money, calls=calls, tokens=tokens), self._ready_ms(at)
        new = self._new(bound, key=key, after=needs, fate=after_failed, lane=lane, ready_ms=ready_ms, own=own)
        submitted = ended.submit(self._parts.tasks, self._parts.archives, new)
        self._parts.ring(submitted.fresh)
        return view(submitted.tasks[0], self._result_type(bound.kind))

    def submit_batch(
        self,
        name: str,
        items: Sequence[Item],
        *,
        needs: Mapping[str, Mapping[str, Any]] | None = None,
        schedule: bool = False,
        lane: Lane = "batch",
    ) -> Batch[Any]:
        """Submit many, all or none. The same name with the same items is the same batch.

        An item is `handler.bind(...)` or (kind, arguments); its key is the batch's name and a digest of the item.
        needs: of all of them together, by service ({"stripe": {"requests": 600, "money": "120 GBP"}}): quotas and budgets set
        that aside for the batch's calls, and are given back what was not used when it has ended. schedule: where they have no
        room now, in the first windows that do; its tasks begin then.
        Errors: KeyConflict when the name is taken by other items; BudgetExceeded, LimitRefused when there is no room for its
        needs: nothing was submitted.
        """
        spawned.refuse_while_importing("lw.submit_batch")
        self._learn()
        bounds = [item if isinstance(item, Bound) else self._by_name(*item) for item in items]
        texts = [canonical([bound.kind, dict(bound.arguments)], what=f"item of batch {name!r}") for bound in bounds]
        keys = [f"{name}/{digest(text)}" for text in texts]
        new = [self._new(bound, key=key, lane=lane) for bound, key in zip(bounds, keys, strict=True)]
        batch_id, whole = self._parts.world.new_id("batch"), digest("\n".join(texts))
        earmark = self._earmarks(needs, len(items), later=schedule)
        submitted = persist(
            lambda: self._parts.tasks.submit(new, batch=(batch_id, name, whole), earmark=earmark and earmark())
        )
        self._parts.ring(submitted.fresh)
        found = submitted.tasks[0].batch if submitted.tasks else batch_id
        return self._batch(found or batch_id, name, fresh=submitted.fresh)

    def _earmarks(
        self, needs: Mapping[str, Mapping[str, Any]] | None, tasks: int, *, later: bool
    ) -> Callable[[], Earmark] | None:
        """Makes what sets the needs aside, anew for every try."""
        if needs is None:
            return None
        wants = wants_of(self._parts, plain(needs), tasks=tasks, agent=self._agent, budget=self._paying(self._agent))
        return lambda: self._parts.calls.limiter.asides.earmark(wants, later=later)

    def plan(self, items: Sequence[Item], *, needs: Mapping[str, Mapping[str, Any]] | None = None) -> Plan:
        """Whether the limits have room for these items now, when they would run, what binds and what to change.

        needs: of all of them together, by service ({"stripe": {"requests": 600, "money": "120 GBP"}}); left out: of each,
        as its handler declares. Nothing is submitted. Errors: ConfigError for names that are not known, UnknownPrice.
        """
        total = None if needs is None else plain(needs)
        kinds: dict[str, tuple[Bound[Any], int]] = {}
        for item in items:
            bound = item if isinstance(item, Bound) else self._by_name(*item)
            kinds[bound.kind] = (bound, kinds.get(bound.kind, (bound, 0))[1] + 1)
        wanted = [Wanted(kind, bound.options.needs, tasks) for kind, (bound, tasks) in kinds.items()]
        return plan_of(self._parts, wanted, total, agent=self._agent, budget=self._paying(self._agent))

    def get(self, task: str) -> Task[Any]:
        """The task as it stands. Errors: NotFound."""
        stored = self._parts.tasks.get(task)
        return view(stored, self._result_type(stored.kind))

    @overload
    def wait(self, task: Task[R], *, timeout: Duration | None = None) -> Task[R]: ...
    @overload
    def wait(self, task: str, *, timeout: Duration | None = None) -> Task[Any]: ...
    def wait(self, task: Task[Any] | str, *, timeout: Duration | None = None) -> Task[Any]:
        """The task once it has ended, however it ended; `.result` raises if it did not succeed.

        One that has left for the archive is looked up there. Errors: WaitTimeout, NotFound.
        """
        name = task if isinstance(task, str) else task.id
        try:
            return self._until(lambda: self.get(name), lambda found: found.ended, timeout, name)
        except NotFound:
            left = ended.of_id(self._parts.archives, name)
            if left is None:
                raise
            return view(left, self._result_type(left.kind))

    def cancel(self, task: str) -> Task[Any]:
        """Cancel it and, by their fate, what waits for it. Errors: NotFound."""
        return view(self._parts.tasks.cancel(task))

    def retry(self, task: str) -> Task[Any]:
        """Run an ended task again, and revive what it had taken down. Errors: NotFound."""
        return view(self._parts.tasks.retry(task))

    def work(
        self,
        *,
        agent: str | None = None,
        processes: int = 1,
        until_idle: bool = False,
        name: str | None = None,
        on_start: Callable[[list[int]], None] | None = None,
    ) -> Report:
        """Run tasks of this fleet's handlers. processes=1: here, in this process; more are spawned and kept alive.

        until_idle: return when nothing is ready, running or due within a minute. Ctrl-C: finish or hand back within
        30 s; twice: now. name: only one group of workers of that name may work. on_start: told the pids now at work.
        """
        spawned.refuse_while_importing("lw.work")
        self._learn()
        return work(
            self._opened,
            agent=agent or self._agent,
            processes=processes,
            until_idle=until_idle,
            name=name,
            on_start=on_start,
        )

    # -- inside ------------------------------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Tell the fleet which kinds this process has handlers for."""
        handlers = self._opened.registry.handlers
        fresh = [handler.kind_of() for kind, handler in handlers.items() if kind not in self._opened.learned]
        if fresh:
            self._parts.workers.learn_kinds(fresh)
            self._opened.learned.update(kind.name for kind in fresh)

    def _by_name(self, kind: str, arguments: Mapping[str, Any]) -> Bound[Any]:
        handler = self._opened.registry.handlers.get(kind)
        if handler is not None:
            return Bound(kind, handler.arguments(arguments), handler.options)
        known = self._parts.workers.kinds()
        if kind not in known:
            raise NotFound(
                f"no handler of this fleet is called {kind!r}{nearest(kind, known)}",
                hint="Import the module that declares it with @lw.task, or let longwatch work MODULE run once.",
            )
        return bound_by_name(known[kind], arguments)

    def _new(
        self,
        bound: Bound[Any],
        *,
        key: str | None,
        lane: str,
        after: tuple[str, ...] = (),
        fate: Fate = "cancel",
        ready_ms: int | None = None,
        own: OwnCaps | None = None,
    ) -> NewTask:
        if key is not None:
            check_name("the key", key)
        if lane not in LANES:
            raise ConfigError(f"there is no lane {lane!r}{nearest(lane, LANES)}", hint="urgent, normal or batch.")
        if fate not in ("cancel", "fail", "ignore"):
            raise ConfigError(f"after_failed={fate!r} is not a fate", hint="cancel, fail or ignore.")
        options = bound.options
        return NewTask(
            id=self._parts.world.new_id("task"),
            kind=bound.kind,
            args=canonical(dict(bound.arguments), what=f"arguments of {bound.kind}", most=self._parts.payload_max),
            agent=self._agent,
            key=key,
            budget=self._paying(self._agent),
            lane=LANES[lane],
            ready_ms=ready_ms,
            retries=options.retries,
            crash_limit=options.crashes,
            timeout_ms=options.timeout_ms,
            after=after,
            fate=fate,
            caps=own_amounts(options.caps, own or {}, self._parts.calls.limiter.limits),
        )

    def _ready_ms(self, at: datetime | Duration | None) -> int | None:
        if at is None:
            return None
        now_ms = self._parts.fleet_ms()
        if not isinstance(at, datetime):
            return int(now_ms + parse_ms(at))
        if at.tzinfo is None:
            raise ConfigError(f"at={at} has no time zone", hint="Use an aware datetime: datetime.now(UTC) + ...")
        return int(now_ms + round(at.timestamp() * 1000) - self._parts.world.wall_ms())

    def _result_type(self, kind: str) -> Any:
        handler = self._opened.registry.handlers.get(kind)
        return Any if handler is None else handler.returns

    def _batch(self, id: str, name: str, *, fresh: int) -> Batch[Any]:
        tasks = [view(stored, self._result_type(stored.kind)) for stored in self._parts.tasks.of_batch(id)]
        return Batch(id, name, tasks, fresh=fresh, reread=lambda timeout: self._wait_batch(id, name, fresh, timeout))

    def _wait_batch(self, id: str, name: str, fresh: int, timeout: Duration | None) -> Batch[Any]:
        def read() -> Batch[Any]:
            return self._batch(id, name, fresh=fresh)

        return self._until(read, lambda batch: all(task.state in ENDED for task in batch), timeout, name)

    def _until(self, read: Callable[[], R], ended: Callable[[R], bool], timeout: Duration | None, what: str) -> R:
        wait_ms = ASK_FIRST_MS

        def attempt() -> R | Retry:
            nonlocal wait_ms
            found = read()
            if ended(found):
                return found
            wait_ms = min(ASK_MOST_MS, wait_ms * 2)
            return Retry(self._parts.steady_ms() + wait_ms)

        until_ms = FOREVER_MS if timeout is None else self._parts.steady_ms() + parse_ms(timeout)
        found = wait_for(attempt, sleeper=self._parts.sleeper, until_ms=until_ms)
        if found is None:
            raise WaitTimeout(
                f"{what} had not ended after {timeout}", hint="Is a worker running? longwatch status tells."
            )
        return found
