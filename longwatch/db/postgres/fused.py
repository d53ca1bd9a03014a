"""Several statements said as one: what a transaction does without waiting for answers goes out in as few messages as can be.

A statement of its own costs the server and the client some 15 us each, whatever it does; as a part of another one it costs a
fifth of that. The parts of one statement see the database as it was before it, and none of what the others do: only those
are put together that neither need each other's work nor change the same row. Rows that go into one table become one insert,
which gives them their numbers in order.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from longwatch.db.connection import Value
from longwatch.db.postgres import dialect
from longwatch.db.postgres.link import Request

TOGETHER = frozenset(
    {
        "journal.append",
        "tasks.dependants",
        "tasks.end_run",
        "tasks.finish",
        "tasks.insert_run",
        "tasks.start",
        "tasks.store_step",
    }
)
"""Of one transaction, each once but for the journal's: a run ends, another one begins, a step, and what is told of them."""

ROWS_MOST = 20  # of one insert: each number of rows is a statement of its own to the server
PLACE = re.compile(rb"\$(\d+)")
VALUES = re.compile(rb"\bvalues\b", re.IGNORECASE)


class Queued(NamedTuple):
    """A statement that waits to be sent. hoped: it is taken for granted that it does what it nearly always does."""

    name: str
    values: Mapping[str, Value]
    hoped: bool = False


class Part(NamedTuple):
    """rows: of an insert; 1 of everything else."""

    name: str
    hoped: bool
    rows: int


def requests(queued: Sequence[Queued]) -> list[Request]:
    """What is to be sent, in an order that does the same."""
    found: list[Request] = []
    group: dict[str, list[Queued]] = {}
    for each in queued:
        if not _fits(group, each):
            found += _closed(group)
            group = {}
        group.setdefault(each.name, []).append(each)
    return found + _closed(group)


def parts_of(queued: Sequence[Queued]) -> dict[str, list[Queued]] | None:
    """All of it by name, if it can be put together; None if not."""
    group: dict[str, list[Queued]] = {}
    for each in queued:
        if each.name not in TOGETHER or not _fits(group, each):
            return None
        group.setdefault(each.name, []).append(each)
    return group


def _fits(group: Mapping[str, Sequence[Queued]], each: Queued) -> bool:
    if not group:
        return True
    if each.name not in TOGETHER or not TOGETHER.issuperset(group):
        return False
    return each.name not in group or (each.name == "journal.append" and len(group[each.name]) < ROWS_MOST)


def _closed(group: Mapping[str, Sequence[Queued]]) -> list[Request]:
    if not group:
        return []
    sql, names, nulls = _said(tuple([Part(name, alike[0].hoped, len(alike)) for name, alike in group.items()]))
    every = [each.values for alike in group.values() for each in alike]
    return [Request(sql, [values[name] for values, wanted in zip(every, names, strict=True) for name in wanted], nulls)]


def _stated(name: str) -> dialect.Statement:
    return dialect.load(reading=False)[name]


class Said(NamedTuple):
    """names: of the parameters of each part, in their order."""

    sql: bytes
    names: Sequence[Sequence[str]]
    nulls: Sequence[int]


@cache
def _said(parts: tuple[Part, ...]) -> Said:
    every = [_stated(part.name) for part in parts for _ in range(part.rows)]
    return Said(_text(parts), [stated.names for stated in every], [null for stated in every for null in stated.nulls])


def _text(parts: tuple[Part, ...]) -> bytes:
    if len(parts) == 1 and parts[0].rows == 1:
        stated = _stated(parts[0].name)
        return stated.hoped if parts[0].hoped else stated.sql
    texts: list[bytes] = []
    met: list[bytes] = []
    first = 0
    for place, part in enumerate(parts):
        stated = _stated(part.name)
        rows = [moved(stated.sql, first + row * len(stated.names)) for row in range(part.rows)]
        first += part.rows * len(stated.names)
        sql = b", ".join((rows[0], *(VALUES.split(row, 1)[1] for row in rows[1:])))
        if part.name in dialect.ABSENT:
            texts.append(b"part_%d as (%b)" % (place, sql))
            met.append(b"(1 - least((select count(*) from part_%d), 1))" % place)
        else:
            texts.append(b"part_%d as (%b returning 1)" % (place, sql))
        if part.hoped and part.name in dialect.EXPECTED:
            met.append(b"(select count(*) from part_%d)" % place)
    return b"with %b select 1 / (%b) as met" % (b", ".join(texts), b" * ".join(met) or b"1")


def moved(sql: bytes, by: int) -> bytes:
    """With the numbers of its parameters so many further on."""
    return PLACE.sub(lambda found: b"$%d" % (int(found[1]) + by), sql)
