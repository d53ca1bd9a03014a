"""One task moves: the row, its journal entry, and the guard from the table of moves, in an open transaction."""

from operator import attrgetter

import msgspec

from longwatch.db.connection import Row, Transaction
from longwatch.errors import NotFound
from longwatch.policy import task as policy
from longwatch.policy.task import Failed, Fate, Finished, HandedBack, Lost, Outcome, State
from longwatch.store.journal import Journal


class Task(msgspec.Struct, frozen=True):
    """A durable unit of work. Instants: epoch milliseconds. args, result: JSON. cause: the task whose end ended this one."""

    id: str
    kind: str
    args: str
    state: State
    key: str | None
    batch: str | None
    agent: str
    budget: str | None
    lane: int
    seq: int
    ready_ms: int
    submitted_ms: int
    ended_ms: int | None
    retries: int
    failures: int
    crashes: int
    crash_limit: int
    timeout_ms: int | None
    result: str | None
    error: str | None
    cause: str | None
    owner: str | None
    fence: int
    until_ms: int | None


class Run(msgspec.Struct, frozen=True):
    """One attempt at a task. id: empty while it is only claimed. until_ms: end of the lease as it was taken.

    blank: no step of the task had been begun when it was claimed, so that only this run can have begun one since.
    needed: some task waited for this one when it was claimed. capped: what the task has caps of its own on.
    """

    id: str
    task: Task
    fence: int
    until_ms: int
    blank: bool
    needed: bool = False
    capped: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """A named part of a task. result: JSON, None while it is only begun."""

    name: str
    sort: str
    state: str
    result: str | None
    started_ms: int


class NewTask(msgspec.Struct, frozen=True):
    """A task as submitted. after: ids it needs; fate: what becomes of it when one of them does not succeed. caps: on what
    all its calls may cost, by dimension."""

    id: str
    kind: str
    args: str
    agent: str
    key: str | None = None
    batch: str | None = None
    budget: str | None = None
    lane: int = 1
    ready_ms: int | None = None
    retries: int = 0
    crash_limit: int = policy.CRASH_LIMIT
    timeout_ms: int | None = None
    after: tuple[str, ...] = ()
    fate: Fate = "cancel"
    caps: tuple[tuple[str, int], ...] = ()


CAPPED = {"money": 1, "calls": 2, "tokens": 4}  # as the statements add them up
facts_of = attrgetter(*Task.__struct_fields__)


def task_of(row: Row) -> Task:
    return Task(*facts_of(row))


def run_of(row: Row) -> Run:
    capped = tuple(name for name, bit in CAPPED.items() if row.capped & bit)
    return Run("", task_of(row), row.fence, row.until_ms, not row.begun, bool(row.needed), capped)


def read_task(tx: Transaction, task: str) -> Task:
    """Errors: NotFound."""
    row = tx.one("tasks.by_id", id=task)
    if row is None:
        raise NotFound(
            f"there is no task {task}",
            hint="longwatch task list shows the tasks of this fleet, longwatch archive show ID one that has left it.",
        )
    return task_of(row)


def move(
    tx: Transaction,
    journal: Journal,
    task: Task,
    name: str,
    *,
    failures: int | None = None,
    crashes: int | None = None,
    ready_ms: int | None = None,
    result: str | None = None,
    error: str | None = None,
    cause: str | None = None,
    ended: bool = False,
) -> Task:
    """Move the task as the table says; the task as it then is. The row must be the one just read in this transaction."""
    state = policy.moved(name, task.state)
    assert state is not None, f"{task.id} cannot {name} from {task.state}"
    error = journal.redactor.clean(error) if error else None
    after = msgspec.structs.replace(
        task,
        state=state,
        failures=task.failures if failures is None else failures,
        crashes=task.crashes if crashes is None else crashes,
        ready_ms=task.ready_ms if ready_ms is None else ready_ms,
        result=result,
        error=error,
        cause=cause,
        ended_ms=tx.now_ms if ended else None,
        owner=None,
        until_ms=None,
    )
    changed = tx.count(
        "tasks.move",
        seq=task.seq,
        was=task.state,
        state=state,
        failures=after.failures,
        crashes=after.crashes,
        ready_ms=after.ready_ms,
        result=result,
        error=error,
        cause=cause,
        ended_ms=after.ended_ms,
    )
    assert changed == 1, f"{task.id} was no longer {task.state}"
    facts = {key: value for key, value in (("error", error), ("cause", cause)) if value}
    journal.append(tx, f"task.{state}", task.id, agent=task.agent, task=task.id, move=name, **facts)
    return after


def finish(tx: Transaction, journal: Journal, run: Run, outcome: Finished) -> Task | None:
    """The run's task has ended well: as its dependants are told of it; None when the run does not hold it any more.

    The commonest end, so one statement, and nothing read.
    """
    task = run.task
    if not tx.count("tasks.finish", seq=task.seq, fence=run.fence, result=outcome.result):
        return None
    tx.count("tasks.end_run", fence=run.fence, outcome=name_of(outcome), error=None)
    journal.append(tx, "task.done", task.id, agent=task.agent, task=task.id, move="finish")
    return msgspec.structs.replace(
        task, state="done", result=outcome.result, error=None, cause=None, owner=None, until_ms=None
    )


def name_of(outcome: Outcome) -> str:
    """As the run keeps it: as asked, whatever came of it, so that a repeated reply is found again."""
    return type(outcome).__name__.lower()


def give_up(tx: Transaction, journal: Journal, task: Task, outcome: Failed | Lost | HandedBack) -> Task:
    """Take a running task from its run, as the outcome says; with an effect left open, the outcome is not known."""
    asked = name_of(outcome)
    opened = None if isinstance(outcome, Lost) else tx.one("tasks.open_once", task=task.id)
    if opened is not None:
        outcome = Lost(f"the outcome of {opened.name!r} is not known: it was cut off, and it must not be repeated")
    error = None if isinstance(outcome, HandedBack) else journal.redactor.clean(outcome.error)
    tx.count("tasks.end_run", fence=task.fence, outcome=asked, error=error)
    match outcome:
        case Failed(text, delay_ms, final):
            failures = task.failures + 1
            verdict = policy.after_failure(failures=failures, retries=task.retries, final=final)
            ready_ms = tx.now_ms + delay_ms if verdict == "retry_later" else None
            return move(
                tx, journal, task, verdict, failures=failures, error=text, ready_ms=ready_ms, ended=verdict == "fail"
            )
        case Lost(text):
            return move(tx, journal, task, "lose", error=text, ended=True)
        case HandedBack():
            return move(tx, journal, task, "hand_back")
