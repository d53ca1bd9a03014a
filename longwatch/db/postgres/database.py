"""PostgreSQL: transactions by named statements, whose outcome is always known or said to be unknown.

Locks, always in this order, so that nobody waits in a circle:

1. The state's advisory lock: alone, or shared by transactions of one part ("tasks", "calls", "lines").
2. The advisory locks of calls, of those that give slots and of those that end calls, in this order: one transaction of calls at
   a time, because each decides from the sum over all of them; but a call may end while another one, that reads all of them at
   once, is given its slot. Or that of lines, with which calls that wait for their turn do not keep those up that have it.
3. The advisory lock of what comes due, for a claim that finds tasks whose instant has come: one claim at a time makes them
   ready. Who waits for their rows instead has them locked to his end, as PostgreSQL does it, and others skip what he leaves.
4. Tasks, in the order submitted (`for update` in the overrides); rows to choose from are skipped when somebody has them.
5. The fleet's row, for fences.

The clock is read after the first two. What a transaction of "tasks" may do without being alone is said where it asks
for it: it moves only tasks that it holds or has locked, and never ends one badly, which may reach any number of others.

A transaction that was undone (the connection went before its commit was sent, it lost against another one) raises
`StoreUnavailable` with `.undone`. When the reply to a commit is lost, the server is asked, on a new connection, what
became of the transaction's number. The outcome is unknown (`.maybe_committed`) if it does not come back in time, or says
that the number was committed and has been started anew since: a crash loses numbers that were not on its disk, and they
are given again.

What is not durable survives a crash of the server all the same if it is of calls: a limit that forgets what it let through
would let it through twice, and a call whose end was forgotten would keep its place for as long as its process lives. They
commit without waiting for the disk, so that others need not wait for the lock that long, and then wait for it.
"""

import contextlib
import os
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from longwatch.db.connection import Clock, Part, Row, Transaction, Unmet, Value
from longwatch.db.postgres import dialect, functions, procedures
from longwatch.db.postgres.bells import ListenBells
from longwatch.db.postgres.clock import GivenInstants, Instants, ServerInstants
from longwatch.db.postgres.fate import Given, landed
from longwatch.db.postgres.functions import Opening
from longwatch.db.postgres.link import SYNC, WAIT_MS, WAIT_WRITING_MS, Answer, Link, Lost, Request, ServerError
from longwatch.db.postgres.opening import NO_NUMBER, NUMBER, Locks, locks_of, opening_text
from longwatch.db.postgres.pool import Pool
from longwatch.db.postgres.refusals import lost, refused, unavailable
from longwatch.db.postgres.transaction import ROLL_BACK, Begun, PostgresTransaction
from longwatch.errors import StoreUnavailable

T = TypeVar("T")
IN_ORDER = ("journal.list", "journal.list_of", "memory.journal")
"""What is read from a place onwards. Entries get their numbers before their commit: a read of these waits until nobody writes,
and keeps writers out while it lasts, because a number that is missing then will never come."""
MIGRATES = 5  # times: whoever loses against others finds out after a second
WAIT_MIGRATING_MS = 600_000  # for one statement of a migration: an index of a large table takes its time

BEGIN = Request(b"begin isolation level read committed read write")
BEGIN_READING = Request(b"begin isolation level repeatable read read only")
BEGIN_READING_NEWEST = Request(b"begin isolation level read committed read only")
COMMIT = Request(b"commit")
FLUSH = Request(b"select pg_logical_emit_message(true, 'longwatch', '')")  # waits for the disk, with all before it
OF_CALLS = ("calls", "slots", "ends")
SET_FORWARDS = b"update fleet set offset_ms = offset_ms + $1"


class PostgresDatabase:
    """The state in one schema of a PostgreSQL database. Safe in threads; refused after fork."""

    in_memory = False

    def __init__(self, url: str, machine: Clock, *, clock: Clock | None = None, syncs: bool = True) -> None:
        """machine: this machine's clocks. clock: to be used instead of the server's. syncs: whether durable transactions
        wait for the server's disk; without, a crash of the server may take the newest commits.

        Errors: ConfigError for an address that cannot be; StoreUnavailable with the reason, within five seconds.
        """
        self._forked, self._syncs = False, syncs
        self._pool = Pool(url, machine.steady_ms)
        self.place, self.server = self._pool.place, self._pool.server
        self._known = ServerInstants(machine, self.server.history)
        self._instants: Instants = self._known if clock is None else GivenInstants(clock)
        self.clock: Clock = clock or self._known
        self.bells = ListenBells(self._pool)
        self._entered = False  # the fleet's row is there, and tells what the clock needs added
        _living.add(self)

    @property
    def offset_ms(self) -> int:
        return self._instants.offset_ms

    @offset_ms.setter
    def offset_ms(self, offset_ms: int) -> None:
        self._instants.entered(offset_ms)
        self._entered = True

    def close(self) -> None:
        """Give back every connection. Twice does no harm."""
        if not self._forked:
            _living.discard(self)
            self._pool.close()

    def abandon(self) -> None:
        """In a forked child: the connections are the parent's, and nothing is said on them any more."""
        self._forked = True
        _abandoned.append(self._pool)

    def take_killed(self) -> list[int]:
        """None here: the server itself cuts off who stands still inside a transaction."""
        return []

    # -- transactions -------------------------------------------------------------------------------------------------

    def hopefully(self, work: Callable[[Transaction], T], *, durable: bool = True, part: Part = "all") -> T:
        """A transaction in which nothing was read is sent in one go with its commit."""
        self._usable()
        tx = self._new(durable=durable, part=part, hopes=True)
        try:
            with self._ended(tx):
                answer = work(tx)
                if tx.hoped and tx.begun is None:
                    self._say_at_once(tx, durable=durable, part=part)
                else:
                    self._commit(tx, flushes=self._flushes(durable, part))
                return answer
        except Unmet:
            with self.transaction(durable=durable, part=part) as certain:
                return work(certain)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True, part: Part = "all") -> Generator[PostgresTransaction]:
        self._usable()
        tx = self._new(durable=durable, part=part)
        with self._ended(tx):
            yield tx
            self._commit(tx, flushes=self._flushes(durable, part))

    def _new(self, *, durable: bool, part: Part, hopes: bool = False) -> PostgresTransaction:
        """hopes: errors are Unmet too."""
        locks, synced = locks_of(part), durable and self._syncs

        def begin(first: Sequence[Request]) -> Begun:
            return self._begin(BEGIN, first, NUMBER, locks, synced=synced)

        return PostgresTransaction(begin, dialect.load(reading=False), hopes=hopes)

    @contextlib.contextmanager
    def read(self) -> Generator[PostgresTransaction]:
        self._usable()
        statements = dialect.load(reading=True)
        in_order = {statements[name].sql for name in IN_ORDER}

        def begin(first: Sequence[Request]) -> Begun:
            if any(request.sql in in_order for request in first):
                return self._begin(BEGIN_READING_NEWEST, first, NO_NUMBER, locks_of("all"))
            return self._begin(BEGIN_READING, first, NO_NUMBER, ())

        tx = PostgresTransaction(begin, statements)
        with self._ended(tx):
            yield tx

    @contextlib.contextmanager
    def _ended(self, tx: PostgresTransaction) -> Generator[None]:
        """Give the connection back, with nothing left of the transaction unless it was committed."""
        try:
            yield
        except (ServerError, Lost) as error:
            if tx.hoped and isinstance(error, ServerError) and error.state == dialect.UNMET:
                raise Unmet from error
            with self._translated():
                raise
        finally:
            if tx.begun is not None:
                self._roll_back(tx.begun.link)
                self._pool.give(tx.begun.link)

    def _begin(
        self, begin: Request, first: Sequence[Request], number: bytes, locks: Locks, *, synced: bool = True
    ) -> Begun:
        """Begin, and ask what is first asked. Nothing of it can have landed, so that it may be done again."""
        for last in (False, True):
            opening = self._opening(number, locks, synced=synced)
            wait_ms = WAIT_WRITING_MS if number is NUMBER else WAIT_MS
            link, answers = self._started(begin, opening, *first, wait_ms=wait_ms)
            row = answers[1].rows[0]
            if last or not self._instants.went_back(row.server_ms, row.offset_ms):
                instants = self._instants.told(row.server_ms, row.offset_ms)
                return Begun(link, row.number, *instants, answers[2:])
            self._roll_back(link)
            self._pool.give(link)
            self._set_forwards()
        raise AssertionError("the last round returns")

    def _opening(self, number: bytes, locks: Locks, *, synced: bool = True) -> Request:
        """Takes the transaction's locks, and then fixes its instants. What follows sees what was committed until then.

        The offset is read as it was before the wait: who comes right behind a clock that is set forwards again takes the
        latest instant that its process knows of.
        """
        asks = self._instants.asks
        text = opening_text(asks, asks and self._entered, number, locks, synced)
        return Request(text, self._opening_values(locks))

    def _opening_values(self, locks: Locks) -> list[Value]:
        values = [self._known.last_ms] if self._instants.asks else [*self._instants.told(0, 0)]
        return [*values, *(key for _, lock in locks for key in (self.server.place, lock))]

    def _started(self, *requests: Request, wait_ms: int = WAIT_WRITING_MS) -> tuple[Link, list[Answer]]:
        """The answers on a connection in a new transaction. One that was kept may be dead: then another one is taken."""
        for last in (False, True):
            link = self._pool.take()
            link.wait_ms = wait_ms
            try:
                return link, link.ask(*requests)
            except BaseException as error:
                self._roll_back(link)
                self._pool.give(link)
                if isinstance(error, Lost) and not last:
                    self._pool.forget_idle()
                    continue
                with self._translated():
                    raise
        raise AssertionError("the last try returns or raises")

    def _set_forwards(self) -> None:
        """The server's clock was set back: let the fleet's go on, unless another process has seen to it."""
        known = self._known
        alone, clock = self._opening(NO_NUMBER, locks_of("all")), self._opening(NO_NUMBER, ())
        link, answers = self._started(BEGIN, alone, clock)  # read again behind the lock: as the other process left it
        row = answers[-1].rows[0]
        try:
            with self._translated():
                missing_ms = known.should_be_ms() - row.server_ms - row.offset_ms
                step = (Request(SET_FORWARDS, (missing_ms,)),) if known.went_back(row.server_ms, row.offset_ms) else ()
                link.ask(*step, COMMIT)
        finally:
            self._pool.give(link)

    def at_once(self, procedure: str, /, *, durable: bool, part: Part, **values: Value) -> Row | None:
        """What a procedure answers that is a transaction of its own; None where this user may not make any.

        Errors: Unmet where it divides by zero; StoreUnavailable, of which it has to be able to be made again.
        """
        self._usable()
        opening, first = self._said_opening(durable=durable, part=part)
        try:
            with self._translated(), self._pool.link() as link:
                flushes = self._flushes(durable, part)
                said = procedures.request_of(link, procedure, values, opening, first, flushes=flushes)
                if said is None:
                    return None
                answer, *_ = self._sent(link, said)
        except ServerError as error:
            if error.state == dialect.UNMET:
                raise Unmet from error
            raise
        row = answer.rows[0]
        self._heed(row.told_server_ms, row.told_offset_ms)
        return row

    def _flushes(self, durable: bool, part: Part) -> bool:
        """Whether it is committed without its locks waiting for the disk, and then waits for it."""
        return self._syncs and not durable and part in OF_CALLS

    def _say_at_once(self, tx: PostgresTransaction, *, durable: bool, part: Part) -> None:
        """All that was queued in one go: by a function, where there can be one."""
        opening, first = self._said_opening(durable=durable, part=part)
        flush = (SYNC, FLUSH) if self._flushes(durable, part) else ()
        with self._pool.link() as link:
            said = functions.request_of(link, tx.queued, opening, first)
            if said is not None:
                answer, *_ = self._sent(link, said, *flush)
                instants = functions.told(answer)
            else:
                statement = self._opening(NO_NUMBER, opening.locks, synced=opening.synced)
                answer, *_ = self._sent(link, statement, *tx.take_queued(), *flush)
                instants = answer.rows[0].server_ms, answer.rows[0].offset_ms
        self._heed(*instants)

    def _said_opening(self, *, durable: bool, part: Part) -> tuple[Opening, list[Value]]:
        """How a transaction opens that the server is told whole, and the values of it."""
        locks, asks = locks_of(part), self._instants.asks
        return Opening(asks, asks and self._entered, locks, durable and self._syncs), self._opening_values(locks)

    def _sent(self, link: Link, *requests: Request) -> list[Answer]:
        """What begins by itself, and is committed by its end. Who gets no reply has to look for what it wrote."""
        link.wait_ms = WAIT_WRITING_MS
        try:
            return link.ask(*requests)
        except Lost as error:
            self._pool.forget_idle()
            reason = f"the connection was lost in a transaction ({error})"
            raise unavailable(self.place, reason, hint="Look up whether it landed.", maybe=True) from error
        finally:
            self._roll_back(link)

    def _heed(self, server_ms: int, offset_ms: int) -> None:
        """What the clock said in a transaction that has landed."""
        if self._instants.went_back(server_ms, offset_ms):
            with contextlib.suppress(StoreUnavailable):  # who comes next sees it too
                self._set_forwards()
        else:
            self._instants.told(server_ms, offset_ms)

    def _commit(self, tx: PostgresTransaction, *, flushes: bool) -> None:
        if tx.begun is None and not tx.queued:
            return  # nothing was asked
        begun = tx.started()
        try:
            begun.link.ask(*tx.take_queued(), COMMIT, *((FLUSH,) if flushes and tx.writes else ()))
        except Lost as error:
            given = Given(begun.number, begun.link.life, self.server.history)
            if not landed(self._pool, given, error):
                raise lost(self.place, error) from error

    def _roll_back(self, link: Link) -> None:
        """When that fails the connection is closed, which rolls back as well."""
        if link.usable and link.in_transaction():
            with contextlib.suppress(Lost, ServerError):
                link.ask(ROLL_BACK)

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except ServerError as error:
            told = refused(self.place, error)
            if told is None:
                raise
            raise told from error
        except Lost as error:
            self._pool.forget_idle()
            raise lost(self.place, error) from error

    def _usable(self) -> None:
        if self._forked:
            raise StoreUnavailable("this fleet was opened before a fork", hint="Open it again in the child process.")

    def scrub(self, tables: Sequence[str] = ()) -> None:
        """Leave nothing in the tables' files of what was deleted or overwritten. The server's WAL is recycled by itself."""
        with self._pool.link() as link, self._translated():
            link.wait_ms = WAIT_MIGRATING_MS
            for table in tables:
                link.ask(Request(f"vacuum (full) {table}".encode()))

    # -- the schema ----------------------------------------------------------------------------------------------------

    def schema(self) -> int:
        """The number of the last migration; 0 of an empty database."""
        with self._pool.link() as link, self._translated():
            (there,) = link.ask(Request(b"select to_regclass('longwatch_schema') is not null as there"))
            if not there.rows[0].there:
                return 0
            (found,) = link.ask(Request(b"select max(number) as number from longwatch_schema"))
            self._recognise(link)
            return int(found.rows[0].number or 0)

    def _recognise(self, link: Link) -> None:
        """The tables, which are part of the history, may have been made since we connected."""
        self.server = self._pool.server = self._pool.who(link)
        self._known.history = self.server.history

    def apply(self, number: int, text: str, guard: Callable[[Transaction], None]) -> None:
        """Run the migration, unless the guard raises or another process was faster.

        It takes its locks in an order of its own, and may lose against those who are at work: then it is run again.
        """
        for left in reversed(range(MIGRATES)):
            try:
                self._apply(number, text, guard)
                break
            except StoreUnavailable as error:
                if not error.undone or not left:
                    raise
        with self._pool.link() as link, self._translated():
            self._recognise(link)

    def _apply(self, number: int, text: str, guard: Callable[[Transaction], None]) -> None:
        with self.transaction() as tx:
            tx.link.wait_ms = WAIT_MIGRATING_MS
            tx.plain("create table if not exists longwatch_schema (number bigint primary key)")
            found = tx.one("fleet.schema")
            if found is None or found.number < number:
                guard(tx)
                for statement in dialect.migration(text):
                    tx.plain(statement)
                tx.plain("insert into longwatch_schema (number) values ($1)", number)


_living: "weakref.WeakSet[PostgresDatabase]" = weakref.WeakSet()
_abandoned: list[object] = []  # a parent's connections: kept, so that the child's interpreter never closes them


def _after_fork() -> None:
    for database in list(_living):
        database.abandon()
    _living.clear()


os.register_at_fork(after_in_child=_after_fork)
