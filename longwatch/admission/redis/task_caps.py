"""Caps of single tasks where Redis decides. Each process keeps what it knows of them, and asks the state again when it is
refused by one, or when the state gives out less than that.

Redis never gives out more than the state allows it of a task; what a person lowers is lowered there too before he is told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from longwatch.admission import task_caps
from longwatch.admission.redis.memory import Memory
from longwatch.admission.standing import Prepared
from longwatch.admission.task_caps import PAGE, TaskCaps
from longwatch.db.connection import Transaction
from longwatch.policy.budget import Standing
from longwatch.policy.scope import TASK, PurseCap, with_task

KNOWN = 1_024  # tasks whose caps a process keeps


@dataclass(frozen=True)
class RedisTaskCaps(TaskCaps):
    memory: Memory
    flush: Callable[[], bool]
    known: dict[str, tuple[PurseCap, ...]] = field(default_factory=dict[str, tuple[PurseCap, ...]])
    scopes: dict[tuple[str, int], tuple[Prepared, Prepared]] = field(
        default_factory=dict[tuple[str, int], tuple[Prepared, Prepared]]
    )

    def scope(self, prepared: Prepared, task: str) -> Prepared:
        """What decides about a call of the task. prepared: about a call like it of no task."""
        if task not in self.known:
            self.learn(task)
        found = self.scopes.get((task, id(prepared)))
        if found is None or found[0] is not prepared:
            if len(self.scopes) >= KNOWN:
                self.scopes.clear()
            made = prepared._replace(scope=with_task(prepared.scope, task, self.known.get(task, ())))
            found = self.scopes[task, id(prepared)] = prepared, made
        return found[1]

    def learn(self, task: str) -> bool:
        """Ask the state what the task's caps are; whether they are others than this process knew."""
        before = self.known.get(task)
        with self.database.read() as tx:
            caps = task_caps.caps_of(tx, task)
        if caps == before:
            return False
        if len(self.known) >= KNOWN:
            self.known.clear()
        self.known[task] = caps
        self.scopes.clear()
        return before is not None

    def all(self, task: str) -> list[Standing]:
        self.flush()
        return super().all(task)

    def move(self, task: str, amounts: Mapping[str, int], *, by: str, agent: str | None = None) -> dict[str, int]:
        before = super().move(task, amounts, by=by, agent=agent)
        self.memory.level(task)
        self.learn(task)
        return before

    def _move(
        self, tx: Transaction, task: str, amounts: Mapping[str, int], *, by: str, agent: str | None
    ) -> dict[str, int]:
        before = super()._move(tx, task, amounts, by=by, agent=agent)
        for dimension, amount in amounts.items():
            tx.count("task_cap.lower", purse=f"{TASK}{task}", dimension=dimension, amount=amount)
        return before

    def close_over(self, *, limit: int = PAGE) -> int:
        with self.memory.link.pin():
            return super().close_over(limit=limit)

    def _close(self, tx: Transaction, purses: Sequence[str]) -> None:
        """In Redis first: what it then asks for is opened behind this transaction, which has the state."""
        self.memory.close(purses)
        super()._close(tx, purses)
