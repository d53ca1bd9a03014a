"""Where an embedded state may live, and what the system says against it."""

import contextlib
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from longwatch.errors import StoreUnavailable

REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs"}
OTHER_SCHEMA = "its tables are not those that this code knows"
START_AGAIN = "It was upgraded meanwhile: upgrade Longwatch here too and start this program again. Nothing was written."
ROOM = 1 << 20  # bytes free on a disk below which an error of it is for want of room


@contextlib.contextmanager
def reachable(path: Path) -> Generator[None]:
    """The system's refusals while a state is being opened, as StoreUnavailable."""
    try:
        yield
    except StoreUnavailable:
        raise
    except OSError as error:
        hint = "Check that the folder exists, is on a disk with room, and that this user may write in it."
        raise unavailable(path, f"{error.strerror or error} ({error.filename})", hint=hint) from error


def unavailable(path: Path, reason: str, *, hint: str = "", maybe: bool = False) -> StoreUnavailable:
    error = StoreUnavailable(f"the state {path} cannot be used: {reason}", hint=hint)
    error.maybe_committed = maybe
    return error


def refuse_remote(path: Path) -> None:
    """Refuse a state on a file system whose locks do not reach every process. Unknown ones are taken for local."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return
    real = os.path.realpath(path)
    inside = [(mount[1], mount[2]) for mount in mounts if os.path.commonpath([mount[1], real]) == mount[1]]
    kind = max(inside, key=lambda mount: len(mount[0]), default=("", ""))[1]
    if kind in REMOTE or kind.startswith("fuse."):
        raise unavailable(path, f"it is on {kind}, where file locks cannot be trusted", hint=LOCAL)


LOCAL = "Put the state on a local disk; for a fleet of hosts use PostgreSQL."


def is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < ROOM
    except OSError:
        return False
