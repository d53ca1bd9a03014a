"""A private folder beside what is being made, until it is good enough for its name; and what a killed maker has left of one.

The maker holds a lock on the folder, which the kernel drops with the process. So whoever makes a thing of the same name next
sees which folders are of the living; the others he takes away. A file that has its name already, and waits for another one
to get its own, is known by being the same file as in the folder.
"""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path

ID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")  # what follows in the name of a workshop


@contextlib.contextmanager
def workshop(folder: Path, start: str, id: str) -> Generator[Path]:
    """A private folder on the same disk, named by start and the id; whatever happens in it, it is gone afterwards."""
    name = start + id.rpartition("_")[2]
    room, unlocked = folder / name, folder / f".new-{name}"
    unlocked.mkdir(mode=0o700)
    descriptor = _opened(unlocked)
    try:
        with contextlib.suppress(OSError):  # a file system without such locks: what is left there stays
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(room)  # under its name it has always been locked
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        os.close(descriptor)


def clear_dead(folder: Path, start: str, *, half: Path | None = None) -> None:
    """Take away the workshops of the dead whose names are `start` and an id; and `half`, if one of them gave it its name."""
    for name in os.listdir(folder):
        if name.startswith(start) and ID.fullmatch(name, len(start)):
            with contextlib.suppress(OSError):  # its maker lives, or has just finished
                _clear(folder / name, half)


def _clear(room: Path, half: Path | None) -> None:
    """Errors: BlockingIOError when its maker lives."""
    descriptor = _opened(room)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if half is not None and is_of(room, half):
            half.unlink()
        shutil.rmtree(room)
    finally:
        os.close(descriptor)


def is_of(room: Path, named: Path) -> bool:
    """Whether it is a file that was made there."""
    try:
        return os.path.samefile(room / named.name, named)
    except FileNotFoundError:
        return False


def _opened(room: Path) -> int:
    return os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
