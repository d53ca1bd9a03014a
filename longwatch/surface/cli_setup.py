"""The commands that set up: config, state, completion."""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import click
import msgspec
from click.shell_completion import get_completion_class
from rich.console import RenderableType

from longwatch import config as configuration
from longwatch.config import Shown
from longwatch.db import statements
from longwatch.db.migrate import finish
from longwatch.errors import ConfigError, LongwatchError, NotFound
from longwatch.policy.limits import Limits
from longwatch.runtime import backup as backups
from longwatch.runtime.backup import Plan
from longwatch.runtime.memory_copy import MemoryCopy
from longwatch.runtime.transfer import Progress, copy_state
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.backup import FoundMemory
from longwatch.store.memory_backup import beside, remembers
from longwatch.store.memory_schema import prepare_memory
from longwatch.surface.cli_base import BadUse, Command, Group, pass_session
from longwatch.surface.engines import State, identity, is_remote, open_memory, open_state, shown
from longwatch.surface.output import facts, table
from longwatch.surface.progress import progress
from longwatch.surface.session import Session
from longwatch.surface.wire import Json, at

# -- config --------------------------------------------------------------------------------------------------------------


@click.group(cls=Group, section="set up")
def config() -> None:
    """The configuration."""


@config.command("show")
@pass_session
def show_config(session: Session) -> None:
    """Every value that counts, and where it is from.

    That is FILE:LINE, argument, environment NAME, default, state, or budget set. Limits are kept with the state: where the
    file says something else by now, that is shown beside it, and comes into force when a program opens the fleet alone.
    Secrets show where they are, never what.
    """
    kept, unread = _kept_limits(session)
    rows = configuration.in_force(session.settings, kept, Machine().wall_ms())
    file = session.settings.file
    data = {
        "file": None if file is None else str(file),
        "values": [_value_json(row) for row in rows],
        "state_unread": unread,
    }
    words = [(row.key, row.value, _origin(row)) for row in rows]
    said: list[RenderableType] = [f"the state could not be asked what is in force: {unread}"] if unread else []
    session.out.answer(data, table(("key", "value", "from"), words, empty=""), *said)


def _kept_limits(session: Session) -> tuple[Limits | None, str | None]:
    """What the state has in force, or why it could not be asked; neither while there is no state. None is made."""
    place = session.settings.state
    if not is_remote(place) and not Path(place).exists():
        return None, None
    try:
        return session.limits, None
    except LongwatchError as error:
        return None, error.message


def _value_json(row: Shown) -> Json:
    instead = None if row.instead_of is None else {"value": row.instead_of[0], "from": row.instead_of[1]}
    return {"key": row.key, "value": row.value, "from": row.origin, "instead_of": instead}


def _origin(row: Shown) -> str:
    if row.instead_of is None:
        return row.origin
    value, origin = row.instead_of
    return f"{row.origin} ({origin}: {value or 'nothing'})"


@config.command("check")
@pass_session
def check_config(session: Session) -> None:
    """Say whether the configuration is right."""
    settings = session.settings
    file = None if settings.file is None else str(settings.file)
    said = f"{file} is right" if file else "there is no longwatch.toml here or above; the defaults are right"
    session.out.answer({"ok": True, "file": file, "fleet": settings.name}, said)


@config.command("schema")
@pass_session
def schema(session: Session) -> None:
    """The JSON schema of longwatch.toml, for editors."""
    found = configuration.schema()
    session.out.json = True
    session.out.answer(found)


# -- state ---------------------------------------------------------------------------------------------------------------


@click.group(cls=Group, section="set up")
def state() -> None:
    """The state: copies of it, and back; its schema."""


@state.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@pass_session
def backup(session: Session, file: Path) -> None:
    """Copy the state into FILE while the fleet runs.

    The copy is of one instant, and checked from end to end before it gets its name.
    """
    place = session.settings.state
    if is_remote(place):
        hint = "pg_dump --format=custom --file FILE DATABASE copies it as of one instant, while the fleet runs."
        raise ConfigError(f"{shown(place)} is backed up with the server's own tools", hint=hint)
    parts = session.parts
    if not file.name or file.is_dir():
        raise BadUse(f"{file} is a folder", hint=f"Name a file in it: {file}/longwatch-backup.db")
    with progress(lambda: f"copying {session.settings.state}"):
        made = backups.back_up(parts, file.absolute())
    data = {
        "file": str(made.file),
        "bytes": made.bytes,
        "taken_at": at(made.found.at_ms),
        "schema": made.found.schema,
        "tasks": made.found.tasks,
        "journal_entries": made.found.entries,
        "last_entry": made.found.last_entry,
        "memory": _memory_json(made.memory),
    }
    tasks, entries = sum(made.found.tasks.values()), made.found.entries
    size = f"{made.bytes / (1 << 20):.1f} MiB"
    said = f"{made.file}: {size}, {tasks} tasks, {entries} journal entries; integrity checked"
    session.out.answer(
        data, said if made.memory is None else f"{said}\n{beside(made.file)}: {_memory_words(made.memory)}"
    )


def _memory_json(found: FoundMemory | None) -> Json | None:
    told: Json | None = None if found is None else msgspec.to_builtins(found)
    return told


def _memory_words(found: FoundMemory) -> str:
    counted = f"{found.records} records and {found.files} files of {found.agents} agents"
    return f"{found.bytes / (1 << 20):.1f} MiB, {counted}; integrity checked"


@state.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@pass_session
def restore(session: Session, file: Path, yes: bool, dry_run: bool) -> None:
    """Put the state back as FILE has it.

    The present one is kept beside it. Whatever ran has crashed; fences given before are overtaken.
    """
    place = session.settings.state
    if is_remote(place):
        hint = "Stop the workers, pg_restore into a new database, and name that as the state: old fences are overtaken."
        raise ConfigError(f"{shown(place)} is restored with the server's own tools", hint=hint)
    world = Machine()
    with progress(lambda: f"checking {file}"):
        plan = backups.plan_restore(world, source=file.absolute(), state=Path(place))
    if dry_run:
        session.out.answer(_plan_json(plan, restored=False), *_plan_words(plan))
        return
    if not yes and not _agreed(session, plan):
        raise BadUse("restoring replaces the state: nothing was done", hint="Say --yes; --dry-run shows the plan.")
    with progress(lambda: f"restoring {place}"):
        done = backups.restore(world, plan)
    said = (
        [f"{done.state} is as {file} has it", f"the former state is kept at {done.kept}"]
        if done.kept
        else [f"{done.state} is as {file} has it"]
    )
    data = _plan_json(plan, restored=True) | {"epoch": done.epoch, "unknown": done.unknown, "freed": done.freed}
    session.out.answer(data, "\n".join([*said, *_warnings(plan, done.unknown)]))


@state.command("migrate")
@pass_session
def migrate(session: Session) -> None:
    """Finish an upgrade: take away what only the previous version needs.

    Whatever this version needs was applied when it first started. Refused while workers of the previous version are at
    work; once it is done, that version cannot use the state any more. Nothing pending: nothing is done.
    """
    parts = session.parts
    with parts.database.read() as tx:
        before = fleet.schema(tx)
    after = finish(parts.database, lease_ms=parts.lease_ms)
    applied = [each for each in statements.migrations() if before < each.number <= after]
    data = {"schema": after, "applied": [{"number": each.number, "name": each.name} for each in applied]}
    names = ", ".join(f"{each.number} {each.name}" for each in applied)
    session.out.answer(data, f"schema {after}; applied: {names}" if applied else f"schema {after}: nothing was pending")


@state.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@pass_session
def copy(session: Session, source: str, target: str) -> None:
    """Copy a whole fleet into an empty state, of the same engine or another.

    FROM and TO are files or postgresql:// addresses. Stop the workers first. Rows and checksums are compared before
    anything counts; FROM stays as it is.
    """
    world, found = Machine(), Progress()
    if not is_remote(source) and not Path(source).exists():
        raise NotFound(f"there is no state {source}", hint="longwatch config show names the state of this fleet.")
    if identity(source) == identity(target):
        raise BadUse("FROM and TO are one state", hint="Name an empty one to copy into.")
    with contextlib.ExitStack() as stack:
        old, new = (_opened(session, place, world, stack) for place in (source, target))
        with progress(lambda: f"copying {found.table}: {found.done} of {found.total} rows"):
            memory = _memory_of(session, source, old, new, world, stack)
            done = copy_state(
                world, old, new, source=shown(source), target=shown(target), progress=found, memory=memory
            )
    data = {
        "from": shown(source),
        "to": shown(target),
        "epoch": done.epoch,
        "tables": {name: {"rows": held.rows, "sha256": held.digest} for name, held in done.tables.items()},
        "tasks": dict(done.tasks),
    }
    counted = f"{done.rows} rows in {len(done.tables)} tables"
    said = f"{shown(target)}: {counted}, the same as in {shown(source)} by count and checksum"
    hint = f'Now name it: [fleet] state = "{shown(target)}". Do not work on both.'
    session.out.answer(data, f"{said}\n{hint}")


def _memory_of(
    session: Session, source: str, old: State, new: State, world: Machine, stack: contextlib.ExitStack
) -> MemoryCopy | None:
    """None where nobody has ever remembered anything."""
    if new.file is None:
        prepare_memory(new.database)
    if old.file is not None and not remembers(old.file):
        return None
    database = open_memory(replace(session.settings, state=source), old.database, world, old.file)
    if database is not old.database:
        stack.callback(database.close)
    made = MemoryCopy(database, new.file, new.clock)
    return made if made.rows() else None


def _opened(session: Session, place: str, world: Machine, stack: contextlib.ExitStack) -> State:
    opened = open_state(replace(session.settings, state=place), world)
    stack.callback(opened.database.close)
    return opened


def _agreed(session: Session, plan: Plan) -> bool:
    """Asked on a terminal only."""
    if session.out.json or not sys.stdin.isatty():
        return False
    session.out.words(*_plan_words(plan))
    return click.confirm("Restore?", default=False, err=True)


def _plan_json(plan: Plan, *, restored: bool) -> Json:
    present = plan.present
    return {
        "restored": restored,
        "state": str(plan.state),
        "from": str(plan.source),
        "taken_at": at(plan.found.at_ms),
        "tasks": plan.found.tasks,
        "journal_entries": plan.found.entries,
        "present": None
        if present is None
        else {"tasks": present.tasks, "journal_entries": present.entries, "at": at(present.at_ms)},
        "present_unreadable": plan.unreadable,
        "kept": None if plan.kept is None else str(plan.kept),
        "memory": _memory_json(plan.memory),
    }


def _plan_words(plan: Plan) -> list[RenderableType]:
    found, present = plan.found, plan.present
    lost = "cannot be read" if plan.unreadable else "there is none"
    now = lost if present is None else f"{sum(present.tasks.values())} tasks, last entry {at(present.at_ms)}"
    return [
        facts(
            [
                ("restore", str(plan.state)),
                ("from", f"{plan.source}: {sum(found.tasks.values())} tasks, last entry {at(found.at_ms)}"),
                ("present state", now),
                ("memory", "stays as it is: the copy has none" if plan.memory is None else _memory_words(plan.memory)),
                ("kept as", plan.kept),
                ("left behind", _forgotten(plan)),
            ]
        )
    ]


def _forgotten(plan: Plan) -> str:
    if plan.present is None:
        return ""
    entries = plan.present.last_entry - plan.found.last_entry
    return f"about {entries} journal entries made since the copy" if entries > 0 else ""


def _warnings(plan: Plan, unknown: int) -> list[str]:
    words = [
        "what happened after the copy was made is not in it: tasks submitted since are gone, effects of them are not",
    ]
    if unknown:
        words.append(f"{unknown} tasks are unknown now: longwatch task list --state unknown")
    if plan.unreadable:
        words.append("the former state could not be read: compare what was spent since with the providers' bills")
    return words


# -- completion ------------------------------------------------------------------------------------------------------------


@click.command(cls=Command, section="set up")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
@pass_session
def completion(session: Session, context: click.Context, shell: str) -> None:
    """Completion of commands: eval "$(longwatch completion bash)"."""
    found = get_completion_class(shell)
    assert found is not None, f"the library knows {shell}"
    root = context.find_root().command
    text = found(root, {}, "longwatch", "_LONGWATCH_COMPLETE").source()
    session.out.answer({"shell": shell, "script": text}, text)
