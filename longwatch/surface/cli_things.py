"""The nouns: task and lease."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

import click

from longwatch.errors import ConfigError, NotFound
from longwatch.policy.limits import LANES
from longwatch.policy.task import STATES, State
from longwatch.runtime import ended
from longwatch.runtime.storable import canonical
from longwatch.store.moves import Task
from longwatch.surface import cli_show
from longwatch.surface.cli_base import BadUse, Group, pass_session
from longwatch.surface.cli_look import first_line
from longwatch.surface.output import ago, table
from longwatch.surface.own_caps import own_json, own_words
from longwatch.surface.pieces import Lane
from longwatch.surface.session import Session
from longwatch.surface.wire import lease_json, listing, task_json

MOST = 10_000
limit_option = click.option(
    "--limit", type=click.IntRange(1, MOST), default=50, show_default=True, metavar="N", help="How many at most."
)


# -- task ----------------------------------------------------------------------------------------------------------------


@click.group(cls=Group, section="things")
def task() -> None:
    """Tasks: durable units of work."""


@task.command()
@click.argument("kind")
@click.argument("arguments", nargs=-1, metavar="[JSON | @FILE | - | NAME=VALUE...]")
@click.option("--key", metavar="KEY", help="The same key with the same arguments is the same task.")
@click.option("--after", metavar="ID", multiple=True, help="A task that it needs; may be given several times.")
@click.option("--lane", type=click.Choice(LANES), default="normal", show_default=True, help="Who goes first.")
@click.option("--at", "at_text", metavar="WHEN", help="Not before: 10m from now, or 2026-12-01T09:00:00Z.")
@click.option("--money", metavar="AMOUNT", help="On what all its calls may cost, in all its runs: 2 GBP.")
@click.option("--calls", type=click.IntRange(0), metavar="N", help="On how many calls it may make, in all its runs.")
@click.option("--tokens", type=click.IntRange(0), metavar="N", help="On the tokens of all its calls.")
@pass_session
def submit(
    session: Session,
    kind: str,
    arguments: tuple[str, ...],
    key: str | None,
    after: tuple[str, ...],
    lane: str,
    at_text: str | None,
    money: str | None,
    calls: int | None,
    tokens: int | None,
) -> None:
    """Write a task down, for the next free worker.

    KIND names its handler. Arguments: one JSON object, customer=acme pence=1200, or a file with the object
    (@big.json; - is what is piped in).
    """
    given = read_arguments(arguments)
    handle = session.lw
    made = handle.submit(
        kind,
        given,
        key=key,
        after=after,
        lane=cast("Lane", lane),
        at=_instant(at_text),
        money=money,
        calls=calls,
        tokens=tokens,
    )
    stored, left = stored_task(session, made.id)
    caps = session.parts.calls.limiter.task_caps.all(stored.id)
    data = task_json(stored) | {"caps": own_json(caps, session.limits.currency), "archived": left}
    words = f"{stored.id} is {stored.state}{own_words(caps, session.limits.currency, begin=', ')}"
    session.out.answer(data, f"{words}, in the archive: longwatch archive show {stored.id}" if left else words)
    if not any(not session.parts.is_dead(worker) for worker in session.parts.workers.all()):
        session.out.note("No worker is alive; longwatch work MODULE starts one.")


def stored_task(session: Session, id: str) -> tuple[Task, bool]:
    """A task that was just submitted, and whether the key was that of one that is in the archive. Errors: NotFound."""
    try:
        return session.parts.tasks.get(id), False
    except NotFound:
        left = ended.of_id(session.parts.archives, id)
        if left is None:
            raise
        return left, True


def read_arguments(words: tuple[str, ...]) -> dict[str, Any]:
    """One JSON object, or NAME=VALUE words whose values are JSON where they can be read so, else text."""
    if (len(words) == 1 and words[0].lstrip().startswith(("{", "[", '"', "@"))) or words == ("-",):
        value = _json(text_of(words[0]), "the arguments")
        if not isinstance(value, dict):
            raise BadUse(
                f"the arguments are a JSON {type(value).__name__}, not an object",
                hint='Write them by name: \'{"customer": "acme"}\' or customer=acme.',
            )
        return cast("dict[str, Any]", value)
    given: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise BadUse(
                f"{word!r} is neither a JSON object nor NAME=VALUE",
                hint='Write customer=acme pence=1200, or \'{"customer": "acme", "pence": 1200}\'.',
            )
        if name in given:
            raise BadUse(f"the argument {name} is given twice", hint="Give it once.")
        given[name] = _value(text)
    return given


def text_of(word: str) -> str:
    """The word itself, or what the file that it names holds."""
    if word != "-" and not word.startswith("@"):
        return word
    try:
        return sys.stdin.read() if word == "-" else Path(word[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadUse(
            f"{word} cannot be read: {error}", hint="It has to be a file of UTF-8 text with one object."
        ) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadUse(
            f"{what} are not JSON: {error}", hint='Quote them for the shell: \'{"customer": "acme"}\'.'
        ) from error


def _instant(text: str | None) -> datetime | str | None:
    """A length from now, or an instant with a time zone."""
    if text is None or not text[:4].isdigit() or "-" not in text:
        return text
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--at: {text!r} is not an instant", hint="Write 2026-12-01T09:00:00Z, or 10m.") from error
    if found.tzinfo is None:
        raise ConfigError(f"--at: {text} has no time zone", hint=f"Write {text}Z for UTC, or {text}+01:00.")
    return found


@task.command("list")
@click.option("--state", "in_state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--kind", metavar="KIND", help="Only this kind.")
@click.option("--batch", metavar="ID|NAME", help="Only those of this batch.")
@click.option("--agent", metavar="NAME", help="Only this agent's.")
@click.option("--before", type=int, metavar="PLACE", help="The page after the one whose `next` was this.")
@click.option("--all", "everything", is_flag=True, help=f"All of them, up to {MOST}.")
@limit_option
@pass_session
def list_tasks(
    session: Session,
    in_state: str | None,
    kind: str | None,
    batch: str | None,
    agent: str | None,
    before: int | None,
    everything: bool,
    limit: int,
) -> None:
    """The newest tasks first."""
    look = session.look
    batch_id = None if batch is None else look.batch(batch).id
    most = MOST if everything else limit
    found = look.tasks(limit=most, before=before, state=in_state, kind=kind, batch=batch_id, agent=agent)
    more = found[-1].seq if len(found) == most else None
    now_ms = session.now_ms()
    rows = [(t.id, t.kind, t.state, t.agent, ago(t.submitted_ms, now_ms), _outcome(t)) for t in found]
    headings = ("id", "kind", "state", "agent", "submitted", "outcome")
    data = listing("tasks", [task_json(each) for each in found], after=more)
    session.out.answer(data, table(headings, rows, empty="No tasks by these filters."))
    if more is not None:
        session.out.note(f"There may be more: --before {more}, or --all.")


def _outcome(task: Task) -> str:
    return cli_show.clipped(task.result, most=60) if task.state == "done" else first_line(task.error)[:100]


@task.command("show")
@click.argument("id")
@pass_session
def show_task(session: Session, id: str) -> None:
    """One task with its runs, steps, calls, needs and journal."""
    cli_show.show_task(session, id)


@task.command()
@click.argument("id")
@pass_session
def retry(session: Session, id: str) -> None:
    """Run an ended task again.

    It has all its attempts again, and what it had taken down is revived.
    """
    before = session.parts.tasks.get(id)
    after = session.parts.tasks.retry(id)
    session.parts.ring(1)
    said = f"{id} is {after.state}" if after.state != before.state else f"{id} is {after.state}: nothing to retry"
    session.out.answer(task_json(after), said)


@task.command()
@click.argument("id")
@pass_session
def cancel(session: Session, id: str) -> None:
    """Cancel a task and, by their fate, what waits for it. An ended one stays as it is."""
    before = session.parts.tasks.get(id)
    after = session.parts.tasks.cancel(id)
    said = f"{id} is {after.state}" + ("" if after.state != before.state else " already")
    session.out.answer(task_json(after), said)


Ending = Literal["done", "failed", "cancelled"]


@task.command()
@click.argument("id")
@click.argument("state", type=click.Choice(get_args(Ending)))
@click.option("--result", metavar="JSON", help="What its handler would have returned; with done only.")
@click.option("--note", metavar="TEXT", default="", help="How you know; kept with the task.")
@pass_session
def resolve(session: Session, id: str, state: str, result: str | None, note: str) -> None:
    """Say how an unknown task ended; what waits for it goes on accordingly."""
    if result is not None and state != "done":
        raise BadUse(f"--result goes with done, not with {state}", hint="Say why with --note instead.")
    value = None if result is None else canonical(_json(result, "the result"), what="the result")
    before = session.parts.tasks.get(id)
    if before.state != "unknown":
        raise ConfigError(
            f"{id} is {before.state}, not unknown: there is nothing to resolve",
            hint=f"longwatch task retry {id} runs an ended task again; longwatch show {id} tells its story.",
        )
    after = session.parts.tasks.resolve(id, cast("State", state), result=value, note=note)
    session.parts.ring(1)
    session.out.answer(task_json(after), f"{id} is {after.state}")


# -- lease ---------------------------------------------------------------------------------------------------------------


@click.group(cls=Group, section="things")
def lease() -> None:
    """Leases: who may write what, until when."""


@lease.command("list")
@pass_session
def list_leases(session: Session) -> None:
    """Every lease that is held now, the soonest to end first."""
    found, now_ms = session.parts.leases.live(), session.now_ms()
    rows = [(each.id, ", ".join(each.names), each.agent, each.task, ago(each.until_ms, now_ms)) for each in found]
    headings = ("id", "on", "agent", "task", "ends")
    data = listing("leases", [lease_json(each) for each in found])
    session.out.answer(data, table(headings, rows, empty="No lease is held."))


@lease.command("release")
@click.argument("id")
@pass_session
def release_lease(session: Session, id: str) -> None:
    """End a lease now. Its holder is refused from then on: a late write of it is never published."""
    found = next((each for each in session.parts.leases.live() if each.id == id), None)
    if found is None:
        raise NotFound(f"no lease {id} is held", hint="longwatch lease list shows those that are.")
    session.parts.leases.store.release(id)
    names = ", ".join(found.names)
    session.out.answer({**lease_json(found), "released": True}, f"{names} is free; {found.agent} has lost {id}")


__all__ = ["lease", "task"]
