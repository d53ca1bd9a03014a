"""The noun batch: tasks submitted together, and whether the limits have room for them."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import click
from rich.console import RenderableType
from rich.text import Text

from longwatch.errors import NotFound, nearest
from longwatch.policy.limits import DIMENSIONS, LANES
from longwatch.policy.needs import Needs, plain, times
from longwatch.runtime.handler import Bound, Options
from longwatch.surface import cli_show
from longwatch.surface.apart import aside_json, aside_words
from longwatch.surface.api import Item
from longwatch.surface.cli_base import BadUse, Group, pass_session
from longwatch.surface.cli_things import limit_option, text_of
from longwatch.surface.output import ago, facts, table
from longwatch.surface.pieces import Lane
from longwatch.surface.plans import HEADINGS, Plan, PlannedLimit
from longwatch.surface.session import Session
from longwatch.surface.wire import OK, REFUSED, Json, at, listing

MOST = 1_000_000  # tasks of one plan


@click.group(cls=Group, section="things")
def batch() -> None:
    """Batches: tasks submitted together."""


@batch.command("list")
@limit_option
@pass_session
def list_batches(session: Session, limit: int) -> None:
    """The newest batches first, with counts of their tasks."""
    found = session.look.batches(limit=limit)
    data = [{"id": b.id, "name": b.name, "submitted_at": at(b.submitted_ms), "counts": b.counts} for b in found]
    now_ms = session.now_ms()
    rows = [
        (b.name, b.id, ago(b.submitted_ms, now_ms), ", ".join(f"{n} {state}" for state, n in b.counts.items()))
        for b in found
    ]
    session.out.answer(listing("batches", data), table(("name", "id", "submitted", "tasks"), rows, empty="No batches."))


@batch.command("show")
@click.argument("batch", metavar="ID|NAME")
@pass_session
def show_batch(session: Session, batch: str) -> None:
    """One batch with its newest tasks."""
    cli_show.show_batch(session, batch)


@batch.command("cancel")
@click.argument("batch", metavar="ID|NAME")
@pass_session
def cancel_batch(session: Session, batch: str) -> None:
    """Cancel every task of a batch that has not ended."""
    found = session.look.batch(batch)
    cancelled = 0
    while ids := session.look.unended(found.id):
        for id in ids:
            cancelled += session.parts.tasks.cancel(id).state == "cancelled"
    counts = session.look.batch(found.id).counts
    data: Json = {"id": found.id, "name": found.name, "cancelled": cancelled, "counts": counts}
    session.out.answer(data, f"{cancelled} tasks of {found.name} cancelled; now {counts}")


# -- plan and submit -------------------------------------------------------------------------------------------------------


@batch.command("plan")
@click.argument("file", required=False, metavar="[FILE | -]")
@click.option("--kind", metavar="KIND", help="Instead of a file: the kind of its tasks.")
@click.option(
    "--count", type=click.IntRange(1, MOST), metavar="N", help="Instead of a file: how many tasks of the kind."
)
@click.option(
    "--needs",
    "needs_words",
    multiple=True,
    metavar="SERVICE.NAME=VALUE",
    help="What each task needs, instead of what its handler declares; may be given several times.",
)
@pass_session
def plan_batch(
    session: Session, file: str | None, kind: str | None, count: int | None, needs_words: tuple[str, ...]
) -> int:
    """Whether the limits have room for a batch, and when it would run.

    It says which limit binds and what to change.
    FILE holds a task a line, {"kind": "invoice", "args": {"customer": "acme"}}; - is what is piped in. Nothing is submitted.
    Ends with 1 when it is not feasible.
    """
    if (file is None) == (kind is None) or (kind is None) != (count is None):
        raise BadUse("a plan is of a FILE, or of --kind and --count", hint="longwatch batch plan tasks.jsonl")
    each = read_needs(needs_words) if needs_words else None
    items = read_items(file) if file is not None else _alike(session, str(kind), int(count or 0), each)
    found = session.lw.plan(items, needs=None if each is None else times(each, len(items)))
    session.out.answer(plan_json(found), *_plan_words(found))
    return OK if found.feasible else REFUSED


@batch.command("submit")
@click.argument("name")
@click.argument("file", metavar="FILE | -")
@click.option(
    "--needs",
    "needs_words",
    multiple=True,
    metavar="SERVICE.NAME=VALUE",
    help="What each task needs of a service, set aside for all of them; may be given several times.",
)
@click.option(
    "--schedule", is_flag=True, help="Where there is no room for the needs now, in the first window with room."
)
@click.option("--lane", type=click.Choice(LANES), default="batch", show_default=True, help="Who goes first.")
@pass_session
def submit_batch(
    session: Session, name: str, file: str, needs_words: tuple[str, ...], schedule: bool, lane: str
) -> None:
    """Submit the tasks of a file, all or none. The same name with the same tasks is the same batch.

    FILE holds a task a line, {"kind": "invoice", "args": {"customer": "acme"}}; - is what is piped in. With --needs, quotas
    and budgets set aside what all tasks need, or nothing is submitted; what was not used is given back at the batch's end.
    """
    if schedule and not needs_words:
        raise BadUse("--schedule waits for room for needs", hint="Say what each task needs: --needs stripe.requests=1")
    items = read_items(file)
    needs = times(read_needs(needs_words), len(items)) if needs_words else None
    made = session.lw.submit_batch(name, items, needs=needs, schedule=schedule, lane=cast("Lane", lane))
    kept = session.parts.calls.limiter.asides.all(made.id)
    data: Json = {"id": made.id, "name": made.name, "fresh": made.fresh, "counts": made.counts}
    data |= {"set_aside": aside_json(kept, session.limits.currency)}
    said = f"{made.id} {made.name}: {len(made)} tasks" + ("" if made.fresh else ", submitted before")
    session.out.answer(data, said, *aside_words(kept, session.limits))


def _alike(session: Session, kind: str, count: int, needs: Needs | None) -> list[Item]:
    """So many tasks of a kind, without their arguments."""
    known = session.parts.workers.kinds()
    if needs is None and kind not in known:
        raise NotFound(
            f"no handler of this fleet is called {kind!r}{nearest(kind, known)}",
            hint="Say what a task needs: --needs stripe.requests=1; or let longwatch work MODULE run once.",
        )
    declared = known[kind].manner.needs if kind in known else {}
    return [Bound(kind, {}, Options(needs=declared))] * count


def read_items(file: str) -> list[Item]:
    """A task a line: {"kind", "args"}. Errors: BadUse, naming the line."""
    text = text_of(file if file == "-" else f"@{file}")
    return [_item(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _item(number: int, line: str) -> Item:
    hint = 'Write {"kind": "invoice", "args": {"customer": "acme"}}, one a line.'
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise BadUse(f"line {number} is not JSON: {error}", hint=hint) from error
    if not isinstance(found, dict):
        raise BadUse(f"line {number} is not an object", hint=hint)
    task = cast("dict[str, Any]", found)
    kind, arguments = task.get("kind"), task.get("args", {})
    if odd := sorted(set(task) - {"kind", "args"}):
        raise BadUse(f"line {number}: {odd[0]!r} is not known{nearest(odd[0], ('kind', 'args'))}", hint=hint)
    if not isinstance(kind, str) or not isinstance(arguments, dict):
        raise BadUse(f"line {number} names no kind, or args that are no object", hint=hint)
    return kind, cast("dict[str, Any]", arguments)


def read_needs(words: Sequence[str]) -> Needs:
    """From stripe.requests=1 and the like. Errors: BadUse, ConfigError."""
    needs: dict[str, dict[str, Any]] = {}
    for word in words:
        place, equals, value = word.partition("=")
        service, dot, name = place.rpartition(".")
        if not equals or not dot or not service:
            raise BadUse(
                f"--needs {word!r} is not SERVICE.NAME=VALUE", hint='stripe.requests=1, stripe.money="0.20 GBP".'
            )
        own = needs.setdefault(service, {})
        if name in own:
            raise BadUse(f"--needs: {place} is given twice", hint="Give it once.")
        own[name] = int(value) if name in DIMENSIONS and value.isascii() and value.isdigit() else value
    return plain(needs)


def plan_json(plan: Plan) -> Json:
    return {
        "feasible": plan.feasible,
        "tasks": plan.tasks,
        "cost_micros": plan.cost.micros,
        "currency": plan.cost.currency,
        "starts_at": _at(plan.starts_at),
        "ends_at": _at(plan.ends_at),
        "binds": plan.binds,
        "origin": plan.origin,
        "change": plan.change or None,
        "limits": [_limit_json(limit) for limit in plan.limits],
        "undeclared": list(plan.undeclared),
        "held_back": [
            {"gate": each.name, "state": each.state, "until_at": _at(each.until_at), "reason": each.reason}
            for each in plan.held_back
        ],
    }


def _limit_json(limit: PlannedLimit) -> Json:
    unit = "_micros" if limit.dimension == "money" else ""
    amounts = {"needs": limit.needs, "left": limit.left, "wanted": limit.wanted}
    return {
        "limit": limit.name,
        "dimension": limit.dimension,
        **{f"{name}{unit}": amount for name, amount in amounts.items()},
        "most": limit.most,
        "origin": limit.origin,
        "fits": limit.fits,
        "ends_at": _at(limit.ends_at),
    }


def _at(instant: datetime | None) -> str | None:
    return None if instant is None else at(round(instant.timestamp() * 1000))


def _plan_words(plan: Plan) -> list[RenderableType]:
    words: list[RenderableType] = [facts(plan.facts())]
    if plan.limits:
        words += [Text(""), table(HEADINGS, plan.rows(), empty="")]
    return words
