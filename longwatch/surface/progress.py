"""Progress on standard error for what takes longer than two seconds: on a terminal only, never with NO_COLOR."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Generator

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from longwatch.runtime.loop import Threads
from longwatch.runtime.world import Machine

QUIET_MS = 2_000
EVERY_MS = 500


def shown() -> bool:
    """Whether a person watches who may be shown things that move."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def progress(tell: Callable[[], str], *, quiet_ms: int = QUIET_MS) -> Generator[None]:
    """While the block runs, show what `tell` says; from the start of the third second on. `tell` may be slow, not raise."""
    if not shown():
        yield
        return
    over, sleeper = threading.Event(), Threads(Machine().steady_ms)
    shower = sleeper.start("progress", lambda: _show(tell, over, sleeper, quiet_ms))
    try:
        yield
    finally:
        over.set()
        shower.join()


def _show(tell: Callable[[], str], over: threading.Event, sleeper: Threads, quiet_ms: int) -> None:
    machine = Machine()
    if sleeper.wait_for_flag(over, machine.steady_ms() + quiet_ms):
        return
    spinner = Spinner("dots", text=tell())
    with Live(spinner, console=Console(file=sys.stderr), transient=True, refresh_per_second=8):
        while not sleeper.wait_for_flag(over, machine.steady_ms() + EVERY_MS):
            spinner.update(text=tell())
