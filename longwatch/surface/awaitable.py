"""`lw.aio`: the methods of a fleet handle, awaitable. Each runs in a thread; waiting is done outside of it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

from longwatch.errors import WaitTimeout
from longwatch.policy.duration import Duration, parse_ms
from longwatch.policy.money import Money
from longwatch.policy.task import Fate
from longwatch.runtime.contents import Reading
from longwatch.runtime.handler import Bound
from longwatch.surface.awaitable_memory import AsyncMemory
from longwatch.surface.caps import Caps
from longwatch.surface.handles import Batch, Task
from longwatch.surface.pieces import Lane
from longwatch.surface.plans import Plan

if TYPE_CHECKING:
    from longwatch.surface.api import Item, Longwatch

R = TypeVar("R")
ASK_MS = 50


class Aio:
    """A fleet handle for code in an event loop. (Calls, leases and edits: `async with lw.call(...)`.)"""

    def __init__(self, lw: "Longwatch") -> None:
        self._lw = lw

    @overload
    async def submit(
        self,
        task: Bound[R],
        *,
        key: str | None = None,
        after: Iterable[Task[Any] | str] = (),
        after_failed: Fate = "cancel",
        lane: Lane = "normal",
        at: datetime | Duration | None = None,
        money: str | Money | None = None,
        calls: int | None = None,
        tokens: int | None = None,
    ) -> Task[R]: ...
    @overload
    async def submit(
        self,
        task: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        after: Iterable[Task[Any] | str] = (),
        after_failed: Fate = "cancel",
        lane: Lane = "normal",
        at: datetime | Duration | None = None,
        money: str | Money | None = None,
        calls: int | None = None,
        tokens: int | None = None,
    ) -> Task[Any]: ...
    async def submit(self, task: Any, arguments: Mapping[str, Any] | None = None, **options: Any) -> Task[Any]:
        """As `Longwatch.submit`."""
        given = () if arguments is None else (arguments,)
        return await asyncio.to_thread(lambda: self._lw.submit(task, *given, **options))

    async def submit_batch(
        self,
        name: str,
        items: "Sequence[Item]",
        *,
        needs: Mapping[str, Mapping[str, Any]] | None = None,
        schedule: bool = False,
        lane: Lane = "batch",
    ) -> Batch[Any]:
        """As `Longwatch.submit_batch`."""
        return await asyncio.to_thread(self._lw.submit_batch, name, items, needs=needs, schedule=schedule, lane=lane)

    async def plan(self, items: "Sequence[Item]", *, needs: Mapping[str, Mapping[str, Any]] | None = None) -> Plan:
        """As `Longwatch.plan`."""
        return await asyncio.to_thread(self._lw.plan, items, needs=needs)

    async def get(self, task: str) -> Task[Any]:
        """As `Longwatch.get`."""
        return await asyncio.to_thread(self._lw.get, task)

    @overload
    async def wait(self, task: Task[R], *, timeout: Duration | None = None) -> Task[R]: ...
    @overload
    async def wait(self, task: str, *, timeout: Duration | None = None) -> Task[Any]: ...
    async def wait(self, task: Task[Any] | str, *, timeout: Duration | None = None) -> Task[Any]:
        """As `Longwatch.wait`; no thread is held while it waits."""
        name = task if isinstance(task, str) else task.id
        left_ms = None if timeout is None else parse_ms(timeout)
        while True:
            found = await self.get(name)
            if found.ended:
                return found
            if left_ms is not None and left_ms <= 0:
                raise WaitTimeout(
                    f"{name} had not ended after {timeout}", hint="Is a worker running? longwatch status tells."
                )
            step_ms = ASK_MS if left_ms is None else min(ASK_MS, left_ms)
            await asyncio.sleep(step_ms / 1000)
            left_ms = None if left_ms is None else left_ms - step_ms

    async def cancel(self, task: str) -> Task[Any]:
        """As `Longwatch.cancel`."""
        return await asyncio.to_thread(self._lw.cancel, task)

    async def retry(self, task: str) -> Task[Any]:
        """As `Longwatch.retry`."""
        return await asyncio.to_thread(self._lw.retry, task)

    async def caps(self, task: Task[Any] | str) -> Caps:
        """As `Longwatch.caps`."""
        return await asyncio.to_thread(self._lw.caps, task)

    async def set_caps(
        self,
        task: Task[Any] | str,
        *,
        money: str | Money | None = None,
        calls: int | None = None,
        tokens: int | None = None,
    ) -> Caps:
        """As `Longwatch.set_caps`."""
        return await asyncio.to_thread(self._lw.set_caps, task, money=money, calls=calls, tokens=tokens)

    async def read(self, *names: str, root: str = ".") -> Reading:
        """As `Longwatch.read`."""
        return await asyncio.to_thread(self._lw.read, *names, root=root)

    def memory(self, agent: str | None = None) -> AsyncMemory:
        """As `Longwatch.memory`, with methods that are awaited."""
        return AsyncMemory(self._lw.memory(agent))
