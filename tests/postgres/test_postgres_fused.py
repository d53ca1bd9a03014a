"""Several statements said as one do what they would do one after the other, and are undone together."""

import psycopg
import pytest

from longwatch.db.connection import Transaction
from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase, dialect, fused
from longwatch.db.postgres.fused import ROWS_MOST, Queued
from longwatch.runtime.world import Machine
from longwatch.testing.postgres import Server

ENTRY = {"kind": "task.done", "agent": "main", "task": "task_1", "data": "{}"}


def entry(subject: object) -> Queued:
    return Queued("journal.append", ENTRY | {"subject": str(subject)})


def ends(fence: int) -> Queued:
    return Queued("tasks.end_run", {"fence": fence, "outcome": "finished", "error": None})


def starts(fence: int) -> Queued:
    return Queued("tasks.start", {"seq": 1, "fence": fence, "lease_ms": 1_000}, hoped=True)


def test_one_that_stands_alone_is_said_as_it_is() -> None:
    (said,) = fused.requests([ends(3)])
    assert said.sql == dialect.load(reading=False)["tasks.end_run"].sql
    assert list(said.values) == ["finished", None, 3]


def test_what_is_kept_apart_is_said_in_its_order() -> None:
    meets = Queued("tasks.meet", {"task": "task_1", "needs": "task_2"})
    said = fused.requests([entry(1), meets, entry(2), ends(1), ends(2), starts(2)])
    assert [request.sql.count(b"update run") for request in said] == [0, 0, 1, 1]
    assert b"update need" in said[1].sql
    assert b"update task" in said[3].sql


def test_many_rows_of_the_journal_are_one_insert_of_a_bounded_size() -> None:
    said = fused.requests([entry(number) for number in range(ROWS_MOST + 2)])
    assert [request.sql.count(b"insert into record") for request in said] == [1, 1]
    assert [len(request.values) for request in said] == [5 * ROWS_MOST, 10]


@pytest.fixture
def database(server: Server) -> PostgresDatabase:
    opened = PostgresDatabase(server.new_database(), Machine())
    migrate(opened)
    return opened


def test_entries_of_one_transaction_keep_their_order(server: Server, database: PostgresDatabase) -> None:
    with database.transaction() as tx:
        for queued in (entry("first"), ends(1), entry("second"), entry("third")):
            tx.count(queued.name, **queued.values)
    with psycopg.connect(database.place, autocommit=True) as connection:
        rows = connection.execute("select subject from record order by seq").fetchall()
    assert rows == [("first",), ("second",), ("third",)]
    database.close()


def test_what_was_hoped_in_vain_undoes_all_of_it(database: PostgresDatabase) -> None:
    asked: list[int] = []

    def work(tx: Transaction) -> int:
        tx.count("journal.append", **ENTRY, subject="told")
        asked.append(tx.count("tasks.start", seq=1, fence=1, lease_ms=1_000))
        if not asked[-1]:
            raise KeyError("told, and nothing started")
        return asked[-1]

    with pytest.raises(KeyError):
        database.hopefully(work)
    assert asked == [1, 0], "taken for granted, and then asked"
    with database.read() as tx:
        assert tx.all("journal.list", after=0, limit=9, kind=None, agent=None, since_ms=None) == []
    database.close()
