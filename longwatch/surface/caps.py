"""Caps of single tasks as a program reads and moves them, with what is spent and held of each."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from longwatch.errors import ConfigError
from longwatch.policy.budget import Standing
from longwatch.policy.money import Money
from longwatch.policy.own_caps import EXAMPLE, own_amounts, own_caps
from longwatch.runtime.parts import Parts
from longwatch.surface.handles import Task
from longwatch.surface.memory import refuse_in_a_run
from longwatch.surface.person import person
from longwatch.surface.pieces import Pieces

A = TypeVar("A", int, Money)


@dataclass(frozen=True)
class OwnCap(Generic[A]):
    """One cap of a task over all its runs, as it stood when it was read: Money, or a number of calls or of tokens.

    held: by `open_calls` calls that have not ended. left: what another call may hold; nothing, where the cap was moved below
    what is spent.
    """

    cap: A
    spent: A
    held: A
    left: A
    open_calls: int


@dataclass(frozen=True)
class Caps:
    """What a task may cost over its whole life, in the fleet's currency. None: it was submitted without a cap on that."""

    money: OwnCap[Money] | None = None
    calls: OwnCap[int] | None = None
    tokens: OwnCap[int] | None = None


class Capped(Pieces):
    """The part of a fleet handle that tells of single tasks' caps."""

    def caps(self, task: Task[Any] | str) -> Caps:
        """The caps of a task of its own, with what all its calls have spent and hold. Errors: NotFound; StoreUnavailable."""
        return read_caps(self._parts, _id(task))

    def set_caps(
        self,
        task: Task[Any] | str,
        *,
        money: str | Money | None = None,
        calls: int | None = None,
        tokens: int | None = None,
    ) -> Caps:
        """Other caps of the task from now on, for good; all that are named, or none. How they stand then.

        money: "3 GBP", or of a currency that the fleet has a rate for, rounded down. calls, tokens: how many. It counts at
        once, also for a task that runs; one that has ended needs `retry` to go on. A cap below what is spent refuses every
        further call, and nothing that was spent is taken back; 0 allows nothing that costs. The journal has who did it
        (`task.capped`).
        Errors: Refused inside an agent's run; NotFound; ConfigError for what the task was submitted without a cap on, and for
        amounts that cannot be meant; StoreUnavailable: do it again.
        """
        refuse_in_a_run(self._run(), "caps of tasks are moved", ask="longwatch budget set --help")
        move_caps(self._parts, _id(task), agent=self._agent, money=money, calls=calls, tokens=tokens)
        return read_caps(self._parts, _id(task))


def read_caps(parts: Parts, task: str) -> Caps:
    """Errors: NotFound."""
    parts.tasks.get(task)
    limiter = parts.calls.limiter
    found = {each.dimension: each for each in limiter.task_caps.all(task)}
    money, calls, tokens = (found.get(name) for name in ("money", "calls", "tokens"))
    return Caps(
        money=None if money is None else _of_money(money, limiter.limits.currency),
        calls=None if calls is None else _of_counts(calls),
        tokens=None if tokens is None else _of_counts(tokens),
    )


def move_caps(
    parts: Parts, task: str, *, agent: str, money: str | Money | None, calls: int | None, tokens: int | None
) -> tuple[dict[str, int], dict[str, int]]:
    """What the caps were before, and what the named ones are now, by dimension. Errors: as `set_caps`."""
    given = own_caps(money=money, calls=calls, tokens=tokens)
    if not given:
        raise ConfigError("no cap is named", hint=f"Name what to move: {EXAMPLE}.")
    parts.tasks.get(task)
    limiter = parts.calls.limiter
    amounts = dict(own_amounts({}, given, limiter.limits))
    return limiter.task_caps.move(task, amounts, by=person(), agent=agent), amounts


def _of_money(found: Standing, currency: str) -> OwnCap[Money]:
    cap, spent, held, left = (Money(micros, currency) for micros in _amounts(found))
    return OwnCap(cap, spent, held, left, found.places)


def _of_counts(found: Standing) -> OwnCap[int]:
    return OwnCap(*_amounts(found), found.places)


def _amounts(found: Standing) -> tuple[int, int, int, int]:
    """The cap, what is spent and held of it, and what is left."""
    cap = found.cap.amount
    return cap, found.spent, found.held, max(0, cap - found.spent - found.held)


def _id(task: Task[Any] | str) -> str:
    return task if isinstance(task, str) else task.id
