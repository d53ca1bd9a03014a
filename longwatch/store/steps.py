"""Steps: the named parts of a task, each stored once, each under the fence of the run that did it."""

from dataclasses import dataclass

from longwatch.db.connection import Database, Transaction
from longwatch.errors import StepReused
from longwatch.store.journal import Journal
from longwatch.store.moves import Run, Step
from longwatch.store.runs import hold


@dataclass(frozen=True)
class Steps:
    database: Database
    journal: Journal

    def find(self, run: Run, name: str) -> Step | None:
        """What is known of a step. Errors: LeaseLost."""
        with self.database.read() as tx:
            hold(tx, run)
            row = tx.one("tasks.step", task=run.task.id, name=name)
            return None if row is None else Step(row.name, row.sort, row.state, row.result, row.started_ms)

    def store(self, run: Run, name: str, result: str, *, sort: str = "step") -> None:
        """Keep the step's result. Errors: LeaseLost, StepReused."""
        self.database.hopefully(lambda tx: put_step(tx, self.journal, run, name, result, sort=sort), part="tasks")

    def begin(self, run: Run, name: str) -> bool:
        """Write down that an effect without a key is about to take place; False: it may have taken place before.

        Errors: LeaseLost. A task that is older than the last restore may have done it since the backup was made.
        """
        with self.database.transaction(part="tasks") as tx:
            hold(tx, run)
            begun = tx.one("tasks.step", task=run.task.id, name=name)
            if begun is not None:
                # By this very run: the first reply was lost.
                return bool(begun.fence == run.fence and begun.state == "started")
            if tx.one("tasks.predates_restore", id=run.task.id):
                return False
            tx.count("tasks.begin_step", task=run.task.id, name=name, sort="once", fence=run.fence)
            self.journal.append(tx, "step.begun", run.task.id, agent=run.task.agent, task=run.task.id, step=name)
            return True

    def forget(self, run: Run, name: str) -> None:
        """The effect was proven not to have taken place: it may be begun again."""
        with self.database.transaction(part="tasks") as tx:
            hold(tx, run)
            tx.count("tasks.forget_step", task=run.task.id, name=name)


def put_step(tx: Transaction, journal: Journal, run: Run, name: str, result: str, *, sort: str) -> None:
    """Store a step's result in an open transaction, which may hold an edit's commit too."""
    if not tx.count("tasks.store_step", seq=run.task.seq, name=name, sort=sort, result=result, fence=run.fence):
        hold(tx, run)
        kept = tx.one("tasks.step", task=run.task.id, name=name)
        if kept is None or kept.result != result:
            raise StepReused(
                f"the step {name!r} of {run.task.id} has a result already",
                hint='Names are unique in a run: put the item in it, such as f"page-{n}".',
            )
        return
    journal.append(tx, "step.stored", run.task.id, agent=run.task.agent, task=run.task.id, step=name)
