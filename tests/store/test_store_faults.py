"""A state that is newer, read-only, on a full disk, forked, opened by another library; a process stopped in the middle."""

# pyright: reportUnknownMemberType=false
import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path

import apsw
import pytest
from stores import Stores, new_task, opened, started

from longwatch.db import statements
from longwatch.db.sqlite import database as sqlite
from longwatch.errors import LeaseLost, NotFound, StoreUnavailable
from longwatch.policy.schema import HUNDRED
from longwatch.policy.task import Failed
from longwatch.store.moves import NewTask

KEY = "sk-ant-api03-THISISASECRETTHATMUSTNOTBEKEPT0123456789"


@pytest.fixture
def stores(tmp_path: Path) -> Generator[Stores]:
    found = opened(tmp_path / "state.db")
    yield found
    found.database.close()


# -- what is in the file -------------------------------------------------------------------------------------------------


def test_a_state_of_a_newer_schema_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    opened(file).database.close()
    newer = statements.newest() + HUNDRED
    connection = apsw.Connection(str(file))
    connection.execute(f"pragma user_version = {newer}; create table from_the_future (x)")
    connection.close()
    with pytest.raises(StoreUnavailable, match=f"its schema is number {newer}") as caught:
        opened(file)
    assert "pip install --upgrade" in caught.value.hint
    connection = apsw.Connection(str(file))
    assert connection.pragma("user_version") == newer
    connection.close()


def test_no_key_that_an_error_or_a_note_carries_reaches_the_file(stores: Stores, tmp_path: Path) -> None:
    stores.tasks.submit([new_task("task_1"), new_task("task_2", after=("task_1",))])
    (run,) = stores.runs.claim("ann", kinds=["pay"], limit=1, lease_ms=60_000, start="run_1")
    stores.runs.conclude(run, Failed(f"401: the key {KEY} is not valid", final=True))
    with stores.database.transaction() as tx:
        stores.journal.append(tx, "note.fact", "task_1", text=f"Bearer {KEY}", data={"deep": [{"key": KEY}]})
    copier = started("copy", tmp_path / "state.db", tmp_path / "copy.db")
    assert copier.communicate(timeout=30)[0] == "copied\n"
    kept = (tmp_path / "copy.db").read_bytes()
    assert KEY.encode() not in kept
    assert kept.count(b"[redacted:anthropic-key:") >= 5  # task, run, dependant and two entries


def test_a_mark_of_redaction_joins_what_carried_the_same_key(stores: Stores) -> None:
    with stores.database.transaction() as tx:
        stores.journal.append(tx, "note.fact", "one", text=KEY)
        stores.journal.append(tx, "note.fact", "two", text=f"again {KEY}")
    one, two = stores.journal.latest(limit=2)
    assert str(one.data["text"]) in str(two.data["text"])


# -- where the file is ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_folder_that_may_not_be_written_is_refused_with_its_reason(tmp_path: Path) -> None:
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    answer = started("open_as_nobody", tmp_path / "state.db").communicate(timeout=30)[0]
    assert "cannot be used: Permission denied" in answer


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_state_of_somebody_else_is_refused_with_its_reason(tmp_path: Path) -> None:
    opened(tmp_path / "state.db").database.close()
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o777)
    answer = started("open_as_nobody", tmp_path / "state.db").communicate(timeout=30)[0]
    assert "cannot be used: Permission denied" in answer


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("once upon a time " * 500)
    with pytest.raises(StoreUnavailable, match="not a Longwatch state"):
        opened(tmp_path / "state.db")
    assert not open_files(str(tmp_path))
    assert (tmp_path / "state.db").read_text().startswith("once upon a time")


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Generator[Path]:
    """A disk of its own, that is full soon. Skips where it cannot be mounted."""
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(stores: Stores, acknowledged: list[str]) -> None:
    for number in range(5_000):
        stores.tasks.submit([NewTask(f"task_{number}", "pay", f'{{"text":"{"x" * 2_000}"}}', "main")])
        acknowledged.append(f"task_{number}")


def test_a_full_disk_refuses_writes_loses_nothing_and_passes(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "2m") as disk:
        stores = opened(disk / "state.db")
        acknowledged: list[str] = []
        with pytest.raises(StoreUnavailable, match="its disk is full") as caught:
            fill(stores, acknowledged)
        assert not caught.value.maybe_committed
        assert "Free some space" in caught.value.hint
        assert len(acknowledged) > 20
        assert sum(stores.states().values()) == len(acknowledged), "reading goes on, and holds what was acknowledged"
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        refused = f"task_{len(acknowledged)}"
        with pytest.raises(NotFound):
            stores.tasks.get(refused)
        stores.tasks.submit([new_task(refused)])
        assert stores.tasks.get(refused).state == "ready"
        stores.database.close()
        again = opened(disk / "state.db")
        assert {again.tasks.get(task).state for task in acknowledged} == {"ready"}
        again.database.close()


# -- who else has it open --------------------------------------------------------------------------------------------------


def in_child(child: Callable[[], bool]) -> bool:
    """Fork; whether the child found what it should."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if child() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def refused(stores: Stores) -> bool:
    try:
        stores.tasks.get("task_1")
    except StoreUnavailable as error:
        return "before a fork" in error.message
    return False


def test_a_forked_child_is_refused_and_its_parent_unharmed(stores: Stores) -> None:
    stores.tasks.submit([new_task("task_1")])
    assert in_child(lambda: refused(stores))
    stores.tasks.submit([new_task("task_2")])
    assert stores.states() == {"ready": 2}


def test_a_child_forked_inside_a_transaction_can_close_and_holds_no_lock(stores: Stores, tmp_path: Path) -> None:
    def close_and_open() -> bool:
        signal.alarm(10)  # a deadlock ends the child
        stores.database.close()
        return refused(stores)

    with stores.database.transaction() as tx:
        stores.journal.append(tx, "note.fact", "one")
        assert in_child(close_and_open)
    assert started("copy", tmp_path / "state.db", tmp_path / "copy.db").communicate(timeout=30)[0] == "copied\n"


def test_a_child_lets_go_of_the_lock_behind_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    stores = opened(tmp_path / "link" / "state.db")
    real = str(tmp_path / "real")

    assert open_files(real)
    assert in_child(lambda: not open_files(real))
    stores.database.close()
    assert not open_files(real)


def open_files(folder: str) -> list[str]:
    """What this process has open in the folder."""
    found: list[str] = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own descriptor
            found.append(os.readlink(f"/proc/self/fd/{entry}"))
    return [name for name in found if name.startswith(folder)]


def test_another_sqlite_on_an_opened_state_is_refused(stores: Stores, tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    link = tmp_path / "other-name"
    link.symlink_to(file)
    for name in (str(file), file, os.fsencode(file), link):
        with pytest.raises(StoreUnavailable, match="has open as a Longwatch state"):
            sqlite3.connect(name)
    with pytest.raises(StoreUnavailable, match="has open as a Longwatch state"):
        sqlite3.connect(f"file:{file}?mode=ro", uri=True)


@pytest.mark.parametrize("ending", ["", "-shm"])
def test_a_plain_open_of_what_carries_sqlites_locks_is_refused(stores: Stores, tmp_path: Path, ending: str) -> None:
    file = Path(f"{tmp_path}/state.db{ending}")
    for read in (file.read_bytes, lambda: os.open(file, os.O_RDONLY), lambda: os.open(str(file), os.O_RDONLY)):
        with pytest.raises(StoreUnavailable, match="has open as a Longwatch state"):
            read()


def test_a_closed_state_may_be_opened_by_anything(tmp_path: Path) -> None:
    opened(tmp_path / "state.db").database.close()
    assert (tmp_path / "state.db").read_bytes().startswith(b"SQLite format 3")
    sqlite3.connect(tmp_path / "state.db").close()


# -- the turnstile -------------------------------------------------------------------------------------------------------


def test_a_process_stopped_inside_a_transaction_is_killed_and_the_others_go_on(stores: Stores, tmp_path: Path) -> None:
    holder = started("hold", tmp_path / "state.db", "stopped")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    began = time.monotonic()
    stores.tasks.submit([new_task("task_1")])
    took = time.monotonic() - began
    assert holder.wait(timeout=5) == -signal.SIGKILL
    assert 0.5 < took < 5
    assert stores.database.take_killed() == [holder.pid]
    assert not stores.journal.latest(kind="note.held"), "what it had not committed is gone"
    holder.stdout.close()


def test_a_process_that_is_merely_slow_is_waited_for(stores: Stores, tmp_path: Path) -> None:
    holder = started("hold", tmp_path / "state.db", "slow")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    stores.tasks.submit([new_task("task_1")])
    assert holder.communicate(timeout=10)[0] == "committed\n"
    assert holder.returncode == 0
    assert stores.database.take_killed() == []
    assert len(stores.journal.latest(kind="note.held")) == 1


def test_a_slow_reader_that_lets_the_log_grow_holds_no_writer_up(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_LIMIT", 1)
    monkeypatch.setattr(sqlite, "LOOKS", 1)
    reader = started("read_on", tmp_path / "state.db")
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    began = time.monotonic()
    stores.tasks.submit([new_task("task_1")])
    stores.tasks.submit([new_task("task_2")])
    assert time.monotonic() - began < 2, "the writer waited for the reader"
    assert reader.communicate(timeout=30)[0] == "read\n"
    stores.tasks.submit([new_task("task_3")])
    assert (tmp_path / "state.db-wal").stat().st_size == 0


# -- what is left after a write went wrong ---------------------------------------------------------------------------------


def test_an_exception_inside_a_transaction_leaves_nothing(stores: Stores) -> None:
    def write() -> None:
        with stores.database.transaction() as tx:
            stores.journal.append(tx, "note.fact", "one")
            raise LeaseLost("no")

    with pytest.raises(LeaseLost):
        write()
    assert stores.journal.latest(kind="note.") == []


def test_writing_while_reading_is_refused_and_the_state_stays_usable(stores: Stores) -> None:
    with pytest.raises(StoreUnavailable), stores.database.read() as tx:
        stores.journal.append(tx, "note.fact", "one")
    stores.tasks.submit([new_task("task_1")])
    assert stores.states() == {"ready": 1}


def test_a_closed_state_says_so_and_closing_twice_does_no_harm(tmp_path: Path) -> None:
    stores = opened(tmp_path / "state.db")
    stores.database.close()
    stores.database.close()
    with pytest.raises(StoreUnavailable, match="is closed"):
        stores.tasks.get("task_1")
