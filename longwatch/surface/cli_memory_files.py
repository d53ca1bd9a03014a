"""The files that an agent's model keeps by Claude's memory tool, for people: what there is, what was, and back to it."""

import click
from rich.text import Text

from longwatch.policy.memory_files import sized
from longwatch.surface.cli_base import Command, Group, pass_session
from longwatch.surface.cli_memory import agent_option, memory_of
from longwatch.surface.memory_files import MemoryVersion, file_json, version_json
from longwatch.surface.output import facts, table
from longwatch.surface.session import Session
from longwatch.surface.wire import listing


@click.command("files", cls=Command)
@click.argument("folder", default="/memories")
@agent_option
@pass_session
def files(session: Session, folder: str, agent: str | None) -> None:
    """The files that an agent's model keeps by its memory tool.

    Of one folder below /memories, where it is named.
    """
    found = memory_of(session, agent).files.list(folder)
    rows = [
        (each.path, sized(each.bytes), each.version, f"{each.at:%Y-%m-%d %H:%M}", each.run or each.who)
        for each in found
    ]
    empty = 'There are none. In a program: client.beta.messages.tool_runner(tools=[lw.memory("seo").tool()], ...).'
    shown = table(("path", ">size", ">version", "at", "by"), rows, empty=empty)
    session.out.answer(listing("files", [file_json(each) for each in found]), shown)


@click.group("file", cls=Group)
def file() -> None:
    """One file of the memory tool: its text, its versions."""


@file.command("show")
@click.argument("path")
@click.option("--version", type=click.IntRange(min=1), help="As it was then; left out: as it is.")
@agent_option
@pass_session
def show(session: Session, path: str, version: int | None, agent: str | None) -> None:
    """The text of a file, as it is or as it was."""
    kept = memory_of(session, agent).files
    if version is None:
        found = kept.show(path)
        session.out.answer(file_json(found), Text(found.text or ""))
        return
    then = kept.version(path, version)
    said = Text(_what(then) if then.text is None else then.text)
    session.out.answer(version_json(then), said)


def _what(version: MemoryVersion) -> str:
    if not version.exists:
        return f"version {version.version} of {version.path}: {version.action}; there was no such file any more"
    return f"version {version.version} of {version.path}: its text was {version.state}"


@file.command("versions")
@click.argument("path")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--before", type=click.IntRange(min=1), metavar="VERSION", help="The ones before this version.")
@agent_option
@pass_session
def versions(session: Session, path: str, limit: int, before: int | None, agent: str | None) -> None:
    """What became of a file, the newest first, by whom and in which run."""
    kept = memory_of(session, agent).files
    found, receipts = kept.versions(path, limit=limit, before=before), kept.receipts(path)
    rows = [
        (each.version, f"{each.at:%Y-%m-%d %H:%M:%S}", _action(each), _size(each), each.run or each.who)
        for each in found
    ]
    after = found[-1].version if len(found) == limit else None
    history = [Text(f"{at:%Y-%m-%d %H:%M:%S} {action} by {who} {note}".rstrip()) for at, who, action, note in receipts]
    shown = table((">version", "at", "what", ">size", "by"), rows, empty="There are no older ones.")
    session.out.answer(listing("versions", [version_json(each) for each in found], after=after), shown, *history)


def _action(version: MemoryVersion) -> str:
    if version.other is None:
        return version.action
    return f"{version.action} {'from' if version.exists else 'to'} {version.other}"


def _size(version: MemoryVersion) -> str:
    if not version.exists:
        return "gone"
    return sized(version.bytes) if version.state == "kept" else version.state


@file.command("restore")
@click.argument("path")
@click.argument("version", type=click.IntRange(min=1))
@agent_option
@pass_session
def restore(session: Session, path: str, version: int, agent: str | None) -> None:
    """Put the text of an earlier version in place.

    As a new version: nothing of what is there now is lost.
    """
    made = memory_of(session, agent).files.restore(path, version)
    pairs = [("path", made.path), ("version", made.version), ("as it was in", version), ("size", sized(made.bytes))]
    session.out.answer(version_json(made), facts(pairs))
