"""Looks for what makes a fleet stand still or lie, and says what to do about it. It changes nothing.

Each check gives one finding: `ok`, `notice` (worth knowing; the fleet goes on) or `wrong` (somebody has to act).
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longwatch.admission.share import cut_off
from longwatch.db import statements
from longwatch.db.statements import Migration
from longwatch.errors import StoreUnavailable
from longwatch.policy.difference import difference
from longwatch.policy.duration import format_ms
from longwatch.policy.limits import Limits
from longwatch.policy.schema import SILENT_MS, pending
from longwatch.policy.size import format_bytes
from longwatch.policy.window import PARTED_MS, parted
from longwatch.runtime.archive import Archives
from longwatch.runtime.parts import Parts
from longwatch.store import fleet
from longwatch.store.look import Look
from longwatch.store.workers import Enrolled

MIB = 1 << 20
ROOM_WRONG, ROOM_NOTICE = 64 * MIB, 1024 * MIB  # of the disk: the write-ahead log alone may take 64 MiB
TOLD_MS = 2_000  # clocks that differ by less are not worth a word

Level = Literal["ok", "notice", "wrong"]


@dataclass(frozen=True)
class Finding:
    """check: its stable name. message: what is so, with figures. hint: what to do; empty when there is nothing to."""

    check: str
    level: Level
    message: str
    hint: str = ""


def examine(parts: Parts, state: Path | str, configured: Limits) -> list[Finding]:
    """Every check of an opened fleet. state: its file, or the address of its server, as it may be shown.

    configured: the limits that the config file asks for now.
    """
    workers = parts.workers.all()
    alive = [worker for worker in workers if not parts.is_dead(worker)]
    return [
        *([_server(parts, state)] if isinstance(state, str) else [_state(parts, state), *examine_place(state)]),
        _schema(parts, alive),
        *_admission(parts),
        _clock(parts),
        _workers(parts, workers, alive),
        _config(parts, configured, alive),
        *_tasks(parts, alive),
        *_archive(parts, alive),
    ]


def examine_place(state: Path) -> Iterator[Finding]:
    """What can be said of the place of a state, whether or not it can be opened."""
    folder = next((each for each in state.parents if each.is_dir()), Path("/"))
    yield _room(folder)
    yield _file_system(folder)
    if state.exists():
        yield _mode(state)


def _state(parts: Parts, state: Path) -> Finding:
    vitals = Look(parts.database).vitals()
    size = format_bytes(state.stat().st_size // MIB * MIB) if state.stat().st_size >= MIB else "under 1 MiB"
    return Finding("state", "ok", f"{state} is open: fleet {vitals.name}, {size}, SQLite {vitals.engine}")


def _server(parts: Parts, state: str) -> Finding:
    vitals = Look(parts.database).vitals()
    return Finding("state", "ok", f"{state} is open: fleet {vitals.name}, PostgreSQL {vitals.engine}")


def _schema(parts: Parts, alive: list[Enrolled]) -> Finding:
    with parts.database.read() as tx:
        found, heard_ms = fleet.schema(tx), tx.wall_ms - max(parts.lease_ms, SILENT_MS)
    return examine_schema(found, statements.migrations(), [worker for worker in alive if worker.beat_ms > heard_ms])


def examine_schema(found: int, known: Sequence[Migration], alive: Sequence[Enrolled]) -> Finding:
    """found: number of the state's schema. known: this code's migrations. alive: the workers that are at work."""
    newest, lacking = known[-1].number, pending(known, found)
    if found > newest:
        said = f"schema {found} is ahead of this Longwatch, which knows up to {newest}: the fleet is being upgraded"
        return Finding("schema", "notice", said, "Upgrade this one too: pip install --upgrade longwatch")
    if not lacking:
        return Finding("schema", "ok", f"schema {found}, no migration is pending")
    said = f"schema {found}, pending: {', '.join(f'{each.number} {each.name}' for each in lacking)}"
    older = [worker for worker in alive if worker.schema < lacking[-1].number]
    if not older:
        hint = "longwatch state migrate applies it; from then on the previous version is refused."
        return Finding("schema", "notice", said, hint)
    workers = ", ".join(f"{worker.pid} (agent {worker.agent}, schema {worker.schema})" for worker in older[:10])
    said = f"{said}; {len(older)} workers of older code hold that back: processes {workers}"
    return Finding("schema", "notice", said, "Upgrade them, or stop them; then: longwatch state migrate.")


def _room(folder: Path) -> Finding:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    said = f"{free // MIB} MiB free in {folder}"
    if free < ROOM_WRONG:
        return Finding("disk", "wrong", f"only {said}", "Free some space: below 64 MiB writes may be refused.")
    if free < ROOM_NOTICE:
        return Finding("disk", "notice", f"only {said}", "Free some space before it runs out.")
    return Finding("disk", "ok", said)


def _file_system(folder: Path) -> Finding:
    kind, options = mount_of(folder)
    if "ro" in options:
        hint = "Mount it writable, or put the state elsewhere: [fleet] state in longwatch.toml."
        return Finding("file system", "wrong", f"{folder} is mounted read-only ({kind})", hint)
    if kind in ("tmpfs", "ramfs"):
        hint = "Put the state on a disk: [fleet] state in longwatch.toml."
        return Finding("file system", "notice", f"{folder} is on {kind}: it is lost when the machine starts anew", hint)
    if not os.access(folder, os.W_OK):
        return Finding("file system", "wrong", f"this user may not write in {folder}", "Check owner and mode of it.")
    return Finding("file system", "ok", f"{folder} is on {kind or 'a file system of unknown kind'}")


def mount_of(folder: Path) -> tuple[str, list[str]]:
    """(file system, options) of the mount that holds the folder; empty where the system does not tell."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return "", []
    real = os.path.realpath(folder)
    inside = [mount for mount in mounts if os.path.commonpath([mount[1], real]) == mount[1]]
    longest = max((len(mount[1]) for mount in inside), default=0)
    found = [mount for mount in inside if len(mount[1]) == longest]
    return (found[-1][2], found[-1][3].split(",")) if found else ("", [])


def _mode(state: Path) -> Finding:
    mode = stat.S_IMODE(state.stat().st_mode)
    if mode & 0o077:
        hint = f"chmod 600 {state}"
        return Finding("permissions", "notice", f"other users may read or write the state (mode {mode:o})", hint)
    return Finding("permissions", "ok", f"only its owner may read the state (mode {mode:o})")


def _admission(parts: Parts) -> Iterator[Finding]:
    """The engine that decides about calls, where the state does not. An opened fleet has one that is fit."""
    limiter, cut = parts.calls.limiter, cut_off(parts.database)
    kept = f"{limiter.limits.away}% of every limit, kept in the state"
    try:
        engine = limiter.engine()
    except StoreUnavailable as error:
        if limiter.away:
            message = error.message.rstrip(".")
            yield Finding(
                "admission", "notice", f"{message}; calls go by {kept}", "Start it, or check [fleet] admission."
            )
        else:
            yield Finding("admission", "wrong", error.message, error.hint)
        return
    if engine:
        yield Finding(
            "admission", "ok", engine + (f"; while it is away calls go by {kept}" if limiter.limits.away else "")
        )
    if cut:
        who = ", ".join(f"{each.owner} (agent {each.agent})" for each in cut[:10])
        hint = "See what is between them and it; longwatch journal --kind engine. says since when."
        yield Finding(
            "admission reach", "notice", f"{len(cut)} processes cannot reach it from where they are: {who}", hint
        )


def _clock(parts: Parts) -> Finding:
    vitals = Look(parts.database).vitals()
    apart_ms = vitals.calendar_ms - vitals.steady_ms
    if parted(vitals.calendar_ms, steady_ms=vitals.steady_ms):
        side = "ahead of" if apart_ms > 0 else "behind"
        return Finding(
            "clock",
            "wrong",
            f"the wall clock is {format_ms(abs(apart_ms) // 1000 * 1000)} {side} the steady one (they may part by "
            f"{format_ms(PARTED_MS)}): no new window of a budget opens; leases and rates are not affected",
            "Set the clock right (timedatectl). If it is right now, it was wrong when this machine's first worker "
            "began: start the machine anew, and both clocks begin together.",
        )
    if abs(apart_ms) > TOLD_MS:
        return Finding("clock", "ok", f"wall and steady clock differ by {format_ms(abs(apart_ms) // 1000 * 1000)}")
    return Finding("clock", "ok", "wall and steady clock agree")


def _workers(parts: Parts, workers: list[Enrolled], alive: list[Enrolled]) -> Finding:
    dead = [worker.pid for worker in workers if worker not in alive]
    if not dead:
        return Finding("workers", "ok", f"{len(alive)} alive, none dead")
    pids = ", ".join(str(pid) for pid in dead[:10])
    return Finding(
        "workers",
        "notice",
        f"{len(dead)} dead (pids {pids}), {len(alive)} alive",
        "What they held is freed by the next longwatch work MODULE at once, by running workers within "
        f"{format_ms(parts.lease_ms)}.",
    )


def _config(parts: Parts, configured: Limits, alive: list[Enrolled]) -> Finding:
    differences = difference(parts.calls.limiter.limits, configured)
    if not differences:
        return Finding("config", "ok", "the config file says what is in force")
    said = f"the config file differs from what is in force: {'; '.join(differences[:5])}"
    if alive:
        hint = f"Workers started now are refused. Stop the {len(alive)} that are alive and start them again."
        return Finding("config", "wrong", said, hint)
    return Finding("config", "notice", said, "It comes into force when the next worker starts.")


def _tasks(parts: Parts, alive: list[Enrolled]) -> Iterator[Finding]:
    counts = Look(parts.database).counts()
    if counts.get("unknown"):
        yield Finding(
            "unknown tasks",
            "notice",
            f"{counts['unknown']} tasks ended in a way that nobody knows",
            "longwatch task list --state unknown; then longwatch task resolve ID done|failed|cancelled.",
        )
    if counts.get("ready") and not alive:
        said = f"{counts['ready']} tasks are ready and no worker is alive"
        yield Finding("idle", "notice", said, "longwatch work MODULE starts one.")


def _archive(parts: Parts, alive: list[Enrolled]) -> Iterator[Finding]:
    """Whether what is due leaves the state, whether its disk has the room that it shall have, and whether all hosts have one
    archive."""
    archives = parts.archives
    if archives is None:
        return
    hosts = len({worker.boot_id for worker in alive})
    if hosts > 1 and archives.folder is not None:
        said = f"workers are at work on {hosts} hosts, and the archive is a folder, {archives.folder}: of each host its own"
        yield Finding(
            "archive place", "notice", said, "Set [archive] to = an s3:// address, or a folder that all of them mount."
        )
    facts, rules = archives.facts(), archives.rules
    if archives.pressed():
        said = f"less than {format_bytes(rules.room)} ([archive] room) are free beside the state: it is archived early"
        room = "Free some space" + (
            ", or longwatch archive drop --older 12w." if archives.beside_state() else " there."
        )
        yield Finding("archive room", "notice", said, room)
    failing = archives.archivists.failing()
    late_ms = facts.now_ms - facts.closed_ms - 2 * rules.every_ms
    if failing is not None:
        said = f"rounds fail, and rows stay in the state: {failing.why}"
        yield Finding("archive", "wrong", said, failing.hint or LATE)
    elif facts.closed_ms == 0:
        yield Finding("archive", "ok", "nothing was archived yet: workers do it beside their work")
    elif late_ms > 0:
        said = f"the last round ended {format_ms((facts.now_ms - facts.closed_ms) // 1000 * 1000)} ago"
        yield Finding("archive", "notice", f"{said}, and one is due every {format_ms(rules.every_ms)}", LATE)
    elif archives.exists():
        yield _segments(archives)
    else:
        yield Finding("archive", "ok", "nothing was old enough yet to be archived")


def _segments(archives: Archives) -> Finding:
    try:
        segments = archives.segments()
    except StoreUnavailable as error:
        return Finding("archive", "wrong", error.message, error.hint)
    size = sum(each.bytes for each in segments) // MIB
    return Finding("archive", "ok", f"{len(segments)} segments, {size} MiB; longwatch archive verify reads them")


LATE = "A running worker does it; longwatch archive now does it at once, and says what is in its way."
