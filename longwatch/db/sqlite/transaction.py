"""Named statements on one connection: how they are said to SQLite, and what comes back."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

import apsw

from longwatch.db import statements
from longwatch.db.connection import Row, Value
from longwatch.db.tables import Table


class Said:
    """A statement as SQLite is told it: with numbered parameters, whose values are picked from the named ones.

    make: of a row, a named tuple; None until the statement has answered with a row, which is when its columns are known.
    """

    __slots__ = ("make", "names", "pick", "sql")

    def __init__(self, text: str) -> None:
        self.sql, self.names = statements.numbered(text, "?")
        self.pick = _picker(self.names)
        self.make: Callable[[Any], Any] | None = None

    def name_columns(self, cursor: apsw.Cursor) -> Callable[[Any], Any]:
        try:
            names = [str(column[0]) for column in cast("Any", cursor).get_description()]
        except apsw.ExecutionCompleteError:
            return tuple
        self.make = cast("Any", namedtuple)("Row", names)._make
        return cast("Callable[[Any], Any]", self.make)


_said: dict[str, Said] = {}  # by the statement's text


def _say(text: str) -> Said:
    made = _said[text] = Said(text)
    return made


def _picker(names: tuple[str | int, ...]) -> Callable[[Any], tuple[Value, ...]]:
    """Of named values, or by place. Faster than SQLite's own binding by name. A value that is missing is a KeyError."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


class SqliteTransaction:
    """Statements by name on one connection, between begin and commit."""

    __slots__ = ("_connection", "_cursor", "_sql", "now_ms", "wall_ms")

    def __init__(self, connection: apsw.Connection, *, now_ms: int, wall_ms: int) -> None:
        self.now_ms, self.wall_ms = now_ms, wall_ms
        self._connection, self._cursor = connection, connection.cursor()  # one for all: each reads to its end
        self._sql = statements.load("sqlite")

    def one(self, statement: str, /, **values: Value) -> Row | None:
        rows = self.all(statement, **values)
        return rows[0] if rows else None

    def all(self, statement: str, /, **values: Value) -> list[Row]:
        values["now_ms"], values["wall_ms"] = self.now_ms, self.wall_ms
        text = self._sql[statement]
        said = _said.get(text) or _say(text)
        cursor = self._cursor.execute(said.sql, said.pick(values))
        make = said.make or said.name_columns(cursor)
        return [make(row) for row in cursor.fetchall()]

    def several(self, *asked: tuple[str, Mapping[str, Value]]) -> list[list[Row]]:
        return [self.all(statement, **values) for statement, values in asked]

    def count(self, statement: str, /, **values: Value) -> int:
        values["now_ms"], values["wall_ms"] = self.now_ms, self.wall_ms
        text = self._sql[statement]
        said = _said.get(text) or _say(text)
        self._cursor.execute(said.sql, said.pick(values)).fetchall()
        return self._connection.changes()

    def each(self, statement: str, names: tuple[str, ...], rows: Sequence[Sequence[Value]], /) -> None:
        text = self._sql[statement]
        said = _said.get(text) or _say(text)
        if said.names != names:
            given, instants = (*names, "now_ms", "wall_ms"), (self.now_ms, self.wall_ms)
            order = _picker(tuple(given.index(name) for name in said.names))
            rows = [order((*row, *instants)) for row in rows]
        self._cursor.executemany(said.sql, rows)

    def plain(self, sql: str, *values: Value) -> list[tuple[Value, ...]]:
        """One statement of a copy: see db/tables.py."""
        return cast("list[tuple[Value, ...]]", self._connection.execute(sql, values).fetchall())

    def fill(self, table: Table, rows: Sequence[Sequence[Value]]) -> None:
        """Add the rows of a copy."""
        names = ", ".join(f'"{name}"' for name, _ in table.columns)
        marks = ", ".join("?" * len(table.columns))
        self._connection.executemany(f'insert into "{table.name}" ({names}) values ({marks})', rows)
