"""The tables of a state as plain rows, for a copy from one engine to another: names and order come from the migrations.

What is said to an engine is made of these names alone; rows travel as one JSON text for a page. Both engines sort text by
its bytes, so that a page is the same on each, and so is the checksum over all of them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from longwatch.db.connection import Value

PAGE = 500  # rows of a page
encode = msgspec.json.Encoder().encode


class Table(NamedTuple):
    """columns: (name, whether it holds whole numbers). key: the columns of its primary key. numbered: by the engine."""

    name: str
    columns: tuple[tuple[str, bool], ...]
    key: tuple[str, ...]
    numbered: bool


class Plain(Protocol):
    """A transaction as a copy reads it."""

    def plain(self, sql: str, *values: Value) -> list[tuple[Value, ...]]:
        """Run one statement, made of the schema's own names; its parameters are $1, $2, ..."""
        ...


class Filled(Plain, Protocol):
    """A transaction as a copy writes it."""

    def fill(self, table: Table, rows: Sequence[Sequence[Value]]) -> None:
        """Add rows."""
        ...


class Sum(NamedTuple):
    """What a table holds. digest: SHA-256 over its rows in the order of their keys, in hexadecimal."""

    rows: int
    digest: str


def pages(tx: Plain, table: Table) -> Iterator[list[tuple[Value, ...]]]:
    """All rows, in the order of their keys."""
    places = [next(at for at, (name, _) in enumerate(table.columns) if name == key) for key in table.key]
    columns = ", ".join(f'"{name}"' for name, _ in table.columns)
    key = ", ".join(f'"{name}"' for name in table.key)
    after = f"where ({key}) > ({', '.join(f'${place}' for place in range(1, len(places) + 1))})"
    last: tuple[Value, ...] = ()
    while True:
        where = after if last else ""
        page = tx.plain(f'select {columns} from "{table.name}" {where} order by {key} limit {PAGE:d}', *last)
        if page:
            yield page
            last = tuple(page[-1][place] for place in places)
        if len(page) < PAGE:
            return


def count(tx: Plain, table: Table) -> int:
    ((rows,),) = tx.plain(f'select count(*) from "{table.name}"')
    assert isinstance(rows, int)
    return rows


def summed(tx: Plain, table: Table) -> Sum:
    """Of the rows as they are read."""
    digest, rows = hashlib.sha256(), 0
    for page in pages(tx, table):
        digest.update(b"".join(encode(row) for row in page))
        rows += len(page)
    return Sum(rows, digest.hexdigest())


def copy(old: Plain, new: Filled, table: Table, told: Callable[[int], None]) -> Sum:
    """Make the new table what the old one is; what the old one holds. told: how many rows are there, after each page."""
    new.plain(f'delete from "{table.name}"')
    digest, rows = hashlib.sha256(), 0
    for page in pages(old, table):
        new.fill(table, page)
        digest.update(b"".join(encode(row) for row in page))
        rows += len(page)
        told(rows)
    return Sum(rows, digest.hexdigest())
