"""Backup while the fleet runs, and restore while it does not.

A backup is a copy as of one instant, synced and checked from end to end before it gets its name: a file of that name is
a good one. A restore turns such a copy into the fleet's next state. Between the two lies a history that the copy does
not know, so everything that could repeat it is stopped: the epoch of fences rises above both, leases end, what ran has
crashed (with an effect of unknown outcome: is unknown), tasks from before the restore do not enter a `once` step again,
and money that the replaced state knew to be spent stays spent.

Files are looked at in a process of their own (`python -m longwatch.runtime.backup`): closing a second handle on an open
state would drop the locks of the first. The replaced state keeps everything it had, under a dated name beside the new
one; the new one takes its place by one rename, while the turnstile keeps everybody out.

Memory's file goes along: it is copied first, so that it knows nothing that the copy of the state does not, and gets its
name first, so that a state's copy which has its name has its memory beside it. How both are put in place in one instant
is told in store/memory_backup.py. A copy without a memory leaves the present one where it is.
"""

import contextlib
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from longwatch.admission.limiter import Limiter
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.db.turnstile import Turnstile
from longwatch.errors import ConfigError, LongwatchError, StoreUnavailable
from longwatch.policy.difference import limits_from_json
from longwatch.policy.redact import Redactor
from longwatch.runtime.in_use import kept_name, refuse_in_use, refuse_source, stamp
from longwatch.runtime.parts import Parts
from longwatch.runtime.process import Child
from longwatch.runtime.workshop import clear_dead, is_of, workshop
from longwatch.runtime.world import Machine, World
from longwatch.store import backup as store
from longwatch.store import fleet, memory_backup
from longwatch.store.backup import Carried, Found, FoundMemory, inspect_memory
from longwatch.store.journal import Journal
from longwatch.store.look import Look
from longwatch.store.memory_backup import beside, clear_waiting, settle, sync, waiting
from longwatch.store.runs import Runs
from longwatch.store.workers import Workers

T = TypeVar("T")
UNREADABLE_JUMP = 1_000  # epochs skipped when the replaced state cannot say how far it got
SWEEPS = 1_000_000  # a bound on loops that end by themselves


@dataclass(frozen=True)
class BackedUp:
    file: Path
    bytes: int
    found: Found
    memory: FoundMemory | None


@dataclass(frozen=True)
class Plan:
    """What a restore would do. present: None when there is no state, or (unreadable: why) when it cannot be read.

    kept: where the present state will be found afterwards. memory: what the copy brings; None leaves the present one.
    """

    source: Path
    state: Path
    found: Found
    present: Found | None
    unreadable: str | None
    kept: Path | None
    memory: FoundMemory | None


@dataclass(frozen=True)
class Restored:
    """epoch: of the fences from now on. freed: tasks that ran and have crashed; unknown: tasks of unknown outcome."""

    state: Path
    kept: Path | None
    epoch: int
    freed: int
    unknown: int


class Examined(msgspec.Struct, frozen=True):
    """present: None when there is no state, or (unreadable: why) when it cannot be read."""

    found: Found
    present: Found | None = None
    unreadable: str | None = None
    memory: FoundMemory | None = None


class Prepared(msgspec.Struct, frozen=True):
    """The copy is the fleet's next state. present: as in `Examined`; stamp: of the state that was looked at."""

    present: Found | None
    unreadable: str | None
    stamp: list[int]
    epoch: int
    freed: int
    unknown: int


# -- backup --------------------------------------------------------------------------------------------------------------


def back_up(parts: Parts, target: Path) -> BackedUp:
    """Copy the state into `target`, which must not exist. Errors: ConfigError, StoreUnavailable."""
    start = f".{target.name}.backup_"
    with _refused_by_system(target):
        _refuse_names(target, start)
        database = parts.database
        assert isinstance(database, SqliteDatabase)
        with workshop(target.parent, start, parts.world.new_id("backup")) as room:
            copy = room / target.name
            memory = _copy_memory(parts, Path(database.path), copy)
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            store.copy_into(database, parts.journal, copy, name=str(target), memory=memory)
            sync(copy)
            examined = _examine(copy)
            parts.world.reach("backup.copied")
            _name(parts.world, copy, target, memory=memory is not None)
            return BackedUp(target, target.stat().st_size, examined.found, examined.memory)


def _refuse_names(target: Path, start: str) -> None:
    """What a backup left that was killed is taken away before. start: of its workshop's name. Errors: ConfigError."""
    if not os.path.lexists(target):
        clear_dead(target.parent, start, half=beside(target))
    if os.path.lexists(target):
        raise ConfigError(
            f"{target} exists, and a backup overwrites nothing", hint="Name a file that is not there yet."
        )
    if os.path.lexists(beside(target)):
        raise ConfigError(
            f"{beside(target)} exists, without {target.name}, and a backup overwrites nothing",
            hint="Another backup may be about to name its own there: wait for it. If none is at it, nobody can restore that "
            f"memory without its state: remove it (rm {shlex.quote(str(beside(target)))}), or name another file.",
        )


def _name(world: World, copy: Path, target: Path, *, memory: bool) -> None:
    """Both or neither, but for a kill in between. Errors: ConfigError."""
    try:
        if memory:
            os.link(beside(copy), beside(target))
            sync(target.parent)
            world.reach("backup.memory_linked")
        os.link(copy, target)
    except BaseException as error:
        if is_of(copy.parent, beside(target)) and not is_of(copy.parent, target):
            beside(target).unlink()
        if isinstance(error, FileExistsError):
            raise ConfigError(f"{target} was made by somebody else meanwhile", hint="Name another file.") from error
        raise
    sync(target.parent)


def _copy_memory(parts: Parts, state: Path, copy: Path) -> str | None:
    """Copy memory beside the copy; its SHA-256, or None of a fleet that has none."""
    with parts.database.read() as tx:
        joined = tx.one("memory.epoch")
    assert joined is not None
    settle(state, int(joined.epoch))
    if not beside(state).exists():
        return None
    parts.memories.catch_up()  # so that an archivist cannot drop from the journal what this copy would still need
    target, database = beside(copy), parts.memories.store.database
    assert isinstance(database, SqliteDatabase)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    database.backup(target)
    sync(target)
    return memory_backup.digest_of(target)


# -- restore -------------------------------------------------------------------------------------------------------------


def plan_restore(world: World, *, source: Path, state: Path) -> Plan:
    """Check everything and change nothing. Errors: NotFound, ConfigError, StoreUnavailable, each before anything moves."""
    refuse_source(source, state)
    seen = _examine(source, state)
    refuse_in_use(world, state, seen.present)
    kept = kept_name(world, state) if state.exists() else None
    return Plan(source, state, seen.found, seen.present, seen.unreadable, kept, seen.memory)


def restore(world: World, plan: Plan) -> Restored:
    """Carry the plan out. Errors: as `plan_restore`; then the state is as it was."""
    state = plan.state
    with _refused_by_system(state):
        state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        start = f".{state.name}.restore_"
        clear_dead(state.parent, start)
        with workshop(state.parent, start, world.new_id("restore")) as room:
            copy = room / state.name
            for from_, to in ((plan.source, copy), *([(beside(plan.source), beside(copy))] if plan.memory else [])):
                shutil.copyfile(from_, to)
                os.chmod(to, 0o600)
                sync(to)
            told = {"do": "prepare", "path": str(copy), "present": str(state), "source": str(plan.source)}
            prepared = _ask(Prepared, told)
            sync(copy)
            world.reach("restore.prepared")
            _swap(world, plan, copy, prepared)
    return Restored(state, plan.kept, prepared.epoch, prepared.freed, prepared.unknown)


def _swap(world: World, plan: Plan, copy: Path, prepared: Prepared) -> None:
    """Put the copy in place of the state; nobody opens it meanwhile, because openers queue at the turnstile."""
    state = plan.state
    turnstile = Turnstile(state.with_name(state.name + ".turn"))
    try:
        with turnstile:
            refuse_in_use(world, state, prepared.present)
            if stamp(state) != prepared.stamp:
                raise StoreUnavailable(f"{state} was used meanwhile: nothing was restored", hint="Run it again.")
            if plan.kept is not None:
                _keep(state, plan.kept)
            if prepared.present is not None:
                settle(state, prepared.present.epoch)  # left by a restore that was killed once it counted
            clear_waiting(state)
            if plan.memory is not None:
                memory_backup.keep(state, plan.kept or kept_name(world, state))
                os.rename(beside(copy), waiting(state, prepared.epoch))
                sync(state.parent)
            world.reach("restore.kept")
            for ending in ("-wal", "-shm"):
                state.with_name(state.name + ending).unlink(missing_ok=True)
            world.reach("restore.cleared")
            os.rename(copy, state)
            sync(state.parent)
            world.reach("restore.renamed")
            settle(state, prepared.epoch)
    finally:
        turnstile.close()


def _keep(state: Path, kept: Path) -> None:
    """A second name for the state and for what its log still holds; both are whole before anything is taken away."""
    for ending in ("-wal", ""):
        from_ = state.with_name(state.name + ending)
        if from_.exists():
            os.link(from_, kept.with_name(kept.name + ending))
    sync(state.parent)


def _next_epoch(found: Found, present: Found | None, *, jump: bool) -> int:
    highest = max(found.epoch, present.epoch if present is not None else 0)
    return highest + (UNREADABLE_JUMP if jump else 1)


# -- looking, in a process of its own --------------------------------------------------------------------------------------


def _examine(copy: Path, state: Path | None = None) -> Examined:
    """Errors: StoreUnavailable when the copy is no good state."""
    return _ask(Examined, {"do": "examine", "path": str(copy), "present": None if state is None else str(state)})


def _ask(kind: type[T], told: Mapping[str, object]) -> T:
    with tempfile.TemporaryDirectory(prefix="longwatch-") as folder:
        answer = Path(folder) / "answer.json"
        child = Child([sys.executable, "-m", "longwatch.runtime.backup"], told={**told, "answer": str(answer)})
        code, _ = child.reap()
        if code != 0 or not answer.exists():
            raise StoreUnavailable(f"{told['path']} could not be examined (exit status {code})", hint="Run it again.")
        said = json.loads(answer.read_bytes())
    if "error" in said:
        error = StoreUnavailable if said["error"]["code"] == StoreUnavailable.code else ConfigError
        raise error(said["error"]["message"], hint=said["error"]["hint"])
    return msgspec.convert(said["found"], kind)


def main() -> int:
    """The examining process: one line of JSON on standard input says what to do and where the answer goes."""
    told = json.loads(sys.stdin.readline())
    path, present = Path(told["path"]), told["present"] and Path(told["present"])
    try:
        found = _examined(path, present) if told["do"] == "examine" else _prepared(path, present, told["source"])
        said = {"found": msgspec.to_builtins(found)}
    except LongwatchError as error:
        said = {"error": error.to_dict()}
    Path(told["answer"]).write_text(json.dumps(said), "utf-8")
    return 0


def _examined(copy: Path, state: Path | None) -> Examined:
    found = store.inspect_copy(copy)
    return Examined(found, *_look(state), _memory_of(copy, found))


def _memory_of(copy: Path, found: Found) -> FoundMemory | None:
    """The memory that was copied with it. Errors: StoreUnavailable for another one."""
    place = beside(copy)
    if not place.exists():
        return None
    memory = inspect_memory(place)
    if memory.sha256 not in found.memories:
        raise StoreUnavailable(
            f"{place} is not the memory that was copied with {copy.name}: its checksum is another one",
            hint="Put the right one there; or take it away, and the present memory stays as it is.",
        )
    return memory


def _look(state: Path | None) -> tuple[Found | None, str | None]:
    """(what the state holds, why it cannot be read); (None, None) when there is none."""
    if state is None or not state.exists():
        return None, None
    try:
        return store.inspect_present(state), None
    except StoreUnavailable as error:
        return None, error.message


def _prepared(copy: Path, state: Path, source: str) -> Prepared:
    """Make a private copy the fleet's next state. Errors: StoreUnavailable."""
    present, unreadable = _look(state)
    seen, found = stamp(state), store.inspect_copy(copy)
    _memory_of(copy, found)
    epoch = _next_epoch(found, present, jump=unreadable is not None)
    carried = present.carried if present is not None else Carried()
    freed, unknown = _take_over(copy, epoch, source, carried)
    return Prepared(present, unreadable, seen, epoch, freed, unknown)


def _take_over(copy: Path, epoch: int, source: str, carried: Carried) -> tuple[int, int]:
    """(tasks that had been running or claimed, tasks of unknown outcome)."""
    database = SqliteDatabase(str(copy), Machine())
    try:
        migrate(database)
        joined = fleet.enter(database, database.clock, name="", redaction_key="")
        journal = Journal(database, Redactor(joined.redaction_key.encode()))
        store.overtake(database, journal, epoch=epoch, source=source)
        freed = _crash_all(database, journal)
        until_nothing(Limiter(database, journal, limits_from_json(joined.config)).expire)
        store.carry(database, carried)
        return freed, Look(database).counts().get("unknown", 0)
    finally:
        database.close()


def _crash_all(database: SqliteDatabase, journal: Journal) -> int:
    Workers(database, journal).end_all()
    return until_nothing(Runs(database, journal).sweep)


def until_nothing(sweep: Callable[[], int]) -> int:
    swept = 0
    for _ in range(SWEEPS):
        found = sweep()
        if not found:
            break
        swept += found
    return swept


# -- files ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _refused_by_system(path: Path) -> Generator[None]:
    try:
        yield
    except LongwatchError:
        raise
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be written: {error.strerror or error}",
            hint="Check that its folder exists, has room, and that this user may write in it. The state is as it was.",
        ) from error


if __name__ == "__main__":
    sys.exit(main())
