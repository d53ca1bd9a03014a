"""A transaction that the server makes up its mind about by itself, as one message: a procedure opens it, commits it, and then
waits for the disk without its locks.

Sent as statements it is three messages, and every step of the decision has to be part of one statement, whose plan is set
up whole each time, whatever of it is needed. The procedure ends where its answer is known. It is written down as a named
statement that is a block of PL/pgSQL, and made as functions.py makes functions: where a connection first needs it.

The block sees its parameters, and the instants as they are behind the locks. It sets what it answers; one that returns before
its end has changed nothing, and nobody waits for the disk.
"""

from collections.abc import Mapping, Sequence

from longwatch.db.connection import Value
from longwatch.db.postgres import dialect
from longwatch.db.postgres.functions import (
    DECLARED,
    NAMES,
    Opening,
    made,
    named,
    opened,
    places,
    types_of,
    with_instants,
)
from longwatch.db.postgres.fused import moved
from longwatch.db.postgres.link import Link, Request

ANSWERS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "call.admit_at_once": (("given_us", dialect.INT), ("now_us", dialect.INT), ("slowest", dialect.TEXT)),
    "call.settle_at_once": (),
}
"""The procedures, and what each answers behind what all of them do."""

ALWAYS = (("told_server_ms", dialect.INT), ("told_offset_ms", dialect.INT), ("changed", dialect.BOOLEAN))
TEXT = b"""
create procedure pg_temp.{name}(%(types)b, %(answers)b) language plpgsql as $longwatch$
declare%(declared)b
begin
%(opened)b
  told_server_ms := at_server_ms;
  told_offset_ms := at_offset_ms;
  changed := false;
%(block)b;%(then)b
end
$longwatch$"""
FLUSHED = b"""
  commit;
  locked := pg_logical_emit_message(true, 'longwatch', '') is null;"""


def request_of(
    link: Link, name: str, given: Mapping[str, Value], opening: Opening, first: Sequence[Value], *, flushes: bool
) -> Request | None:
    """What runs it on this connection; None where it cannot be made.

    first: values of the opening, integers. flushes: it commits before it waits for the disk. Errors: ServerError, Lost.
    """
    if not link.may_make:
        return None
    stated = dialect.load(reading=False)[name]
    values = [*first, *(given[each] for each in stated.names)]
    nulls = [*(dialect.INT for _ in first), *stated.nulls]
    types = types_of(values, nulls)
    statement = link.functions.get(known := (name, opening, flushes, types))
    if statement is None:
        answers = b", null" * len(ALWAYS + ANSWERS[name])
        call = b"call pg_temp.{name}(%b%b)" % (places(len(values)), answers)
        statement = made(link, known, text(name, opening, types, flushes=flushes), call)
    return None if statement is None else Request(statement, values, nulls)


def text(name: str, opening: Opening, types: Sequence[int], *, flushes: bool) -> bytes:
    """What makes it."""
    texts, number = opened(opening)
    parts = {
        b"types": named(types),
        b"answers": b", ".join(
            [b"out %b %b" % (each.encode(), NAMES[type_]) for each, type_ in ALWAYS + ANSWERS[name]]
        ),
        b"declared": DECLARED,
        b"opened": b"".join(texts),
        b"block": with_instants(moved(dialect.load(reading=False)[name].sql, number)),
        b"then": FLUSHED if flushes else b"",
    }
    return TEXT % parts
