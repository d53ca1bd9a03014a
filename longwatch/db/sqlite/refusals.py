"""What can be wrong with a state, in words: engine errors as StoreUnavailable, with the reason and what to do."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import NoReturn

import apsw

from longwatch.db.place import OTHER_SCHEMA, START_AGAIN, is_full, unavailable

UPGRADE = "Reinstall apsw: its wheels bring a newer SQLite."
MOVED = ("no such table", "no such column", "has no column named")

REASONS: tuple[tuple[type[Exception], str, str], ...] = (
    (apsw.FullError, "its disk is full", "Free some space and repeat; nothing was written, nothing is lost."),
    (apsw.ReadOnlyError, "it is read-only", "Make the file and its folder writable for this user, then repeat."),
    (apsw.CantOpenError, "it cannot be opened", "Check that the folder exists and that this user may write in it."),
    (apsw.NotADBError, "it is not a Longwatch state", "Name another file, or move this one away."),
    (apsw.CorruptError, "it is damaged", "Stop the fleet and restore a backup: longwatch state restore FILE."),
    (apsw.BusyError, "another program holds its lock", "Close other SQLite tools that have the file open."),
    (apsw.LockedError, "another program holds its lock", "Close other SQLite tools that have the file open."),
    (apsw.IOError, "its disk answers with errors", "Check the disk and the kernel's log, then repeat."),
    (apsw.PermissionsError, "this user may not use it", "Check owner and mode of the file."),
)


@contextlib.contextmanager
def translated(path: Path) -> Generator[None]:
    """Engine errors as StoreUnavailable, with the reason and what to do; the engine's own words kept as the cause."""
    try:
        yield
    except apsw.Error as error:
        raise_translated(path, error)


def raise_translated(path: Path, error: apsw.Error) -> NoReturn:
    """As it is when no reason is known for it: a mistake in a statement."""
    if isinstance(error, apsw.SQLError) and any(words in str(error) for words in MOVED):
        raise unavailable(path, f"{OTHER_SCHEMA} ({error})", hint=START_AGAIN) from error
    full = isinstance(error, apsw.IOError) and is_full(path)  # the files beside the state could not grow
    for kind, reason, hint in REASONS:
        if isinstance(error, kind) or (full and kind is apsw.FullError):
            raise unavailable(path, f"{reason} ({error})", hint=hint) from error
    raise error
