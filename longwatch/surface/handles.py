"""What the Python API hands out for tasks and batches: frozen views, and the errors that a missing result raises."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, overload

from longwatch.errors import TaskCancelled, TaskFailed, TaskNotDone, TaskUnknown
from longwatch.policy.task import ENDED, State
from longwatch.runtime.storable import from_json
from longwatch.store.moves import Task as Stored

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Task(Generic[R_co]):
    """A task as it stood when it was read. `.result` is what its handler returned; reading it may raise TaskFailed."""

    id: str
    kind: str
    state: State
    args: Any
    key: str | None
    batch: str | None
    agent: str
    error: str | None
    cause: str | None
    failures: int
    crashes: int
    submitted_at: datetime
    ended_at: datetime | None
    _result: str | None = field(default=None, repr=False)
    _type: Any = field(default=Any, repr=False)

    @property
    def ended(self) -> bool:
        """Whether it has its one outcome: done, failed, cancelled or unknown."""
        return self.state in ENDED

    @property
    def result(self) -> R_co:
        """What the handler returned. Errors: TaskFailed, TaskCancelled, TaskUnknown, TaskNotDone."""
        if self.state == "done":
            value: R_co = from_json(self._result or "null", self._type)
            return value
        if self.state not in ENDED:
            raise TaskNotDone(f"{self.id} ({self.kind}) is {self.state}", hint=f'Wait for it: lw.wait("{self.id}").')
        kind, hint = {
            "failed": (
                TaskFailed,
                f"longwatch show {self.id} tells the story; longwatch task retry {self.id} runs it again.",
            ),
            "cancelled": (TaskCancelled, f"longwatch task retry {self.id} runs it after all."),
            "unknown": (TaskUnknown, f"Find out, then: longwatch task resolve {self.id} done|failed|cancelled."),
        }[self.state]
        raise kind(f"{self.id} ({self.kind}) is {self.state}: {self.error or ''}", task=self.id, hint=hint)


def view(stored: Stored, result_type: Any = Any) -> Task[Any]:
    return Task(
        id=stored.id,
        kind=stored.kind,
        state=stored.state,
        args=from_json(stored.args),
        key=stored.key,
        batch=stored.batch,
        agent=stored.agent,
        error=stored.error,
        cause=stored.cause,
        failures=stored.failures,
        crashes=stored.crashes,
        submitted_at=instant(stored.submitted_ms),
        ended_at=None if stored.ended_ms is None else instant(stored.ended_ms),
        _result=stored.result,
        _type=result_type,
    )


class Batch(Sequence[Task[R_co]]):
    """Tasks submitted together, in the order given. `.counts` by state, as last read; `wait()` reads until all ended."""

    def __init__(
        self,
        id: str,
        name: str,
        tasks: Sequence[Task[R_co]],
        *,
        fresh: int,
        reread: "Callable[[float | None], Batch[R_co]]",
    ) -> None:
        self.id, self.name, self.fresh = id, name, fresh
        self._tasks, self._reread = tuple(tasks), reread

    @property
    def counts(self) -> dict[str, int]:
        states = [task.state for task in self._tasks]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    def wait(self, timeout: float | None = None) -> "Batch[R_co]":
        """The batch once every task has ended. timeout: seconds. Errors: WaitTimeout."""
        return self._reread(timeout)

    @overload
    def __getitem__(self, place: int) -> Task[R_co]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Task[R_co]]: ...
    def __getitem__(self, place: int | slice) -> Task[R_co] | Sequence[Task[R_co]]:
        return self._tasks[place]

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task[R_co]]:
        return iter(self._tasks)

    def __repr__(self) -> str:
        return f"Batch({self.name!r}, {self.counts})"


@dataclass(frozen=True)
class Report:
    """What `work` did: how many of the tasks it ran are done, failed, cancelled, unknown, or will be tried again."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    unknown: int = 0
    retrying: int = 0


def report_of(tally: dict[str, int]) -> Report:
    ended = {state: tally.get(state, 0) for state in ("done", "failed", "cancelled", "unknown")}
    return Report(**ended, retrying=sum(tally.values()) - sum(ended.values()))


def instant(milliseconds: int) -> datetime:
    """An aware datetime in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
