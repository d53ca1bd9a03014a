"""Tasks that come due while several claim: whoever comes gets what nobody else takes, whatever the others are about."""

import contextlib
import threading
import time
from collections.abc import Generator

import psycopg
import pytest

from longwatch.db.connection import Row, Transaction, Value
from longwatch.db.postgres import PostgresDatabase, dialect
from longwatch.db.postgres.bells import IDLE
from longwatch.db.postgres.opening import CALLS, DUE, LINES, MEMORY, STATE
from longwatch.policy.redact import Redactor
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask
from longwatch.store.runs import Runs, _looked_up
from longwatch.store.tasks import Tasks
from longwatch.testing.play import START_MS, HandClock

LEASE_MS, PATIENCE_S = 60_000, 20
WAITING = """
select count(*) from pg_stat_activity
 where datname = current_database() and wait_event_type = 'Lock' and state = 'active'
"""


class UndoneError(Exception):
    """What a claimant leaves its transaction by when it is not to be committed."""


class Claimant:
    """One connection. What it begins to claim it takes, and commits when it is let go."""

    def __init__(self, url: str, clock: HandClock, name: str) -> None:
        self.database = PostgresDatabase(url, Machine(), clock=clock)
        fleet.enter(self.database, clock, name="shop", redaction_key="key")
        kept = (self.database, Journal(self.database, Redactor(b"key")))
        self.tasks, self.runs, self.name = Tasks(*kept), Runs(*kept), name
        self.taken: list[str] = []
        self._undone, self._took, self._leave = False, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def claim(self) -> list[str]:
        return [run.task.id for run in self.runs.claim(self.name, kinds=["pay"], limit=1, lease_ms=LEASE_MS)]

    def look(self, tx: Transaction) -> list[list[Row]]:
        """The first part of a claim."""
        return tx.several(*_looked_up(self.name, None))

    def taken_in(self, tx: Transaction, found: list[list[Row]]) -> list[str]:
        """The rest of it."""
        return [run.task.id for run in self.runs._claim(tx, found, self.name, ["pay"], 1, LEASE_MS, None)]

    def begin(self) -> "Claimant":
        self._thread.start()
        return self

    def took(self) -> list[str]:
        assert self._took.wait(PATIENCE_S), f"{self.name} waits for somebody"
        return self.taken

    def end(self, *, undone: bool = False) -> None:
        self._undone = undone
        self._leave.set()
        self._thread.join(PATIENCE_S)

    def _hold(self) -> None:
        with contextlib.suppress(UndoneError), self.database.transaction(part="tasks") as tx:
            self.taken = self.taken_in(tx, self.look(tx))
            self._took.set()
            assert self._leave.wait(PATIENCE_S)
            if self._undone:
                raise UndoneError


@pytest.fixture
def claimants(url: str) -> Generator[list[Claimant]]:
    """Four of them, before three tasks that have just come due."""
    clock = HandClock()
    made = [Claimant(url, clock, name) for name in ("first", "second", "third", "fourth")]
    made[0].tasks.submit([NewTask(name, "pay", "{}", "main", ready_ms=START_MS + 1_000) for name in "abc"])
    assert {made[0].tasks.get(name).state for name in "abc"} == {"scheduled"}
    clock.steady += 2_000
    yield made
    for each in made:
        each.end() if each._thread.ident else None
        each.database.close()


def until_waiting(url: str, many: int, *, unless: Claimant | None = None) -> None:
    """Until so many connections wait for a lock. unless: this one has not waited."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(PATIENCE_S * 100):
            waiting = connection.execute(WAITING).fetchone()
            if waiting == (many,) or (unless is not None and unless._took.is_set()):
                return
            time.sleep(0.01)
    raise AssertionError(f"{many} never waited")


def test_who_waited_for_tasks_to_come_due_keeps_none_from_a_third(url: str, claimants: list[Claimant]) -> None:
    first, second, third, _ = claimants
    assert first.begin().took() == ["a"]
    second.begin()
    until_waiting(url, 1)
    first.end()
    assert second.took() == ["b"]
    third.begin()
    until_waiting(url, 1, unless=third)  # for its fence
    second.end()
    assert third.took() == ["c"], "the second one, which takes b, kept c from the third one"
    third.end()
    assert {name: first.tasks.get(name).owner for name in "abc"} == {"a": "first", "b": "second", "c": "third"}


def test_what_was_undone_comes_due_for_who_waited(url: str, claimants: list[Claimant]) -> None:
    first, second, third, fourth = claimants
    assert first.begin().took() == ["a"]
    second.begin()
    until_waiting(url, 1)
    third.begin()
    until_waiting(url, 2)
    first.end(undone=True)
    early, late = in_turn(second, third)
    assert early.took() == ["a"]
    assert not late._took.is_set(), "one at a time turns tasks due"
    early.end()
    assert late.took() == ["b"]
    late.end()
    assert fourth.claim() == ["c"]


def test_what_comes_due_behind_the_look_is_left_to_the_next_claim(url: str, claimants: list[Claimant]) -> None:
    """Who has not waited for his turn makes nothing ready: somebody might wait for its row, and hold it then."""
    first, second, third, fourth = claimants
    assert first.claim() == ["a"]
    with second.database.transaction(part="tasks") as tx:
        found = second.look(tx)
        with first.database.transaction(part="tasks") as other:
            other.count("tasks.insert", **submitted("d", ready_ms=tx.now_ms))
        assert second.taken_in(tx, found) == ["b"]
        assert first.tasks.get("d").state == "scheduled"
    assert [third.claim(), fourth.claim()] == [["c"], ["d"]]


def test_the_lock_is_one_of_those_in_the_order() -> None:
    assert f"pg_advisory_xact_lock(place, {DUE})".encode() in dialect.load(reading=False)["tasks.due"].sql
    assert DUE not in (STATE, CALLS, LINES, MEMORY, IDLE)


def in_turn(*waiting: Claimant) -> list[Claimant]:
    """As they took something: who did so at first, and then the others."""
    for _ in range(PATIENCE_S * 100):
        if any(each._took.is_set() for each in waiting):
            return sorted(waiting, key=lambda each: not each._took.is_set())
        time.sleep(0.01)
    raise AssertionError("nobody took anything")


def submitted(name: str, *, ready_ms: int) -> dict[str, Value]:
    """A task that waits for its instant, as `tasks.insert` takes it."""
    none = dict.fromkeys(("key", "batch", "budget", "timeout_ms"))
    numbers = {"lane": 1, "retries": 0, "crash_limit": 3, "ready_ms": ready_ms}
    return none | numbers | {"id": name, "kind": "pay", "args": "{}", "state": "scheduled", "agent": "main"}
