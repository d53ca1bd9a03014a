"""How a simulation leaves out what costs time and shows nothing, and what it answers where the code asks the kernel.

Who waits looks less often than in earnest, because a look that finds nothing costs as much as one that does.
"""

import contextlib
import gc
import logging
from collections.abc import Generator

from longwatch.policy.backoff import Backoff
from longwatch.runtime import call, lease, parts, worker
from longwatch.testing.machine import Machine
from longwatch.testing.mutants import replaced

SWEEP_MS = 10_000  # of idle workers; in earnest a second
LINE_MS = 900  # at most, between two looks of who stands in line for a lease (after a second its place is lost)
POLL = Backoff(first_ms=40, most_ms=30_000)  # of calls that wait for others to settle; in earnest 10 to 250


@contextlib.contextmanager
def unhurried() -> Generator[None]:
    """Waits are longer than in earnest, and nothing is collected but once a day.

    What is warned of is not logged: here it happens on purpose, thousands of times.
    """
    log = logging.getLogger("longwatch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    collecting = gc.isenabled()
    gc.disable()  # an eighth of the time; `run` collects once a day
    try:
        with (
            replaced(worker, "SWEEP_MS", SWEEP_MS),
            replaced(lease, "poll_ms", slow_poll),
            replaced(call, "POLL", POLL),
        ):
            yield
    finally:
        log.setLevel(level)
        if collecting:
            gc.enable()


@contextlib.contextmanager
def told_by(machine: Machine) -> Generator[None]:
    """What processes ask the kernel about each other, the machine answers."""
    with (
        replaced(parts, "own_process", machine.own_process),
        replaced(parts, "start_ticks", machine.start_ticks),
    ):
        yield


def slow_poll(place: int, fraction: float) -> int:
    """In place of policy.lease.poll_ms: milliseconds until a place in line is looked at again."""
    return round(min(LINE_MS * (0.1 + 0.9 * fraction) * (1 + place), LINE_MS))
