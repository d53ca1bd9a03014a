"""Runs: who works on what. Claims, starts, ends, beats, and what becomes of a run whose worker is gone.

Whoever runs a task names its fence in every write; an overtaken fence raises LeaseLost and changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from longwatch.db.connection import Database, Row, Transaction, Value
from longwatch.errors import LeaseLost
from longwatch.policy import task as policy
from longwatch.policy.task import Finished, LastStep, Outcome, State
from longwatch.store.dependants import tell_dependants
from longwatch.store.fleet import take_fences
from longwatch.store.journal import Journal
from longwatch.store.moves import Run, Task, finish, give_up, move, name_of, read_task, run_of, task_of

SWEEP = 100  # expired runs that one claim takes care of
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Concluded:
    """state: of the task that ended its run. started: the next run, when one was asked for and still ours to start.

    runnable: how many tasks this may have made ready, the run's own among them.
    """

    state: State
    started: Run | None
    runnable: int


@dataclass(frozen=True)
class Runs:
    database: Database
    journal: Journal

    def claim(
        self, owner: str, *, kinds: Iterable[str], limit: int, lease_ms: int, start: str | None = None
    ) -> list[Run]:
        """Take up to `limit` tasks for this owner, best lane and longest waiting first; expired ones are freed first.

        start: a run id; the first task taken then runs at once. The others are claimed only: `conclude` starts them.
        An owner claims when it holds nothing: what it holds all the same was claimed by a call whose reply was lost.
        """
        asked = (owner, kinds, limit, lease_ms, start)
        with self.database.transaction(part="tasks") as tx:
            expired, *found = tx.several(("tasks.expired", {"limit": 1}), *_looked_up(owner, start))
            if not expired:
                return self._claim(tx, found, *asked)
        with self.database.transaction() as tx:  # alone: who has crashed may take others down
            self._sweep(tx)
            return self._claim(tx, tx.several(*_looked_up(owner, start)), *asked)

    def _claim(
        self,
        tx: Transaction,
        found: Sequence[Sequence[Row]],
        owner: str,
        kinds: Iterable[str],
        limit: int,
        lease_ms: int,
        start: str | None,
    ) -> list[Run]:
        owned, begun, due = found
        held = self._held(tx, owned)
        if held and held[0].id:
            return held
        if begun:
            return []  # this very call landed before, and the run that it started is over
        if due and not held:
            tx.count("tasks.come_due")
        claimed = held or self._take(tx, owner, kinds, limit, lease_ms)
        if start is None or not claimed:
            return claimed
        first = self._start(tx, claimed[0], run=start, lease_ms=lease_ms)
        assert first is not None
        return [first, *claimed[1:]]

    def _held(self, tx: Transaction, owned: Sequence[Row]) -> list[Run]:
        """What the owner holds and has not lost by time: what it runs first, then what it has claimed."""
        live = [run_of(row) for row in in_order(owned) if row.until_ms > tx.now_ms]
        running = [self._started_before(tx, run) for run in live if run.task.state == "running"]
        return running + [run for run in live if run.task.state == "claimed"]

    def _take(self, tx: Transaction, owner: str, kinds: Iterable[str], limit: int, lease_ms: int) -> list[Run]:
        rows = [row for kind in set(kinds) for row in tx.all("tasks.ready_of_kind", kind=kind, limit=limit)]
        chosen = sorted(rows, key=lambda row: (row.lane, row.seq))[:limit]
        if not chosen:
            return []
        listed, first = encode([row.seq for row in chosen]).decode(), take_fences(tx, len(chosen))[0]
        taken = tx.all("tasks.claim", listed=listed, owner=owner, fence=first, lease_ms=lease_ms)
        assert len(taken) == len(chosen)
        for row in sorted(taken, key=lambda row: row.fence):
            self.journal.append(tx, "task.claimed", row.id, task=row.id, agent=row.agent, owner=owner, fence=row.fence)
        return [run_of(row) for row in sorted(taken, key=lambda row: row.fence)]

    def _started_before(self, tx: Transaction, running: Run) -> Run:
        told = tx.one("tasks.run_by_fence", fence=running.fence)
        assert told is not None
        return msgspec.structs.replace(running, id=told.id)

    def _start(self, tx: Transaction, claimed: Run, *, run: str, lease_ms: int) -> Run | None:
        task = claimed.task
        if not tx.count("tasks.start", seq=task.seq, fence=claimed.fence, lease_ms=lease_ms):
            held = tx.one("tasks.held", seq=task.seq, fence=claimed.fence)
            return None if held is None else self._started_before(tx, claimed)
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

        def work(tx: Transaction) -> Concluded:
            state, runnable = self._conclude(tx, run, outcome)
            started = self._start(tx, then[0], run=then[1], lease_ms=lease_ms) if then else None
            return Concluded(state, started, runnable)

        well = isinstance(outcome, Finished)
        if well and not run.needed:
            return self.database.hopefully(work, part="tasks")
        with self.database.transaction(part="tasks" if well else "all") as tx:  # a bad end may take others down
            return work(tx)

    def _conclude(self, tx: Transaction, run: Run, outcome: Outcome) -> tuple[State, int]:
        ended = self._ended(tx, run, outcome)
        if ended is None:
            return self._concluded_before(tx, run, outcome), 0
        return ended.state, tell_dependants(tx, self.journal, ended)

    def _ended(self, tx: Transaction, run: Run, outcome: Outcome) -> Task | None:
        if isinstance(outcome, Finished):
            if outcome.last is not None:
                self._store_last(tx, run, outcome.last)
            return finish(tx, self.journal, run, outcome)
        held = tx.one("tasks.held", seq=run.task.seq, fence=run.fence)
        return None if held is None else give_up(tx, self.journal, task_of(held), outcome)

    def _store_last(self, tx: Transaction, run: Run, last: LastStep) -> None:
        """Where the run has lost its task, or this very call landed before, nothing is stored, and the end finds that out."""
        stored = {"name": last.name, "sort": "step", "result": last.result}
        if tx.count("tasks.store_step", seq=run.task.seq, fence=run.fence, **stored):
            task = run.task
            self.journal.append(tx, "step.stored", task.id, agent=task.agent, task=task.id, step=last.name)

    def _concluded_before(self, tx: Transaction, run: Run, outcome: Outcome) -> State:
        """The first reply may have been lost: the same outcome again changes nothing and is no error."""
        told = tx.one("tasks.run_by_fence", fence=run.fence)
        if told is None or told.task != run.task.id or told.outcome != name_of(outcome):
            raise lost(run)
        return read_task(tx, run.task.id).state

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
            rows = in_order(tx.all("tasks.owned", owner=owner))
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


def _looked_up(owner: str, start: str | None) -> tuple[tuple[str, dict[str, Value]], ...]:
    """What the owner holds; the run that the call is to start, if it was started before; whether tasks have come due."""
    return ("tasks.owned", {"owner": owner}), ("tasks.run_by_id", {"id": start or ""}), ("tasks.due", {})


def in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.seq)


def hold(tx: Transaction, run: Run) -> None:
    """Errors: LeaseLost unless the run's fence still holds its task, as of this transaction."""
    if tx.one("tasks.held", seq=run.task.seq, fence=run.fence) is None:
        raise lost(run)


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
