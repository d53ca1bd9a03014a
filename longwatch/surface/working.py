"""`work`: here in this process, or in a pool of spawned ones; and how Ctrl-C ends it."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from longwatch.errors import ConfigError
from longwatch.runtime.pool import Pool
from longwatch.runtime.worker import GRACE_MS, Overrun, Worker
from longwatch.surface.aio import drive
from longwatch.surface.handles import Report, report_of
from longwatch.surface.opened import Opened, output_folder

# As of the command line (longwatch/__main__.py): garbage is looked for when everything has been imported.
SPAWNED = "import gc; gc.disable(); import sys; from longwatch.surface.spawned import main; sys.exit(main())"
OVERRUN_STATUS = 75  # of a worker process that ended itself because its run would not end


def work(
    opened: Opened,
    *,
    agent: str,
    processes: int,
    until_idle: bool,
    name: str | None,
    on_start: Callable[[list[int]], None] | None,
) -> Report:
    if not opened.registry.handlers:
        raise ConfigError("there is nothing to work on: no handler is declared", hint="Declare one with @lw.task().")
    if processes < 1:
        raise ConfigError(f"processes={processes} is not a number of processes", hint="1 or more.")
    opened.parts.bury_the_dead()
    after = opened.parts.workers.last_fence()
    with named(opened, agent, name):
        if processes == 1:
            owner = opened.parts.world.new_id("worker")
            if on_start is not None:
                on_start([os.getpid()])
            work_here(opened, owner=owner, agent=agent, until_idle=until_idle)
            owners = [owner]
        else:
            owners = work_apart(opened, agent=agent, processes=processes, until_idle=until_idle, on_start=on_start)
    opened.parts.bury_the_dead()  # who died since the last upkeep and was nobody's child any more
    return report_of(opened.parts.workers.tally(owners, after=after))


@contextlib.contextmanager
def named(opened: Opened, agent: str, name: str | None) -> Generator[None]:
    """Hold the name while at work. Errors: ConfigError when another group of workers has it."""
    if name is None:
        yield
        return
    owner = opened.parts.world.new_id("group")
    opened.parts.enrol(owner, agent, name=name)
    try:
        yield
    finally:
        opened.parts.workers.dismiss(owner)


def work_here(
    opened: Opened,
    *,
    owner: str,
    agent: str,
    until_idle: bool,
    on_worker: Callable[[Any], None] | None = None,
    spawned: bool = False,
) -> None:
    """Work in this process and thread."""
    worker = Worker(
        opened.parts,
        opened.registry,
        owner=owner,
        agent=agent,
        on_overrun=_end_process if spawned else _interrupt,
        drive=drive,
    )
    if on_worker is not None:
        on_worker(worker)
        worker.work(until_idle=until_idle)
        return
    with stopping(lambda: worker.ask_to_stop()):
        worker.work(until_idle=until_idle)


def _end_process(overrun: Overrun) -> None:
    os._exit(OVERRUN_STATUS if overrun == "timeout" else 0)


def _interrupt(overrun: Overrun) -> None:
    """A run past its timeout is given up and goes on unheard; one past the grace of a stop is interrupted."""
    if overrun == "stop":
        _thread.interrupt_main()


def work_apart(
    opened: Opened, *, agent: str, processes: int, until_idle: bool, on_start: Callable[[list[int]], None] | None
) -> list[str]:
    """Work in spawned processes; the owner ids they had."""
    told = _told(opened, agent=agent, until_idle=until_idle)
    pool = Pool(
        opened.parts,
        command=[sys.executable, "-c", SPAWNED],
        told=lambda owner: told | {"owner": owner},
        size=processes,
        on_change=on_start,
    )
    with stopping(lambda: pool.stop.ask(by_ms=opened.parts.steady_ms() + GRACE_MS)):
        pool.work()
    return pool.owners


def _told(opened: Opened, *, agent: str, until_idle: bool) -> dict[str, object]:
    handlers = opened.registry.handlers.values()
    main = sys.modules["__main__"]
    needs_main = any(handler.module in ("__main__", "__mp_main__") for handler in handlers)
    path, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if needs_main and (path is None or not Path(path).is_file()):
        raise ConfigError(
            "these handlers are defined in a notebook or an interactive session, where spawned processes cannot find them",
            hint="Move them to a module and import it, or use processes=1.",
        )
    for handler in handlers:
        if "<locals>" in handler.qualname or "<lambda>" in handler.qualname:
            raise ConfigError(
                f"the handler {handler.kind!r} is defined inside a function, where spawned processes cannot find it",
                hint="Move it to the top level of a module, or use processes=1.",
            )
    name = "" if spec is None or spec.name is None else str(spec.name)
    asked = opened.settings.archive
    files = {"folder": str(output_folder(opened.settings)), "agent": agent, "size": asked.output_size}
    return {
        "output": files if asked.output == "files" else None,
        "state": str(opened.settings.state),
        "admission": opened.settings.admission,
        "config": opened.settings.source,
        "agent": agent,
        "budget": opened.settings.budget,
        "until_idle": until_idle,
        "sys_path": [entry or os.getcwd() for entry in sys.path],
        "argv": sys.argv,
        "main": {"path": str(Path(str(path)).absolute()), "name": name} if needs_main else None,
        "handlers": [(h.kind, "__main__" if h.module == "__mp_main__" else h.module, h.qualname) for h in handlers],
    }


@contextlib.contextmanager
def stopping(ask: Callable[[], None]) -> Generator[None]:
    """SIGINT and SIGTERM ask to stop; a second SIGINT interrupts at once. Only the main thread can hear signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = False

    def hear(number: int, _frame: object) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True
        ask()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
