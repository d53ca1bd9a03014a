"""A transaction that is a function does what its statements would do, for whoever may make one, and for whoever may not."""

import pytest

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.postgres import PostgresLimiter
from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.policy.admission import Later
from longwatch.policy.limits import Limits, Service
from longwatch.policy.redact import Redactor
from longwatch.policy.task import Finished, LastStep
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask
from longwatch.store.runs import Runs
from longwatch.store.tasks import Tasks
from longwatch.testing.postgres import Server

LIVING = "select count(*) from pg_proc where pronamespace = pg_my_temp_schema()"


def opened(url: str) -> PostgresDatabase:
    database = PostgresDatabase(url, Machine())
    migrate(database)
    fleet.enter(database, Machine(), name="shop", redaction_key="key")
    return database


def functions(database: PostgresDatabase) -> int:
    """How many its one connection has."""
    with database.read() as tx:
        (found,) = tx.plain(LIVING)
    return int(str(found[0]))


def work(database: PostgresDatabase) -> list[str]:
    """Two tasks, one after the other; what the journal says."""
    kept = (database, Journal(database, Redactor(b"key")))
    tasks, runs = Tasks(*kept), Runs(*kept)
    tasks.submit([NewTask(id=name, kind="pay", args="{}", agent="main") for name in ("a", "b")])
    first, second = runs.claim("worker", kinds=["pay"], limit=2, lease_ms=60_000, start="run_a")
    ended = runs.conclude(first, Finished("1", LastStep("s", "1")), then=(second, "run_b"), lease_ms=60_000)
    assert ended.started is not None
    runs.conclude(ended.started, Finished("2"))
    assert [tasks.get(name).state for name in ("a", "b")] == ["done", "done"]
    return [f"{entry.kind} {entry.task}" for entry in Journal(database, Redactor(b"key")).after(0, limit=100)]


def call(database: PostgresDatabase) -> list[str]:
    """Two calls, admitted and settled, and in between one that finds no place; what the journal says of calls."""
    journal = Journal(database, Redactor(b"key"))
    limiter = PostgresLimiter(database, journal, Limits(services={"api": Service("api", concurrency=1)}))
    for name in ("call_a", "call_b"):  # the first one turns the calendar
        assert isinstance(limiter.admit(CallRequest(name, name, "api", "seo", "owner")), Admitted)
        assert isinstance(limiter.admit(CallRequest("call_c", "call_c", "api", "seo", "owner")), Later)
        limiter.settle(name, owner="owner", money=0)
    assert limiter.open_calls() == []
    return [entry.kind for entry in journal.after(0, limit=100) if entry.kind.startswith("call.")]


EXPECTED = ["step.stored a", "task.done a", "run.started b", "task.done b"]


def test_an_end_is_a_function_of_the_connection(url: str) -> None:
    database = opened(url)
    assert work(database)[-4:] == EXPECTED
    assert functions(database) == 2
    assert call(database) == ["call.admitted", "call.settled"] * 2
    assert functions(database) == 4
    database.close()


@pytest.mark.parametrize("right", ["temporary", "usage"])
def test_who_may_not_make_one_sends_statements(server: Server, url: str, right: str) -> None:
    name = url.split("/")[3].split("?")[0]
    server.execute("drop role if exists plain", "create role plain login")
    if right == "temporary":
        server.execute(f"revoke temporary on database {name} from public")
    else:
        server.execute("revoke usage on language plpgsql from public", database=name)
    server.execute(
        "grant all on schema public to plain", "grant all on all tables in schema public to plain", database=name
    )
    server.execute("alter default privileges grant all on tables to plain", database=name)
    database = opened(url.replace("postgres@", "plain@"))
    assert work(database)[-4:] == EXPECTED
    assert call(database) == ["call.admitted", "call.settled"] * 2
    assert functions(database) == 0
    database.close()
