"""What programs of a few dozen acts do not reach: many tasks, deep chains, wide needs, several processes."""

import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from stores import LEASE_MS, Stores, new_task, opened, started

from longwatch.policy.task import Failed, Finished
from longwatch.store import fleet

MANY, DEEP, WIDE = 10_000, 2_000, 1_000


@pytest.fixture
def stores(tmp_path: Path) -> Generator[Stores]:
    found = opened(tmp_path / "state.db")
    yield found
    found.database.close()


def run_one(stores: Stores, outcome: Finished | Failed) -> None:
    (run,) = stores.runs.claim("ann", kinds=["pay"], limit=1, lease_ms=LEASE_MS, start=f"run_{time.monotonic_ns()}")
    stores.runs.conclude(run, outcome)


def test_ten_thousand_tasks_are_one_batch_all_or_none_and_only_once(stores: Stores) -> None:
    items = [new_task(f"task_{n}", args=f'{{"n":{n}}}') for n in range(MANY)]
    first = stores.tasks.submit(items, batch=("batch_1", "june", "digest"))
    again = stores.tasks.submit(items, batch=("batch_2", "june", "digest"))
    assert (first.fresh, again.fresh) == (MANY, 0)
    assert [task.id for task in stores.tasks.of_batch("batch_1")] == [item.id for item in items]
    assert stores.states() == {"ready": MANY}


def test_a_chain_two_thousand_deep_fails_in_one_transaction_and_names_its_root(stores: Stores) -> None:
    items = [new_task("task_0")]
    items += [new_task(f"task_{n}", after=(f"task_{n - 1}",)) for n in range(1, DEEP)]
    stores.tasks.submit(items)
    run_one(stores, Failed("the bank said no", final=True))
    assert stores.states() == {"failed": 1, "cancelled": DEEP - 1}
    last = stores.tasks.get(f"task_{DEEP - 1}")
    assert last.cause == "task_0"
    assert last.error is not None
    assert "root cause task_0 (pay): the bank said no" in last.error
    entries = [entry for entry in stores.journal.latest(limit=DEEP) if entry.kind == "task.cancelled"]
    assert len({entry.at_ms for entry in entries}) == 1, "told in more than one transaction"


def test_a_chain_two_thousand_deep_is_revived_by_one_retry(stores: Stores) -> None:
    stores.tasks.submit(
        [new_task("task_0"), *(new_task(f"task_{n}", after=(f"task_{n - 1}",)) for n in range(1, DEEP))]
    )
    run_one(stores, Failed("once", final=True))
    stores.tasks.retry("task_0")
    assert stores.states() == {"scheduled": 1, "waiting": DEEP - 1}


def test_a_task_that_needs_a_thousand_starts_after_the_last_of_them(stores: Stores) -> None:
    needs = tuple(f"task_{n}" for n in range(WIDE))
    stores.tasks.submit([*(new_task(need) for need in needs), new_task("task_last", after=needs)])
    runs = stores.runs.claim("ann", kinds=["pay"], limit=WIDE, lease_ms=LEASE_MS, start="run_0")
    for number in range(WIDE):
        assert stores.tasks.get("task_last").state == "waiting"
        then = (runs[number + 1], f"run_{number + 1}") if number + 1 < WIDE else None
        ended = stores.runs.conclude(runs[number], Finished("1"), then=then, lease_ms=LEASE_MS)
        if ended.started is not None:
            runs[number + 1] = ended.started
    assert stores.tasks.get("task_last").state == "scheduled"


def test_a_thousand_that_need_one_all_start_after_it(stores: Stores) -> None:
    stores.tasks.submit([new_task("task_0"), *(new_task(f"leaf_{n}", after=("task_0",)) for n in range(WIDE))])
    (run,) = stores.runs.claim("ann", kinds=["pay"], limit=9, lease_ms=LEASE_MS, start="run_1")
    assert stores.runs.conclude(run, Finished("1")).runnable == WIDE


def test_processes_that_claim_at_once_never_get_the_same_task(tmp_path: Path) -> None:
    stores = opened(tmp_path / "state.db")
    stores.tasks.submit([new_task(f"task_{n}") for n in range(300)])
    processes = [started("drain", tmp_path / "state.db", owner) for owner in ("ann", "bob", "cid")]
    lines = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    ran = Counter(task for one in lines for task in one)
    assert ran == Counter(f"task_{n}" for n in range(300))
    assert stores.states() == {"done": 300}
    stores.database.close()


def test_to_enter_a_fleet_takes_as_many_steps_however_much_it_has_done(stores: Stores) -> None:
    def steps() -> int:
        """Of SQLite's machine, in hundreds."""
        counted = 0

        def count() -> bool:
            nonlocal counted
            counted += 1
            return False

        stores.database.connection.set_progress_handler(count, 100)
        fleet.enter(stores.database, stores.database.clock, name="shop", redaction_key="00")
        stores.database.connection.set_progress_handler(None)
        return counted

    before = steps()
    stores.tasks.submit([new_task(f"task_{n}") for n in range(MANY)])
    assert steps() <= before + 1
