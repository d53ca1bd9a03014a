"""What the model of the ledger remembers, and the rules that hold over all of it."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from copy import copy
from dataclasses import dataclass, field, replace

import msgspec

from longwatch.errors import LeaseLost, NotFound
from longwatch.policy import task as policy
from longwatch.policy.task import Fate, LastStep, State
from longwatch.store.moves import Run, Task
from longwatch.store.workers import Enrolled, Kind

BAD: tuple[State, ...] = ("failed", "cancelled")


@dataclass(frozen=True)
class Need:
    """One task waits for another. met: once and for all."""

    fate: Fate
    met: bool


@dataclass(frozen=True)
class Attempt:
    """A run that was started. outcome: None while it runs."""

    id: str
    task: str
    outcome: str | None = None


@dataclass(frozen=True)
class Part:
    """A step. result: None while it is only begun. fence: of the run that began or stored it."""

    sort: str
    result: str | None
    fence: int


@dataclass
class Ledger:
    """Dictionaries of frozen values: a copy of the dictionaries is a copy of the state."""

    now_ms: Callable[[], int]
    epoch: int = 1
    fence: int = 0
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])  # in the order submitted
    needs: dict[tuple[str, str], Need] = field(default_factory=dict[tuple[str, str], Need])  # (task, what it needs)
    attempts: dict[int, Attempt] = field(default_factory=dict[int, Attempt])  # by fence
    steps: dict[tuple[str, str], Part] = field(default_factory=dict[tuple[str, str], Part])  # (task, name)
    batches: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])  # name -> (id, digest)
    epochs: dict[str, int] = field(default_factory=dict[str, int])  # of each task, when it was submitted or retried
    caps: dict[str, tuple[tuple[str, int], ...]] = field(
        default_factory=dict[str, tuple[tuple[str, int], ...]]
    )  # of each task, as it was submitted
    workers: dict[str, Enrolled] = field(default_factory=dict[str, Enrolled])
    kinds: dict[str, Kind] = field(default_factory=dict[str, Kind])

    @contextlib.contextmanager
    def whole(self) -> Generator[None]:
        """What happens inside happens as a whole, or not at all."""
        before = {name: copy(value) for name, value in vars(self).items()}
        try:
            yield
        except BaseException:
            vars(self).update(before)
            raise

    # -- looking -----------------------------------------------------------------------------------------------------

    def task(self, task: str) -> Task:
        if task not in self.tasks:
            raise NotFound(f"no task {task}")
        return self.tasks[task]

    def open_needs(self, task: str) -> Iterator[tuple[str, Need]]:
        return ((needed, need) for (who, needed), need in self.needs.items() if who == task and not need.met)

    def blocked(self, task: str) -> bool:
        """Whether something it needs has ended badly, so that it cannot run."""
        return any(self.tasks[needed].state in BAD for needed, _ in self.open_needs(task))

    def open_once(self, task: str) -> bool:
        return any(part.sort == "once" and part.result is None for (of, _), part in self.steps.items() if of == task)

    def holds(self, run: Run) -> bool:
        task = self.tasks.get(run.task.id)
        return task is not None and task.state == "running" and task.fence == run.fence and self.alive(task)

    def store_last(self, run: Run, last: LastStep) -> None:
        """What has a result keeps it."""
        part = self.steps.get((run.task.id, last.name)) or Part("step", None, run.fence)
        if part.result is None:
            self.steps[run.task.id, last.name] = replace(part, result=last.result)

    def alive(self, task: Task) -> bool:
        return task.until_ms is not None and task.until_ms > self.now_ms()

    def hold(self, run: Run) -> None:
        if not self.holds(run):
            raise LeaseLost(f"{run.fence} does not hold {run.task.id}")

    def owned(self, owner: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.owner == owner]

    # -- moving ------------------------------------------------------------------------------------------------------

    def put(self, task: Task, state: State, **changes: object) -> Task:
        """The task in its new state, held by nobody."""
        ended_ms = self.now_ms() if state in policy.ENDED else None
        cleared = {"result": None, "error": None, "cause": None, "owner": None, "until_ms": None, "ended_ms": ended_ms}
        self.tasks[task.id] = msgspec.structs.replace(task, state=state, **(cleared | changes))
        return self.tasks[task.id]

    def end_attempt(self, task: Task, outcome: str) -> None:
        if task.state == "running":
            self.attempts[task.fence] = replace(self.attempts[task.fence], outcome=outcome)

    def next_fence(self) -> int:
        self.fence += 1
        return self.fence

    def tell(self) -> int:
        """Decide every waiting task that can be decided, until none can; how many of them may now run."""
        runnable = 0
        while changed := [task for task in self.tasks.values() if self._decide(task)]:
            runnable += sum(self.tasks[task.id].state == "scheduled" for task in changed)
        return runnable

    def _decide(self, task: Task) -> bool:
        for needed, need in list(self.open_needs(task.id)):
            verdict = policy.fate_move(need.fate, self.tasks[needed].state)
            if verdict == "need_met":
                self.needs[task.id, needed] = replace(need, met=True)
            elif verdict is not None and task.state == "waiting":
                cause = self.tasks[needed].cause or needed
                self.put(task, policy.MOVES[verdict]["waiting"], error="a need", cause=cause)
                return True
        if task.state == "waiting" and not any(self.open_needs(task.id)):
            self.put(task, "scheduled")
            return True
        return False

    def run_again(self, task: Task) -> Task:
        """Anew, with all attempts, once what it needs is there."""
        state: State = "waiting" if any(self.open_needs(task.id)) else "scheduled"
        return self.put(task, state, failures=0, crashes=0)

    def revive(self) -> None:
        """Whatever was taken down by a need, and needs nothing any more that has ended badly, may run again."""
        while felled := [
            task
            for task in self.tasks.values()
            if task.state in BAD and task.cause is not None and not self.blocked(task.id)
        ]:
            self.run_again(felled[0])

    def forget_begun(self, task: str) -> None:
        self.steps = {of: part for of, part in self.steps.items() if of[0] != task or part.result is not None}

    def free(self, task: Task) -> None:
        """Its worker is gone: a claimed task is simply ready again, a running one has crashed."""
        if task.state == "claimed":
            self.put(task, "ready")
            return
        crashes = task.crashes + 1
        verdict = policy.after_crash(crashes=crashes, limit=task.crash_limit, open_once=self.open_once(task.id))
        self.end_attempt(task, verdict)
        self.put(task, policy.MOVES[verdict]["running"], crashes=crashes, error="a crash")
        self.tell()

    def sweep(self) -> int:
        gone = [task for task in self.tasks.values() if task.state in policy.LEASED and not self.alive(task)]
        for task in sorted(gone, key=lambda task: task.until_ms or 0):
            self.free(task)
        return len(gone)

    def end_all(self) -> None:
        """The machine started anew: nobody holds anything, and no worker is left."""
        for task in self.tasks.values():
            if task.state in policy.LEASED:
                self.tasks[task.id] = msgspec.structs.replace(task, until_ms=0)
        self.workers.clear()

    def raise_epoch(self) -> None:
        """The state was restored: what is older than this may have done more than it remembers."""
        self.epoch += 1
        self.end_all()
