"""Doorbells over the server: LISTEN and NOTIFY, between all hosts of a fleet.

An idle worker listens on a channel of its own, named after its connection, and holds a shared lock that says that somebody
is idle; both end when it wakes, or dies. Who made tasks runnable tries that lock after his commit: if he gets it nobody is
idle, which is all that most rings cost. Else he looks up who is, and notifies as many as there are tasks. The notice has a
transaction of its own: in that of the tasks it would make every commit of the server wait for the one before it.
"""

import contextlib

from longwatch.db.postgres.link import Link, Lost, Request, ServerError
from longwatch.db.postgres.pool import Pool
from longwatch.errors import StoreUnavailable

IDLE = 2  # advisory lock that idle workers share; the first of its two numbers is the schema's
HOLD = b"select pg_advisory_lock_shared(cast($1 as integer), cast($2 as integer))"
LET_GO = b"select pg_advisory_unlock_shared(cast($1 as integer), cast($2 as integer))"
NOBODY = b"select pg_try_advisory_xact_lock(cast($1 as integer), cast($2 as integer)) as nobody"
NOTIFY = b"""
select pg_notify($1 || pid, '')
  from (select pid from pg_locks
         where locktype = 'advisory' and classid = $2 and objid = $3 and objsubid = 2 and granted and mode = 'ShareLock'
           and database = (select oid from pg_database where datname = current_database())
         order by random() limit $4) as idle
"""


class ListenBell:
    """Hangs while its owner is idle. `descriptor` can be read when it rings."""

    def __init__(self, pool: Pool, link: Link) -> None:
        self._pool, self._link = pool, link
        self.descriptor = link.socket

    def heed(self) -> None:
        """Take in what woke its owner; a connection that was lost wakes him too."""
        with contextlib.suppress(Lost):
            self._link.take_news()

    def silence(self) -> None:
        """Take the bell down; it cannot be rung any more."""
        try:
            with contextlib.suppress(Lost, ServerError):
                self._link.ask(Request(b"unlisten *"), Request(LET_GO, (self._pool.server.place, IDLE)))
                self._link.take_news()
        finally:
            self._pool.give(self._link)


class ListenBells:
    """All bells of a fleet."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._channel = f"longwatch_{pool.server.place}_"

    def hang(self, owner: str) -> ListenBell | None:
        """A bell that wakes this process. None: the server is away, and nobody could ring."""
        try:
            link = self._pool.take()
        except StoreUnavailable:
            return None
        try:
            listen = Request(f"listen {self._channel}{link.pid}".encode())
            link.ask(listen, Request(HOLD, (self._pool.server.place, IDLE)))
        except BaseException as error:
            self._pool.give(link)
            if isinstance(error, Lost | ServerError):
                return None
            raise
        return ListenBell(self._pool, link)

    def ring(self, *, most: int) -> int:
        """Wake up to `most` idle workers; how many. A ring that is lost is made up for by their own sweeps."""
        place = self._pool.server.place
        with contextlib.suppress(StoreUnavailable, Lost, ServerError), self._pool.link() as link:
            (tried,) = link.ask(Request(NOBODY, (place, IDLE)))
            if not tried.rows[0].nobody:
                (told,) = link.ask(Request(NOTIFY, (self._channel, place, IDLE, most)))
                return len(told.rows)
        return 0
