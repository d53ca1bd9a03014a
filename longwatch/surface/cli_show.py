"""One thing by its id, with everything that hangs on it: what `show` and `task show` print."""

from collections.abc import Callable
from typing import Any

import click
from rich.console import RenderableType
from rich.text import Text

from longwatch.admission.calls import Call
from longwatch.errors import NotFound
from longwatch.policy.money import Money
from longwatch.store.journal import Entry
from longwatch.store.look import Story
from longwatch.store.moves import Task
from longwatch.surface.apart import aside_json, aside_words
from longwatch.surface.cli_base import Command, pass_session
from longwatch.surface.cli_look import entry_words, first_line
from longwatch.surface.cli_snapshots import show_remembered
from longwatch.surface.output import ago, facts, heading, table
from longwatch.surface.own_caps import own_json, own_words
from longwatch.surface.session import Session
from longwatch.surface.wire import (
    at,
    call_json,
    entry_json,
    lease_json,
    run_json,
    step_json,
    task_json,
)

ENTRIES = 200  # of the journal, at most
CALLS = 200


def show_task(session: Session, id: str) -> None:
    """Errors: NotFound."""
    story = session.look.story(id)
    calls = session.parts.calls.limiter.of_task(id, limit=CALLS)
    entries = session.parts.journal.latest(limit=ENTRIES, subject=id)
    currency = session.limits.currency
    caps = session.parts.calls.limiter.task_caps.all(id)
    data = {
        **task_json(story.task),
        "caps": own_json(caps, currency),
        "needs": [{"id": need.id, "kind": need.kind, "state": need.state, "fate": need.fate} for need in story.needs],
        "needed_by": [{"id": need.id, "kind": need.kind, "state": need.state} for need in story.needed_by],
        "runs": [run_json(run) for run in story.runs],
        "steps": [step_json(step) for step in story.steps],
        "calls": [call_json(call, currency=currency) for call in calls],
        "journal": [entry_json(entry) for entry in entries],
    }
    session.out.answer(data, *_task_words(story, calls, entries, own_words(caps, currency), session))


def _task_words(
    story: Story, calls: list[Call], entries: list[Entry], caps: str, session: Session
) -> list[RenderableType]:
    now_ms, currency = session.now_ms(), session.limits.currency
    words: list[RenderableType] = [facts([*task_facts(story.task, now_ms), ("of its own caps", caps or None)])]
    if story.needs:
        rows = [(need.id, need.kind, need.state, need.fate) for need in story.needs]
        words += [heading("needs"), table(("task", "kind", "state", "else"), rows, empty="")]
    if story.needed_by:
        rows_by = [(need.id, need.kind, need.state) for need in story.needed_by]
        words += [heading("needed by"), table(("task", "kind", "state"), rows_by, empty="")]
    if story.runs:
        runs = [(r.id, ago(r.started_ms, now_ms), r.outcome or "going on", first_line(r.error)) for r in story.runs]
        words += [heading("runs"), table(("run", "started", "outcome", "error"), runs, empty="")]
    if story.steps:
        steps = [(s.name, s.sort, s.state, clipped(s.result)) for s in story.steps]
        words += [heading("steps"), table(("name", "sort", "state", "result"), steps, empty="")]
    if calls:
        made = [(c.id, c.service, c.phase, Money(c.money, currency), c.step or "") for c in calls]
        words += [heading("calls"), table(("call", "service", "state", ">money", "step"), made, empty="")]
    return [*words, heading("journal"), *(entry_words(entry) for entry in entries), *_advice(story.task)]


def task_facts(task: Task, now_ms: int) -> list[tuple[str, object]]:
    return [
        ("id", task.id),
        ("kind", task.kind),
        ("state", task.state),
        ("arguments", clipped(task.args)),
        ("result", clipped(task.result) if task.state == "done" else None),
        ("error", task.error),
        ("because of", task.cause),
        ("key", task.key),
        ("batch", task.batch),
        ("agent", task.agent),
        ("budget", task.budget),
        ("submitted", f"{at(task.submitted_ms)} ({ago(task.submitted_ms, now_ms)})"),
        ("not before", at(task.ready_ms) if task.state in ("scheduled", "waiting") else None),
        ("ended", f"{at(task.ended_ms)} ({ago(task.ended_ms, now_ms)})" if task.ended_ms else None),
        ("failures", f"{task.failures} of {task.retries + 1} runs" if task.failures else None),
        ("crashes", f"{task.crashes} of {task.crash_limit}" if task.crashes else None),
    ]


def _advice(task: Task) -> list[RenderableType]:
    """What a person can do next, for a task that needs one."""
    if task.state == "unknown":
        does = f"Find out what happened, then: longwatch task resolve {task.id} done|failed|cancelled"
    elif task.state in ("failed", "cancelled"):
        does = f"longwatch task retry {task.id} runs it again"
    else:
        return []
    return [Text(f"\n{does}", style="dim")]


def clipped(text: str | None, *, most: int = 300) -> str:
    """A long value as far as a person reads; --json shows all of it."""
    if text is None:
        return ""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters; --json shows all)"


def show_run(session: Session, id: str) -> None:
    """Errors: NotFound."""
    run = session.look.run(id)
    entries = session.parts.journal.latest(limit=ENTRIES, subject=id)
    data = {**run_json(run), "journal": [entry_json(entry) for entry in entries]}
    now_ms = session.now_ms()
    pairs: list[tuple[str, object]] = [
        ("id", run.id),
        ("task", run.task),
        ("agent", run.agent),
        ("worker", run.owner),
        ("fence", run.fence),
        ("started", f"{at(run.started_ms)} ({ago(run.started_ms, now_ms)})"),
        ("ended", at(run.ended_ms)),
        ("outcome", run.outcome or "going on"),
        ("error", run.error),
    ]
    session.out.answer(data, facts(pairs), heading("journal"), *(entry_words(entry) for entry in entries))


def show_call(session: Session, id: str) -> None:
    """Errors: NotFound."""
    call, currency = session.parts.calls.limiter.find(id), session.limits.currency
    entries = session.parts.journal.latest(limit=ENTRIES, subject=id)
    data = {**call_json(call, currency=currency), "journal": [entry_json(entry) for entry in entries]}
    pairs: list[tuple[str, object]] = [
        ("id", call.id),
        ("service", call.service),
        ("model", call.model),
        ("state", call.phase),
        ("charged", f"{Money(call.money, currency)}, {call.calls} calls, {call.tokens} tokens"),
        ("agent", call.agent),
        ("budget", call.budget),
        ("task", call.task),
        ("step", call.step),
        ("key", call.key),
        ("admitted", at(call.admitted_ms)),
        ("may leave", at(call.slot_ms)),
        ("ended", at(call.ended_ms)),
    ]
    session.out.answer(data, facts(pairs), heading("journal"), *(entry_words(entry) for entry in entries))


def show_lease(session: Session, id: str) -> None:
    """A live lease; of one that has ended, what the journal tells. Errors: NotFound."""
    lease = next((each for each in session.parts.leases.live() if each.id == id), None)
    entries = session.parts.journal.latest(limit=ENTRIES, subject=id)
    if lease is None and not entries:
        raise NotFound(f"there is no lease {id}", hint="longwatch lease list shows those that are held now.")
    record = lease_json(lease) if lease is not None else {"id": id, "until_at": None}
    data = {**record, "live": lease is not None, "journal": [entry_json(entry) for entry in entries]}
    pairs: list[tuple[str, object]] = [("id", id), ("state", "held" if lease else "ended")]
    if lease is not None:
        ends = f"{at(lease.until_ms)} ({ago(lease.until_ms, session.now_ms())})"
        pairs += [("on", ", ".join(lease.names)), ("agent", lease.agent), ("task", lease.task), ("ends", ends)]
    session.out.answer(data, facts(pairs), heading("journal"), *(entry_words(entry) for entry in entries))


def show_batch(session: Session, wanted: str) -> None:
    """By id or name. Errors: NotFound."""
    batch = session.look.batch(wanted)
    tasks = session.look.tasks(limit=ENTRIES, batch=batch.id)
    kept = session.parts.calls.limiter.asides.all(batch.id)
    data = {
        "id": batch.id,
        "name": batch.name,
        "submitted_at": at(batch.submitted_ms),
        "counts": batch.counts,
        "tasks": [task_json(task) for task in tasks],
        "set_aside": aside_json(kept, session.limits.currency),
    }
    counts = ", ".join(f"{number} {state}" for state, number in batch.counts.items())
    rows = [(task.id, task.kind, task.state, clipped(task.args, most=80)) for task in tasks]
    pairs: list[tuple[str, object]] = [
        ("id", batch.id),
        ("name", batch.name),
        ("submitted", at(batch.submitted_ms)),
        ("tasks", counts),
    ]
    session.out.answer(
        data,
        facts(pairs),
        *aside_words(kept, session.limits),
        heading("tasks"),
        table(("id", "kind", "state", "arguments"), rows, empty=""),
    )


SORTS: dict[str, Callable[[Session, str], None]] = {
    "task": show_task,
    "run": show_run,
    "call": show_call,
    "lease": show_lease,
    "batch": show_batch,
    "rec": lambda session, id: show_remembered(session, session.lw.memory(), id),
    "snap": lambda session, id: show_remembered(session, session.lw.memory(), id),
}


@click.command(cls=Command, section="look")
@click.argument("id")
@pass_session
def show(session: Session, id: str) -> None:
    """Anything by its id: a task, run, call, lease, batch, record or snapshot.

    Of any other id, what the journal tells of it.
    """
    sort = id.partition("_")[0]
    shower = SORTS.get(sort)
    if shower is not None:
        shower(session, id)
        return
    entries = session.parts.journal.latest(limit=ENTRIES, subject=id)
    if not entries:
        raise NotFound(
            f"nothing is known of {id}",
            hint=f"Ids begin with {', '.join(f'{known}_' for known in SORTS)}; a batch may be given by its name.",
        )
    data: dict[str, Any] = {"id": id, "journal": [entry_json(entry) for entry in entries]}
    session.out.answer(data, facts([("id", id)]), heading("journal"), *(entry_words(entry) for entry in entries))
