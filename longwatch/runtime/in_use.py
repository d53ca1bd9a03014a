"""Whether a state may be replaced: who has it open, whether it changes, and what it will be called afterwards."""

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

from longwatch.db.turnstile import lock_holders
from longwatch.errors import ConfigError, NotFound
from longwatch.runtime.world import World, pids_of, start_ticks
from longwatch.store.backup import Found


def refuse_source(source: Path, state: Path) -> None:
    if not source.is_file():
        what = "is a folder" if source.is_dir() else "does not exist"
        raise NotFound(f"{source} {what}", hint="Name a file that longwatch state backup made.")
    if state.exists() and os.path.samefile(source, state):
        raise ConfigError(f"{source} is the state itself", hint="Name a file that longwatch state backup made.")
    log = source.with_name(source.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise ConfigError(
            f"{source} is a state in use, not a copy: part of it is still in {log.name}",
            hint=f"Make a copy of it first: longwatch --state {source} state backup FILE.",
        )


def refuse_in_use(world: World, state: Path, present: Found | None) -> None:
    """Errors: ConfigError that names the processes that have the state open, or work on it."""
    pids = set(_openers(state))
    for worker in present.workers if present is not None else ():
        if worker.boot_id == pids_of(world.boot_id()) and start_ticks(worker.pid) == worker.start_ticks:
            pids.add(worker.pid)
    if pids:
        named = ", ".join(str(pid) for pid in sorted(pids))
        raise ConfigError(
            f"{state} is in use by {len(pids)} process{'' if len(pids) == 1 else 'es'}: pid {named}",
            hint="Stop them first (Ctrl-C, or kill -TERM), then run it again. Nothing was changed.",
        )


def _openers(state: Path) -> list[int]:
    """Who has the state open, as the kernel's table of locks tells: every open connection holds one on the -shm."""
    found: list[int] = []
    for ending in ("", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(state.with_name(state.name + ending))
            device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
            found += lock_holders(device, kind="POSIX")
    return [pid for pid in found if pid != os.getpid()]


def kept_name(world: World, state: Path) -> Path:
    """Beside the state, with the instant in it; never the name of something that is there."""
    instant = datetime.fromtimestamp(world.wall_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{state.name}.before-{instant}{more}" for more in ("", *(f"-{n}" for n in range(2, 100))))
    return next(place for place in map(state.with_name, names) if not os.path.lexists(place))


def stamp(state: Path) -> list[int]:
    """Changes with every commit to the state; all zeros when there is none."""
    found: list[int] = []
    for ending in ("", "-wal"):
        try:
            status = os.stat(state.with_name(state.name + ending))
            found += [status.st_ino, status.st_size, status.st_mtime_ns] if status.st_size else [0, 0, 0]
        except FileNotFoundError:
            found += [0, 0, 0]
    return found
