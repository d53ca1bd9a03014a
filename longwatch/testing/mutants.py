"""Faults planted on purpose, one at a time, in the code under test: a simulation that does not find them proves nothing.

    with MUTANTS["the fence is not checked"]():
        assert simulate(days=3, seed=1, faults="all").broken

Each is a context manager that takes itself out again. What only a comparison with the model can see (a renewal that
comes too late, an end that is refused when it is told twice) is planted in mutants_store.py, for the conformance suite.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Any, cast

from longwatch.admission import ledger, limiter
from longwatch.db import statements
from longwatch.policy import admission, budget, meter, window
from longwatch.policy.admission import Ask, Slot
from longwatch.policy.budget import Standing, Verdict
from longwatch.policy.limits import Rate
from longwatch.runtime.call import Call
from longwatch.runtime.commit import Committer
from longwatch.runtime.run import RunCore
from longwatch.store import edits, runs, tasks
from longwatch.store.edits import EditStore
from longwatch.store.steps import Steps

Plant = Callable[[], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def replaced(where: object, name: str, planted: object) -> Generator[None]:
    """`where.name` is something else for a while."""
    original = getattr(where, name)
    setattr(where, name, planted)
    try:
        yield
    finally:
        setattr(where, name, original)


@contextlib.contextmanager
def reworded(statement: str, old: str, new: str) -> Generator[None]:
    """The named statement reads differently for a while. Errors: ValueError when `old` is not in it any more."""
    texts = statements.load("sqlite")
    original = texts[statement]
    if old not in original:
        raise ValueError(f"{statement} has no {old!r}: the mutant has to follow the code")
    texts[statement] = original.replace(old, new)
    try:
        yield
    finally:
        texts[statement] = original


@contextlib.contextmanager
def together(*plants: contextlib.AbstractContextManager[None]) -> Generator[None]:
    with contextlib.ExitStack() as stack:
        for plant in plants:
            stack.enter_context(plant)
        yield


def answering(value: object) -> Callable[..., Any]:
    """A function that does nothing and always answers this."""

    def answer(*_: object, **__: object) -> object:
        return value

    return answer


def no_fence() -> contextlib.AbstractContextManager[None]:
    return together(
        reworded("tasks.held", "and fence = :fence", ""), reworded("tasks.finish", "and fence = :fence", "")
    )


def cap_off_by_one() -> contextlib.AbstractContextManager[None]:
    def decide(standing: Standing, need: int) -> Verdict:
        cap = standing.cap
        return real(standing._replace(cap=type(cap)(cap.amount + 1, cap.window)), need)

    real = budget.decide
    return replaced(budget, "decide", decide)


def holds_for_ever() -> contextlib.AbstractContextManager[None]:
    return together(
        replaced(limiter.Limiter, "_expire", answering(0)),  # also of those that an admission finds in its way
        replaced(limiter.Limiter, "bury", answering(0)),
    )


def dependants_not_told() -> contextlib.AbstractContextManager[None]:
    return together(
        replaced(runs, "tell_dependants", answering(0)),
        replaced(tasks, "tell_dependants", answering(0)),
    )


def one_need_is_enough() -> contextlib.AbstractContextManager[None]:
    return reworded("tasks.open_need", "where", "where 0 and")


def burst_without_headroom() -> contextlib.AbstractContextManager[None]:
    def usable(rate: Rate) -> int:
        return rate.burst + 1

    return replaced(meter, "usable_burst", usable)


def slots_of_their_own() -> contextlib.AbstractContextManager[None]:
    def reserved(ask: Ask, slot_us: int) -> Slot:
        after = {
            name: meter.reserve(
                found, rate, weight=weight, slot_us=meter.earliest_us(found, rate, weight=weight, now_us=ask.now_us)
            )
            for name, rate, found, weight in ask.metered
            if weight
        }
        return Slot(slot_us, after)

    return replaced(admission, "_reserved", reserved)


def slot_not_waited_for() -> contextlib.AbstractContextManager[None]:
    def until_slot(self: Any) -> object:
        self._left_ms = self._calls.world.steady_ms()
        return self._admitted

    return replaced(Call, "_until_slot", until_slot)


def key_ignored() -> contextlib.AbstractContextManager[None]:
    return reworded("tasks.insert", ":key", "null")


def not_rolled_forward() -> contextlib.AbstractContextManager[None]:
    return replaced(Committer, "roll_forward", answering(0))


def step_apart_from_its_edit() -> contextlib.AbstractContextManager[None]:
    def commit(self: EditStore, edit: str, items: Any, *, also: Any, **rest: Any) -> None:
        real(self, edit, items, also=answering(None), **rest)
        with self.database.transaction() as tx:
            also(tx)

    real = cast("Callable[..., None]", EditStore.commit)
    return replaced(EditStore, "commit", commit)


def fence_in_the_key() -> contextlib.AbstractContextManager[None]:
    def call(self: RunCore, service: str, *, key: str | None = None, **rest: Any) -> Any:
        made = real(self, service, key=key, **rest)
        made.key = f"{made.key}:{self.claimed.fence}"
        return made

    real = cast("Callable[..., Any]", RunCore.call)
    return replaced(RunCore, "call", call)


def once_repeated() -> contextlib.AbstractContextManager[None]:
    return together(
        reworded("tasks.open_once", "where", "where 0 and"),
        replaced(Steps, "begin", answering(True)),
    )


def lost_calls_cost_nothing() -> contextlib.AbstractContextManager[None]:
    return replaced(ledger, "hold_of", answering(ledger.NOTHING))


def one_place_too_many() -> contextlib.AbstractContextManager[None]:
    def held(ask: Ask) -> Any:
        places = ask.places
        return real(ask if places is None else ask._replace(places=places._replace(most=places.most + 1)))

    real = cast("Callable[[Ask], Any]", getattr(admission, "_held"))  # noqa: B009
    return replaced(admission, "_held", held)


def steps_forgotten() -> contextlib.AbstractContextManager[None]:
    return replaced(Steps, "find", answering(None))


def wall_clock_believed() -> contextlib.AbstractContextManager[None]:
    return replaced(window, "parted", answering(False))


def edit_without_its_fence() -> contextlib.AbstractContextManager[None]:
    return together(
        replaced(edits, "check", answering(None)),
        reworded("tasks.store_step", "and fence = :fence and state = 'running' and until_ms > :now_ms", ""),
    )


MUTANTS: dict[str, Plant] = {
    "the fence is not checked": no_fence,
    "a cap is off by one": cap_off_by_one,
    "holds never expire": holds_for_ever,
    "dependants are not told": dependants_not_told,
    "one need is enough": one_need_is_enough,
    "a burst has no headroom": burst_without_headroom,
    "meters advance at slots of their own": slots_of_their_own,
    "the slot is not waited for": slot_not_waited_for,
    "a key is ignored": key_ignored,
    "a commit is not rolled forward": not_rolled_forward,
    "a step is stored apart from its edit": step_apart_from_its_edit,
    "the fence is in the idempotency key": fence_in_the_key,
    "a once is repeated": once_repeated,
    "lost calls cost nothing": lost_calls_cost_nothing,
    "one place too many": one_place_too_many,
    "steps are forgotten": steps_forgotten,
    "the wall clock is believed": wall_clock_believed,
    "an edit commits without its fence": edit_without_its_fence,
}
