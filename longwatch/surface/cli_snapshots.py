"""Snapshots for people: what there is, who wrote it for how much, and the whole of one."""

import click
from rich.console import RenderableType
from rich.text import Text

from longwatch.policy.money import Money
from longwatch.surface.briefs import Snapshot
from longwatch.surface.cli_base import Command, pass_session
from longwatch.surface.cli_memory import agent_option, memory_of, show_record
from longwatch.surface.memory import Memory
from longwatch.surface.output import facts, heading, table
from longwatch.surface.session import Session
from longwatch.surface.snapshots import WholeSnapshot, said_words, whole_json
from longwatch.surface.wire import listing, snapshot_json


@click.command("show", cls=Command)
@click.argument("id")
@agent_option
@pass_session
def show(session: Session, id: str, agent: str | None) -> None:
    """The whole of one record or snapshot, and what was done to it.

    By id, or a record by its short name, such as r3.
    """
    show_remembered(session, memory_of(session, agent), id)


def show_remembered(session: Session, memory: Memory, id: str) -> None:
    """Errors: NotFound."""
    found = memory.show(id)
    if isinstance(found, WholeSnapshot):
        show_snapshot(session, found)
    else:
        show_record(session, found)


@click.command("snapshots", cls=Command)
@agent_option
@click.option("--level", type=click.IntRange(min=1), help="1: of records; above: of ten of the level below.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@pass_session
def list_snapshots(session: Session, agent: str | None, level: int | None, limit: int) -> None:
    """The newest snapshots: what they cover, who wrote them, what that cost."""
    found, currency = memory_of(session, agent).snapshots(level=level, limit=limit), session.limits.currency
    rows = [_row(each, currency) for each in found]
    empty = "There is none yet. longwatch memory compact --everything makes one."
    heads = ("snapshot", ">level", "records", "by", ">cost", ">dropped", "offline because")
    data = [snapshot_json(each, currency=currency) for each in found]
    session.out.answer(listing("snapshots", data, after=None), table(heads, rows, empty=empty))


def _row(each: Snapshot, currency: str) -> tuple[str, ...]:
    return (
        each.id,
        f"{each.level}",
        f"{each.first} to {each.last}",
        each.author,
        *_paid(each, currency),
        each.why or "",
    )


def _paid(each: Snapshot, currency: str) -> tuple[str, str]:
    return str(Money(each.micros, currency)) if each.micros else "", str(each.dropped or "")


def show_snapshot(session: Session, found: WholeSnapshot) -> None:
    currency = session.limits.currency
    cost, dropped = _paid(found, currency)
    made_of = f"the {len(found.made_of)} snapshots {', '.join(found.made_of)}" if found.made_of else None
    pairs = [
        ("id", f"{found.id} (level {found.level} of {found.agent})"),
        ("records", f"{found.first} to {found.last}: {found.records:,}, of {found.tasks:,} tasks"),
        ("from", f"{found.starts_at:%Y-%m-%d %H:%M:%S} to {found.ends_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("made", f"{found.made_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("by", found.author),
        ("offline because", found.why),
        ("cost", cost),
        ("dropped claims", dropped),
        ("sha256", found.sha256),
        ("made of", made_of),
        ("part of", found.part_of),
        ("work", "; ".join(f"{kind}: {done} done, {other} not" for kind, (done, other) in found.work.items())),
        ("kinds", ", ".join(f"{count} {kind}" for kind, count in found.kinds.items())),
        ("calls", f"{found.calls}, {Money(found.calls_micros, currency)}" if found.calls else None),
    ]
    words: list[RenderableType] = [facts(pairs)]
    for name, listed in found.sections.items():
        if listed:
            words += [heading(name), *(Text(said_words(said)) for said in listed)]
    history = [f"{at:%Y-%m-%d %H:%M:%S} {action} by {who} {note}".rstrip() for at, who, action, note in found.history]
    words += [heading("history"), *map(Text, history)] if history else []
    session.out.answer(whole_json(found, currency=currency), *words)
