"""How a simulation leaves out what costs time and shows nothing, and what it answers where the code asks the kernel.

Who waits looks less often than in earnest, because a look that finds nothing costs as much as one that does.
"""

import contextlib
import gc
import logging
import math
from collections.abc import Generator
from pathlib import Path

from longwatch.policy.backoff import Backoff
from longwatch.runtime import call, lease, parts, root, upkeep, worker
from longwatch.testing.machine import Machine
from longwatch.testing.mutants import replaced

SWEEP_MS = 20_000  # of idle workers; in earnest a second
UPKEEP_MS = 60_000  # between two of them; in earnest 5,000
LINE_MS, LINE_MS_MOST = 100, 8_000  # between two looks of who stands in line for a lease; in earnest 5 to 225
POLL = Backoff(first_ms=40, most_ms=30_000)  # of calls that wait for others to settle; in earnest 10 to 250


@contextlib.contextmanager
def unhurried() -> Generator[None]:
    """Waits are longer than in earnest, and garbage is collected when `collect` says so.

    What is warned of is not logged: here it happens on purpose, thousands of times.
    """
    log = logging.getLogger("longwatch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    collecting = gc.isenabled()
    gc.disable()  # an eighth of the time; see `collect`
    try:
        with (
            replaced(worker, "SWEEP_MS", SWEEP_MS),
            replaced(lease, "poll_ms", slow_poll),
            replaced(call, "POLL", POLL),
            replaced(upkeep, "EVERY_MS", UPKEEP_MS),
            replaced(root, "refuse_remote", nothing_remote),
        ):
            yield
    finally:
        log.setLevel(level)
        gc.unfreeze()
        if collecting:
            gc.enable()


def collect() -> None:
    """Collect garbage, and look no more at what has survived: what a simulation keeps it keeps to its end."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def told_by(machine: Machine) -> Generator[None]:
    """What processes ask the kernel about each other, the machine answers."""
    with (
        replaced(parts, "own_process", machine.own_process),
        replaced(parts, "start_ticks", machine.start_ticks),
    ):
        yield


def nothing_remote(path: Path) -> None:
    """In place of db.sqlite.refuse_remote: every simulated process would read the machine's mounts."""


def slow_poll(place: int, fraction: float) -> int:
    """In place of policy.lease.poll_ms: milliseconds until a place in line is looked at again.

    Half of the waits are shorter than a second, after which a place is lost. The long ones are for a holder that has died.
    """
    return round(LINE_MS * math.exp(fraction * math.log(LINE_MS_MOST / LINE_MS)))
