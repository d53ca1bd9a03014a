"""What must hold in every state whatever the program was, read from the state and from its journal alone."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from longwatch.db.connection import Database, Row, Transaction
from longwatch.policy import task as policy
from longwatch.policy.task import State
from longwatch.store.journal import Entry, entry
from longwatch.store.moves import Task, task_of

LEAVE_THE_END = {"retry", "revive", "resolve_done", "resolve_failed", "resolve_cancelled"}
OPEN = {"scheduled", "ready"}  # coming due is no event that anybody writes down
MANY = 10_000


class Broken(AssertionError):
    """An invariant does not hold."""


def tasks_of(tx: Transaction) -> dict[str, Task]:
    """Every task of a state, in the order submitted."""
    nothing = {"state": None, "batch": None, "kind": None, "agent": None, "before": None}
    rows = tx.all("look.tasks", limit=MANY, **nothing)
    return {row.id: task_of(row) for row in reversed(rows)}


@dataclass
class Watch:
    """Follows one state through its journal: `look` after every move."""

    database: Database
    seq: int = 0
    fence: int = 0
    states: dict[str, State] = field(default_factory=dict[str, State])
    been: dict[str, set[State]] = field(default_factory=lambda: defaultdict[str, set[State]](set))

    def look(self) -> dict[str, Task]:
        """The tasks as they stand. Errors: Broken."""
        with self.database.read() as tx:
            for row in tx.all("journal.list", after=self.seq, limit=MANY, **dict.fromkeys(FILTERS)):
                self._follow(tx, entry(row))
            tasks = tasks_of(tx)
        for task in tasks.values():
            check_one(task)
            said = self.states.get(task.id)
            claim(said == task.state or {said, task.state} <= OPEN, f"{task.id} is {task.state}, told as {said}")
        return tasks

    def look_closely(self) -> None:
        """As `look`, with needs and runs. Errors: Broken."""
        tasks = self.look()
        with self.database.read() as tx:
            for task in tasks.values():
                check_needs(task, tx.all("look.needs_of", task=task.id, limit=MANY))
                check_runs(task, tx.all("look.runs_of", task=task.id, limit=MANY))

    def _follow(self, tx: Transaction, told: Entry) -> None:
        self.seq = told.seq
        if "fence" in told.data and told.kind in ("task.claimed", "lease.taken"):
            fence = int(str(told.data["fence"]))
            claim(fence > self.fence, f"the fence {fence} came after {self.fence}")
            self.fence = fence
        state = state_told(told)
        if told.task is None or state is None:
            return
        was = self.states.get(told.task)
        leaves = was not in policy.ENDED or told.data.get("move") in LEAVE_THE_END
        claim(leaves, f"{told.task} had ended as {was} and became {state} by {told.data.get('move')}")
        if told.kind == "run.started":
            self._check_start(told.task, tx.all("look.needs_of", task=told.task, limit=MANY))
        self.states[told.task] = state
        self.been[told.task].add(state)

    def _check_start(self, task: str, needs: Iterable[Row]) -> None:
        for need in needs:
            well: set[State] = {"done", "failed", "cancelled"} if need.fate == "ignore" else {"done"}
            claim(bool(self.been[need.id] & well), f"{task} started and {need.id} was only ever {self.been[need.id]}")


FILTERS = ("kind", "subject", "agent", "since_ms")


def state_told(told: Entry) -> State | None:
    """The state that an entry says its task is in, if it says so."""
    if told.kind == "run.started":
        return "running"
    name = str(told.data["state"]) if told.kind == "task.submitted" else told.kind.removeprefix("task.")
    return next((state for state in policy.STATES if state == name), None)


def claim(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def check_one(task: Task) -> None:
    held = task.state in policy.LEASED
    claim((task.ended_ms is not None) == (task.state in policy.ENDED), f"{task.id} is {task.state}, {task.ended_ms=}")
    claim(held == (task.until_ms is not None), f"{task.id} is {task.state} with a lease until {task.until_ms}")
    claim(held == (task.owner is not None), f"{task.id} is {task.state} and belongs to {task.owner}")
    claim(not held or task.fence > 0, f"{task.id} is {task.state} without a fence")
    claim(task.result is None or task.state == "done", f"{task.id} is {task.state} with a result")
    claim(task.state != "done" or task.result is not None, f"{task.id} is done without a result")
    claim(task.cause is None or task.state in ("failed", "cancelled"), f"{task.id} is {task.state} with a cause")
    claim(task.crashes <= max(1, task.crash_limit), f"{task.id} has crashed {task.crashes} times")


def check_needs(task: Task, needs: Sequence[Row]) -> None:
    """Nobody waits for nothing, and nobody waits for what has ended."""
    open_needs = [need for need in needs if not need.met]
    if task.state == "waiting":
        claim(bool(open_needs), f"{task.id} waits for nothing")
        ended = [need.id for need in open_needs if need.state in ("done", "failed", "cancelled")]
        claim(not ended, f"{task.id} waits for {ended}, which ended")
    elif task.state not in policy.ENDED:
        claim(not open_needs, f"{task.id} is {task.state} before {[need.id for need in open_needs]}")


def check_runs(task: Task, runs: Sequence[Row]) -> None:
    """A run is open if and only if its task is running under its fence."""
    open_runs = [run.fence for run in runs if run.outcome is None]
    should = [task.fence] if task.state == "running" else []
    claim(open_runs == should, f"{task.id} is {task.state} ({task.fence=}) and has the open runs {open_runs}")
    claim(all((run.outcome is None) == (run.ended_ms is None) for run in runs), f"{task.id}: an end without outcome")
