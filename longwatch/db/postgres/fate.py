"""What became of a transaction whose commit got no reply: the server is asked, on a new connection."""

from typing import NamedTuple

from longwatch.db.postgres.link import Lost, Request, ServerError
from longwatch.db.postgres.pool import Pool
from longwatch.db.postgres.refusals import unavailable
from longwatch.errors import StoreUnavailable

LOOKS = 20  # at a transaction that is still going on after its connection was lost
FATE = b"select pg_xact_status(cast($1 as xid8)) as fate"


class Given(NamedTuple):
    """A transaction's number, and the life and the history of the server that gave it."""

    number: str
    life: str
    history: str


def landed(pool: Pool, given: Given, error: Lost) -> bool:
    """Whether the transaction was committed.

    Errors: StoreUnavailable when nobody can tell.
    """
    pool.forget_idle()
    reason = f"the connection was lost in a commit ({error}), and what became of it cannot be found out"
    try:
        for _ in range(LOOKS):
            fate = _fate(pool, given)
            if fate in ("committed", "aborted"):
                return fate == "committed"
            if fate is None:
                break
    except (StoreUnavailable, ServerError, Lost) as problem:
        raise unavailable(pool.place, reason, hint="Look up whether it landed.", maybe=True) from problem
    raise unavailable(pool.place, reason, hint="Look up whether it landed.", maybe=True) from error


def _fate(pool: Pool, given: Given) -> str | None:
    """committed, aborted, in progress; None: the server does not remember, or is another one.

    In another life of the server the number may have been given again, and that committed.
    """
    with pool.link() as link:
        if pool.who(link).history != given.history:
            return None
        (answer,) = link.ask(Request(FATE, (given.number,)))
        fate: str | None = answer.rows[0].fate
        if fate == "in progress":
            pool.pause()
        return None if fate == "committed" and link.life != given.life else fate
