"""One object for both worlds: `with lw.call(...)` and `async with lw.call(...)`.

The asynchronous way runs each attempt in a thread and sleeps outside it, so that many waiters never starve whoever has
to settle. The part inside (a call, a lease, an edit) knows nothing of event loops: it has `attempt`, `leave`, `give_up`.
"""

import asyncio
import sys
import warnings
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from longwatch.errors import LongwatchError
from longwatch.runtime.call import Call
from longwatch.runtime.loop import FOREVER_MS, Retry

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T", bound="Part")
SLOW_MS = 100


class Part(Protocol):
    """What can be entered: a call, a lease, an edit."""

    def attempt(self) -> Any: ...
    def leave(self, error: BaseException | None) -> None: ...
    def __enter__(self) -> Any: ...


class Block(Generic[T]):
    """`with block as it` or `async with block as it`, once."""

    def __init__(
        self,
        part: T,
        steady_ms: Callable[[], int],
        *,
        give_up: Callable[[], LongwatchError | None],
        wait_ms: int | None = None,
        asleep: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """give_up: leave the line and give back what was taken; the error to raise. wait_ms: unless the part knows it.

        asleep: sleeps until a steady instant, for a fleet whose time is not real.
        """
        self._part, self._steady_ms, self._give_up, self._wait_ms = part, steady_ms, give_up, wait_ms
        self._asleep = asleep or self._really_asleep

    def __enter__(self) -> T:
        began_ms = self._steady_ms()
        self._part.__enter__()
        if self._steady_ms() - began_ms > SLOW_MS and _in_event_loop():
            warnings.warn("waiting in an event loop blocks it: use async with", RuntimeWarning, stacklevel=2)
        return self._part

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._part.leave(error)

    async def __aenter__(self) -> T:
        until_ms = FOREVER_MS if self._wait_ms is None else self._steady_ms() + self._wait_ms
        while isinstance(answer := await self._attempt(), Retry):
            if self._steady_ms() >= until_ms:
                raise await asyncio.to_thread(self._give_up) or LongwatchError("the wait has ended")
            wake_ms = min(answer.at_ms, until_ms)
            try:
                await self._asleep(wake_ms)
            except asyncio.CancelledError:
                await asyncio.shield(asyncio.to_thread(self._give_up))
                raise
        return self._part

    async def _really_asleep(self, steady_ms: int) -> None:
        await asyncio.sleep(max(0, steady_ms - self._steady_ms()) / 1000)

    async def _attempt(self) -> Any:
        """An attempt, to its end even when the task is cancelled meanwhile: what it took is then given back."""
        work = asyncio.ensure_future(asyncio.to_thread(self._part.attempt))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await work
            await asyncio.to_thread(self._give_up)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self._part.leave, error))


class Turn(Block[Call]):
    """A call, whoever waits for it: another thread can ask when it will leave."""

    @property
    def eta(self) -> datetime | None:
        """As the call's own."""
        return self._part.eta


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return "IPython" not in sys.modules
