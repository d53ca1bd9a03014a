"""A whole transaction as one call of a function of the server, made where a connection first needs it, and gone with it.

Sent as statements, even in one go, a transaction is a plan for its opening and one for all its work, and some 15 us for
each message on either side. A function is one message: it takes the locks, reads the clock behind them, and runs the
statements in their order, each of which sees what was committed when it began. Where one that was hoped for does nothing
it fails, and undoes all of it.

It is made from the named statements, in the connection's own temporary schema: nothing is installed, numbered or granted,
and two versions of the code work side by side. Who may not make one (`revoke temporary on database`) sends statements, as
fused.py puts them together.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, cast

from longwatch.db.connection import Value
from longwatch.db.postgres import dialect
from longwatch.db.postgres.fused import VALUES, Queued, moved, parts_of
from longwatch.db.postgres.link import Answer, Link, Request, ServerError
from longwatch.db.postgres.opening import OFFSET_MS, SERVER_MS, Locks

ARGUMENTS_MOST = 100  # of a function, as PostgreSQL is built
NAMES = {dialect.INT: b"bigint", dialect.TEXT: b"text", dialect.BOOLEAN: b"boolean"}
READ_AT = b"cast(current_setting('longwatch.%b') as bigint)"
MAY_NOT = (
    "42501",
    "42704",
)  # states of a user without the right to temporary objects, of a server without the language
UNMET = b"raise division_by_zero;"
NAME = b"{name}"  # where a text has the name of what it makes or calls
TEXT = b"""
create function pg_temp.{name}(%(types)b) returns text language plpgsql as $longwatch$
declare%(declared)b
begin
%(body)b
  return at_server_ms || ' ' || at_offset_ms;
end
$longwatch$"""
DECLARED = b"""
  at_server_ms bigint;
  at_offset_ms bigint := 0;
  at_now_ms bigint;
  at_wall_ms bigint;
  locked boolean;"""
ASKED = b"""
  at_server_ms := %b;
  at_offset_ms := %b;
  at_now_ms := greatest(at_server_ms + at_offset_ms, $1);
  at_wall_ms := at_server_ms;"""
GIVEN = b"""
  at_server_ms := 0;
  at_now_ms := $1;
  at_wall_ms := $2;"""
NOT_DURABLE = b"\n  perform set_config('synchronous_commit', 'off', true);"


class Opening(NamedTuple):
    """asks: for the server's clock. entered: the fleet's row says what it needs added. synced: waits for the disk."""

    asks: bool
    entered: bool
    locks: Locks
    synced: bool


class Body(NamedTuple):
    """text: what the function does. names: behind the opening's parameters, whose they are, by its place, and their names."""

    text: bytes
    names: Sequence[tuple[int, Sequence[str]]]
    nulls: Sequence[int]


def request_of(link: Link, queued: Sequence[Queued], opening: Opening, first: Sequence[Value]) -> Request | None:
    """What does all of it on this connection; None where no function can. Its answer is what `told` reads.

    first: values of the opening, integers. Errors: ServerError, Lost while the function was made: nothing was done then.
    """
    body = _body(tuple([(each.name, each.hoped) for each in queued]), opening) if link.may_make else None
    if body is None:
        return None
    values = list(first)
    for place, names in body.names:
        given = queued[place].values
        values += [given[name] for name in names]
    types = types_of(values, body.nulls)
    statement = link.functions.get(known := (body.text, types)) or made(link, known, *_texts(body, types))
    return None if statement is None else Request(statement, values, body.nulls)


def told(answer: Answer) -> tuple[int, int]:
    """(server_ms, offset_ms): the server's clock, and what the fleet's row adds to it."""
    server_ms, offset_ms = answer.rows[0].told.split()
    return int(server_ms), int(offset_ms)


def _texts(body: Body, types: Sequence[int]) -> tuple[bytes, bytes]:
    """What makes the function, and what calls it."""
    parts = {b"types": named(types), b"declared": DECLARED, b"body": body.text}
    return TEXT % parts, b"select pg_temp.{name}(%b) as told" % places(len(types))


def types_of(values: Sequence[Value], nulls: Sequence[int]) -> tuple[int, ...]:
    """Of the parameters that take these, as `bound` gives them."""
    given = zip(values, nulls, strict=True)
    return tuple(
        [null if value is None else dialect.TEXT if type(value) is str else dialect.INT for value, null in given]
    )


def named(types: Sequence[int]) -> bytes:
    return b", ".join([NAMES[each] for each in types])


def places(amount: int) -> bytes:
    return b", ".join([b"$%d" % (place + 1) for place in range(amount)])


def made(link: Link, known: object, text: bytes, call: bytes) -> bytes | None:
    """The statement that calls it, once it is there. known: what it is kept by. None: this user may not make any."""
    name = b"longwatch_%d" % len(link.functions)
    try:
        link.ask(Request(text.replace(NAME, name)))
    except ServerError as error:
        if error.state not in MAY_NOT:
            raise
        link.may_make = False
        return None
    return link.functions.setdefault(known, call.replace(NAME, name))


@cache
def _body(said: tuple[tuple[str, bool], ...], opening: Opening) -> Body | None:
    """said: the statements, and whether each is hoped for."""
    group = parts_of([Queued(name, {"place": place}, hoped) for place, (name, hoped) in enumerate(said)])
    if group is None:
        return None
    texts, number = opened(opening)
    names: list[tuple[int, Sequence[str]]] = []
    nulls = [dialect.INT] * number
    for name, alike in group.items():
        found = _stated(name)
        names += [(cast("int", each.values["place"]), found.names) for each in alike]
        rows = [moved(found.sql, number + row * len(found.names)) for row in range(len(alike))]
        number += len(alike) * len(found.names)
        nulls += list(found.nulls) * len(alike)
        texts.append(_done(name, b", ".join((rows[0], *(VALUES.split(row, 1)[1] for row in rows[1:]))), alike[0].hoped))
    if number > ARGUMENTS_MOST:
        return None
    return Body(with_instants(b"".join(texts)), names, nulls)


def with_instants(text: bytes) -> bytes:
    """Read from variables, where a statement reads them from the transaction's settings."""
    for instant in (b"now_ms", b"wall_ms"):
        text = text.replace(READ_AT % instant, b"at_" + instant)
    return text


def _stated(name: str) -> dialect.Statement:
    return dialect.load(reading=False)[dialect.ABSENT.get(name, name)]


def opened(opening: Opening) -> tuple[list[bytes], int]:
    """Its texts, and how many parameters they have."""
    texts = [] if opening.synced else [NOT_DURABLE]
    number = 1 if opening.asks else 2
    for lock, _ in opening.locks:
        texts.append(b"\n  locked := %b is null;" % (lock % (number + 1, number + 2)))
        number += 2
    texts.append(ASKED % (SERVER_MS, OFFSET_MS if opening.entered else b"0") if opening.asks else GIVEN)
    return texts, number


def _done(name: str, sql: bytes, hoped: bool) -> bytes:
    if name in dialect.ABSENT:
        return b"\n  perform %b;\n  if found then %b end if;" % (sql.strip().removeprefix(b"select"), UNMET)
    fails = b"\n  if not found then %b end if;" % UNMET if hoped and name in dialect.EXPECTED else b""
    return b"\n  %b;%b" % (sql, fails)
