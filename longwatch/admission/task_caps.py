"""Caps of single tasks: what all attempts, retries and steps of one may cost, over its whole life.

A task is submitted with them, and its purse is `task:ID`, of which every call that is made in one of its runs is a charge.
What may be spent is in a table of its own, read with every decision, so that a person may raise it while the task runs;
which amounts are capped is settled when it is submitted, so that a call of any other task costs nothing more than before.

A window of such a purse is a sum over the calls of its task, and opened when it is first asked for. It is closed when the
task has ended, so that there are no more of them than tasks that go on; a late call, or a retry, opens it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import ConfigError
from longwatch.policy.budget import Standing
from longwatch.policy.scope import TASK, PurseCap, task_caps
from longwatch.policy.window import LAST_MS
from longwatch.store.journal import Journal

PAGE = 500  # purses closed at one time

Asked = tuple[str, Mapping[str, str | None]]


def asked(task: str | None) -> tuple[Asked, ...]:
    """The reads that `standings` is made from."""
    return ("task_cap.of_task", {"task": task}), ("task_cap.held", {"task": task})


def standings(
    tx: Transaction, task: str, caps: Sequence[Row], held: Row, windows: Mapping[tuple[str, str, str], Row]
) -> list[Standing]:
    """Every cap of the task as it stands. windows: those that are open, by purse, dimension and length."""
    found: list[Standing] = []
    for cap in task_caps(task, [(row.dimension, row.amount) for row in caps]):
        row = windows.get((cap.purse, cap.dimension, cap.cap.window)) or opened(tx, cap)
        found.append(standing(cap, int(row.settled), held))
    return found


def standing(cap: PurseCap, spent: int, held: Row) -> Standing:
    amount, places = int(getattr(held, cap.dimension)), int(held.places)
    return Standing(cap.purse, cap.dimension, cap.cap, 0, LAST_MS, spent, amount, places)


def opened(tx: Transaction, cap: PurseCap) -> Row:
    """The window of a task's cap, with what its calls have cost so far; it is not open yet, or another one was faster."""
    place: dict[str, str | int] = {"purse": cap.purse, "dimension": cap.dimension, "ends_ms": LAST_MS}
    row = tx.one("task_cap.open", task=task_of(cap.purse), **place)
    row = row or tx.one("allotment.standing", per=cap.cap.window, **place)
    assert row is not None, "a window that is there already has something spent"
    return row


def of_window(tx: Transaction, window: Row) -> PurseCap | None:
    """The cap of a window of a task's purse, to be told of."""
    found = caps_of(tx, task_of(window.purse))
    return next((cap for cap in found if cap.dimension == window.dimension), None)


def caps_of(tx: Transaction, task: str) -> tuple[PurseCap, ...]:
    return task_caps(task, [(row.dimension, row.amount) for row in tx.all("task_cap.of_task", task=task)])


def is_of_task(purse: str) -> bool:
    return purse.startswith(TASK)


def task_of(purse: str) -> str:
    return purse.removeprefix(TASK)


@dataclass(frozen=True)
class TaskCaps:
    """Where the state itself decides. Safe in threads."""

    database: Database
    journal: Journal

    def all(self, task: str) -> list[Standing]:
        """Every cap of the task, with what is spent and held of it; none, when it was submitted without."""
        purse = f"{TASK}{task}"
        with self.database.read() as tx:
            caps, held, window, calls = tx.several(
                *asked(task), ("task_cap.standing", {"purse": purse}), ("task_cap.spent", {"task": task})
            )
            spent = {dimension: int(getattr(calls[0], dimension)) for dimension in ("money", "calls", "tokens")}
            spent |= {row.dimension: int(row.settled) for row in window}
            found = task_caps(task, [(row.dimension, row.amount) for row in caps])
            return [standing(cap, spent[cap.dimension], held[0]) for cap in found]

    def move(self, task: str, amounts: Mapping[str, int], *, by: str, agent: str | None = None) -> dict[str, int]:
        """Other amounts from now on, by dimension, all or none; what they were before.

        by: who does it, agent: on whose account, for the journal. Errors: ConfigError for what the task was submitted
        without a cap on.
        """
        with self.database.transaction(part="calls") as tx:
            return self._move(tx, task, amounts, by=by, agent=agent)

    def _move(
        self, tx: Transaction, task: str, amounts: Mapping[str, int], *, by: str, agent: str | None
    ) -> dict[str, int]:
        before = {cap.dimension: cap.cap.amount for cap in caps_of(tx, task)}
        for dimension, amount in amounts.items():
            if dimension not in before:
                raise uncapped(task, dimension, before)
            tx.count("task_cap.move", task=task, dimension=dimension, amount=amount)
            told = {"dimension": dimension, "before": before[dimension], "amount": amount}
            self.journal.append(tx, "task.capped", task, agent=agent, task=task, caps=told, by=by)
        return before

    def close_over(self, *, limit: int = PAGE) -> int:
        """Close the windows of tasks that have ended, at most `limit` of them; how many."""
        with self.database.read() as tx:
            if not tx.all("task_cap.over", limit=1):
                return 0
        with self.database.transaction(part="calls", durable=False) as tx:
            purses = [str(row.purse) for row in tx.all("task_cap.over", limit=limit)]
            self._close(tx, purses)
        return len(purses)

    def _close(self, tx: Transaction, purses: Sequence[str]) -> None:
        for purse in purses:
            tx.count("task_cap.close", purse=purse)
            tx.count("task_cap.return", purse=purse)


def uncapped(task: str, dimension: str, capped: Mapping[str, int]) -> ConfigError:
    has = f"only on {', '.join(capped)}" if capped else "without any"
    return ConfigError(
        f"{task} was submitted without a cap on {dimension}, and one cannot be added to it ({has})",
        hint=f"longwatch task cancel {task} stops it; submit it again with {dimension}=, or --{dimension}.",
    )
