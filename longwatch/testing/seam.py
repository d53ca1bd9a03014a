"""The seam of a simulated process: the machine's one state, seen by somebody who may die, or be lied to, at any commit.

This is the most travelled road of a simulation, so it is made of plain objects rather than of generators, and goes
straight to the connection: what SqliteDatabase adds to a state in memory is a lock that nobody ever waits for. apsw keeps
the statements of the last 256 executions: "begin" and "commit" are not kept, so that they do not push the dear ones out.
"""

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

from longwatch.db.connection import Certain, Part, Row, Transaction, Value
from longwatch.db.sqlite import SqliteDatabase, SqliteTransaction
from longwatch.errors import LeaseLost, StoreUnavailable

Marks = Counter[str]


class Client(Protocol):
    """The simulated process whose seam it is. critical: how many transactions it is inside of."""

    critical: int

    def alive(self) -> None:
        """Errors: Killed."""
        ...

    def begins(self) -> None:
        """A transaction is about to begin. Errors: Killed, StoreUnavailable."""
        ...

    def commits(self, told: str) -> None:
        """A transaction is about to commit; told: its writes, "tasks.claim=1 journal.append=1". Errors: Killed, Broken."""
        ...

    def committed(self, told: str) -> None:
        """A transaction has been committed. Errors: Killed, StoreUnavailable for a lost reply."""
        ...


class FaultyDatabase(Certain):
    """db.connection.Database, of one simulated process."""

    def __init__(self, client: Client, real: SqliteDatabase, marks: Marks) -> None:
        self._client, self._real, self._marks = client, real, marks
        self.in_memory, self.path = True, real.path

    @property
    def offset_ms(self) -> int:
        return self._real.offset_ms

    @offset_ms.setter
    def offset_ms(self, offset_ms: int) -> None:
        self._client.alive()
        self._real.offset_ms = offset_ms

    def transaction(self, *, durable: bool = True, part: Part = "all") -> "Writing":
        return Writing(self._client, self._real, self._marks)

    def read(self) -> "Looking":
        return Looking(self._client, self._real)

    def take_killed(self) -> list[int]:
        self._client.alive()
        return []

    def close(self) -> None:
        self._client.alive()


class Writing:
    """One transaction of a process."""

    __slots__ = ("_client", "_marks", "_real", "_tx")

    def __init__(self, client: Client, real: SqliteDatabase, marks: Marks) -> None:
        self._client, self._real, self._marks = client, real, marks

    def __enter__(self) -> Transaction:
        self._client.begins()
        self._tx = Told(self._real, self._marks)
        self._tx.say("begin immediate")
        self._client.critical += 1
        return self._tx

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            if isinstance(error, LeaseLost):
                self._marks["store.overtaken"] += 1
            self._end("rollback")
            return
        told = " ".join(self._tx.told)
        try:
            self._client.commits(told)
        except BaseException:
            self._end("rollback")
            raise
        self._end("commit")
        self._client.committed(told)

    def _end(self, how: str) -> None:
        self._client.critical -= 1
        self._tx.say(how)


class Looking:
    """One transaction that only reads."""

    __slots__ = ("_client", "_connection", "_real", "_written")

    def __init__(self, client: Client, real: SqliteDatabase) -> None:
        self._client, self._real, self._written = client, real, 0
        self._connection: Any = real.connection

    def __enter__(self) -> Transaction:
        self._client.begins()
        self._connection.execute("begin", can_cache=False)
        self._written = self._connection.total_changes()
        self._client.critical += 1
        now_ms = self._real.clock.steady_ms() + self._real.offset_ms
        return SqliteTransaction(self._connection, now_ms=now_ms, wall_ms=self._real.clock.wall_ms())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.critical -= 1
        written = self._connection.total_changes() - self._written
        self._connection.execute("rollback", can_cache=False)
        assert not written, f"{written} rows were written in a transaction that only reads"


class Told(SqliteTransaction):
    """A transaction with the names of the statements that write: what the trace is made of."""

    def __init__(self, real: SqliteDatabase, marks: Marks) -> None:
        now_ms = real.clock.steady_ms() + real.offset_ms
        super().__init__(real.connection, now_ms=now_ms, wall_ms=real.clock.wall_ms())
        self._marks = marks
        self.told: list[str] = []

    def say(self, sql: str) -> None:
        """As it stands, and not to be remembered."""
        cursor: Any = self._cursor
        cursor.execute(sql, can_cache=False)

    def one(self, statement: str, /, **values: Value) -> Row | None:
        rows = self.all(statement, **values)
        if not rows:
            return None
        if statement in FOUND_AGAIN:
            self._note_found(statement, rows[0])
        return rows[0]

    def _note_found(self, statement: str, row: Row) -> None:
        """What a write looks for because its first reply may have been lost, and finds."""
        if statement == "tasks.run_by_fence":
            self._marks["store.claim_found_again" if row.outcome is None else "store.end_found_again"] += 1
        else:
            self._marks["store.commit_found_again"] += 1

    def count(self, statement: str, /, **values: Value) -> int:
        changed = super().count(statement, **values)
        self.told.append(f"{statement}={changed}")
        return changed

    def each(self, statement: str, names: tuple[str, ...], rows: Sequence[Sequence[Value]], /) -> None:
        for row in rows:
            self.count(statement, **dict(zip(names, row, strict=True)))


FOUND_AGAIN = frozenset({"tasks.run_by_fence", "edits.by_id"})


def unavailable(reason: str, *, landed: bool) -> StoreUnavailable:
    error = StoreUnavailable(f"the simulated state {reason}", hint="Repeat.")
    error.maybe_committed = landed
    return error
