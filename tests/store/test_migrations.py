"""States of earlier schemas, killed and simultaneous migrations, two versions at work side by side: on both engines."""

# pyright: reportUnknownMemberType=false
import os
import random
import re
import signal
import subprocess
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import cast

import pytest
import schemas
from schemas import AHEAD, BEYOND, FURTHER, KNOWN, MANY, NEXT, lived_in, number_of, opened, started

import longwatch
from longwatch.db import statements
from longwatch.db.connection import Database
from longwatch.db.migrate import finish, migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.db.postgres.link import Request
from longwatch.db.postgres.opening import Locks
from longwatch.db.postgres.transaction import Begun
from longwatch.db.sqlite import SqliteDatabase, tables
from longwatch.db.sqlite.transaction import SqliteTransaction
from longwatch.db.tables import Filled, Plain, copy, summed
from longwatch.errors import StoreUnavailable
from longwatch.policy.schema import is_post
from longwatch.runtime.world import Machine
from longwatch.testing import conformance
from longwatch.testing.play import HandClock
from longwatch.testing.postgres import shared

PATIENCE_S = 100
BOTH = pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """An empty state of the engine that the test names."""
    if request.param == "sqlite":
        yield str(tmp_path / "state.db")
        return
    url = shared().new_database(empty=True)
    yield url
    shared().drop(url)


@pytest.fixture
def database(place: str) -> Generator[SqliteDatabase | PostgresDatabase]:
    found = opened(place)
    yield found
    found.close()


def enrol(database: Database, *, schema: int, beat_before_ms: int = 0) -> None:
    """A worker of code that knows this schema."""
    with database.transaction() as tx:
        cast("Plain", tx).plain(
            "insert into worker (owner, agent, pid, start_ticks, boot_id, name, since_ms, beat_ms, schema)"
            f" values ('w{schema}', 'ann', 4711, 1, 'elsewhere', null, 0, {tx.wall_ms - beat_before_ms}, {schema})"
        )


# -- upgrades --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lived")
    lived_in(str(folder / "state.db"), folder)
    return folder / "state.db"


@BOTH
@pytest.mark.parametrize("schema", [migration.number for migration in KNOWN[:-1]])
def test_a_state_of_an_earlier_schema_opens_and_keeps_its_rows(
    schema: int, place: str, lived: Path, tmp_path: Path, database: SqliteDatabase
) -> None:
    there = tables(KNOWN[:schema])
    migrate(database, known=KNOWN[:schema])
    source = SqliteDatabase(str(lived), Machine())
    with source.read() as old, database.transaction() as tx:
        kept = {table.name: copy(cast("Plain", old), cast("Filled", tx), table, lambda _: None) for table in there}
        tasks = old.all("look.counts")
    source.close()
    assert kept["task"].rows == 9
    assert kept["record"].rows > 30
    assert migrate(database) == KNOWN[-1].number == number_of(place)
    with database.read() as tx:
        assert {table.name: summed(cast("Plain", tx), table) for table in there} == kept
    with longwatch.open(place, config={"fleet": {"root": str(tmp_path)}}) as lw:
        assert {row.state: row.tasks for row in tasks}["ready"] == 1

        @lw.task("pay")
        def pay(run: longwatch.Run, number: int) -> int:
            return number

        assert lw.work(until_idle=True).done == 1


@BOTH
def test_a_migration_that_is_killed_anywhere_left_it_whole_or_undone(place: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    dice, killed = random.Random(seed), 0
    for _ in range(5):
        process = started("bring", place, "many")
        assert process.stdout is not None
        assert process.stdout.readline() == "opened\n"
        try:
            process.wait(dice.uniform(0.01, 0.08))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate(timeout=PATIENCE_S)
        database = opened(place)
        check_whole(database)
        database.close()
    database = opened(place)
    assert killed, f"seed {seed}: nothing was killed"
    assert migrate(database, known=MANY) == MANY[-1].number
    check_whole(database)
    database.close()


def check_whole(database: SqliteDatabase | PostgresDatabase) -> None:
    """What the number says is there, and nothing else."""
    schema = (
        database.schema() if isinstance(database, PostgresDatabase) else int(database.connection.pragma("user_version"))
    )
    sqlite = isinstance(database, SqliteDatabase)
    listed = "select name from sqlite_schema" if sqlite else "select cast(tablename as text) from pg_tables"
    with database.read() as tx:
        there = {
            str(row[0])
            for row in cast("Plain", tx).plain(f"{listed} where {'name' if sqlite else 'tablename'} like 'made_%'")
        }
        assert there == {f"made_{number}" for number in range(NEXT, schema + 1)}
        for name in there:
            assert cast("Plain", tx).plain(f"select count(*) from {name}")[0][0] == schemas.ROWS


@BOTH
def test_processes_that_start_at_once_migrate_once(place: str) -> None:
    processes = [started("bring", place, "many") for _ in range(4)]
    said = [process.communicate(timeout=PATIENCE_S) for process in processes]
    assert [out for out, _ in said] == [f"opened\n{MANY[-1].number}\n"] * 4, said
    database = opened(place)
    check_whole(database)
    database.close()


# -- two versions side by side ---------------------------------------------------------------------------------------------


class GrowingFile(SqliteDatabase):
    """The next version starts, and adds what it needs, after some transactions of this one."""

    left = 15

    def writing(self) -> Generator[SqliteTransaction]:
        grow(self)
        return super().writing()


class GrowingServer(PostgresDatabase):
    left = 15

    def _begin(
        self, begin: Request, first: Sequence[Request], number: bytes, locks: Locks, *, synced: bool = True
    ) -> Begun:
        grow(self)
        return super()._begin(begin, first, number, locks, synced=synced)

    def close(self) -> None:
        super().close()
        shared().drop(self.place)


GROWN: list[object] = []  # every state that was added to


def grow(database: GrowingFile | GrowingServer) -> None:
    database.left -= 1
    if database.left == 0:
        assert migrate(database, known=AHEAD) == NEXT
        GROWN.append(database)


def growing_file(clock: HandClock) -> SqliteDatabase:
    database = GrowingFile(":memory:", clock)
    migrate(database)
    return database


def growing_server(clock: HandClock) -> PostgresDatabase:
    return GrowingServer(shared().new_database(), Machine(), clock=clock)


ENGINES: dict[str, tuple[Callable[[HandClock], SqliteDatabase | PostgresDatabase], int]] = {
    "sqlite": (growing_file, 8),
    "postgres": (growing_server, 2),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", ["ledger", "leases", "calls", "all"])
def test_random_programs_agree_with_the_model_while_the_next_version_adds_to_the_state(
    engine: str, family: str
) -> None:
    make, programs = ENGINES[engine]
    GROWN.clear()
    for seed in range(programs):
        conformance.check(make, seed, 30, family)
    assert len(GROWN) > programs // 2  # a short program may end before it


@BOTH
def test_a_worker_goes_on_while_the_next_version_adds_to_the_state(place: str, tmp_path: Path) -> None:
    worker = started("work", place, tmp_path, 300)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "begun\n"
    out, err = started("bring", place, "ahead").communicate(timeout=PATIENCE_S)
    assert out == f"opened\n{NEXT}\n", err
    out, err = worker.communicate(timeout=PATIENCE_S)
    assert out == "300\n", err


@BOTH
def test_what_takes_away_waits_for_the_last_worker_of_older_code(place: str, tmp_path: Path) -> None:
    config = {"fleet": {"root": str(tmp_path)}}
    with longwatch.open(place, config=config) as lw:
        lw.opened.parts.enrol("worker_here", "seo")
        database = opened(place)
        assert migrate(database, known=BEYOND) == NEXT, "starting takes nothing away"
        older = rf"process {os.getpid()} \(agent seo, schema {KNOWN[-1].number}\)"
        with pytest.raises(StoreUnavailable, match=older):
            finish(database, known=BEYOND)
        with pytest.raises(StoreUnavailable, match=older):
            migrate(database, known=FURTHER)
        assert number_of(place) == NEXT
        lw.opened.parts.dismiss("worker_here")
        assert finish(database, known=BEYOND) == 100
        with pytest.raises(StoreUnavailable, match="its schema is number 100"):
            lw.opened.parts.enrol("too late", None)
        with pytest.raises(StoreUnavailable, match="its tables are not those that this code knows"), lw.lease("name:a"):
            pass
        database.close()
    with pytest.raises(StoreUnavailable, match="its schema is number 100"):
        longwatch.open(place, config=config)


@BOTH
def test_a_worker_that_has_long_been_silent_holds_nothing_back(database: SqliteDatabase) -> None:
    migrate(database)
    enrol(database, schema=KNOWN[-1].number, beat_before_ms=90_000)
    with pytest.raises(StoreUnavailable, match="silent for 2m"):
        finish(database, known=BEYOND, lease_ms=120_000)
    assert finish(database, known=BEYOND) == 100


@BOTH
def test_workers_of_the_new_code_hold_nothing_back(database: SqliteDatabase) -> None:
    migrate(database, known=AHEAD)
    enrol(database, schema=100)
    assert migrate(database, known=FURTHER) == 101


@BOTH
def test_a_new_state_gets_everything(database: SqliteDatabase) -> None:
    assert migrate(database, known=BEYOND) == 100


# -- other ways to a state that is ahead -----------------------------------------------------------------------------------


def test_a_state_that_is_ahead_is_not_copied_and_its_backup_is_restored(tmp_path: Path) -> None:
    from longwatch.surface.cli import root
    from longwatch.surface.cli_base import run

    file = str(tmp_path / "state.db")
    with longwatch.open(file, config={"fleet": {"root": str(tmp_path)}}):
        pass
    database = opened(file)
    migrate(database, known=AHEAD)
    database.close()
    assert run(root, ["--state", file, "doctor"]) == 0
    assert run(root, ["state", "copy", file, str(tmp_path / "copy.db")]) == 2
    assert run(root, ["--state", file, "state", "backup", str(tmp_path / "good.db")]) == 0
    assert run(root, ["--state", file, "state", "restore", str(tmp_path / "good.db"), "--yes"]) == 0
    assert number_of(file) == NEXT


# -- the files -------------------------------------------------------------------------------------------------------------

ADDS = re.compile(r"create (unique )?(table|index)|alter table \S+ add column|insert into")
TAKES = re.compile(r"drop (table|index)|alter table \S+ drop column|delete from|update \S+ set")
BARE = re.compile(r"not null(?!.*default)")


def test_a_pre_only_adds_and_a_post_only_takes_away() -> None:
    for migration in KNOWN[1:]:
        text = re.sub(r"--[^\n]*", "", migration.text)
        for statement in filter(None, (part.strip() for part in text.split(";"))):
            allowed = TAKES if is_post(migration.number) else ADDS
            assert allowed.match(statement), f"{migration.number}: {statement}"
            assert not (statement.startswith("alter table") and BARE.search(statement)), (
                f"{migration.number}: {statement}"
            )


@pytest.mark.parametrize("dialect", statements.DIALECTS)
def test_statements_name_their_columns(dialect: str) -> None:
    """What is added to a table must not come up in answers, nor be missing in what is written."""
    for name, text in statements.load(dialect).items():
        assert not re.search(r"(select|returning) (\w+\.)?\*(?! from \(values)", text), name
        assert not re.search(r"insert into \w+\s+(select|values)", text), name
