"""Tasks, runs, steps and workers over the model's dictionaries: the same methods as the real stores have."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from longwatch.db.statements import newest
from longwatch.errors import KeyConflict, LeaseLost, StepReused
from longwatch.policy import task as policy
from longwatch.policy.task import Failed, Finished, HandedBack, Lost, Outcome, State
from longwatch.store.moves import NewTask, Run, Step, Task
from longwatch.store.runs import Concluded
from longwatch.store.tasks import Submitted
from longwatch.store.workers import Enrolled, Kind
from longwatch.testing.model.state import Attempt, Ledger, Need, Part


@dataclass(frozen=True)
class Tasks:
    ledger: Ledger

    def submit(
        self,
        items: Sequence[NewTask],
        *,
        batch: tuple[str, str, str] | None = None,
        earmark: Callable[[Any, str], int | None] | None = None,
    ) -> Submitted:
        with self.ledger.whole():
            if batch is not None:
                id, name, digest = batch
                fresh = name not in self.ledger.batches
                kept_id, kept_digest = self.ledger.batches.setdefault(name, (id, digest))
                if kept_digest != digest:
                    raise KeyConflict(f"batch {name}")
                due_ms = earmark(None, kept_id) if earmark is not None and fresh else None
                due = {} if due_ms is None else {"ready_ms": due_ms}
                items = [msgspec.structs.replace(item, batch=kept_id, **due) for item in items]
            before = len(self.ledger.tasks)
            tasks = tuple(self._submit_one(item) for item in items)
            return Submitted(tasks, len(self.ledger.tasks) - before)

    def _submit_one(self, item: NewTask) -> Task:
        known = self._known(item)
        if known is not None:
            if (known.kind, known.args) != (item.kind, item.args):
                raise KeyConflict(f"key {item.key}")
            return known
        for needed in item.after:
            state = self.ledger.task(needed).state
            met = policy.fate_move(item.fate, state) == "need_met"
            self.ledger.needs[item.id, needed] = Need(item.fate, met)
        self.ledger.tasks[item.id] = self._new(item)
        self.ledger.epochs[item.id] = self.ledger.epoch
        self.ledger.caps[item.id] = item.caps
        self.ledger.tell()
        return self.ledger.tasks[item.id]

    def _known(self, item: NewTask) -> Task | None:
        if item.key is None:
            return self.ledger.tasks.get(item.id)
        return next((task for task in self.ledger.tasks.values() if task.key == item.key), None)

    def _new(self, item: NewTask) -> Task:
        now_ms = self.ledger.now_ms()
        state: State = "waiting" if any(self.ledger.open_needs(item.id)) else "scheduled"
        return Task(
            id=item.id,
            kind=item.kind,
            args=item.args,
            state=state,
            key=item.key,
            batch=item.batch,
            agent=item.agent,
            budget=item.budget,
            lane=item.lane,
            seq=len(self.ledger.tasks),
            ready_ms=item.ready_ms or now_ms,
            submitted_ms=now_ms,
            ended_ms=None,
            retries=item.retries,
            failures=0,
            crashes=0,
            crash_limit=item.crash_limit,
            timeout_ms=item.timeout_ms,
            result=None,
            error=None,
            cause=None,
            owner=None,
            fence=0,
            until_ms=None,
        )

    def cancel(self, task: str) -> Task:
        found = self.ledger.task(task)
        if found.state in policy.ENDED:
            return found
        self.ledger.end_attempt(found, "cancelled")
        lost = found.state == "running" and self.ledger.open_once(task)
        ended = self.ledger.put(found, "unknown" if lost else "cancelled", error="a person")
        self.ledger.tell()
        return ended

    def retry(self, task: str) -> Task:
        found = self.ledger.task(task)
        if found.state not in ("failed", "cancelled", "unknown") or self.ledger.blocked(task):
            return found
        self.ledger.forget_begun(task)
        self.ledger.epochs[task] = self.ledger.epoch
        again = self.ledger.run_again(found)
        self.ledger.revive()
        return again

    def resolve(self, task: str, state: State, *, result: str | None = None, note: str = "") -> Task:
        found = self.ledger.task(task)
        if found.state != "unknown":
            return found
        if state == "done":
            ended = self.ledger.put(found, "done", result=result or "null")
        else:
            self.ledger.forget_begun(task)
            ended = self.ledger.put(found, state, error="a person")
        self.ledger.tell()
        return ended

    def get(self, task: str) -> Task:
        return self.ledger.task(task)


@dataclass(frozen=True)
class Runs:
    ledger: Ledger

    def claim(
        self, owner: str, *, kinds: Iterable[str], limit: int, lease_ms: int, start: str | None = None
    ) -> list[Run]:
        self.ledger.sweep()
        held = self.ledger.owned(owner)
        running = [self._run(self.ledger.attempts[task.fence].id, task) for task in held if task.state == "running"]
        used = any(attempt.id == start for attempt in self.ledger.attempts.values())
        if used and not running:
            return []
        taken = held or self._take(owner, list(kinds), limit, lease_ms)
        claimed = [self._run("", task) for task in taken if task.state == "claimed"]
        if start is not None and claimed and not running:
            first = self._start(claimed.pop(0), start, lease_ms)
            running = [first] if first else []
        return running + claimed

    def _take(self, owner: str, kinds: list[str], limit: int, lease_ms: int) -> list[Task]:
        now_ms, tasks = self.ledger.now_ms(), self.ledger.tasks.values()
        open_now = [task for task in tasks if task.state in ("scheduled", "ready") and is_due(task, now_ms)]
        best = sorted((task for task in open_now if task.kind in kinds), key=lambda task: (task.lane, task.seq))
        return [
            self.ledger.put(
                task, "claimed", owner=owner, fence=self.ledger.next_fence(), until_ms=now_ms + lease_ms, **kept(task)
            )
            for task in best[:limit]
        ]

    def _run(self, id: str, task: Task) -> Run:
        blank = not any(begun == task.id for begun, _ in self.ledger.steps)
        capped = {dimension for dimension, _ in self.ledger.caps.get(task.id, ())}
        in_order = tuple(name for name in ("money", "calls", "tokens") if name in capped)
        return Run(id, task, task.fence, task.until_ms or 0, blank, capped=in_order)

    def _start(self, claimed: Run, run: str, lease_ms: int) -> Run | None:
        task = self.ledger.tasks[claimed.task.id]
        if task.fence != claimed.fence or task.state not in policy.LEASED or not self.ledger.alive(task):
            return None
        if task.state == "running":  # started before, and the reply was lost
            return msgspec.structs.replace(claimed, id=self.ledger.attempts[task.fence].id)
        self.ledger.attempts[task.fence] = Attempt(run, task.id)
        until_ms = self.ledger.now_ms() + lease_ms
        self.ledger.tasks[task.id] = msgspec.structs.replace(task, state="running", until_ms=until_ms)
        return msgspec.structs.replace(claimed, id=run)

    def conclude(
        self, run: Run, outcome: Outcome, *, then: tuple[Run, str] | None = None, lease_ms: int = 0
    ) -> Concluded:
        asked, runnable = type(outcome).__name__.lower(), 0
        if self.ledger.holds(run):
            if isinstance(outcome, Finished) and outcome.last is not None:
                self.ledger.store_last(run, outcome.last)
            task = self._end(self.ledger.tasks[run.task.id], outcome)
            runnable = self.ledger.tell() + (task.state in ("scheduled", "ready"))
        elif not self._ended_before(run, asked):
            raise LeaseLost(f"{run.fence}")
        state = self.ledger.tasks[run.task.id].state
        started = self._start(then[0], then[1], lease_ms) if then else None
        return Concluded(state, started, runnable)

    def _ended_before(self, run: Run, asked: str) -> bool:
        told = self.ledger.attempts.get(run.fence)
        return told is not None and (told.task, told.outcome) == (run.task.id, asked)

    def _end(self, task: Task, outcome: Outcome) -> Task:
        self.ledger.end_attempt(task, type(outcome).__name__.lower())
        failures, ready_ms = task.failures, task.ready_ms
        if isinstance(outcome, Failed | HandedBack) and self.ledger.open_once(task.id):
            return self.ledger.put(task, "unknown", error="once")
        match outcome:
            case Finished(result):
                return self.ledger.put(task, "done", result=result)
            case Failed(error, delay_ms, final):
                failures += 1
                if policy.after_failure(failures=failures, retries=task.retries, final=final) == "fail":
                    return self.ledger.put(task, "failed", failures=failures, error=error)
                ready_ms = self.ledger.now_ms() + delay_ms
                return self.ledger.put(task, "scheduled", failures=failures, error=error, ready_ms=ready_ms)
            case Lost(error):
                return self.ledger.put(task, "unknown", error=error)
            case HandedBack():
                return self.ledger.put(task, "ready")

    def hand_back_claimed(self, runs: Sequence[Run]) -> int:
        given = 0
        for run in runs:
            task = self.ledger.tasks[run.task.id]
            if task.state == "claimed" and task.fence == run.fence:
                self.ledger.put(task, "ready")
                given += 1
        return given

    def beat(self, owner: str, fences: Iterable[int], *, lease_ms: int) -> set[int]:
        now_ms, known = self.ledger.now_ms(), set(fences)
        if owner in self.ledger.workers:
            self.ledger.workers[owner] = msgspec.structs.replace(self.ledger.workers[owner], beat_ms=now_ms)
        held = [task for task in self.ledger.owned(owner) if task.fence in known and self.ledger.alive(task)]
        for task in held:
            self.ledger.tasks[task.id] = msgspec.structs.replace(task, until_ms=now_ms + lease_ms)
        return {task.fence for task in held}

    def check(self, run: Run) -> None:
        self.ledger.hold(run)

    def sweep(self) -> int:
        return self.ledger.sweep()

    def bury(self, owner: str) -> int:
        held = self.ledger.owned(owner)
        for task in held:
            self.ledger.free(task)
        self.ledger.workers.pop(owner, None)
        return len(held)


@dataclass(frozen=True)
class Steps:
    ledger: Ledger

    def find(self, run: Run, name: str) -> Step | None:
        self.ledger.hold(run)
        part = self.ledger.steps.get((run.task.id, name))
        if part is None:
            return None
        return Step(name, part.sort, "started" if part.result is None else "stored", part.result, 0)

    def store(self, run: Run, name: str, result: str, *, sort: str = "step") -> None:
        self.ledger.hold(run)
        part = self.ledger.steps.get((run.task.id, name)) or Part(sort, None, run.fence)
        if part.result not in (None, result):
            raise StepReused(name)
        self.ledger.steps[run.task.id, name] = replace(part, result=result)

    def begin(self, run: Run, name: str) -> bool:
        self.ledger.hold(run)
        part = self.ledger.steps.get((run.task.id, name))
        if part is not None:
            return part.result is None and part.fence == run.fence
        if self.ledger.epochs[run.task.id] < self.ledger.epoch:
            return False
        self.ledger.steps[run.task.id, name] = Part("once", None, run.fence)
        return True

    def forget(self, run: Run, name: str) -> None:
        self.ledger.hold(run)
        part = self.ledger.steps.get((run.task.id, name))
        if part is not None and part.result is None:
            del self.ledger.steps[run.task.id, name]


@dataclass(frozen=True)
class Workers:
    ledger: Ledger

    def enrol(
        self, owner: str, *, agent: str, pid: int, start_ticks: int, boot_id: str, name: str | None = None
    ) -> None:
        now_ms = self.ledger.now_ms()
        new = Enrolled(owner, agent, pid, start_ticks, boot_id, name, since_ms=now_ms, beat_ms=now_ms, schema=newest())
        self.ledger.workers.setdefault(owner, new)

    def dismiss(self, owner: str) -> None:
        self.ledger.workers.pop(owner, None)

    def all(self) -> list[Enrolled]:
        return sorted(self.ledger.workers.values(), key=lambda worker: (worker.since_ms, worker.owner))

    def learn_kinds(self, kinds: Iterable[Kind]) -> None:
        self.ledger.kinds.update({kind.name: kind for kind in kinds})

    def kinds(self) -> dict[str, Kind]:
        return dict(self.ledger.kinds)

    def end_all(self) -> None:
        self.ledger.end_all()


def is_due(task: Task, now_ms: int) -> bool:
    return task.state == "ready" or task.ready_ms <= now_ms


def kept(task: Task) -> dict[str, object]:
    """What a claim leaves as it is: the traces of the attempt before."""
    return {"result": task.result, "error": task.error, "cause": task.cause}
