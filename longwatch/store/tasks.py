"""Tasks: submitted once, looked at, and what a person does to them. (Runs and steps: runs.py, steps.py.)

Every method is one transaction, guarded by the table of moves. Ids are made by the caller before the transaction, so that
a write whose reply was lost is repeated and finds itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from longwatch.db.connection import Database, Part, Row, Transaction
from longwatch.errors import KeyConflict, NotFound
from longwatch.policy import task as policy
from longwatch.policy.task import State
from longwatch.store import taken
from longwatch.store.dependants import revive_dependants, run_again, tell_dependants
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask, Task, move, read_task, task_of

encode = msgspec.json.Encoder().encode

Earmark = Callable[[Transaction, str], int | None]
"""Told a new batch's id in the transaction that submits it: from when its tasks are due, None: at once."""


@dataclass(frozen=True)
class Submitted:
    """tasks: in the order asked for. fresh: how many of them are new."""

    tasks: tuple[Task, ...]
    fresh: int


@dataclass(frozen=True)
class Tasks:
    database: Database
    journal: Journal

    # -- submitting --------------------------------------------------------------------------------------------------

    def submit(
        self, items: Sequence[NewTask], *, batch: tuple[str, str, str] | None = None, earmark: Earmark | None = None
    ) -> Submitted:
        """Write the tasks down, all or none. The same key with the same kind and arguments is the same task.

        batch: (id, name, digest of its items). earmark: told of a batch that is new; its tasks are then due when it says.
        Errors: KeyConflict, of what is in the archive as taken.Away; NotFound for a need; what `earmark` raises.
        """
        alone = earmark is None and not any(item.after for item in items)  # what is needed must not end meanwhile
        part: Part = "tasks" if alone else "all"
        with self.database.transaction(part=part) as tx:
            if batch is not None:
                batch_id, fresh = self._open_batch(tx, *batch)
                due_ms = earmark(tx, batch_id) if earmark is not None and fresh else None
                due = {} if due_ms is None else {"ready_ms": due_ms}
                items = [msgspec.structs.replace(item, batch=batch_id, **due) for item in items]
            tasks = [self._submit_one(tx, item) for item in items]
        return Submitted(tuple(task for task, _ in tasks), sum(fresh for _, fresh in tasks))

    def _open_batch(self, tx: Transaction, batch: str, name: str, digest: str) -> tuple[str, bool]:
        taken.refuse(tx, batch=name)  # also of one of which some tasks are still here, or were brought back
        found = tx.one("tasks.batch_by_name", name=name)
        if found is None:
            tx.count("tasks.insert_batch", id=batch, name=name, digest=digest)
            self.journal.append(tx, "batch.submitted", batch, name=name)
            return batch, True
        if found.digest != digest:
            raise KeyConflict(
                f"the batch {name!r} exists with other items", hint="Give the new items another batch name."
            )
        return str(found.id), False

    def _submit_one(self, tx: Transaction, item: NewTask) -> tuple[Task, bool]:
        found = tx.one("tasks.by_key", key=item.key) if item.key else tx.one("tasks.by_id", id=item.id)
        if found is not None:
            return same_task(found, item), False
        if item.key and item.batch is None:
            taken.refuse(tx, key=item.key)
        needs = {need: self._need(tx, need) for need in item.after}
        open_needs = [row for row in needs.values() if policy.fate_move(item.fate, row.state) != "need_met"]
        state: State = "waiting" if open_needs else "scheduled" if (item.ready_ms or 0) > tx.now_ms else "ready"
        self._insert(tx, item, state)
        for need, row in needs.items():
            met = int(policy.fate_move(item.fate, row.state) == "need_met")
            tx.count("tasks.insert_need", task=item.id, needs=need, fate=item.fate, met=met)
        facts = {"of": item.kind, "key": item.key, "state": state} | ({"caps": dict(item.caps)} if item.caps else {})
        self.journal.append(tx, "task.submitted", item.id, agent=item.agent, task=item.id, **facts)
        for row in open_needs:
            if row.state in ("failed", "cancelled"):
                tell_dependants(tx, self.journal, task_of(row))
        return read_task(tx, item.id), True

    def _insert(self, tx: Transaction, item: NewTask, state: State) -> None:
        tx.count(
            "tasks.insert",
            id=item.id,
            kind=item.kind,
            args=item.args,
            state=state,
            key=item.key,
            batch=item.batch,
            agent=item.agent,
            budget=item.budget,
            lane=item.lane,
            ready_ms=item.ready_ms or tx.now_ms,
            retries=item.retries,
            crash_limit=item.crash_limit,
            timeout_ms=item.timeout_ms,
        )
        for dimension, amount in item.caps:
            tx.count("task_cap.keep", task=item.id, dimension=dimension, amount=amount)

    def _need(self, tx: Transaction, need: str) -> Row:
        row = tx.one("tasks.by_id", id=need)
        if row is None:
            raise NotFound(
                f"there is no task {need} to wait for",
                hint="after= takes tasks that are in the state; longwatch archive restore ID brings one back that has left.",
            )
        return row

    # -- what a person does ------------------------------------------------------------------------------------------

    def cancel(self, task: str) -> Task:
        """Cancel it and, by their fate, what waits for it. An ended task stays as it is. Errors: NotFound.

        A run in the middle of an effect that must not be repeated leaves the task `unknown`.
        """
        with self.database.transaction() as tx:
            found = read_task(tx, task)
            if found.state in policy.ENDED:
                return found
            name, error = "cancel", "cancelled by a person"
            if found.state == "running":
                tx.count("tasks.end_run", fence=found.fence, outcome="cancelled", error=error)
                if opened := tx.one("tasks.open_once", task=task):
                    name, error = "lose", f"it was cancelled while the outcome of {opened.name!r} was not known"
            ended = move(tx, self.journal, found, name, error=error, ended=True)
            tell_dependants(tx, self.journal, ended)
            return ended

    def retry(self, task: str) -> Task:
        """Run an ended task again, with all its attempts, and revive what it had taken down. Errors: NotFound.

        A task that needs one which ended badly stays as it is: retry that one.
        """
        with self.database.transaction() as tx:
            found = read_task(tx, task)
            if policy.moved("retry", found.state) is None or tx.one("tasks.bad_need", task=task):
                return found
            tx.count("tasks.forget_begun", task=task)
            tx.count("tasks.renew_epoch", id=task)
            again = run_again(tx, self.journal, found)
            revive_dependants(tx, self.journal, again)
            return again

    def resolve(self, task: str, state: State, *, result: str | None = None, note: str = "") -> Task:
        """A person says how an unknown task ended: done, failed or cancelled. Errors: NotFound.

        result: of one that is done, JSON.
        """
        with self.database.transaction() as tx:
            found = read_task(tx, task)
            if found.state != "unknown":
                return found
            if state == "done":
                ended = move(tx, self.journal, found, "resolve_done", result=result or "null", ended=True)
            else:
                tx.count("tasks.forget_begun", task=task)
                error = f"resolved as {state}{': ' + note if note else ''}"
                ended = move(tx, self.journal, found, f"resolve_{state}", error=error, ended=True)
            tell_dependants(tx, self.journal, ended)
            return ended

    # -- looking -----------------------------------------------------------------------------------------------------

    def get(self, task: str) -> Task:
        """Errors: NotFound."""
        with self.database.read() as tx:
            return read_task(tx, task)

    def of_batch(self, batch: str) -> list[Task]:
        """The tasks of a batch, in the order submitted."""
        with self.database.read() as tx:
            return [task_of(row) for row in tx.all("tasks.batch_tasks", batch=batch)]

    def busy(self, kinds: Sequence[str], *, before_ms: int) -> bool:
        """Whether a task of these kinds is ready, due before the instant, or held by somebody."""
        with self.database.read() as tx:
            row = tx.one("tasks.unfinished_of", kinds=encode(kinds).decode(), before_ms=before_ms)
            return bool(row is not None and row.busy)

    def next_due(self) -> int | None:
        """The instant of the earliest scheduled task."""
        with self.database.read() as tx:
            row = tx.one("tasks.next_due")
            return None if row is None else row.at_ms


def same_task(row: Row, item: NewTask) -> Task:
    """The task a key was given to, if it was given with these arguments. Errors: KeyConflict."""
    if row.kind != item.kind or row.args != item.args:
        raise KeyConflict(
            f"the key {item.key!r} belongs to {row.id}, submitted as {row.kind} with other arguments",
            hint="Use another key, or submit the same kind and arguments again.",
        )
    return task_of(row)
