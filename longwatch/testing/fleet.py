"""A fleet to test handlers with: a real state in a folder of the test, a virtual clock, work in this very thread."""

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, overload

from longwatch import config as configuration
from longwatch.config import Settings
from longwatch.db.connection import Database
from longwatch.db.migrate import migrate
from longwatch.errors import ConfigError, WaitTimeout
from longwatch.policy.duration import Duration
from longwatch.store import fleet
from longwatch.surface.api import Longwatch
from longwatch.surface.awaitable import Aio
from longwatch.surface.engines import State, is_remote, open_state
from longwatch.surface.handles import Report, Task
from longwatch.surface.opened import Opened, acquire, agree, assemble, secrets_of
from longwatch.testing.clock import STEADY_MS, Clock, ClockSleeper, ClockWorld

R = TypeVar("R")
ROUNDS_MOST = 10_000  # of `drain`
STATE = ".longwatch/longwatch.db"
Wrap = Callable[[Database], Database]


class Outside(Protocol):
    """What handlers do things to, and a crash does not touch."""

    def reset(self) -> None:
        """Forget everything."""
        ...

    def made(self) -> Mapping[str, int]:
        """How often each thing was done."""
        ...

    def tell(self, at: Callable[[str], None]) -> None:
        """Call it, in this process, before and after each thing that is done, if that can be told, and with what."""
        ...


@dataclass
class Bench:
    """What the fixtures of one test share. outside: what is looked at, and begun afresh, for every crash."""

    clock: Clock = field(default_factory=Clock)
    outside: list[Outside] = field(default_factory=list[Outside])


class VirtualFleet(Longwatch):
    """`Longwatch`, by a virtual clock. Its folder is the root: files, edits and the state are below it."""

    def __init__(self, opened: Opened, bench: Bench, *, agent: str, budget: str | None) -> None:
        super().__init__(opened, agent=agent, budget=budget)
        self.bench = bench

    @classmethod
    def made(
        cls,
        bench: Bench,
        folder: Path,
        config: str | Path | Mapping[str, Any] | None = None,
        *,
        state: str | Path | None = None,
    ) -> Self:
        """A fleet with the state and the root in `folder`, whatever the config says. Errors: ConfigError.

        state: left out, or the address of a PostgreSQL, whose own clock is not asked then, or another file in the folder.
        """
        settings = settings_in(folder, config, state=STATE if state is None else state)
        opened = acquire(settings, lambda settings: wired(settings, bench.clock))
        return cls(opened, bench, agent=settings.agent, budget=settings.budget)

    def agent(self, name: str, *, budget: str | None = None) -> "VirtualFleet":
        """The same fleet, on another agent's account."""
        self._opened.handles += 1
        return VirtualFleet(self._opened, self.bench, agent=name, budget=budget or self._budget)

    @property
    def aio(self) -> "VirtualAio":
        """The methods of this handle, awaitable."""
        return VirtualAio(self)

    def work(
        self,
        *,
        agent: str | None = None,
        processes: int = 1,
        until_idle: bool = False,
        name: str | None = None,
        on_start: Callable[[list[int]], None] | None = None,
    ) -> Report:
        """As `Longwatch.work`, in this thread. Errors: ConfigError for more than one process: its time would be real."""
        if processes != 1:
            raise ConfigError(
                f"a fleet with a virtual clock cannot work in {processes} processes",
                hint="Leave processes= out; open a real one, longwatch.open(tmp_path / 'state.db'), to test with several.",
            )
        return super().work(agent=agent, until_idle=until_idle, name=name, on_start=on_start)

    def _until(self, read: Callable[[], R], ended: Callable[[R], bool], timeout: Duration | None, what: str) -> R:
        found = read()
        if ended(found):
            return found
        if self._parts.workers.all():
            return super()._until(read, ended, timeout, what)
        raise WaitTimeout(
            f"{what} has not ended, and nobody works on it",
            hint="In a test work first: lw.work(until_idle=True), or longwatch.testing.drain(lw) for what is due later.",
        )


class VirtualAio(Aio):
    """`lw.aio`, by a virtual clock."""

    @overload
    async def wait(self, task: Task[R], *, timeout: Duration | None = None) -> Task[R]: ...
    @overload
    async def wait(self, task: str, *, timeout: Duration | None = None) -> Task[Any]: ...
    async def wait(self, task: Task[Any] | str, *, timeout: Duration | None = None) -> Task[Any]:
        """As `VirtualFleet.wait`."""
        name = task if isinstance(task, str) else task.id
        return await asyncio.to_thread(self._lw.wait, name, timeout=timeout)


def settings_in(folder: Path, config: str | Path | Mapping[str, Any] | None, *, state: str | Path = STATE) -> Settings:
    """As the config says, but for root and state. Nothing is read from the environment of the test."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LONGWATCH_")}
    source = Path.cwd() / config if isinstance(config, str | Path) else config or {}
    settings = configuration.load(source, environ=environ, cwd=folder, state=state)
    return replace(settings, root=folder, durability="normal")


def wired(
    settings: Settings,
    clock: Clock,
    *,
    on_reach: Callable[[str], None] | None = None,
    wrap: Wrap = lambda database: database,
) -> Opened:
    """Open the state and put the parts together, by this clock. wrap: what stands between the parts and the state."""
    world, sleeper = ClockWorld(clock, on_reach), ClockSleeper(clock)
    state = _by_clock(settings, world) if is_remote(settings.state) else open_state(settings, world)
    database = wrap(state.database)
    try:
        joined = fleet.enter(database, world, name=settings.name, redaction_key=secrets.token_hex(16))
        known = secrets_of(os.environ)
        parts = assemble(settings, world, sleeper, database, joined, known, file=state.file)
        agree(parts, settings)
        parts.edits.recover()
    except BaseException:
        database.close()
        raise

    async def asleep(steady_ms: int) -> None:
        await asyncio.to_thread(clock.sleep_until, steady_ms - STEADY_MS)

    return Opened(settings, parts, asleep=asleep)


def _by_clock(settings: Settings, world: ClockWorld) -> State:
    """A state on a server, by this clock and not by the server's."""
    from longwatch.db.postgres import PostgresDatabase  # the driver is an extra

    database = PostgresDatabase(settings.state, world, clock=world, syncs=False)
    migrate(database, lease_ms=settings.lease_ms)
    return State(database, world, None, None)


def drain(lw: Longwatch) -> Report:
    """Work until nothing is left that could run, letting time pass to what is due later: retries, tasks with `at=`.

    What it did, all rounds together. Errors: ConfigError when the fleet's time is real.
    """
    fleet = virtual(lw, "drain")
    done = fleet.work(until_idle=True)
    for _ in range(ROUNDS_MOST):
        parts = fleet.opened.parts
        due_ms, now_ms = parts.tasks.next_due(), parts.fleet_ms()
        if due_ms is None or due_ms <= now_ms:
            return done
        fleet.bench.clock.advance((due_ms - now_ms) / 1000)
        done = _added(done, fleet.work(until_idle=True))
    raise ConfigError(
        f"tasks were still due after {ROUNDS_MOST} rounds", hint="Does one of them put itself off for ever?"
    )


def virtual(lw: Longwatch, what: str) -> VirtualFleet:
    """Errors: ConfigError for a fleet whose time is real."""
    if isinstance(lw, VirtualFleet):
        return lw
    raise ConfigError(
        f"{what} needs a fleet with a virtual clock", hint="Take the fixture lw of Longwatch's pytest plugin."
    )


def _added(one: Report, two: Report) -> Report:
    return Report(
        done=one.done + two.done,
        failed=one.failed + two.failed,
        cancelled=one.cancelled + two.cancelled,
        unknown=one.unknown + two.unknown,
        retrying=two.retrying,
    )
