"""The seam between Longwatch and its engines: a database gives transactions, a transaction runs named statements.

A transaction fixes its instants when it begins, *after* it has the write lock: a wait for the lock must not make
decisions from a stale clock. `now_ms` is the fleet's steady clock (leases, meters, schedules: wall-clock jumps do not
move it); `wall_ms` is the calendar (budgets). Every statement may name both as `:now_ms` and `:wall_ms`.

Leaving the block commits; an exception rolls back. A commit whose reply is lost raises `StoreUnavailable` with
`.maybe_committed`: look up, never guess.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")

Part = Literal["all", "tasks", "calls", "slots", "ends", "lines", "memory"]
"""What a transaction writes, and so, where an engine lets several write at once, whom it keeps out.

all: everybody else. tasks: nobody else who says so; it locks the tasks it decides from, and moves only those. calls: other
transactions of calls. slots: the same, but for ends; it gives a slot, and decides from one view of all calls. ends: the same,
but for slots; it ends a call and moves no meter. memory: other transactions of memory, and nothing else is written. An engine
with one writer at a time has no use for it.
"""

Value = str | int | float | bytes | None
Row = Any
"""A named tuple whose fields are the columns of the statement."""


class Clock(Protocol):
    """Where a database takes its time from."""

    def steady_ms(self) -> int:
        """Milliseconds on a clock that never jumps while the machine is up (it counts sleep too)."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the epoch by the calendar; may jump."""
        ...

    def boot_id(self) -> str:
        """Changes when the machine starts anew: steady instants of two boots cannot be compared."""
        ...


class Transaction(Protocol):
    """All or nothing. Usable only inside the block that opened it, by one thread."""

    @property
    def now_ms(self) -> int: ...
    @property
    def wall_ms(self) -> int: ...

    def one(self, statement: str, /, **values: Value) -> Row | None:
        """The first row of the named statement ("tasks.by_id"), or None."""
        ...

    def all(self, statement: str, /, **values: Value) -> list[Row]:
        """Every row of the named statement."""
        ...

    def several(self, *asked: tuple[str, Mapping[str, Value]]) -> list[list[Row]]:
        """What `all` answers to each of these reads, which do not need each other's answers, in one go."""
        ...

    def count(self, statement: str, /, **values: Value) -> int:
        """Run the named statement; how many rows it changed."""
        ...

    def each(self, statement: str, names: tuple[str, ...], rows: Sequence[Sequence[Value]], /) -> None:
        """Run the named statement, which writes, once with each row of values. names: what they are, in their order."""
        ...


class Unmet(Exception):
    """What was taken for granted was not so. Everything is undone."""


class Database(Protocol):
    """One state. Safe in threads; refused after fork."""

    @property
    def offset_ms(self) -> int:
        """What this machine's steady clock needs added to read as the fleet's, in epoch milliseconds."""
        ...

    @offset_ms.setter
    def offset_ms(self, offset_ms: int) -> None:
        """Set when the fleet is entered."""
        ...

    def transaction(self, *, durable: bool = True, part: Part = "all") -> AbstractContextManager[Transaction]:
        """Read and write under the state's write lock. durable: survives a power cut once the block has ended.

        part: what is written; transactions of different parts need not wait for each other.
        """
        ...

    def hopefully(self, work: Callable[[Transaction], T], *, durable: bool = True, part: Part = "all") -> T:
        """What `work` answers in one transaction, which has to be one that may be made again when its reply was lost.

        An engine to which a question is a journey takes for granted what nearly always comes, sends it all in one go with
        the commit, and where it was wrong, undoes it and runs `work` again, certain of every answer.
        """
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """Read as of one instant, without waiting for writers. Writing in it is an error."""
        ...

    def take_killed(self) -> list[int]:
        """Pids of processes that had to be killed for standing still in a lock, since the last time this was asked."""
        ...

    def close(self) -> None: ...


class Certain:
    """Of a Database that answers at once: nothing needs to be taken for granted."""

    def hopefully(self: "Database", work: Callable[[Transaction], T], *, durable: bool = True, part: Part = "all") -> T:
        with self.transaction(durable=durable, part=part) as tx:
            return work(tx)
