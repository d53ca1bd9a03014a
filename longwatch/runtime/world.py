"""The only module that asks the machine for time, ids and randomness. Simulation brings a world of its own."""

import os
import random
import time
from functools import cached_property
from pathlib import Path
from typing import Protocol

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: sorts like the number, no letter read as a digit
PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
SHIFTS = range(120, -1, -10)
LONG = 26  # characters of an id behind its sort
TIMED = 10  # of which so many tell the millisecond; the others are chance
CHANCE = (ALPHABET * 8).encode()  # by byte of chance: each character as often as the others


class World(Protocol):
    """What a part may know of the machine it runs on. Everything else travels down as plain values."""

    def steady_ms(self) -> int: ...
    def wall_ms(self) -> int: ...
    def boot_id(self) -> str: ...

    def new_id(self, sort: str) -> str:
        """A fresh id such as "task_01k9...": the sort, then 26 characters that order by creation time."""
        ...

    def fraction(self) -> float:
        """A random number in [0, 1), for jitter."""
        ...

    def reach(self, mark: str) -> None:
        """The program is at a named rare place. Simulation counts it, and may end the process there."""
        ...


class Machine:
    """The real world: Linux's boot clock, the calendar, the kernel's randomness."""

    _begun = (0, "")  # of the last id: its second, nearly, and what that is written as

    def steady_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def boot_id(self) -> str:
        return self._boot_id

    @cached_property
    def _boot_id(self) -> str:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()

    def new_id(self, sort: str) -> str:
        """As of `format_id`, in less than half of the time: what it begins with lasts for a second."""
        at_ms = self.wall_ms()
        second, begins = self._begun
        if second != at_ms >> 10:
            second, begins = self._begun = at_ms >> 10, format_id("", at_ms=at_ms, entropy=0)[1 : TIMED - 1]
        return f"{sort}_{begins}{PAIRS[at_ms & 1023]}{os.urandom(LONG - TIMED).translate(CHANCE).decode()}"

    def fraction(self) -> float:
        return random.random()

    def reach(self, mark: str) -> None:
        pass


def format_id(sort: str, *, at_ms: int, entropy: int) -> str:
    """48 bits of milliseconds and 80 bits of entropy, in base 32 behind the sort."""
    number = (at_ms << 80) | entropy
    digits = "".join([PAIRS[(number >> shift) & 1023] for shift in SHIFTS])
    return f"{sort}_{digits}"


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot: with the pid, names one process for ever. 0: it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def pids_of(boot_id: str) -> str:
    """Names where this process's pids mean something: the boot, and the namespace. Containers share the first only."""
    try:
        return f"{boot_id}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return boot_id


def own_process() -> tuple[int, int]:
    """(pid, start ticks) of this process."""
    return os.getpid(), start_ticks(os.getpid())
