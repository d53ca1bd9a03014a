"""The noun archive: what has left the state, in segments that can be searched, checked, brought back and dropped."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import click
import msgspec
from rich.text import Text

from longwatch.errors import ConfigError, LongwatchError, NotFound, StoreUnavailable
from longwatch.policy.duration import parse_text_ms
from longwatch.policy.money import Money
from longwatch.policy.retention import Close
from longwatch.policy.window import instant_of
from longwatch.runtime.archive import Archives
from longwatch.store.archive import Entry, Finding, Kind, Segment
from longwatch.store.archive.manifest import NAME
from longwatch.store.restoring import unmet
from longwatch.surface.cli_base import BadUse, Group, pass_session
from longwatch.surface.cli_memory import Told, one_line
from longwatch.surface.memory import refuse_in_a_run
from longwatch.surface.output import facts, table
from longwatch.surface.progress import progress
from longwatch.surface.session import Session
from longwatch.surface.wire import BROKEN, Json, at, listing

WRONG = ("damaged", "missing", "half written", "manifest", "index")
MIB = 1 << 20
PASSED = "entries of the journal stay in the archive alone, because their places are those of other entries by now"


@click.group(cls=Group, section="things")
def archive() -> None:
    """The archive: what has left the state, and what becomes of it."""


def archives_of(session: Session) -> Archives:
    """Errors: ConfigError for a state that is in no file."""
    found = session.parts.archives
    if found is None:
        raise ConfigError("a state in memory has no archive", hint="Name a file, or a PostgreSQL: --state PATH.")
    return found


@archive.command("now")
@click.option("--older", metavar="LENGTH", help="What ended longer ago than this: 1d; left out: [archive] every.")
@pass_session
def now(session: Session, older: str | None) -> None:
    """Archive what is due, as workers do by themselves, and drop old segments."""
    found = archives_of(session)
    age_ms = found.rules.every_ms if older is None else length(older, "--older")
    told = Told("looking")
    with progress(told.last):
        made = found.round(Close(age_ms), told.tell)
    if made.busy:
        raise LongwatchError(
            "another process archives now, or a worker of older code is at work",
            hint="Wait until it is done: longwatch archive list shows what there is. Upgrade workers of older code first.",
        )
    data = {"segments": list(made.segments), "entries": made.entries, "dropped": list(made.freed)}
    words = (
        f"{made.entries:,} entries left the state, in {len(made.segments)} segments"
        if made.segments
        else "nothing is due"
    )
    session.out.answer(data, words + (f"; {len(made.freed)} old segments were dropped" if made.freed else ""))


@archive.command("list")
@pass_session
def list_segments(session: Session) -> None:
    """Every segment, oldest first, and what it holds."""
    found = archives_of(session).segments()
    rows = [
        (
            each.name,
            f"{at(each.from_ms) or '':.10} to {at(each.to_ms) or '':.10}",
            f"{each.count:,}",
            f"{each.bytes / MIB:,.1f}",
            f"{each.raw_bytes / max(each.bytes, 1):.1f}",
            "pinned" if each.pinned else "",
        )
        for each in found
    ]
    empty = "Nothing was archived yet. Workers do it by themselves; longwatch archive now does it at once."
    shown = table((">segment", "days", ">entries", ">MiB", ">times smaller", ""), rows, empty=empty)
    session.out.answer(listing("segments", [segment_json(each) for each in found]), shown)


@archive.command("find")
@click.argument("text", required=False)
@click.option("--task", metavar="ID", help="Everything of one task.")
@click.option("--agent", metavar="NAME", help="Only this agent's.")
@click.option("--kind", type=click.Choice(get_args(Kind)), help="journal, task, call, record or log.")
@click.option("--since", metavar="DAY", help="2026-01-01")
@click.option("--until", metavar="DAY", help="2026-01-31")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--costs", is_flag=True, help="Instead: calls, cost and errors by agent and day.")
@pass_session
def find(
    session: Session,
    text: str | None,
    task: str | None,
    agent: str | None,
    kind: Kind | None,
    since: str | None,
    until: str | None,
    limit: int,
    costs: bool,
) -> None:
    """Entries that say a text, or are of a task, an agent, a time."""
    found = archives_of(session)
    zone = session.settings.timezone
    days = {
        "since_ms": None if since is None else instant_of(since, zone),
        "until_ms": None if until is None else instant_of(until, zone),
    }
    if costs:
        _costs(session, found, agent, days)
        return
    if not found.exists():
        session.out.answer(listing("entries", []) | {"unread": []}, "Nothing was archived yet.")
        return
    told = Told("looking")
    with progress(told.last):
        made = found.archive.find(text=text, task=task, agent=agent, kind=kind, limit=limit, **days)
    rows = [
        (at(each.at_ms) or "", each.kind, each.agent, each.id, one_line(each.body.decode())) for each in made.entries
    ]
    shown = table(("at", "kind", "agent", ">id", "text"), rows, empty="Nothing in the archive says so.")
    data = listing("entries", [entry_json(each) for each in made.entries])
    session.out.answer(data | {"unread": [finding_json(each) for each in made.unread]}, shown, *unread(made.unread))


def _costs(session: Session, found: Archives, agent: str | None, days: dict[str, int | None]) -> None:
    given = {name: value for name, value in days.items() if value is not None}
    sums = found.archive.costs(agent=agent, **given) if found.exists() else []
    rows = [
        (
            each.day,
            each.agent,
            f"{each.calls:,}",
            str(Money(each.cost_micros, each.currency)) if each.currency else "",
            each.errors,
        )
        for each in sums
    ]
    data = [msgspec.to_builtins(each) for each in sums]
    shown = table(
        ("day", "agent", ">calls", ">cost", ">errors"), rows, empty="Nothing in the archive cost anything then."
    )
    session.out.answer({"costs": data}, shown)


@archive.command("show")
@click.argument("id")
@pass_session
def show(session: Session, id: str) -> None:
    """A task with everything of it, one entry, or one segment."""
    found = archives_of(session)
    segment = next((each for each in found.segments() if each.name == id), None)
    if segment is not None:
        pairs = [(name, value) for name, value in segment_json(segment).items() if name != "name"]
        session.out.answer(segment_json(segment), facts([("segment", id), *pairs]))
        return
    entries, missed = entries_of(found, id)
    lines = [Text(f"{at(each.at_ms)} {each.kind:8} {each.id}\n  {each.body.decode()}") for each in entries]
    data = {
        "id": id,
        "entries": [entry_json(each) for each in entries],
        "unread": [finding_json(each) for each in missed],
    }
    session.out.answer(data, *lines, *unread(missed))


def entries_of(found: Archives, id: str) -> tuple[list[Entry], list[Finding]]:
    """Errors: NotFound; StoreUnavailable when it may be in what cannot be read."""
    made = found.archive.show(id) if found.exists() else None
    if made is not None and made.unread and not made.entries:
        said = (
            f"nothing can be read of {id}, and not all of the archive can: {made.unread[0].name}: {made.unread[0].what}"
        )
        raise StoreUnavailable(said, hint="longwatch archive verify names all that is damaged or missing.")
    if made is None or not made.entries:
        raise NotFound(
            f"the archive has nothing of {id}",
            hint="longwatch show ID looks in the state; longwatch archive find TEXT looks in the archive.",
        )
    return list(made.entries), list(made.unread)


@archive.command("verify")
@pass_session
def verify(session: Session) -> None:
    """Find segments that are missing, damaged or half written.

    Reads all of it. Exit status 3 when there are any. What is not named can be read.
    """
    found = archives_of(session)
    told = Told("reading")
    with progress(told.last):
        segments = found.segments()
        findings = (
            found.archive.verify(lambda done, whole: told.tell(f"{done / MIB:,.0f} of {whole / MIB:,.0f} MiB read"))
            if found.exists()
            else []
        )
    words = [f"{each.kind}: {each.name or 'the archive'}: {each.what}" for each in findings] or [
        f"{len(segments)} segments: nothing is missing, nothing was changed"
    ]
    data = {"segments": len(segments), "problems": [finding_json(each) for each in findings]}
    session.out.answer(data, "\n".join(words))
    if any(each.kind in WRONG for each in findings):
        click.get_current_context().exit(BROKEN)


@archive.command("restore")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--yes", is_flag=True, help="Without asking.")
@click.option("--dry-run", is_flag=True, help="Only say what would be brought back.")
@pass_session
def restore(session: Session, tasks: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Bring tasks back into the state.

    With their runs, steps, calls and journal, and with the tasks that ended badly and took them down. Their keys answer again,
    and they can be retried. They stay as long as what is young. The archive keeps its copy.
    """
    found = archives_of(session)
    entries = whole(found, tasks)
    heads = [entry for entry in entries if entry.kind == "task"]
    if dry_run:
        data = {"would_restore": [entry.id for entry in heads], "entries": len(entries)}
        session.out.answer(data, f"{len(heads)} tasks of {len(entries)} entries would be brought back")
        return
    agree(session, yes, f"Bring {len(heads)} tasks back into the state?", "a restore writes in the state")
    told = Told("reading")
    with progress(told.last):
        made = found.restore(found.located(heads, entries, told.tell), who="operator")
    data = {"restored": made.tasks, "here": made.here, "rows": made.rows, "passed_over": made.passed}
    words = f"{len(made.tasks)} tasks are back, {made.rows} rows"
    words += f"; {len(made.here)} were here already" if made.here else ""
    session.out.answer(data, words + (f"; {made.passed} {PASSED}" if made.passed else ""))


def whole(found: Archives, tasks: Iterable[str]) -> list[Entry]:
    """Entries of tasks, and of those that they could not do without, where these are in the archive too.

    Errors: NotFound; StoreUnavailable when a part of them cannot be read.
    """
    made: dict[str, list[Entry]] = {}
    wanted = list(tasks)
    while wanted:
        task = wanted.pop()
        entries, missed = entries_of(found, task)
        if lost := next(
            (each for each in missed if not each.entries), None
        ):  # else the index does not know what was in it
            said = f"{task} cannot be brought back whole: {lost.name}: {lost.what}"
            raise StoreUnavailable(said, hint=f"longwatch archive show {task} shows what can be read of it.")
        made[task] = entries
        needed = {need for entry in entries if entry.kind == "task" for need in unmet(entry)}
        wanted += [need for need in sorted(needed - made.keys()) if found.archive.show(need).entries]
    return [entry for entries in made.values() for entry in entries]


@archive.command("drop")
@click.argument("segments", nargs=-1, metavar="[SEGMENT...]")
@click.option("--older", metavar="LENGTH", help="Every segment whose youngest entry is older: 26w.")
@click.option("--reason", default="", help="Kept with who did it and when.")
@click.option("--yes", is_flag=True, help="Without asking.")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@pass_session
def drop(session: Session, segments: tuple[str, ...], older: str | None, reason: str, yes: bool, dry_run: bool) -> None:
    """Drop segments for good. One that is pinned stays."""
    refuse_in_a_run(None, "segments are dropped")
    if bool(segments) == bool(older):
        raise BadUse("name segments, or --older LENGTH", hint="longwatch archive list shows them.")
    found = archives_of(session)
    here = {each.name: each for each in found.segments()}
    if older is not None:
        before_ms = session.parts.world.wall_ms() - length(older, "--older")
        chosen = [each.name for each in here.values() if each.to_ms <= before_ms and not each.pinned]
    else:
        chosen = [named(here, each) for each in segments]
    size = sum(here[each].bytes for each in chosen)
    if dry_run:
        session.out.answer(
            {"would_drop": chosen, "bytes": size}, f"{len(chosen)} segments, {size / MIB:,.1f} MiB, would be dropped"
        )
        return
    agree(session, yes, f"Drop {len(chosen)} segments ({size / MIB:,.1f} MiB) for good?", "what is dropped is gone")
    for each in chosen:
        found.drop(each, reason or "asked for", who="operator")
    session.out.answer({"dropped": chosen, "bytes": size}, f"{len(chosen)} segments dropped")


@archive.command("pin")
@click.argument("segment")
@click.option("--off", is_flag=True, help="No longer.")
@pass_session
def pin(session: Session, segment: str, off: bool) -> None:
    """Keep a segment from being dropped."""
    found = archives_of(session)
    name = named({each.name: each for each in found.segments()}, segment)
    made = found.archive.unpin(name, who="operator") if off else found.archive.pin(name, who="operator")
    session.out.answer(segment_json(made), f"{name} is {'' if made.pinned else 'not '}pinned")


@archive.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@pass_session
def export(session: Session, folder: Path) -> None:
    """Write all of it to Parquet files, for DuckDB and pandas."""
    found = archives_of(session)
    if not found.exists():
        raise NotFound("nothing was archived yet", hint="longwatch archive now archives what is due.")
    missed: list[Finding] = []
    told = Told("exporting")
    with progress(told.last):
        files = found.archive.export_parquet(folder, damaged=missed.append)
    data = {"files": [str(each) for each in files], "unread": [finding_json(each) for each in missed]}
    session.out.answer(data, f"{len(files)} files in {folder}", *unread(missed))


# -- words -----------------------------------------------------------------------------------------------------------------


def length(text: str, option: str) -> int:
    try:
        return parse_text_ms(text)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error.message}", hint=error.hint) from error


def named(here: dict[str, Segment], name: str) -> str:
    """Errors: NotFound."""
    if name not in here:
        what = f"there is no segment {name}" if NAME.fullmatch(name) else f"{name!r} is no name of a segment"
        raise NotFound(what, hint="longwatch archive list shows them.")
    return name


def agree(session: Session, yes: bool, question: str, why: str) -> None:
    """Ask, on a terminal. Errors: BadUse where nobody can be asked."""
    if yes:
        return
    if session.out.json or not sys.stdin.isatty():
        raise BadUse(why, hint="Say so with --yes; --dry-run shows the plan.")
    click.confirm(question, abort=True, err=True)


def segment_json(segment: Segment) -> Json:
    return {
        "name": segment.name,
        "source": segment.source,
        "number": segment.number,
        "from_at": at(segment.from_ms),
        "to_at": at(segment.to_ms),
        "entries": segment.entries,
        "raw_bytes": segment.raw_bytes,
        "bytes": segment.bytes,
        "sha256": segment.sha256,
        "chain": segment.chain,
        "pinned": segment.pinned,
    }


def entry_json(entry: Entry) -> Json:
    return {
        "kind": entry.kind,
        "id": entry.id,
        "at": at(entry.at_ms),
        "agent": entry.agent or None,
        "task": entry.task or None,
        "body": json.loads(entry.body),
    }


def finding_json(finding: Finding) -> Json:
    return {"kind": finding.kind, "segment": finding.name or None, "what": finding.what, "at_byte": finding.at}


def unread(findings: Iterable[Finding]) -> list[Text]:
    return [Text(f"not looked through: {each.name}: {each.what}", style="yellow") for each in findings]
