"""The thin asynchronous skin: attempts run in a thread, sleeps outside it, nothing is written twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Self, TypeVar, cast

from longwatch.runtime.handler import Handler
from longwatch.runtime.run import RunCore

P = ParamSpec("P")
R = TypeVar("R")


class AsyncRun(RunCore):
    """What an async handler is given: a run whose steps are awaited. Edits, calls and leases open with `async with`."""

    @classmethod
    def of(cls, run: RunCore) -> Self:
        """The same run in this flavour: what happens to one happens to the other."""
        made = cls.__new__(cls)
        made.__dict__ = run.__dict__
        return made

    async def step(self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `Run.step`, for an async function."""
        kept = await asyncio.to_thread(self.begin_step, name)
        if kept is not None:
            return cast("R", self.rebuilt(kept, function))
        with self.frame(name) as frame:
            value = await function(*args, **kwargs)
        text = await asyncio.to_thread(self.store, frame, value, sort="step")
        return cast("R", self.rebuilt(text, function))

    async def once(self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `Run.once`, for an async function."""
        kept = await asyncio.to_thread(self.begin_once, name)
        if kept is not None:
            return cast("R", self.rebuilt(kept, function))
        with self.frame(name, once=True) as frame, self.attempted_once(name):
            value = await function(*args, **kwargs)
        text = await asyncio.to_thread(self.store, frame, value, sort="once")
        return cast("R", self.rebuilt(text, function))


def drive(handler: Handler[Any, Any], run: RunCore, args: str) -> Any:
    """Run an async handler to its end, in an event loop of its own."""
    again = AsyncRun.of(run)

    async def handle() -> Any:
        with again.entered():
            return await handler.call(again, args)

    return asyncio.run(handle())
