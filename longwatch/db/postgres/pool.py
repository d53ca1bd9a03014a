"""The connections of one process to one server: at most MOST, made when they are needed, kept when they are given back."""

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import psycopg

from longwatch.db.postgres.link import WAIT_MS, Link, Lost, Request, ServerError
from longwatch.db.postgres.refusals import OLDEST, check, is_starting, refused, shown, unavailable, unreachable
from longwatch.errors import StoreUnavailable

MOST = 4  # a fleet of 15 processes stays below the 100 connections that a server allows by default
CONNECT_S = 4
STARTING_MS, AWAY_MS = 3_000, 5_000  # how long a server that starts is waited for: at first, and once it was there
PAUSE_S = 0.1  # between two tries
SILENT_S = 3  # a peer that says nothing is asked whether it is there; three times that, and it is gone
STILL_MS = 2_000  # a process that stands still inside a transaction is cut off, so that the others can go on
LOCK_MS = 10_000

SETTINGS = (
    f"set idle_in_transaction_session_timeout = {STILL_MS}",
    f"set lock_timeout = {LOCK_MS}",
    f"set tcp_keepalives_idle = {SILENT_S}",
    f"set tcp_keepalives_interval = {SILENT_S}",
    "set tcp_keepalives_count = 2",
    f"set tcp_user_timeout = {3 * SILENT_S * 1000}",
    "set default_transaction_isolation = 'read committed'",  # of transactions that begin by themselves
    "set plan_cache_mode = force_generic_plan",  # a plan of its own for every value takes as long as the statement
    "set jit = off",  # compiling a plan takes longer than any statement here
    "set enable_seqscan = off",  # a plan made while a table was small stays right when it has grown
    "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'",
)
LIFE = b"""
select cast(pg_postmaster_start_time() as text) || ' ' || coalesce(cast(stats_reset as text), '') as life
  from pg_stat_bgwriter
"""  # its statistics begin anew when it has crashed, also if only one of its processes did
WHO = b"""
select current_setting('server_version_num') as version, pg_is_in_recovery() as standby,
       current_setting('transaction_read_only') = 'on' as reading,
       (select cast(oid as bigint) % 2147483648 from pg_namespace where nspname = current_schema()) as place,
       case when not pg_is_in_recovery() then
         'server ' || (select system_identifier from pg_control_system())
         || ' timeline ' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
         || ' database ' || (select oid from pg_database where datname = current_database())
         || ' table ' || coalesce(cast(cast(to_regclass('fleet') as oid) as text), 'none') end as history
"""


class Server(NamedTuple):
    """place: number of the schema the tables are in, of 31 bits.

    history: changes when the server is another one, was put back to an earlier time, or took over as the primary, and when
    the database or the fleet's table in it was made anew, from a dump for example.
    """

    place: int
    history: str


class Pool:
    """Safe in threads."""

    def __init__(self, url: str, steady_ms: Callable[[], int]) -> None:
        """Errors: ConfigError for an address that cannot be; StoreUnavailable with the reason, within five seconds."""
        self.parts, self.url, self.place = check(url), url, shown(url)
        self._steady_ms = steady_ms
        self._changed = threading.Condition()
        self._idle: list[Link] = []
        self._out = 0
        self.closed = False
        self._was_there = False
        first = self._connect(STARTING_MS)
        self.server = self.who(first)
        self._was_there = True
        self._idle.append(first)

    @contextlib.contextmanager
    def link(self) -> Generator[Link]:
        """One connection, for the calling thread alone. One that is left in a transaction, or lost, is closed.

        Errors: StoreUnavailable.
        """
        link = self.take()
        try:
            yield link
        finally:
            self.give(link)

    def take(self) -> Link:
        with self._changed:
            until_ms = self._steady_ms() + LOCK_MS
            while not self.closed and not self._idle and self._out >= MOST:
                self._changed.wait(PAUSE_S)
                if self._steady_ms() > until_ms:
                    raise unavailable(self.place, f"all {MOST} connections are in use", hint="Repeat.", undone=True)
            if self.closed:
                raise StoreUnavailable("this fleet is closed", hint="Open it again with longwatch.open(...).")
            self._out += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect(AWAY_MS)
        except BaseException:
            self._gave(None)
            raise

    def give(self, link: Link) -> None:
        link.wait_ms = WAIT_MS
        good = link.usable and not link.in_transaction() and not self.closed
        if not good:
            link.close()
        self._gave(link if good else None)

    def _gave(self, link: Link | None) -> None:
        with self._changed:
            self._out -= 1
            if link is not None:
                self._idle.append(link)
            self._changed.notify()

    def forget_idle(self) -> None:
        """The server has gone: what is idle is dead too."""
        with self._changed:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self.forget_idle()

    def _connect(self, patience_ms: int) -> Link:
        """Errors: StoreUnavailable, when the server does not come up within the time; at once when it never will."""
        until_ms = self._steady_ms() + patience_ms
        while True:
            try:
                return self._settle()
            except (Lost, ServerError, psycopg.OperationalError) as error:
                told = self._told(error)
                again = told.undone if self._was_there else is_starting(error)
                if not again or self._steady_ms() >= until_ms:
                    raise told from error
            self.pause()

    def pause(self) -> None:
        """Before another try."""
        with self._changed:
            self._changed.wait(PAUSE_S)

    def _told(self, error: Lost | ServerError | psycopg.OperationalError) -> StoreUnavailable:
        if isinstance(error, psycopg.OperationalError):
            return unreachable(self.place, error, self.url)
        found = ServerError(error.state, str(error))
        return refused(self.place, found) or unavailable(self.place, str(error), hint="Repeat.", undone=True)

    def _settle(self) -> Link:
        options: dict[str, Any] = {
            "connect_timeout": CONNECT_S,
            "application_name": "longwatch",
            "client_encoding": "utf8",
            "keepalives_idle": SILENT_S,
            "keepalives_interval": SILENT_S,
            "keepalives_count": 2,
            "tcp_user_timeout": 3 * SILENT_S * 1000,
        }
        chosen = {name: value for name, value in options.items() if name not in self.parts}
        link = Link(psycopg.Connection[Any].connect(self.url, autocommit=True, **chosen))
        try:
            *_, told = link.ask(*(Request(setting.encode()) for setting in SETTINGS), Request(LIFE))
            link.life = told.rows[0].life
        except BaseException:
            link.close()
            raise
        return link

    def who(self, link: Link) -> Server:
        """Which server answers. Errors: StoreUnavailable for one that will not do."""
        try:
            (answer,) = link.ask(Request(WHO))
        except (Lost, ServerError) as error:
            link.close()
            raise self._told(error) from error
        row = answer.rows[0]
        problem = self._problem(int(row.version), standby=row.standby or row.reading, place=row.place)
        if problem is not None:
            link.close()
            raise problem
        return Server(row.place, row.history)

    def _problem(self, version: int, *, standby: bool, place: int | None) -> StoreUnavailable | None:
        if version < OLDEST:
            said = f"it is PostgreSQL {version // 10_000}, and 14 is the oldest that will do"
            return unavailable(self.place, said, hint="Upgrade the server.")
        if standby:
            return unavailable(self.place, "it is read-only", hint="Name the primary in the address.")
        if place is None:
            said = "its search_path names no schema that exists"
            return unavailable(self.place, said, hint="Create the schema, or correct search_path in the address.")
        return None
