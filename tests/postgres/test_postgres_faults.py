"""Servers that go, connections that break, processes that stand still, clocks that are set back: the outcome is known."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.db.postgres.link import Answer, Link, Lost, Request
from longwatch.errors import LeaseLost, StoreUnavailable
from longwatch.policy.redact import Redactor
from longwatch.policy.task import Failed, Finished
from longwatch.runtime.persist import persist
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask, Run
from longwatch.store.runs import Runs
from longwatch.store.tasks import Tasks
from longwatch.store.workers import Workers
from longwatch.testing.postgres import Server

LEASE_MS = 60_000
HERE = Path(__file__)


class Stores:
    """The stores of one process."""

    def __init__(self, url: str, machine: Machine | None = None) -> None:
        self.database = PostgresDatabase(url, machine or Machine())
        fleet.enter(self.database, self.database.clock, name="shop", redaction_key="key")
        kept = (self.database, Journal(self.database, Redactor(b"key")))
        self.journal, self.tasks, self.runs = kept[1], Tasks(*kept), Runs(*kept)

    def submit(self, name: str) -> None:
        self.tasks.submit([NewTask(id=name, kind="pay", args="{}", agent="main")])

    def start(self, name: str) -> Run:
        (run,) = self.runs.claim(f"owner {name}", kinds=["pay"], limit=1, lease_ms=LEASE_MS, start=f"run {name}")
        return run

    def now_ms(self) -> int:
        with self.database.read() as tx:
            return tx.now_ms


@pytest.fixture
def stores(url: str) -> Generator[Stores]:
    made = Stores(url)
    yield made
    made.database.close()


# -- commits without a reply ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def losing(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Link], None], *, before: bool = False) -> Generator[None]:
    """The next commit: its connection is spoiled when the commit has been sent, or just before; then it is lost."""
    ask, left = Link.ask, [True]

    def spoilt(link: Link, *requests: Request) -> list[Answer]:
        if requests[-1].sql != b"commit" or not left:
            return ask(link, *requests)
        left.clear()
        if before:
            spoil(link)
            return ask(link, *requests)
        ask(link, *requests)
        spoil(link)
        raise Lost("the reply was lost")

    with monkeypatch.context() as patch:
        patch.setattr(Link, "ask", spoilt)
        yield
    assert not left, "there was no commit"


def cut(link: Link) -> None:
    """The other end hangs up, as a failing network has it."""
    with psycopg.connect(f"{URLS[-1]}", autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(%s)", (link.pid,))
    time.sleep(0.1)


URLS: list[str] = []


def test_a_commit_that_landed_without_a_reply_is_found(
    stores: Stores, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    URLS.append(url)
    with losing(monkeypatch, cut):
        stores.submit("a")
    assert stores.tasks.get("a").state == "ready"


def test_a_commit_that_did_not_land_is_told_as_undone_and_made_again(
    stores: Stores, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    URLS.append(url)
    with losing(monkeypatch, cut, before=True), pytest.raises(StoreUnavailable) as told:
        stores.submit("a")
    assert (told.value.undone, told.value.maybe_committed) == (True, False)
    with losing(monkeypatch, cut, before=True):
        persist(lambda: stores.submit("a"))
    assert stores.tasks.get("a").state == "ready"


def test_a_commit_whose_outcome_nobody_can_tell_says_so(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed_server(link: Link) -> None:
        monkeypatch.setattr(stores.database, "server", stores.database.server._replace(history="another"))

    with losing(monkeypatch, changed_server), pytest.raises(StoreUnavailable) as told:
        stores.submit("a")
    assert (told.value.undone, told.value.maybe_committed) == (False, True)
    persist(lambda: stores.submit("a"))
    assert [task.id for task in [stores.tasks.get("a")]] == ["a"]


def test_a_number_that_was_given_again_after_a_crash_is_not_taken_for_the_lost_one(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own_server.new_database()
    stores, numbers = Stores(url), list[int]()

    def crash(link: Link) -> None:
        """Before the commit: nothing of the transaction is on the disk. Others are given its number then, and commit."""
        (told,) = link.ask(Request(b"select cast(cast(pg_current_xact_id() as text) as bigint) as number"))
        own_server.crash()
        own_server.launch()
        with psycopg.connect(url, autocommit=True) as connection:
            while not numbers or numbers[-1] < told.rows[0].number:
                (number,) = connection.execute("select cast(cast(pg_current_xact_id() as text) as bigint)").fetchall()[
                    0
                ]
                numbers.append(number)

    with losing(monkeypatch, crash, before=True), pytest.raises(StoreUnavailable) as caught:
        stores.submit("a")
    assert caught.value.maybe_committed or caught.value.undone
    with losing(monkeypatch, crash, before=True):
        persist(lambda: stores.submit("a"))
    assert stores.tasks.get("a").state == "ready"
    stores.database.close()


def test_what_calls_commit_survives_a_crash_of_the_server(own_server: Server) -> None:
    stores = Stores(own_server.new_database())
    for number in range(5):
        with stores.database.transaction(part="calls", durable=False) as tx:
            stores.journal.append(tx, "note.call", f"call {number}")
        own_server.crash()
        own_server.launch()
        assert len(stores.journal.latest(kind="note.call")) == number + 1
    stores.database.close()


def test_every_acknowledged_commit_survives_crashes_and_none_lands_twice(own_server: Server) -> None:
    stores = Stores(own_server.new_database())
    acknowledged: list[str] = []
    over = threading.Event()

    def submit() -> None:
        number = 0
        while not over.is_set():
            name = f"t{number}"
            try:
                persist(lambda name=name: stores.submit(name))  # type: ignore[misc]
            except StoreUnavailable:
                continue
            acknowledged.append(name)
            number += 1

    thread = threading.Thread(target=submit)
    thread.start()
    for crash in (True, False, True):
        time.sleep(0.4)
        (own_server.crash if crash else own_server.end)()
        own_server.launch()
    time.sleep(0.3)
    over.set()
    thread.join(30)
    with stores.database.read() as tx:
        there = {row.state: row.tasks for row in tx.all("look.counts")}
    assert len(acknowledged) > 50
    assert there == {"ready": len(acknowledged)}
    stores.database.close()


# -- servers and processes ------------------------------------------------------------------------------------------------


def test_a_server_that_is_started_again_is_found_again(own_server: Server) -> None:
    stores = Stores(own_server.new_database())
    stores.submit("a")
    own_server.end()
    own_server.launch()
    stores.submit("b")
    own_server.end()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        stores.submit("c")
    assert time.monotonic() - begun < 7
    own_server.launch()
    assert stores.tasks.get("b").state == "ready"
    stores.database.close()


def test_a_connection_cut_inside_a_transaction_undoes_it(stores: Stores, url: str) -> None:
    URLS.append(url)

    def broken() -> None:
        with stores.database.transaction() as tx:
            stores.journal.append(tx, "note.a", "a")
            cut(tx.link)
            tx.one("tasks.by_id", id="a")

    with pytest.raises(StoreUnavailable, match="connection was lost") as told:
        broken()
    assert told.value.undone
    assert stores.journal.latest() == []


HOLD = """
import sys, os, signal
sys.path.insert(0, {folder!r})
from test_postgres_faults import Stores
stores = Stores({url!r})
with stores.database.transaction() as tx:
    stores.journal.append(tx, "note.held", "a")
    assert tx.now_ms  # it begins with what it first asks
    print("holding", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_who_stands_still_inside_a_transaction_is_cut_off(stores: Stores, url: str) -> None:
    command = [sys.executable, "-c", HOLD.format(folder=str(HERE.parent), url=url)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        begun = time.monotonic()
        stores.submit("a")
        waited = time.monotonic() - begun
        holder.send_signal(signal.SIGCONT)
        _, said = holder.communicate(timeout=20)
    assert 0.5 < waited < 3.5
    assert "StoreUnavailable" in said
    assert [entry.kind for entry in stores.journal.latest()] == ["task.submitted"]


def test_a_forked_child_is_refused_and_leaves_the_parents_connections_alone(stores: Stores) -> None:
    stores.submit("a")
    child = os.fork()
    if child == 0:
        try:
            stores.submit("b")
        except StoreUnavailable as error:
            os._exit(7 if "fork" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    stores.submit("c")
    assert stores.tasks.get("c").state == "ready"


def test_more_threads_than_connections_take_turns(stores: Stores) -> None:
    threads = [threading.Thread(target=stores.submit, args=(f"t{number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with stores.database.read() as tx:
        assert {row.state: row.tasks for row in tx.all("look.counts")} == {"ready": 20}


def test_a_closed_state_is_refused_and_closing_twice_does_no_harm(url: str) -> None:
    stores = Stores(url)
    stores.database.close()
    stores.database.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        stores.submit("a")


def test_a_letter_that_the_server_cannot_hold_is_marked(stores: Stores) -> None:
    stores.submit("a")
    run = stores.start("one")
    stores.runs.conclude(run, Failed("no \0 letter", final=True))
    assert stores.tasks.get("a").error == "no \ufffd letter"


# -- clocks ----------------------------------------------------------------------------------------------------------------

CLOCK = """
create function public.clock_timestamp() returns timestamptz language sql volatile
as 'select pg_catalog.clock_timestamp() + make_interval(secs => (select seconds from public.skew))'
"""


@pytest.fixture
def skewed(server: Server, url: str) -> Callable[[float], None]:
    """Sets the server's clock, as the state sees it, by so many seconds."""
    name = url.split("/")[3].split("?")[0]
    server.execute("create table skew as select 0.0 as seconds", CLOCK, database=name)
    return lambda seconds: server.execute(f"update skew set seconds = {seconds}", database=name)


def seen_by(url: str) -> str:
    """The address with the schema of the tests before the server's own."""
    return f"{url}&options=-csearch_path%3Dpublic,pg_catalog"


def test_the_fleets_time_goes_on_when_the_servers_clock_is_set_back(url: str, skewed: Callable[[float], None]) -> None:
    one, other = Stores(seen_by(url)), Stores(seen_by(url))
    one.submit("a")
    run, before_ms = one.start("one"), one.now_ms()
    skewed(-3600)
    one.submit("b")
    assert 0 <= one.now_ms() - before_ms < 5_000
    assert 0 <= other.now_ms() - before_ms < 5_000
    assert one.runs.beat("owner one", [run.fence], lease_ms=LEASE_MS) == {run.fence}
    third = Stores(seen_by(url))
    assert 0 <= third.now_ms() - before_ms < 5_000
    for stores in (one, other, third):
        stores.database.close()


def test_two_who_see_at_once_that_the_clock_was_set_back_set_it_forwards_once(
    url: str, skewed: Callable[[float], None]
) -> None:
    seeing = [Stores(seen_by(url)) for _ in range(2)]
    before_ms = max(stores.now_ms() for stores in seeing)
    skewed(-3600)
    with psycopg.connect(url, autocommit=True) as holder:
        holder.execute("select pg_advisory_lock(%s, 1)", (seeing[0].database.server.place,))
        threads = [threading.Thread(target=stores.database._set_forwards) for stores in seeing]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 20
        waiting: tuple[int] | None = (0,)
        while waiting != (2,) and time.monotonic() < until:
            waiting = holder.execute("select count(*) from pg_locks where not granted").fetchone()
    for thread in threads:
        thread.join(20)
    assert waiting == (2,)
    for stores in seeing:
        assert 0 <= stores.now_ms() - before_ms < 30_000
        stores.database.close()


def test_a_fleet_entered_after_the_clock_was_set_back_goes_on_from_its_last_instant(
    url: str, skewed: Callable[[float], None]
) -> None:
    one = Stores(seen_by(url))
    one.submit("a")
    before_ms = one.now_ms()
    one.database.close()
    skewed(-3600)
    other = Stores(seen_by(url))
    assert -1_000 <= other.now_ms() - before_ms < 5_000
    other.database.close()


def test_a_small_step_back_makes_time_stand_still(url: str, skewed: Callable[[float], None]) -> None:
    one = Stores(seen_by(url))
    before_ms = one.now_ms()
    skewed(-0.5)
    assert one.now_ms() == before_ms
    one.database.close()


def test_a_step_forwards_ends_leases_and_their_fences_hold(url: str, skewed: Callable[[float], None]) -> None:
    one = Stores(seen_by(url))
    one.submit("a")
    run = one.start("one")
    skewed(3600)
    again = one.start("two")
    assert again.task.id == "a"
    with pytest.raises(LeaseLost):
        one.runs.conclude(run, Finished("1"))
    one.runs.conclude(again, Finished("2"))
    assert one.tasks.get("a").result == "2"
    one.database.close()


def test_this_machines_clock_leads_to_the_fleets(stores: Stores) -> None:
    now_ms = stores.now_ms()
    apart_ms = now_ms - (stores.database.clock.wall_ms() and Machine().steady_ms() + stores.database.offset_ms)
    assert -100 <= apart_ms <= 0


def test_another_history_of_the_server_ends_all_leases_and_overtakes_all_fences(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Stores(url)
    one.submit("a")
    before = one.start("one")
    clock: Any = one.database.clock
    monkeypatch.setattr(clock, "history", "server of another history")
    joined = fleet.enter(one.database, clock, name="shop", redaction_key="key")
    assert joined.rebooted
    Workers(one.database, one.journal).end_all()
    after = one.start("two")
    assert after.task.id == "a"
    assert after.fence >> fleet.EPOCH_BITS > before.fence >> fleet.EPOCH_BITS
    one.database.close()


def test_two_processes_may_make_the_tables_at_once(server: Server) -> None:
    url = server.new_database(empty=True)
    databases = [PostgresDatabase(url, Machine()) for _ in range(3)]
    threads = [threading.Thread(target=migrate, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {database.schema() for database in databases} == {migrate(databases[0])}
    for database in databases:
        database.close()
    server.drop(url)
