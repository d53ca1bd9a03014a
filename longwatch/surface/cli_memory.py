"""The noun memory: why an agent is there, what it remembers, and what becomes of a record."""

import json
import sys
from pathlib import Path

import click
from rich.console import RenderableType
from rich.text import Text

from longwatch.errors import ConfigError
from longwatch.policy.memory import KINDS
from longwatch.policy.memory_paths import ROOT
from longwatch.surface.cli_base import BadUse, Group, pass_session
from longwatch.surface.memory import Memory, Record, refuse_in_a_run
from longwatch.surface.output import facts, table
from longwatch.surface.progress import progress
from longwatch.surface.session import Session
from longwatch.surface.wire import BROKEN, hit_json, listing, record_json

ONE_LINE = 100


@click.group(cls=Group, section="things")
def memory() -> None:
    """Memory: charters, records, briefs and recall."""


def agent_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option("--agent", metavar="NAME", help="Whose memory; left out: who works here, else main.")(command)


def memory_of(session: Session, agent: str | None) -> Memory:
    return session.lw.memory(agent or session.settings.agent)


@memory.command("charter")
@click.argument("agent")
@click.argument("text", required=False)
@click.option("--file", type=click.Path(path_type=Path), help="Set it from this file; - reads standard input.")
@pass_session
def charter(session: Session, agent: str, text: str | None, file: Path | None) -> None:
    """Show why an agent is there, or set it.

    It opens every brief, word for word. Only the operator sets it: inside an agent's run it is refused. A charter that
    the config names is taken from its file the first time; --file takes a changed one.
    """
    if text is not None and file is not None:
        raise BadUse("give a text or --file, not both", hint="longwatch memory charter seo --file charters/seo.md")
    mine = memory_of(session, agent)
    given = _read(file) if file is not None else text
    if given is not None:
        refuse_in_a_run(None, "charters are set")
        mine.charter(given)
    mine.charter()
    kept = session.parts.memories.store.charter(agent)
    if kept is None:
        session.out.answer({"agent": agent, "charter": None}, f"{agent} has no charter")
        return
    data = {"agent": agent, "charter": kept.body, "version": kept.version, "sha256": kept.sha256, "set_by": kept.who}
    session.out.answer(data, Text(kept.body))


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", hint="Name a text file in UTF-8.") from error


@memory.command("record")
@click.argument("kind")
@click.argument("text")
@agent_option
@click.option("--task", metavar="ID", help="The task it is about.")
@click.option("--key", help="The same key with the same text is the same record.")
@click.option("--supersedes", metavar="RECORD", help="The record whose place it takes.")
@click.option("--trust", help="own, tool or untrusted; left out: what the kind says.")
@click.option("--data", metavar="JSON", help="What belongs to it.")
@pass_session
def record(
    session: Session,
    kind: str,
    text: str,
    agent: str | None,
    task: str | None,
    key: str | None,
    supersedes: str | None,
    trust: str | None,
    data: str | None,
) -> None:
    """Remember a decision, a fact, a commitment, a lesson.

    Kinds: goal, decision, fact, commitment, lesson, failure, result, message, tool_output, call.
    """
    made = memory_of(session, agent).record(
        kind, text, task=task, key=key, supersedes=supersedes, trust=trust, data=_json(data)
    )
    session.out.answer(record_json(made), f"{made.ref} {made.id}")


def _json(text: str | None) -> object:
    if text is None:
        return None
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise BadUse(f"--data is not JSON: {error}", hint="""--data '{"why": "..."}'""") from error
    return found


@memory.command("close")
@click.argument("record")
@click.argument("note", default="")
@agent_option
@pass_session
def close(session: Session, record: str, note: str, agent: str | None) -> None:
    """Say that a commitment was kept, or a goal reached."""
    made = memory_of(session, agent).close(record, note)
    session.out.answer(record_json(made), f"{made.ref} is {made.state}")


@memory.command("pin")
@click.argument("record")
@click.option("--off", is_flag=True, help="No longer.")
@agent_option
@pass_session
def pin(session: Session, record: str, off: bool, agent: str | None) -> None:
    """Keep a record from deletion."""
    mine = memory_of(session, agent)
    made = mine.unpin(record) if off else mine.pin(record)
    session.out.answer(record_json(made), f"{made.ref} is {'' if made.pinned else 'not '}pinned")


@memory.command("brief")
@click.argument("agent", required=False)
@click.option("--tokens", type=click.IntRange(min=1), help="At most so many; left out: [memory] brief_tokens.")
@pass_session
def brief(session: Session, agent: str | None, tokens: int | None) -> None:
    """What an agent reads first: its charter, what was done, what is open."""
    made = memory_of(session, agent).brief(tokens)
    data = {
        "agent": made.agent,
        "text": made.text,
        "tokens": made.tokens,
        "sources": list(made.sources),
        "left_out": made.left_out,
    }
    session.out.answer(data, Text(made.text.rstrip("\n")))


@memory.command("recall")
@click.argument("question")
@agent_option
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--tokens", type=click.IntRange(1), help="As many as fit, and not --limit.")
@click.option("--kind", "kinds", multiple=True, help="Of records; may be given several times.")
@click.option("--since", metavar="DAY", help="2026-01-01")
@click.option("--until", metavar="DAY", help="2026-01-31")
@click.option("--archive", is_flag=True, help="Also what has gone into the archive.")
@pass_session
def recall(
    session: Session,
    question: str,
    agent: str | None,
    limit: int,
    tokens: int | None,
    kinds: tuple[str, ...],
    since: str | None,
    until: str | None,
    archive: bool,
) -> None:
    """Records that answer a question, best first."""
    found = memory_of(session, agent).recall(
        question, limit=limit, tokens=tokens, kinds=kinds or None, since=since, until=until, archive=archive
    )
    rows = [(each.ref, f"{each.at:%Y-%m-%d}", each.kind, each.snippet) for each in found]
    empty = "Nothing is remembered that says any of it."
    data = [hit_json(each) for each in found]
    session.out.answer({"hits": data}, table((">record", "at", "kind", "text"), rows, empty=empty))


@memory.command("list")
@agent_option
@click.option("--kind", help=f"One of {', '.join(KINDS)}.")
@click.option(
    "--state", default="live", show_default=True, help="Of those of one kind: live, closed, superseded, redacted."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--before", metavar="RECORD", help="The ones before this record.")
@pass_session
def list_records(
    session: Session, agent: str | None, kind: str | None, state: str, limit: int, before: str | None
) -> None:
    """The newest records of an agent, newest first."""
    found = memory_of(session, agent).list(kind=kind, state=state, limit=limit, before=before)
    after = found[-1].ref if len(found) == limit else None
    rows = [(each.ref, f"{each.at:%Y-%m-%d %H:%M}", each.kind, each.state, one_line(each.text)) for each in found]
    empty = "Nothing is remembered. run.record(...) in a handler, or longwatch memory record, writes a record."
    shown = table((">record", "at", "kind", "state", "text"), rows, empty=empty)
    session.out.answer(listing("records", [record_json(each) for each in found], after=after), shown)


def show_record(session: Session, found: Record) -> None:
    pairs = [
        ("id", f"{found.id} ({found.ref} of {found.agent})"),
        ("kind", found.kind),
        ("state", found.state + (f" by {found.successor}" if found.successor else "")),
        ("at", f"{found.at:%Y-%m-%d %H:%M:%S} UTC"),
        ("task", found.task),
        ("by", found.author),
        ("source", f"{found.source}, trust: {found.trust}"),
        ("key", found.key),
        ("pinned", "yes" if found.pinned else None),
        ("data", found.data),
    ]
    history = [f"{at:%Y-%m-%d %H:%M:%S} {action} by {who} {note}".rstrip() for at, who, action, note in found.history]
    words: list[RenderableType] = [facts(pairs), Text(f"\n{found.text}"), *map(Text, history)]
    session.out.answer(record_json(found), *words)


@memory.command("redact")
@click.argument("record")
@click.option("--reason", default="", help="Kept with who did it and when.")
@click.option("--yes", is_flag=True, help="Without asking.")
@click.option("--dry-run", is_flag=True, help="Only say what would be taken out.")
@agent_option
@pass_session
def redact(session: Session, record: str, reason: str, yes: bool, dry_run: bool, agent: str | None) -> None:
    """Take a record's text out of everything, and off the disk, for good.

    Out of memory, its index and its snapshots, out of the journal, the task that it tells of, and the archive. A path such
    as /memories/notes.md is a file of the memory tool: every version of it. Backups made before still have it.
    """
    refuse_in_a_run(None, "records are redacted")
    mine = memory_of(session, agent)
    if record.startswith(ROOT):
        _redact_file(session, mine, record, reason, yes=yes, dry_run=dry_run)
        return
    if record.startswith("snap_"):
        raise BadUse("a snapshot is not redacted", hint="Redact its records: it is made anew without what they say.")
    found = mine.show(record)
    if dry_run:
        copies = {"run": ["memory", "journal"], "task": ["memory", "journal", "task"]}.get(found.source, ["memory"])
        archives = session.parts.archives
        copies += ["archive"] if archives is not None and archives.exists() else []
        data = {"id": found.id, "agent": found.agent, "kind": found.kind, "would_redact_in": copies}
        session.out.answer(data, f"{found.id} would be taken out of: {', '.join(copies)}")
        return
    _ask(session, found.id, yes=yes)
    made = mine.redact(record, reason)
    session.out.answer(record_json(made), f"{made.id} is redacted")


def _redact_file(session: Session, mine: Memory, path: str, reason: str, *, yes: bool, dry_run: bool) -> None:
    found = mine.files.versions(path, limit=1)
    if dry_run:
        data = {"path": path, "agent": mine.agent, "versions": found[0].version, "would_redact_in": ["memory"]}
        session.out.answer(data, f"every version of {path} would be taken out of memory; there are {found[0].version}")
        return
    _ask(session, f"every version of {path}", yes=yes)
    number = mine.files.redact(path, reason)
    session.out.answer({"path": path, "agent": mine.agent, "redacted": number}, f"{number} versions are redacted")


def _ask(session: Session, what: str, *, yes: bool) -> None:
    if not yes:
        if session.out.json or not sys.stdin.isatty():
            raise BadUse("a redaction cannot be undone", hint="Say so with --yes; --dry-run shows the plan.")
        click.confirm(f"Take the text of {what} out of everything, for good?", abort=True, err=True)


@memory.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "form", help="claude-code, anthropic, openai or jsonl; left out: by its first lines.")
@agent_option
@pass_session
def import_logs(session: Session, path: Path, form: str | None, agent: str | None) -> None:
    """Remember a log, or every log below a folder.

    Transcripts of Claude Code, messages of Anthropic's and OpenAI's APIs, lines of JSON. Goes on where it was left off.
    """
    told = Told(f"reading {path}")
    with progress(told.last):
        made = memory_of(session, agent).import_from(path, format=form, told=told.tell)
    words = (
        f"{made.records:,} records of {made.files} files; {made.known:,} were known, {made.passed:,} lines said nothing"
    )
    session.out.answer(made._asdict(), words)


@memory.command("export")
@click.argument("path", type=click.Path(path_type=Path))
@agent_option
@pass_session
def export(session: Session, path: Path, agent: str | None) -> None:
    """Write every record of an agent to a file, as lines of JSON."""
    told = Told("reading the journal")
    if path.exists():
        raise BadUse(f"{path} is there already", hint="Name a new file.")
    part = path.with_name(path.name + ".part")
    try:
        with progress(told.last), part.open("w", encoding="utf-8") as file:
            number = memory_of(session, agent).export(file.write, told=told.tell)
        part.chmod(0o600)
        part.rename(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", hint="Name a file in a folder of yours."
        ) from error
    session.out.answer({"path": str(path), "records": number}, f"{number:,} records in {path}")


@memory.command("compact")
@agent_option
@click.option("--everything", is_flag=True, help="Also what is not due yet.")
@pass_session
def compact(session: Session, agent: str | None, everything: bool) -> None:
    """Make the snapshots that are due, as workers do by themselves."""
    told = Told("reading the journal")
    with progress(told.last):
        made = memory_of(session, agent).compact(everything=everything, told=told.tell)
    session.out.answer({"snapshots": made}, f"{made} snapshots made" if made else "nothing is due")


@memory.command("verify")
@agent_option
@click.option("--whole", is_flag=True, help="Also read what is in the archive.")
@pass_session
def verify(session: Session, agent: str | None, whole: bool) -> None:
    """Find records and snapshots that are missing or were changed.

    Exit status 3 when there are any. Records in the archive are counted and their segments looked up; --whole reads them.
    """
    told = Told("reading")
    with progress(told.last):
        names = [agent] if agent else [each.agent for each in session.parts.memories.store.agents()]
        found = [
            (name, what) for name in names for what in memory_of(session, name).verify(whole=whole, told=told.tell)
        ]
    words = [f"{name}: {what}" for name, what in found] or [
        f"{len(names)} agents: nothing is missing, nothing was changed"
    ]
    session.out.answer(
        {"agents": names, "problems": [{"agent": name, "what": what} for name, what in found]}, "\n".join(words)
    )
    if found:
        click.get_current_context().exit(BROKEN)


class Told:
    """What was last said to be going on."""

    def __init__(self, first: str) -> None:
        self._last = first

    def tell(self, what: str) -> None:
        self._last = what

    def last(self) -> str:
        return self._last


def one_line(text: str, *, most: int = ONE_LINE) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
