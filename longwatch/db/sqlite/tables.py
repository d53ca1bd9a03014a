"""Every table of a state, read off an empty one."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from collections.abc import Sequence

import apsw

from longwatch.db import statements
from longwatch.db.statements import Migration
from longwatch.db.tables import Table


def tables(known: Sequence[Migration] | None = None) -> tuple[Table, ...]:
    """Every table that the migrations make, in their order. known: left out, those of this code."""
    connection = apsw.Connection(":memory:")
    for migration in known or statements.migrations():
        connection.execute(migration.text)
    names = [
        str(name)
        for (name,) in connection.execute("select name from sqlite_schema where type = 'table' order by rowid")
    ]
    return tuple(_table(connection, name) for name in names)


KEY = "select name from pragma_table_info(?) where pk > 0 order by pk"


def _table(connection: apsw.Connection, name: str) -> Table:
    found = connection.execute(
        "select name, lower(type), pk from pragma_table_info(?) order by cid", (name,)
    ).fetchall()
    columns = tuple((str(column), sort != "text") for column, sort, _ in found)
    key = tuple(str(row[0]) for row in connection.execute(KEY, (name,)))
    return Table(name, columns, key, [sort for _, sort, place in found if place] == ["integer"])
