"""The seam of a simulated process: the machine's one state, seen by somebody who may die, or be lied to, at any commit.

This is the most travelled road of a simulation, so it is made of plain objects rather than of generators.
"""

from collections import Counter
from types import TracebackType
from typing import Protocol

from longwatch.db.connection import Part, Row, Transaction, Value
from longwatch.db.sqlite import SqliteDatabase
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

    def commits(self, told: list[str]) -> None:
        """A transaction is about to commit. Errors: Killed, Broken."""
        ...

    def committed(self, told: list[str]) -> None:
        """A transaction has been committed. Errors: Killed, StoreUnavailable for a lost reply."""
        ...


class FaultyDatabase:
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
        return Writing(self._client, self._real, self._marks, durable)

    def read(self) -> "Looking":
        return Looking(self._client, self._real)

    def take_killed(self) -> list[int]:
        self._client.alive()
        return []

    def close(self) -> None:
        self._client.alive()


class Writing:
    """One transaction of a process."""

    __slots__ = ("_client", "_inside", "_marks", "_told")

    def __init__(self, client: Client, real: SqliteDatabase, marks: Marks, durable: bool) -> None:
        self._client, self._marks = client, marks
        self._inside = real.transaction(durable=durable)
        self._told: list[str] = []

    def __enter__(self) -> Transaction:
        self._client.begins()
        self._client.critical += 1
        try:
            return Told(self._inside.__enter__(), self._marks, self._told)
        except BaseException:
            self._client.critical -= 1
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
            else:
                if isinstance(error, LeaseLost):
                    self._marks["store.overtaken"] += 1
                self._inside.__exit__(kind, error, trace)
        finally:
            self._client.critical -= 1
        if error is None:
            self._client.committed(self._told)

    def _commit(self) -> None:
        try:
            self._client.commits(self._told)
        except BaseException as fate:
            self._inside.__exit__(type(fate), fate, fate.__traceback__)
            raise
        self._inside.__exit__(None, None, None)


class Looking:
    """One transaction that only reads."""

    __slots__ = ("_client", "_inside")

    def __init__(self, client: Client, real: SqliteDatabase) -> None:
        self._client, self._inside = client, real.read()

    def __enter__(self) -> Transaction:
        self._client.begins()
        self._client.critical += 1
        try:
            return self._inside.__enter__()
        except BaseException:
            self._client.critical -= 1
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._inside.__exit__(kind, error, trace)
        finally:
            self._client.critical -= 1


class Told:
    """db.connection.Transaction, with the names of the statements that write: what the trace is made of."""

    __slots__ = ("_count", "_marks", "_one", "all", "now_ms", "told", "wall_ms")

    def __init__(self, tx: Transaction, marks: Marks, told: list[str]) -> None:
        self._marks, self.now_ms, self.wall_ms, self.told = marks, tx.now_ms, tx.wall_ms, told
        self.all, self._one, self._count = tx.all, tx.one, tx.count

    def one(self, statement: str, /, **values: Value) -> Row | None:
        row = self._one(statement, **values)
        if row is not None and statement in FOUND_AGAIN:
            self._note_found(statement, row)
        return row

    def _note_found(self, statement: str, row: Row) -> None:
        """What a write looks for because its first reply may have been lost, and finds."""
        if statement == "tasks.run_by_fence":
            self._marks["store.claim_found_again" if row.outcome is None else "store.end_found_again"] += 1
        else:
            self._marks["store.commit_found_again"] += 1

    def count(self, statement: str, /, **values: Value) -> int:
        changed = self._count(statement, **values)
        self.told.append(f"{statement}={changed}")
        return changed


FOUND_AGAIN = frozenset({"tasks.run_by_fence", "edits.by_id"})


def unavailable(reason: str, *, landed: bool) -> StoreUnavailable:
    error = StoreUnavailable(f"the simulated state {reason}", hint="Repeat.")
    error.maybe_committed = landed
    return error
