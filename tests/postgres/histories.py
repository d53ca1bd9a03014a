"""Histories of several connections at once: what each asked and was told, and whether some order of it all explains it.

Every client plays a program of its own, made from the seed, against the same state. The model then looks for an order of all
acts that keeps the order in which they really followed each other, and in which it would have given the same answers.

Two liberties of a claim, which looks first and takes then: it passes over what another one is about to take, and may not have
taken yet when others look; and it may not see what became ready after it had looked.
"""

import contextlib
import itertools
import random
import threading
from collections.abc import Callable, Generator
from copy import copy
from dataclasses import dataclass, field
from typing import cast

import msgspec

from longwatch.db.connection import Database
from longwatch.errors import LongwatchError
from longwatch.policy.redact import Redactor
from longwatch.policy.task import Failed, Finished, HandedBack, LastStep, Outcome
from longwatch.runtime.persist import persist
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask, Run
from longwatch.store.runs import Runs
from longwatch.store.steps import Steps
from longwatch.store.tasks import Tasks
from longwatch.testing.invariants import tasks_of
from longwatch.testing.model import ledger
from longwatch.testing.model.state import Ledger
from longwatch.testing.play import START_MS, plain

CLIENTS, ACTS = 4, 5
LEASE_MS = 60_000
FIRST = ("a", "b", "c", "d", "e")  # tasks that are there before; d needs a and b, e needs a and c
WITH_STEP = Finished("1", LastStep("s", "1"))
ENDS: tuple[Outcome, ...] = (Finished("1"), WITH_STEP, Finished("1"), Failed("no", final=True), HandedBack())


@dataclass(frozen=True)
class Side:
    """The stores over one connection, or the model."""

    tasks: Tasks | ledger.Tasks
    runs: Runs | ledger.Runs
    steps: Steps | ledger.Steps


Held = dict[str, Run]
"""By its id, the run that each side gave out under it."""

Readied = dict[str, int]
"""For each task that became ready, the tick at which the act that made it so had ended; in the order of the acts."""

Act = Callable[[Side, Held], object]


@dataclass(frozen=True)
class Event:
    """One act of one client: begun and ended as ticks of one counter; answer: as the engine gave it."""

    client: int
    said: str
    act: Act
    begun: int
    ended: int
    answer: object


@dataclass
class Client:
    """Plays its program on its own connection."""

    number: int
    side: Side
    random: random.Random
    ticks: "itertools.count[int]"
    events: list[Event] = field(default_factory=list[Event])
    held: Held = field(default_factory=dict[str, Run])
    current: str = ""
    made: int = 0

    def play(self) -> None:
        for _ in range(ACTS):
            said, act = self._next()
            begun = next(self.ticks)
            answer = answered(act, self.side, self.held, again=True)
            self.events.append(Event(self.number, said, act, begun, next(self.ticks), answer))

    def _next(self) -> tuple[str, Act]:
        self.made += 1
        name = f"{self.number}{self.made}"
        if self.current in self.held and self.random.random() < 0.7:
            return self._work(self.current)
        choice = self.random.choice(("claim", "claim", "claim", "submit", "need", "cancel", "retry"))
        task = self.random.choice(FIRST)
        if choice == "claim":
            self.current = f"run{name}"
            return f"claim {self.current}", claim(f"owner{self.number}", self.current, self.random.choice((1, 2)))
        if choice == "submit":
            return f"submit {name}", submit(new_task(name, key=self.random.choice((None, "k1", "k2"))))
        if choice == "need":
            return f"submit {name} after {task}", submit(new_task(name, after=(task,)))
        if choice == "cancel":
            return f"cancel {task}", lambda side, held: side.tasks.cancel(task)
        return f"retry {task}", lambda side, held: side.tasks.retry(task)

    def _work(self, run: str) -> tuple[str, Act]:
        if self.random.random() < 0.3:
            return f"store {run}", lambda side, held: side.steps.store(held[run], "s", "1")
        outcome = self.random.choice(ENDS)
        self.current = ""
        return f"{outcome} {run}", lambda side, held: side.runs.conclude(held[run], outcome)


def claim(owner: str, run: str, limit: int) -> Act:
    def act(side: Side, held: Held) -> object:
        runs = side.runs.claim(owner, kinds=["pay"], limit=limit, lease_ms=LEASE_MS, start=run)
        held.update({found.id: found for found in runs if found.id})
        return runs

    return act


def submit(*items: NewTask) -> Act:
    return lambda side, held: side.tasks.submit(items)


def new_task(name: str, *, key: str | None = None, after: tuple[str, ...] = ()) -> NewTask:
    return NewTask(id=name, kind="pay", args="{}", agent="main", key=key, after=after)


def answered(act: Act, side: Side, held: Held, *, again: bool = False) -> object:
    """As both sides can be compared. again: as the runtime does, when the engine says that it undid the act."""
    try:
        return plain(persist(lambda: act(side, held)) if again else act(side, held), START_MS)
    except LongwatchError as error:
        return type(error).__name__
    except KeyError as error:
        return f"no {error}"  # the model has not given out the run that the engine had


# -- playing ---------------------------------------------------------------------------------------------------------------


def first_tasks(side: Side) -> None:
    for name in FIRST[:3]:
        side.tasks.submit([new_task(name)])
    side.tasks.submit([new_task("d", after=("a", "b"))])
    side.tasks.submit([new_task("e", after=("a", "c"))])


def on_engine(database: Database) -> Side:
    kept = (database, Journal(database, Redactor(b"key")))
    return Side(Tasks(*kept), Runs(*kept), Steps(*kept))


def on_model(state: Ledger) -> Side:
    return Side(ledger.Tasks(state), ledger.Runs(state), ledger.Steps(state))


def play(databases: list[Database], seed: int) -> list[Event]:
    """One program for each database, all at once. Errors: whatever a client could not make sense of."""
    ticks = itertools.count()
    clients = [
        Client(number, on_engine(database), random.Random(seed * 100 + number), ticks)
        for number, database in enumerate(databases)
    ]
    failed: list[BaseException] = []
    start = threading.Barrier(len(clients))

    def run(client: Client) -> None:
        try:
            start.wait(10)
            client.play()
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if failed:
        raise failed[0]
    return [event for client in clients for event in client.events]


def state_of(database: Database) -> dict[str, object]:
    with database.read() as tx:
        return {name: plain(task, START_MS) for name, task in tasks_of(tx).items()}


# -- explaining --------------------------------------------------------------------------------------------------------------


@dataclass
class Search:
    """Looks for an order of the events that the model would answer, and that ends in this state."""

    ends_as: dict[str, object]
    events: list[Event]
    tries: int = 0
    longest: list[Event] = field(default_factory=list[Event])
    seen: set[tuple[frozenset[int], str, str]] = field(default_factory=set[tuple[frozenset[int], str, str]])

    def explain(
        self, left: list[Event], state: Ledger, held: Held, order: list[Event], readied: Readied
    ) -> list[Event] | None:
        if len(order) > len(self.longest):
            self.longest = order
        if not left:
            ends = {name: plain(task, START_MS) for name, task in state.tasks.items()}
            return order if ends == self.ends_as else None
        been = frozenset(event.begun for event in left), str(vars(state)), str(readied)
        if been in self.seen:
            return None  # another order of the same acts has led here, and nowhere
        self.seen.add(been)
        first_end = min(event.ended for event in left)
        for event in left:
            if event.begun > first_end:
                continue  # another one had ended before it began
            rest = [other for other in left if other is not event]
            for passed_over in self._passed_over(event, readied):
                self.tries += 1
                after, after_held = copied(state), dict(held)
                with hidden(after, passed_over):
                    answer = answered(event.act, on_model(after), after_held)
                if answer != event.answer:
                    continue
                fresh = dict.fromkeys(sorted(ready(after) - ready(state)), event.ended)
                since = {name: ended for name, ended in readied.items() if name not in fresh} | fresh
                found = self.explain(rest, after, after_held, [*order, event], since)
                if found is not None:
                    return found
        return None

    def _passed_over(self, event: Event, readied: Readied) -> list[frozenset[str]]:
        """Nothing; for a claim also what claims at the same time took, and what became ready after it had looked."""
        if not event.said.startswith("claim"):
            return [frozenset()]
        beside = [other for other in self.events if other.begun < event.ended and event.begun < other.ended]
        taken = frozenset(name for other in beside if other is not event for name in claimed(other))
        lately = [
            name for name, ended in readied.items() if ended > event.begun
        ]  # in the order in which they became ready
        unseen = [frozenset(lately[first:]) for first in range(len(lately) + 1)]
        return list(dict.fromkeys(hidden | more for more in reversed(unseen) for hidden in (frozenset[str](), taken)))


def ready(state: Ledger) -> set[str]:
    return {name for name, task in state.tasks.items() if task.state in ("scheduled", "ready")}


def claimed(event: Event) -> set[str]:
    """The tasks that a claim gave out, as `plain` shows runs."""
    if not event.said.startswith("claim") or isinstance(event.answer, str):
        return set()
    runs = cast("list[tuple[object, ...]]", event.answer)
    return {str(run[1]) for run in runs}


@contextlib.contextmanager
def hidden(state: Ledger, names: frozenset[str]) -> Generator[None]:
    """Keep these tasks from being claimed."""
    before = {name: state.tasks[name] for name in names & state.tasks.keys()}
    state.tasks.update({name: msgspec.structs.replace(task, kind="passed over") for name, task in before.items()})
    yield
    state.tasks.update(before)


def copied(state: Ledger) -> Ledger:
    """Dictionaries of frozen values: copying them is enough."""
    made = Ledger(state.now_ms)
    vars(made).update({name: copy(value) for name, value in vars(state).items()})
    return made


def explained(events: list[Event], ends_as: dict[str, object]) -> list[Event] | None:
    return search_of(events, ends_as)[0]


def search_of(events: list[Event], ends_as: dict[str, object]) -> tuple[list[Event] | None, Search]:
    state = Ledger(lambda: START_MS)
    first_tasks(on_model(state))
    search = Search(ends_as, events)
    return search.explain(sorted(events, key=lambda event: event.begun), state, {}, [], {}), search


def told(events: list[Event]) -> str:
    ordered = sorted(events, key=lambda event: event.begun)
    return "\n".join(f"{e.begun:3}-{e.ended:3} client {e.client}: {e.said} -> {e.answer}" for e in ordered)
