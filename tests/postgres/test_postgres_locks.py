"""Whom a transaction keeps out, and that nobody ever waits in a circle."""

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from longwatch.db.connection import Part
from longwatch.db.postgres import PostgresDatabase
from longwatch.policy.redact import Redactor
from longwatch.policy.task import Finished
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask, Run
from longwatch.store.runs import Runs
from longwatch.store.steps import Steps
from longwatch.store.tasks import Tasks
from longwatch.testing.invariants import Watch
from longwatch.testing.postgres import Server

LEASE_MS = 60_000
WORKERS, ROOTS = 6, 90


class Stores:
    """The stores of one process."""

    def __init__(self, url: str) -> None:
        self.database = PostgresDatabase(url, Machine())
        fleet.enter(self.database, self.database.clock, name="shop", redaction_key="key")
        kept = (self.database, Journal(self.database, Redactor(b"key")))
        self.journal, self.tasks, self.runs, self.steps = kept[1], Tasks(*kept), Runs(*kept), Steps(*kept)

    def start(self, name: str) -> Run:
        (run,) = self.runs.claim(f"owner {name}", kinds=["pay"], limit=1, lease_ms=LEASE_MS, start=f"run {name}")
        return run


def new_task(name: str, *, after: tuple[str, ...] = ()) -> NewTask:
    return NewTask(id=name, kind="pay", args="{}", agent="main", after=after)


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_last_two_needs_met_at_once_start_what_needs_them(url: str) -> None:
    one, other = Stores(url), Stores(url)
    one.tasks.submit([new_task("a"), new_task("b"), new_task("c", after=("a", "b"))])
    first, second = one.start("one"), other.start("other")
    with one.database.transaction(part="tasks") as tx:
        one.runs._conclude(tx, first, Finished("1"))
        waits = beside(lambda: other.runs.conclude(second, Finished("1")))
        waits.join(0.3)
        assert waits.is_alive(), "the second one must see the first one's need met"
    waits.join(10)
    assert one.tasks.get("c").state in ("scheduled", "ready")
    one.database.close()
    other.database.close()


def test_workers_claim_and_step_and_end_beside_each_other(url: str) -> None:
    one, other = Stores(url), Stores(url)
    one.tasks.submit([new_task("a"), new_task("b")])
    first = one.start("one")
    with one.database.transaction(part="tasks") as tx:
        one.journal.append(tx, "note.held", "a", task="a")
        second = other.start("other")
        other.steps.store(second, "s", "1")
        other.runs.conclude(second, Finished("1"))
        assert other.tasks.get("b").state == "done"
        one.runs._conclude(tx, first, Finished("1"))
    assert other.tasks.get("a").state == "done"
    one.database.close()
    other.database.close()


@pytest.mark.parametrize("part", ["tasks", "calls"])
def test_who_is_alone_waits_for_all_and_keeps_all_out(url: str, part: str) -> None:
    one, other = Stores(url), Stores(url)
    order: list[str] = []

    def alone() -> None:
        with other.database.transaction() as tx:
            assert tx.now_ms
            order.append("alone")

    with one.database.transaction(part="tasks" if part == "tasks" else "calls") as tx:
        assert tx.now_ms  # it begins with what it first asks
        waits = beside(alone)
        waits.join(0.3)
        order.append("shared")
    waits.join(10)
    assert order == ["shared", "alone"]
    one.database.close()
    other.database.close()


@pytest.mark.parametrize(
    ("held", "asked", "waits"),
    [
        ("slots", "ends", False),
        ("ends", "slots", False),
        ("slots", "slots", True),
        ("ends", "ends", True),
        ("calls", "slots", True),
        ("calls", "ends", True),
        ("slots", "calls", True),
        ("ends", "calls", True),
        ("tasks", "ends", False),
    ],
)
def test_a_call_ends_while_another_one_is_given_its_slot(url: str, held: Part, asked: Part, waits: bool) -> None:
    one, other = Stores(url), Stores(url)

    def begin() -> None:
        with other.database.transaction(part=asked) as tx:
            assert tx.now_ms

    with one.database.transaction(part=held) as tx:
        assert tx.now_ms
        asking = beside(begin)
        asking.join(0.3 if waits else 10)
        assert asking.is_alive() is waits
    asking.join(10)
    one.database.close()
    other.database.close()


def test_the_instant_is_read_after_the_lock_was_waited_for(url: str) -> None:
    one, other = Stores(url), Stores(url)
    seen: list[int] = []

    def later() -> None:
        with other.database.transaction() as tx:
            seen.append(tx.now_ms)

    with one.database.transaction() as tx:
        held_ms = tx.now_ms
        waits = beside(later)
        time.sleep(0.4)
    waits.join(10)
    assert seen[0] - held_ms >= 390
    one.database.close()
    other.database.close()


def test_nobody_waits_in_a_circle_and_nothing_is_lost(server: Server, url: str) -> None:
    """Many tasks with the same needs, ended, claimed, handed on and submitted by six processes' worth of connections."""
    first = Stores(url)
    roots = [new_task(f"r{number}") for number in range(ROOTS)]
    fans = [
        new_task(f"f{number}", after=(f"r{number}", f"r{ROOTS - 1 - number}", f"r{number // 2}"))
        for number in range(ROOTS)
    ]
    first.tasks.submit(roots)
    first.tasks.submit(list(reversed(fans)))
    failed: list[BaseException] = []

    def work(number: int) -> None:
        mine, claims = Stores(url), 0
        try:
            while True:
                claims += 1
                owner, start = f"owner{number}", f"run{number}-{claims}"
                runs = mine.runs.claim(owner, kinds=["pay"], limit=3, lease_ms=LEASE_MS, start=start)
                if not runs and not mine.tasks.busy(["pay"], before_ms=0):
                    break
                while runs:
                    run, *runs = runs
                    mine.steps.store(run, "s", "1")
                    mine.runs.beat(owner, [run.fence, *(later.fence for later in runs)], lease_ms=LEASE_MS)
                    mine.tasks.submit([new_task(f"x{run.task.id}")] if run.task.id[0] == "r" else [])
                    then = (runs[0], f"{start}-{run.task.id}") if runs else None
                    ended = mine.runs.conclude(run, Finished("1"), then=then, lease_ms=LEASE_MS)
                    if ended.started is not None:
                        runs[0] = ended.started
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(error)
        finally:
            mine.database.close()

    threads = [beside(lambda number=number: work(number)) for number in range(WORKERS)]  # type: ignore[misc]
    for thread in threads:
        thread.join(100)
    assert failed == []
    with first.database.read() as tx:
        assert {row.state: row.tasks for row in tx.all("look.counts")} == {"done": 3 * ROOTS}
    Watch(first.database).look_closely()
    first.database.close()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        name = url.split("/")[3].split("?")[0]
        row = connection.execute("select deadlocks from pg_stat_database where datname = %s", (name,)).fetchone()
    assert row == (0,)


def test_who_follows_the_journal_misses_no_entry_that_commits_after_one_with_a_higher_number(url: str) -> None:
    stores, others = Stores(url), Stores(url)
    followed: list[list[str]] = []
    with stores.database.transaction(part="tasks") as tx:
        stores.journal.append(tx, "note.first", "first")
        assert tx.now_ms
        assert tx.all("journal.latest", limit=1, kind=None, agent=None, since_ms=None)[0].kind == "note.first"
        with others.database.transaction(part="tasks") as other:
            others.journal.append(other, "note.second", "second")
        assert [entry.kind for entry in others.journal.latest()] == ["note.second"]
        reader = threading.Thread(target=lambda: followed.append([e.kind for e in others.journal.after(0)]))
        reader.start()
        reader.join(0.3)
    reader.join(10)
    assert followed == [["note.first", "note.second"]]
    for each in (stores, others):
        each.database.close()


def test_a_migration_that_waits_in_a_circle_with_those_at_work_is_run_again(url: str) -> None:
    """Somebody who has one table wants another one, which the migration has changed already, while it waits for the first."""
    database = PostgresDatabase(url, Machine())
    fleet.enter(database, database.clock, name="shop", redaction_key="key")
    guarded: list[bool] = []
    text = "alter table run add column colour text;\nalter table task add column colour text;\n"
    with psycopg.connect(url) as worker:
        worker.execute("set deadlock_timeout = '1min'")
        worker.execute("select count(*) from task")
        migrates = beside(lambda: database.apply(9_999, text, lambda _: guarded.append(True)))
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        with psycopg.connect(url, autocommit=True) as other:
            while other.execute(waiting).fetchall() != [(1,)]:
                time.sleep(0.01)
        worker.execute("select count(*) from run")
    migrates.join(20)
    assert not migrates.is_alive()
    assert len(guarded) == 2
    with psycopg.connect(url) as other:
        assert other.execute("select count(colour) from task").fetchall() == [(0,)]
        assert other.execute("select max(number) from longwatch_schema").fetchall() == [(9_999,)]
    database.close()
