"""Memory's file in a backup, a restore or a copy of its state: looked at, and put in place when the state is.

Two files cannot be renamed in one instant. So a memory that belongs to a state that is not there yet waits beside it under a
name with the epoch that this state will have (`STATE.memory.next-EPOCH`). The rename of the state, or the commit of its copy,
is the instant at which both count: whoever opens memory then puts it in place first, whether or not the process that
prepared it still lives. One that waits for an epoch that never came is taken away by the next restore or copy.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from longwatch.db.turnstile import Turnstile
from longwatch.store.memory_schema import ENDING

WAITING = ".next-"
CHUNK = 1 << 20


def beside(state: Path) -> Path:
    """Memory's file of a state, or of a copy of one."""
    return state.with_name(state.name + ENDING)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


# -- until the state is there ------------------------------------------------------------------------------------------------


def waiting(state: Path, epoch: int) -> Path:
    """Where memory waits for the state to be of this epoch."""
    memory = beside(state)
    return memory.with_name(f"{memory.name}{WAITING}{epoch}")


def remembers(state: Path) -> bool:
    """Whether it has a memory, or one that waits to be put in place."""
    start = beside(state).name + WAITING
    return beside(state).exists() or any(name.startswith(start) for name in os.listdir(state.parent))


def clear_waiting(state: Path) -> None:
    """Take away what waits for an epoch that did not come."""
    start = beside(state).name + WAITING
    for name in os.listdir(state.parent):
        if name.startswith(start) and name.removeprefix(start).isdigit():
            state.with_name(name).unlink(missing_ok=True)


def settle(state: Path, epoch: int) -> bool:
    """Put in place what waits for the epoch that the state has; whether there was such a thing. For everybody, and twice."""
    mine, memory = waiting(state, epoch), beside(state)
    if not mine.exists():
        return False
    turnstile = Turnstile(memory.with_name(memory.name + ".turn"))
    try:
        with turnstile:
            if not mine.exists():
                return False  # somebody was faster
            for ending in ("-wal", "-shm"):  # of the memory that it replaces
                memory.with_name(memory.name + ending).unlink(missing_ok=True)
            os.rename(mine, memory)
            sync(state.parent)
            return True
    finally:
        turnstile.close()


def keep(state: Path, kept: Path) -> None:
    """A second name for the memory that is about to be replaced, and for what its log still holds."""
    memory = beside(state)
    for ending in ("-wal", ""):
        with contextlib.suppress(FileNotFoundError):
            os.link(memory.with_name(memory.name + ending), beside(kept).with_name(beside(kept).name + ending))


def sync(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
