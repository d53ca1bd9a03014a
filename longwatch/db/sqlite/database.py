"""SQLite through apsw: WAL, one write connection per process and state, `begin immediate` behind the turnstile.

Durability is per transaction. The connection commits with synchronous=NORMAL, which survives kill -9 but not a power
cut; a durable transaction then syncs the WAL itself, *after* it has let the next writer in. Writers that wait for the
disk therefore share one flush (1.5 times the commits of synchronous=FULL with 4 and 15 processes), and nothing is
acknowledged before it is on the disk. Whoever read a commit that was not yet synced syncs it with its own, because the
WAL is one file and a prefix of it survives. (A checkpoint syncs the WAL before it copies, so a reset loses nothing.)

All SQLite in this process must come from this one library: closing the same file through another one drops the first
one's locks. An audit hook refuses `sqlite3.connect` and `open` on an opened state; auditors and backups run in
processes of their own.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import apsw

from longwatch.db.connection import Certain, Clock, Part
from longwatch.db.place import reachable, refuse_remote, unavailable
from longwatch.db.sqlite.refusals import UPGRADE, raise_translated, translated
from longwatch.db.sqlite.transaction import SqliteTransaction
from longwatch.db.turnstile import Turnstile, device_of, is_stopped, kill_if_stopped, lock_holders
from longwatch.errors import StoreUnavailable

OLDEST_SAFE = 3_051_003  # 3.7.0 to 3.51.2 can corrupt a WAL database under two writers at one instant
BUSY_MS = 5_000
WAL_LIMIT = 64 << 20  # bytes; past it a stopped reader that keeps the WAL from being reset is killed
LOOKS = 32  # durable commits between two looks at the size of the WAL
SETTINGS = (
    "page_size = 2048",  # of a new state: commits touch many pages a little, and each process rereads what another wrote
    "synchronous = normal",
    "foreign_keys = off",
    "temp_store = memory",
    "cache_size = -16384",  # KiB
    f"journal_size_limit = {WAL_LIMIT}",
    "wal_autocheckpoint = 8000",  # pages: at 2,000 a busy fleet syncs the disk every 60 calls, a sixth of their time
)
LOCKS = "-shm"

_opened: Counter[str] = Counter()  # by real path: how often this process has it open
_endings: tuple[
    str, ...
] = ()  # how the names end of what carries their locks: the files, and the indexes of their WALs
_guard = threading.Lock()
_abandoned: list[object] = []  # connections of a parent: kept, so that the child's interpreter never closes them
_living: "set[SqliteDatabase]" = set()


class SqliteDatabase(Certain):
    """One SQLite file (or ":memory:"), one connection, any number of threads."""

    def __init__(self, path: str, clock: Clock, *, syncs: bool = True) -> None:
        """Open, or make, the state at `path`. Errors: StoreUnavailable, with the reason and what to do.

        syncs: whether durable transactions wait for the disk. Without, they survive kill -9 as before, and a power cut
        takes the commits since the last checkpoint or write-back of the kernel: always the newest, never one from the
        middle, and never half of one.
        """
        self.clock, self.offset_ms = clock, 0
        self.in_memory = path == ":memory:"
        self._syncs = syncs
        self.path = Path(path) if self.in_memory else Path(path).expanduser().absolute()
        self._lock = threading.Lock()
        self._forked = self._closed = False
        self._turn: AbstractContextManager[None] = contextlib.nullcontext()
        self._wal, self._synced = -1, 0
        with translated(self.path), reachable(self.path):
            self._open()
        _living.add(self)

    # -- opening and closing ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if apsw.SQLITE_VERSION_NUMBER < OLDEST_SAFE:
            raise StoreUnavailable(f"SQLite {apsw.sqlite_lib_version()} can corrupt a WAL database", hint=UPGRADE)
        if self.in_memory:
            self.turnstile = None
            self.connection = self._connect(":memory:")
            return
        refuse_remote(self.path)
        self._make_folder()
        self.turnstile = self._turn = Turnstile(self.path.with_name(self.path.name + ".turn"))
        _note_opened(self.path, +1)
        try:
            with self.turnstile:
                self.connection = self._connect(str(self.path))
                self._begin_wal()
            os.chmod(self.path, 0o600)
        except BaseException:
            self.turnstile.close()
            _note_opened(self.path, -1)
            raise

    def _begin_wal(self) -> None:
        try:
            self.connection.execute("pragma journal_mode = wal")
            self.connection.execute("begin immediate; commit")  # makes the -wal file that durable commits sync
        except BaseException:
            self.connection.close()
            raise

    def _connect(self, name: str) -> apsw.Connection:
        connection = apsw.Connection(name, statementcachesize=512)  # the most that it takes
        connection.set_busy_timeout(BUSY_MS)
        # Plans may not depend on bound values: beside partial indexes SQLite would compile a statement anew whenever
        # one of them, such as the instant, has changed. No plan here needs it: what partial indexes ask for is literal.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for setting in SETTINGS:  # one by one: a statement that answers with a row would keep the next from running
            connection.execute(f"pragma {setting}").fetchall()
        return connection

    def _make_folder(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def close(self) -> None:
        """Give back every descriptor. Twice does no harm."""
        if self._forked:  # asked before the lock: another thread of the parent may have held it at the fork
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            _living.discard(self)
            with self._turn:
                self.connection.close()
            if self.turnstile is not None:
                self.turnstile.close()
                _note_opened(self.path, -1)
            if self._wal >= 0:
                os.close(self._wal)

    def abandon(self) -> None:
        """In a forked child: let go of the parent's descriptors without closing what they stand for.

        They are replaced by /dev/null, so that nothing the interpreter does later can reach the parent's files, or
        another file that got the same number.
        """
        self._forked = True
        _abandoned.append(self.connection)
        if self.in_memory or not os.path.isdir("/proc/self/fd"):
            return
        real = os.path.realpath(self.path)  # as the kernel names it, whatever links led here
        mine = {real + ending for ending in ("", "-wal", "-shm", ".turn")}
        null = os.open(os.devnull, os.O_RDWR)
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{entry}").removesuffix(" (deleted)") in mine:
                    os.dup2(null, int(entry))
        os.close(null)

    # -- transactions -------------------------------------------------------------------------------------------------

    def transaction(self, *, durable: bool = True, part: Part = "all") -> "Writing":
        return Writing(self, durable)

    def writing(self) -> Generator[SqliteTransaction]:
        """One transaction, as a generator: whatever interrupts it, and wherever, its locks are given back when it ends.

        An interrupt may come on the way into any function, so what gives a lock back stands where it is tried twice.
        """
        self._usable()
        try:
            with self._lock:
                self._usable()
                try:
                    self._turn.__enter__()
                    self.connection.execute("begin immediate")
                    yield self._transaction()
                    self.connection.execute("commit")
                except BaseException:
                    self._roll_back()
                    raise
                finally:
                    try:
                        self._turn.__exit__(None, None, None)
                    except BaseException:
                        self._turn.__exit__(None, None, None)
                        raise
        except apsw.Error as error:
            raise_translated(self.path, error)

    @contextlib.contextmanager
    def read(self) -> Generator[SqliteTransaction]:
        self._usable()
        with translated(self.path), self._lock:
            self._usable()
            self.connection.execute("begin")  # not query_only: changing a pragma expires every prepared statement
            before = self.connection.total_changes()
            try:
                yield self._transaction()
            finally:
                written = self.connection.total_changes() - before
                self._roll_back()
            if written:
                raise unavailable(self.path, f"{written} rows were to be written in a transaction that only reads")

    def take_killed(self) -> list[int]:
        if self.turnstile is None:
            return []
        killed, self.turnstile.killed = self.turnstile.killed, []
        return killed

    def backup(self, target: Path) -> None:
        """Copy the whole state, as of one instant, into a new file at `target`."""
        self._usable()
        with translated(target), self._lock:
            self.connection.execute("vacuum into ?", (str(target),))

    def scrub(self, tables: Sequence[str] = ()) -> None:
        """Leave nothing on the disk of what was deleted or overwritten: the file is written anew, and its WAL emptied.

        Waits for readers; writers wait for it. Errors: StoreUnavailable when a reader stays; what is kept is unchanged then.
        """
        if self.in_memory:
            return
        self._usable()
        with translated(self.path), self._lock, self._turn:
            if self.connection.execute("select 1 from sqlite_schema where name = 'memory_words'").fetchall():
                self.connection.execute("insert into memory_words (memory_words) values ('optimize')")
            self.connection.execute("vacuum")
            (busy, _, _), *_ = self.connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        if busy:
            hint = "Somebody reads the state at this moment: do it again."
            raise unavailable(self.path, "what was taken out is still in its write-ahead log", hint=hint)

    def _transaction(self) -> SqliteTransaction:
        now_ms = self.clock.steady_ms() + self.offset_ms
        return SqliteTransaction(self.connection, now_ms=now_ms, wall_ms=self.clock.wall_ms())

    def _roll_back(self) -> None:
        if self.connection.in_transaction:  # some errors (a full disk) have rolled back already
            self.connection.execute("rollback")

    def sync(self) -> None:
        """Wait until every commit so far is on the disk. Errors: StoreUnavailable, and the commits stand."""
        if self.in_memory:
            return
        try:
            if self._wal < 0:
                self._wal = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            if self._syncs:
                os.fdatasync(self._wal)
            self._synced += 1
            size = os.fstat(self._wal).st_size if self._synced % LOOKS == 0 else 0
        except OSError as error:
            raise unavailable(self.path, f"the last commit could not be synced ({error})", maybe=True) from error
        if size > WAL_LIMIT:
            self._free_wal()

    def _free_wal(self) -> None:
        """Reset a WAL that has outgrown its limit; a stopped reader that pins it is killed, a slow one not waited for."""
        with self._lock, self._turn:
            self.connection.set_busy_timeout(0)
            with contextlib.suppress(apsw.BusyError):
                self.connection.execute("pragma wal_checkpoint(truncate)")
            self.connection.set_busy_timeout(BUSY_MS)
        if os.fstat(self._wal).st_size <= WAL_LIMIT:
            return
        for pid in lock_holders(device_of(os.stat(f"{self.path}-shm")), kind="POSIX"):
            if pid != os.getpid() and is_stopped(pid) and kill_if_stopped(pid, still=lambda: True) and self.turnstile:
                self.turnstile.killed.append(pid)

    def _usable(self) -> None:
        if self._forked:
            raise StoreUnavailable("this fleet was opened before a fork", hint="Open it again in the child process.")
        if self._closed:
            raise StoreUnavailable("this fleet is closed", hint="Open it again with longwatch.open(...).")


class Writing:
    """`with database.transaction() as tx`. A plain object over a plain generator: every move of a fleet comes through here."""

    __slots__ = ("_database", "_durable", "_work")

    def __init__(self, database: SqliteDatabase, durable: bool) -> None:
        self._database, self._durable, self._work = database, durable, database.writing()

    def __enter__(self) -> SqliteTransaction:
        return next(self._work)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            next(self._work, None)
            if self._durable:
                self._database.sync()
            return
        try:
            self._work.throw(error)
        except BaseException as raised:
            if raised is not error:
                raise


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _endings or event not in ("sqlite3.connect", "open") or not arguments:
        return
    name = os.fspath(arguments[0]) if isinstance(arguments[0], os.PathLike) else arguments[0]
    if not isinstance(name, str | bytes):
        return
    text = os.fsdecode(name)
    if event == "sqlite3.connect" or text.endswith(_endings):  # every other open of the process passes at once
        path = unquote(urlsplit(text).path) if text.startswith("file:") else text
        if os.path.realpath(path).removesuffix(LOCKS) in _opened:
            raise StoreUnavailable(
                f"{event} on {path}, which this process has open as a Longwatch state",
                hint="Closing that second handle would drop SQLite's locks. Read the state from another process.",
            )


def _note_opened(path: Path, step: int) -> None:
    global _endings
    with _guard:
        real = os.path.realpath(path)
        _opened[real] += step
        if not _opened[real]:
            del _opened[real]
        _endings = tuple(os.path.basename(name) + ending for name in _opened for ending in ("", LOCKS))


def _after_fork() -> None:
    global _endings, _guard
    for database in list(_living):
        database.abandon()
    _living.clear()
    _opened.clear()
    _endings, _guard = (), threading.Lock()


sys.addaudithook(_audit)
os.register_at_fork(after_in_child=_after_fork)
