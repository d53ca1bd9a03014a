"""The ledger: tasks, their runs and steps, and what they need of each other.

Every method is one transaction, guarded by the table of moves and, for whoever runs a task, by its fence: a write that
names an overtaken fence raises LeaseLost and changes nothing. Ids are made by the caller before the transaction, so that
a write whose reply was lost is repeated and finds itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import KeyConflict, LeaseLost, NotFound, StepReused
from longwatch.policy import task as policy
from longwatch.policy.task import Fate, Outcome, State
from longwatch.store.dependants import tell_dependants
from longwatch.store.fleet import take_fences
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask, Run, Step, Task, give_up, move, run_of, task_of

SWEEP = 100  # expired tasks that one claim takes care of
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Submitted:
    """tasks: in the order asked for. fresh: how many of them are new."""

    tasks: tuple[Task, ...]
    fresh: int


@dataclass(frozen=True)
class Concluded:
    """state: of the task that ended its run. started: the next run, when one was asked for and still ours to start.

    runnable: how many other tasks this may have made ready.
    """

    state: State
    started: Run | None
    runnable: int


@dataclass(frozen=True)
class Tasks:
    database: Database
    journal: Journal

    # -- submitting --------------------------------------------------------------------------------------------------

    def submit(self, items: Sequence[NewTask], *, batch: tuple[str, str, str] | None = None) -> Submitted:
        """Write the tasks down, all or none. The same key with the same kind and arguments is the same task.

        batch: (id, name, digest of its items). Errors: KeyConflict, NotFound for a need that does not exist.
        """
        with self.database.transaction() as tx:
            if batch is not None:
                batch_id = self._open_batch(tx, *batch)
                items = [msgspec.structs.replace(item, batch=batch_id) for item in items]
            tasks = [self._submit_one(tx, item) for item in items]
        return Submitted(tuple(task for task, _ in tasks), sum(fresh for _, fresh in tasks))

    def _open_batch(self, tx: Transaction, batch: str, name: str, digest: str) -> str:
        found = tx.one("tasks.batch_by_name", name=name)
        if found is None:
            tx.count("tasks.insert_batch", id=batch, name=name, digest=digest)
            self.journal.append(tx, "batch.submitted", batch, name=name)
            return batch
        if found.digest != digest:
            raise KeyConflict(
                f"the batch {name!r} exists with other items", hint="Give the new items another batch name."
            )
        return str(found.id)

    def _submit_one(self, tx: Transaction, item: NewTask) -> tuple[Task, bool]:
        found = tx.one("tasks.by_key", key=item.key) if item.key else tx.one("tasks.by_id", id=item.id)
        if found is not None:
            return same_task(found, item), False
        needs = {need: self._need(tx, need) for need in item.after}
        open_needs = [row for row in needs.values() if policy.fate_move(item.fate, row.state) != "need_met"]
        state: State = "waiting" if open_needs else "scheduled" if (item.ready_ms or 0) > tx.now_ms else "ready"
        self._insert(tx, item, state)
        for need, row in needs.items():
            met = int(policy.fate_move(item.fate, row.state) == "need_met")
            tx.count("tasks.insert_need", task=item.id, needs=need, fate=item.fate, met=met)
        self.journal.append(tx, "task.submitted", item.id, agent=item.agent, task=item.id, of=item.kind, key=item.key)
        for row in open_needs:
            if row.state in ("failed", "cancelled"):
                tell_dependants(tx, self.journal, task_of(row))
        return self._get(tx, item.id), True

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

    def _need(self, tx: Transaction, need: str) -> Row:
        row = tx.one("tasks.by_id", id=need)
        if row is None:
            raise NotFound(
                f"there is no task {need} to wait for", hint="after= takes tasks that were submitted before."
            )
        return row

    # -- working -----------------------------------------------------------------------------------------------------

    def claim(
        self, owner: str, *, kinds: Iterable[str], limit: int, lease_ms: int, start: str | None = None
    ) -> list[Run]:
        """Take up to `limit` tasks for this owner, best lane and longest waiting first; expired ones are freed first.

        start: a run id; the first task taken then runs at once. The others are claimed only: `conclude` starts them.
        An owner claims when it holds nothing: what it holds all the same was claimed by a call whose reply was lost.
        """
        with self.database.transaction() as tx:
            held = [run_of(row) for row in tx.all("tasks.owned", owner=owner)]
            if held:
                return self._claimed_before(tx, held)
            self._sweep(tx)
            tx.count("tasks.come_due")
            rows = [row for kind in kinds for row in tx.all("tasks.ready_of_kind", kind=kind, limit=limit)]
            chosen = sorted(rows, key=lambda row: (row.lane, row.seq))[:limit]
            if not chosen:
                return []
            fences = take_fences(tx, len(chosen))
            until_ms = tx.now_ms + lease_ms
            runs: list[Run] = []
            for row, fence in zip(chosen, fences, strict=True):
                taken = tx.one("tasks.claim", id=row.id, owner=owner, fence=fence, until_ms=until_ms)
                assert taken is not None
                self.journal.append(
                    tx, "task.claimed", row.id, task=row.id, agent=taken.agent, owner=owner, fence=fence
                )
                runs.append(run_of(taken))
            if start is None:
                return runs
            first = self._start(tx, runs[0], run=start, lease_ms=lease_ms)
            assert first is not None
            return [first, *runs[1:]]

    def _claimed_before(self, tx: Transaction, held: list[Run]) -> list[Run]:
        running = [self._started_before(tx, run) for run in held if run.task.state == "running"]
        return [run for run in running if run] + [run for run in held if run.task.state == "claimed"]

    def _started_before(self, tx: Transaction, claimed: Run) -> Run | None:
        told = tx.one("tasks.run_by_fence", fence=claimed.fence)
        return msgspec.structs.replace(claimed, id=told.id) if told is not None and told.outcome is None else None

    def _start(self, tx: Transaction, claimed: Run, *, run: str, lease_ms: int) -> Run | None:
        task, until_ms = claimed.task, tx.now_ms + lease_ms
        if not tx.count("tasks.start", id=task.id, fence=claimed.fence, until_ms=until_ms):
            return self._started_before(tx, claimed)
        owner = task.owner or ""
        tx.count("tasks.insert_run", id=run, task=task.id, fence=claimed.fence, owner=owner, agent=task.agent)
        self.journal.append(tx, "run.started", run, agent=task.agent, task=task.id, fence=claimed.fence)
        return msgspec.structs.replace(claimed, id=run)

    def conclude(
        self, run: Run, outcome: Outcome, *, then: tuple[Run, str] | None = None, lease_ms: int = 0
    ) -> Concluded:
        """End the run as `outcome` says, tell its dependants, and start the next claimed run in the same commit.

        then: (claimed run, its run id). Twice with one fence is a success. Errors: LeaseLost, nothing was written.
        """
        with self.database.transaction() as tx:
            state, runnable = self._conclude(tx, run, outcome)
            started = self._start(tx, then[0], run=then[1], lease_ms=lease_ms) if then else None
            return Concluded(state, started, runnable)

    def _conclude(self, tx: Transaction, run: Run, outcome: Outcome) -> tuple[State, int]:
        held = tx.one("tasks.held", id=run.task.id, fence=run.fence)
        if held is None:
            return self._concluded_before(tx, run, outcome), 0
        task = task_of(held)
        ended = give_up(tx, self.journal, task, outcome)
        return ended.state, tell_dependants(tx, self.journal, ended)

    def _concluded_before(self, tx: Transaction, run: Run, outcome: Outcome) -> State:
        """The first reply may have been lost: the same outcome again changes nothing and is no error."""
        told = tx.one("tasks.run_by_fence", fence=run.fence)
        if told is None or told.outcome != type(outcome).__name__.lower():
            raise lost(run)
        return self._get(tx, run.task.id).state

    def hand_back_claimed(self, runs: Sequence[Run]) -> int:
        """Give back tasks that were claimed and not started; how many were still ours."""
        with self.database.transaction() as tx:
            return sum(self._free_claimed(tx, run) for run in runs)

    def _free_claimed(self, tx: Transaction, run: Run) -> int:
        row = tx.one("tasks.by_id", id=run.task.id)
        if row is None or row.fence != run.fence or row.state != "claimed":
            return 0
        move(tx, self.journal, task_of(row), "hand_back")
        return 1

    def beat(self, owner: str, fences: Iterable[int], *, lease_ms: int) -> set[int]:
        """Push the leases of these runs of the owner; the fences still held. One that ran out is not revived.

        Only what the owner knows of is pushed: a claim whose reply was lost runs out by itself.
        """
        known = encode(list(fences)).decode()
        with self.database.transaction(durable=False) as tx:
            tx.count("tasks.beat_worker", owner=owner)
            rows = tx.all("tasks.beat", owner=owner, fences=known, until_ms=tx.now_ms + lease_ms)
            return {row.fence for row in rows}

    def check(self, run: Run) -> None:
        """Errors: LeaseLost unless the run still holds its task."""
        with self.database.read() as tx:
            hold(tx, run)

    def sweep(self) -> int:
        """Free what expired, at most SWEEP tasks; how many."""
        with self.database.transaction() as tx:
            return self._sweep(tx)

    def bury(self, owner: str) -> int:
        """The owner's process is confirmed dead: free what it held, at once; how many tasks."""
        with self.database.transaction() as tx:
            rows = tx.all("tasks.owned", owner=owner)
            for row in rows:
                self._free(tx, row)
            tx.count("tasks.dismiss", owner=owner)
            return len(rows)

    def _sweep(self, tx: Transaction) -> int:
        rows = tx.all("tasks.expired", limit=SWEEP)
        for row in rows:
            self._free(tx, row)
        return len(rows)

    def _free(self, tx: Transaction, row: Row) -> None:
        """Its worker is gone. A claimed task is simply ready again; a running one has crashed."""
        task = task_of(row)
        if task.state == "claimed":
            move(tx, self.journal, task, "expire")
            return
        opened = tx.one("tasks.open_once", task=task.id)
        verdict = policy.after_crash(crashes=task.crashes + 1, limit=task.crash_limit, open_once=opened is not None)
        ended = crashed(tx, self.journal, task, verdict, opened.name if opened else None)
        tell_dependants(tx, self.journal, ended)

    # -- steps -------------------------------------------------------------------------------------------------------

    def step(self, run: Run, name: str) -> Step | None:
        """What is known of a step. Errors: LeaseLost."""
        with self.database.read() as tx:
            hold(tx, run)
            row = tx.one("tasks.step", task=run.task.id, name=name)
            return None if row is None else Step(row.name, row.sort, row.state, row.result, row.started_ms)

    def store_step(self, run: Run, name: str, result: str, *, sort: str = "step") -> None:
        """Keep the step's result. Errors: LeaseLost, StepReused."""
        with self.database.transaction() as tx:
            put_step(tx, self.journal, run, name, result, sort=sort)

    def begin_once(self, run: Run, name: str) -> bool:
        """Write down that an effect without a key is about to take place; False: it may have taken place before.

        Errors: LeaseLost. A task that is older than the last restore may have done it since the backup was made.
        """
        with self.database.transaction() as tx:
            hold(tx, run)
            if tx.one("tasks.predates_restore", id=run.task.id) or tx.one("tasks.step", task=run.task.id, name=name):
                return False
            tx.count("tasks.begin_step", task=run.task.id, name=name, sort="once", fence=run.fence)
            self.journal.append(tx, "step.begun", run.task.id, agent=run.task.agent, task=run.task.id, step=name)
            return True

    def forget_step(self, run: Run, name: str) -> None:
        """The effect was proven not to have taken place: it may be begun again."""
        with self.database.transaction() as tx:
            hold(tx, run)
            tx.count("tasks.forget_step", task=run.task.id, name=name)

    # -- what a person does ------------------------------------------------------------------------------------------

    def cancel(self, task: str) -> Task:
        """Cancel it and, by their fate, what waits for it. An ended task stays as it is. Errors: NotFound."""
        with self.database.transaction() as tx:
            found = self._get(tx, task)
            if found.state in policy.ENDED:
                return found
            opened = tx.one("tasks.open_once", task=task) if found.state == "running" else None
            if opened is not None:
                ended = crashed(tx, self.journal, found, "lose", opened.name)
            else:
                ended = move(tx, self.journal, found, "cancel", error="cancelled by a person", ended=True)
            tell_dependants(tx, self.journal, ended)
            return ended

    def retry(self, task: str) -> Task:
        """Run an ended task again, with all its attempts, and revive what it had taken down. Errors: NotFound."""
        with self.database.transaction() as tx:
            found = self._get(tx, task)
            if policy.moved("retry", found.state) is None:
                return found
            for step in tx.all("tasks.steps_of", task=task):
                if step.state == "started":
                    tx.count("tasks.forget_step", task=task, name=step.name)
            tx.count("tasks.forgive", id=task)
            again = move(tx, self.journal, found, "retry")
            for row in tx.all("tasks.felled_by", cause=task):
                if not any(
                    need.state in ("failed", "cancelled") and not need.met
                    for need in tx.all("tasks.needs_of", task=row.id)
                ):
                    move(tx, self.journal, self._get(tx, row.id), "revive")
            return again

    def resolve(self, task: str, state: State, *, result: str | None = None, note: str = "") -> Task:
        """A person says how an unknown task ended: done, failed or cancelled. Errors: NotFound."""
        with self.database.transaction() as tx:
            found = self._get(tx, task)
            if found.state != "unknown":
                return found
            for step in tx.all("tasks.steps_of", task=task):
                if step.state == "started" and state != "done":
                    tx.count("tasks.forget_step", task=task, name=step.name)
            error = None if state == "done" else f"resolved as {state}{': ' + note if note else ''}"
            ended = move(tx, self.journal, found, f"resolve_{state}", result=result or "null", error=error, ended=True)
            tell_dependants(tx, self.journal, ended)
            return ended

    # -- looking -----------------------------------------------------------------------------------------------------

    def get(self, task: str) -> Task:
        """Errors: NotFound."""
        with self.database.read() as tx:
            return self._get(tx, task)

    def _get(self, tx: Transaction, task: str) -> Task:
        row = tx.one("tasks.by_id", id=task)
        if row is None:
            raise NotFound(f"there is no task {task}", hint="longwatch task list shows the tasks of this fleet.")
        return task_of(row)


def same_task(row: Row, item: NewTask) -> Task:
    """The task a key was given to, if it was given with these arguments. Errors: KeyConflict."""
    if row.kind != item.kind or row.args != item.args:
        raise KeyConflict(
            f"the key {item.key!r} belongs to {row.id}, submitted as {row.kind} with other arguments",
            hint="Use another key, or submit the same kind and arguments again.",
        )
    return task_of(row)


def hold(tx: Transaction, run: Run) -> None:
    """Errors: LeaseLost unless the run's fence still holds its task, as of this transaction."""
    if tx.one("tasks.held", id=run.task.id, fence=run.fence) is None:
        raise lost(run)


def put_step(tx: Transaction, journal: Journal, run: Run, name: str, result: str, *, sort: str) -> None:
    """Store a step's result in an open transaction, which may hold an edit's commit too."""
    hold(tx, run)
    if not tx.count("tasks.store_step", task=run.task.id, name=name, sort=sort, result=result, fence=run.fence):
        kept = tx.one("tasks.step", task=run.task.id, name=name)
        if kept is None or kept.result != result:
            raise StepReused(
                f"the step {name!r} of {run.task.id} has a result already",
                hint='Names are unique in a run: put the item in it, such as f"page-{n}".',
            )
        return
    journal.append(tx, "step.stored", run.task.id, agent=run.task.agent, task=run.task.id, step=name)


def crashed(tx: Transaction, journal: Journal, task: Task, verdict: str, once: str | None) -> Task:
    """Apply `after_crash`'s verdict to a running task whose worker is gone."""
    crashes = task.crashes + 1
    error = {
        "lose": f"the outcome of {once!r} is not known: its worker died or lost the reply, and it must not be repeated",
        "crash": f"the worker died ({crashes} of {task.crash_limit} crashes)",
        "crash_out": f"the worker died {crashes} times while it ran this task",
    }[verdict]
    tx.count("tasks.end_run", fence=task.fence, outcome=verdict, error=error)
    return move(tx, journal, task, verdict, error=error, crashes=crashes, ended=verdict != "crash")


def lost(run: Run) -> LeaseLost:
    return LeaseLost(
        f"the run {run.id} of {run.task.id} has lost its lease (fence {run.fence})",
        hint="Another worker has it, or it was cancelled. Stop; nothing of this run is written any more.",
    )


__all__ = ["Concluded", "Fate", "NewTask", "Run", "Step", "Submitted", "Task", "Tasks"]
