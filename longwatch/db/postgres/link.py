"""One connection to a server, spoken to in pipelines: several statements go out together, and one wait brings all answers.

A statement through the driver's cursor costs 60 us of processor time here, one in a pipeline of four 6 us; and every wait
for an answer is a switch to the server and back, during which others may be waiting for our locks. So this speaks libpq's
own words. Statements are prepared when they are first used, once for each combination of types.
"""

import select
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from longwatch.db.connection import Row, Value
from longwatch.db.postgres.dialect import BOOLEAN, INT, TEXT

WAIT_MS = 30_000  # for one answer; a server that is silent for longer is taken for lost
WAIT_WRITING_MS = 12_000  # and by whoever writes, because others wait for him: more than a lock may take
KEPT = 512  # prepared statements of one connection
GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
WHOLE = (20, 21, 23, 1700)  # oids of integers; every numeric here is a sum of integers


class ServerError(Exception):
    """What the server refused. state: its five characters, "" when there were none."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state


class Lost(Exception):
    """The connection is gone. state: of the server's last words, "" when there were none."""

    def __init__(self, message: str, state: str = "") -> None:
        super().__init__(message)
        self.state = state


class Request(NamedTuple):
    """A statement with numbered parameters, their values, and the types of those that are null."""

    sql: bytes
    values: Sequence[Value] = ()
    nulls: Sequence[int] = ()


SYNC = Request(b"")
"""Not a statement, and without an answer: ends what is one transaction without having begun one in words."""


Shape = tuple[Callable[[Any], Row], tuple[tuple[int, Callable[[bytes], Any]], ...]]
"""What makes a row of its values, and for each column its place and what reads it."""


class Plan(NamedTuple):
    """A prepared statement: its name, and once it has answered, how its rows are made."""

    name: bytes
    rows: list[Shape]


Sent = tuple[Plan | None, tuple[bytes, tuple[int, ...]] | None]
"""The plan that a request goes by, None: SYNC; and what it was made for, if it was made on this occasion."""


class Answer(NamedTuple):
    rows: list[Row]
    changed: int


class Link:
    """Usable by one thread at a time. Errors of every method: ServerError, Lost.

    life: of the server, as it was when this was connected: another one after every start and every crash.
    wait_ms: for one answer.
    """

    life, wait_ms = "", WAIT_MS

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._pg: PGconn = connection.pgconn
        self._plans: dict[tuple[bytes, tuple[int, ...]], Plan] = {}
        self.functions: dict[object, bytes] = {}  # that this connection has made, by what they were made for
        self.may_make = True  # until it was refused
        self._named = 0
        self._midway = False
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN)
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()

    @property
    def socket(self) -> int:
        return self._pg.socket

    @property
    def pid(self) -> int:
        """Of the server's process at the other end."""
        return self._pg.backend_pid

    @property
    def usable(self) -> bool:
        """Whether it can be asked: it is up, and nobody was interrupted while he waited for an answer."""
        return not self._midway and self._pg.status == pq.ConnStatus.OK

    def in_transaction(self) -> bool:
        return self._pg.transaction_status != pq.TransactionStatus.IDLE

    def close(self) -> None:
        self._connection.close()

    def ask(self, *requests: Request) -> list[Answer]:
        """Send all of them, and wait for all answers. After an error the rest of them was not run."""
        self._midway = True
        try:
            answers = self._ask(requests)
        except psycopg.Error as error:
            raise Lost(str(error).strip()) from error
        except ServerError:
            self._midway = False
            raise
        self._midway = False
        return answers

    def _ask(self, requests: Sequence[Request]) -> list[Answer]:
        sent: list[Sent] = []
        for request in requests:
            if request is SYNC:
                self._pg.pipeline_sync()
                sent.append((None, None))
                continue
            values, types = bound(request.values, request.nulls)
            plan = self._plans.get((request.sql, types))
            if plan is None:
                plan = self._prepare(request.sql, types)
                sent.append((plan, (request.sql, types)))
            else:
                sent.append((plan, None))
            self._pg.send_query_prepared(plan.name, values)
        self._pg.pipeline_sync()
        while self._pg.flush():
            self._wait(select.POLLIN | select.POLLOUT)
        return self._answers(sent)

    def _prepare(self, sql: bytes, types: tuple[int, ...]) -> Plan:
        if len(self._plans) >= KEPT:
            raise AssertionError(f"more than {KEPT} statements: text that should be a value is part of a statement")
        self._named += 1
        plan = Plan(b"s%d" % self._named, [])
        self._pg.send_prepare(plan.name, sql, types)
        self._plans[sql, types] = plan
        return plan

    def _answers(self, sent: Sequence[Sent]) -> list[Answer]:
        answers: list[Answer] = []
        refused: ServerError | None = None
        for plan, fresh in sent:
            if plan is None:
                self._synced()
                continue
            if fresh is not None:
                prepared = self._result()
                if prepared.status not in GOOD:  # refused, or not looked at because of an error before it
                    del self._plans[fresh]
                    refused = refused or error_of(prepared)
            result = self._result()
            if result.status in GOOD:
                answers.append(answer_of(plan, result))
            else:
                refused = refused or error_of(result)
        self._synced()
        if refused is not None:
            raise refused
        return answers

    def _result(self) -> PGresult:
        """The result of one statement, with the end that follows it."""
        result = self._next()
        if result is None:
            raise Lost("the server's answers do not fit what it was asked")
        if result.status != pq.ExecStatus.PIPELINE_SYNC:
            self._next()
        return result

    def _synced(self) -> None:
        result = self._next()
        if result is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
            raise Lost(self._last_words(result))

    def _next(self) -> PGresult | None:
        while self._pg.is_busy():
            self._wait(select.POLLIN)
        result = self._pg.get_result()
        if result is not None and self._pg.status == pq.ConnStatus.BAD:
            raise Lost(self._last_words(result), error_of(result).state)
        return result

    def _last_words(self, result: PGresult | None) -> str:
        return (str(error_of(result)) if result is not None else "") or self._pg.get_error_message().strip()

    def _wait(self, events: int) -> None:
        self._poll.modify(self._pg.socket, events)
        if not self._poll.poll(self.wait_ms):
            raise Lost(f"the server has not answered for {self.wait_ms // 1000} s")
        self._pg.consume_input()

    # -- news ----------------------------------------------------------------------------------------------------------

    def take_news(self) -> int:
        """How many notifications have come, without waiting for any."""
        try:
            self._pg.consume_input()
            news = 0
            while self._pg.notifies() is not None:
                news += 1
        except psycopg.Error as error:
            raise Lost(str(error).strip()) from error
        return news


def bound(values: Sequence[Value], nulls: Sequence[int]) -> tuple[list[bytes | None], tuple[int, ...]]:
    """The values as text, and their types. A NUL, which PostgreSQL's text cannot hold, becomes the mark of a lost letter."""
    texts: list[bytes | None] = []
    types: list[int] = []
    for place, value in enumerate(values):
        if isinstance(value, str):
            texts.append((value if "\0" not in value else value.replace("\0", "\ufffd")).encode())
            types.append(TEXT)
        elif value is None:
            texts.append(None)
            types.append(nulls[place])
        elif isinstance(value, int):
            texts.append(b"%d" % value)
            types.append(INT)
        else:
            raise TypeError(f"{type(value).__name__} is no value of a statement")
    return texts, tuple(types)


def answer_of(plan: Plan, result: PGresult) -> Answer:
    width = result.nfields
    if not width:
        return Answer([], result.command_tuples or 0)
    if not plan.rows:
        plan.rows.append(shape_of(result))
    make, readers = plan.rows[0]
    get = result.get_value
    rows = [
        make([None if (text := get(place, column)) is None else read(text) for column, read in readers])
        for place in range(result.ntuples)
    ]
    return Answer(rows, result.command_tuples or 0)


def shape_of(result: PGresult) -> Shape:
    """How a row is made, and how each of its columns is read."""
    columns = range(result.nfields)
    names = [(result.fname(column) or b"").decode() for column in columns]
    make: Any = cast("Any", namedtuple)("Row", names, rename=True)._make
    return make, tuple((column, reader_of(result.ftype(column))) for column in columns)


def reader_of(type_: int) -> Callable[[bytes], Any]:
    if type_ in WHOLE:
        return int
    return _is_true if type_ == BOOLEAN else bytes.decode


def _is_true(text: bytes) -> bool:
    return text == b"t"


def error_of(result: PGresult) -> ServerError:
    state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
    return ServerError(state.decode(), message.decode(errors="replace"))
