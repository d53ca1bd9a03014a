"""One transaction: it begins with the first thing it asks, so that both go to the server together.

Its instants are kept on the server (`longwatch.now_ms`, `longwatch.wall_ms`, set when it begins), where statements read them:
the first one needs them before they are known here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

from longwatch.db.connection import Row, Value
from longwatch.db.postgres import dialect, fused
from longwatch.db.postgres.fused import Queued
from longwatch.db.postgres.link import Answer, Link, Request
from longwatch.db.tables import Table, encode

ROLL_BACK = Request(b"rollback")
NUMBERED = b"select setval(pg_get_serial_sequence($1, $2), $3)"


class Begun(NamedTuple):
    """link: in the transaction. number: of the transaction, "" of one that only reads. answers: to what was first asked."""

    link: Link
    number: str
    now_ms: int
    wall_ms: int
    answers: list[Answer]


Begin = Callable[[Sequence[Request]], Begun]
"""Begin a transaction and ask what is first asked in it."""


class PostgresTransaction:
    """Statements by name. What has no answer to wait for is sent together with what follows."""

    def __init__(self, begin: Begin, statements: dict[str, dialect.Statement], *, hopes: bool = False) -> None:
        """hopes: what nearly always comes is taken for granted; see Database.hopefully."""
        self._begin, self._statements, self._hopes = begin, statements, hopes
        self.hoped = False  # something was
        self.writes = False
        self.begun: Begun | None = None
        self.queued: list[Queued] = []

    @property
    def now_ms(self) -> int:
        return self.started().now_ms

    @property
    def wall_ms(self) -> int:
        return self.started().wall_ms

    @property
    def link(self) -> Link:
        return self.started().link

    def started(self) -> Begun:
        """Begin now, if nothing was asked yet."""
        if self.begun is None:
            self.begun = self._begin(())
        return self.begun

    def one(self, statement: str, /, **values: Value) -> Row | None:
        rows = self._run(statement, values).rows
        self.writes |= bool(rows) and statement in dialect.RETOLD
        return rows[0] if rows else None

    def all(self, statement: str, /, **values: Value) -> list[Row]:
        if self._hopes and statement in dialect.ABSENT:
            self._queue(statement, values, hoped=True)
            return []
        return self._run(statement, values).rows

    def several(self, *asked: tuple[str, Mapping[str, Value]]) -> list[list[Row]]:
        answers = self._ask(*(self._request(statement, values) for statement, values in asked))
        return [answer.rows for answer in answers[-len(asked) :]]

    def count(self, statement: str, /, **values: Value) -> int:
        if self._hopes and statement in dialect.EXPECTED:
            self._queue(statement, values, hoped=True)
            return 1
        if not self._statements[statement].waits:
            self._queue(statement, values, hoped=False)
            return 1
        return self._run(statement, values).changed

    def each(self, statement: str, names: tuple[str, ...], rows: Sequence[Sequence[Value]], /) -> None:
        for row in rows:
            self.count(statement, **dict(zip(names, row, strict=True)))

    def _queue(self, statement: str, values: dict[str, Value], *, hoped: bool) -> None:
        self.queued.append(Queued(statement, values, hoped))
        self.hoped |= hoped
        self.writes = True

    def take_queued(self) -> list[Request]:
        """What has not been sent yet, and shall be now."""
        queued, self.queued = self.queued, []
        return fused.requests(queued)

    def plain(self, sql: str, *values: Value) -> list[tuple[Value, ...]]:
        """One statement of a copy: see db/tables.py."""
        self.writes = True
        return self._ask(Request(sql.encode(), values))[-1].rows

    def fill(self, table: Table, rows: Sequence[Sequence[Value]]) -> None:
        """Add the rows of a copy; what the server numbers goes on from them."""
        self.writes = True
        names = ", ".join(f'"{name}"' for name, _ in table.columns)
        elements = ", ".join(
            f"cast(value ->> {place} as bigint)" if whole else f"value ->> {place}"
            for place, (_, whole) in enumerate(table.columns)
        )
        source = f"select {elements} from jsonb_array_elements(cast($1 as jsonb))"
        insert = f'insert into "{table.name}" ({names}) {source}'
        self._ask(Request(insert.encode(), (encode(rows).decode(),)))
        if table.numbered and rows:
            (key,) = table.key
            place = next(at for at, (name, _) in enumerate(table.columns) if name == key)
            last = max(cast("int", row[place]) for row in rows)
            self._ask(Request(NUMBERED, (f'"{table.name}"', key, last)))

    def _run(self, statement: str, values: dict[str, Value]) -> Answer:
        return self._ask(self._request(statement, values))[-1]

    def _ask(self, *requests: Request) -> list[Answer]:
        """With what was queued before them, and the beginning if they are the first."""
        queued = self.take_queued()
        if self.begun is None:
            self.begun = self._begin((*queued, *requests))
            return self.begun.answers
        return self.begun.link.ask(*queued, *requests)

    def _request(self, statement: str, values: Mapping[str, Value]) -> Request:
        found = self._statements[statement]
        self.writes |= found.writes
        return Request(found.sql, [values[name] for name in found.names], found.nulls)
