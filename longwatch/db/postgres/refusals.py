"""What can be wrong with a server or its address, as StoreUnavailable: the reason, and what to do. Shows no password."""

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from longwatch.db.place import OTHER_SCHEMA, START_AGAIN
from longwatch.db.postgres.link import Lost, ServerError
from longwatch.errors import ConfigError, StoreUnavailable

OLDEST = 140_000  # PostgreSQL 14
SCHEMES = ("postgresql", "postgres")
FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"

DEADLOCK = "40P01"
UNDONE = ("40", "08", "57P01", "57P02", "57P03", "57P05", "25P03", "55P03", "23505")
"""States after which nothing of the transaction is left and another try may succeed: it lost against another one (40, 23505:
two inserted the same key at once), waited too long for a lock, stood still too long, or the server or the connection went."""

GONE = ("08", "57P01", "57P02", "57P03")  # states that come with the end of the connection

REASONS: tuple[tuple[str, str, str], ...] = (
    ("28P01", "the user or the password is wrong", "Check both in the address, or PGPASSWORD and ~/.pgpass."),
    ("28", "the server does not let this user in", "Check the user in the address, and the server's pg_hba.conf."),
    ("3D000", "there is no such database", "Create it (createdb NAME), or correct the name in the address."),
    ("42501", "this user has not the rights it needs", "As its owner: grant all on schema public to the user."),
    ("25006", "it is read-only", "Name the primary in the address; a standby cannot be written."),
    ("53300", "it has no connection left", "Raise max_connections, or run fewer processes: each takes up to four."),
    ("53100", "its disk is full", "Free some space on the server and repeat; nothing was written."),
    ("42P01", OTHER_SCHEMA, START_AGAIN),
    ("42703", OTHER_SCHEMA, START_AGAIN),
    ("57P03", "it is starting up or shutting down", "Repeat in a moment; nothing is lost."),
    ("55P03", "others held their locks for too long", "Repeat; longwatch doctor shows who is at work."),
    ("57", "it ended the connection", "Repeat; nothing is lost."),
    ("XX001", "it is damaged", "Restore a backup of the server."),
)
AWAY = "Check that the server runs and that its address is right; nothing is lost, workers wait for it."


def unavailable(
    place: str, reason: str, *, hint: str = "", maybe: bool = False, undone: bool = False
) -> StoreUnavailable:
    error = StoreUnavailable(f"the state {place} cannot be used: {reason}", hint=hint)
    error.maybe_committed, error.undone = maybe, undone
    return error


def refused(place: str, error: ServerError) -> StoreUnavailable | None:
    """None when no reason is known for it: a mistake in a statement."""
    undone = error.state.startswith(UNDONE)
    for state, reason, hint in REASONS:
        if error.state.startswith(state):
            return unavailable(place, f"{reason} ({error})", hint=hint, undone=undone)
    return unavailable(place, f"others were faster ({error})", hint="Repeat.", undone=True) if undone else None


def lost(place: str, error: Lost) -> StoreUnavailable:
    """The connection went before a commit was sent: nothing is left of the transaction."""
    return unavailable(place, f"the connection was lost ({one_line(error)})", hint=AWAY, undone=True)


def unreachable(place: str, error: psycopg.OperationalError, url: str) -> StoreUnavailable:
    """Why no connection could be made."""
    said = without(password_of(url), one_line(error))
    known = refused(place, ServerError(error.sqlstate or _state_said(said), said))
    return known or unavailable(place, f"it cannot be reached ({said})", hint=AWAY, undone=True)


def is_starting(error: BaseException) -> bool:
    return getattr(error, "state", "") == "57P03" or _state_said(str(error)) == "57P03"


WORDS = (
    ("password authentication failed", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("authentication failed", "28000"),
    ("is not permitted to log in", "28000"),
    ("role ", "28000"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("too many connections", "53300"),
    ("the database system is", "57P03"),
    ("database ", "3D000"),
)


def _state_said(said: str) -> str:
    """The state behind the words: libpq does not tell the one of a connection that failed."""
    if "no password supplied" in said:
        return "28P01"
    if "FATAL" not in said:
        return ""
    return next((state for word, state in WORDS if word in said), "")


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


# -- addresses -------------------------------------------------------------------------------------------------------------


def check(url: str) -> dict[str, Any]:
    """The parts of an address as libpq understands it. Errors: ConfigError; the password is not in it."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ConfigError(f"{scheme}:// is not the address of a PostgreSQL state", hint=f"Write {FORM}.")
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        said = without(password_of(url), one_line(error))
        raise ConfigError(f"the address {shown(url)} is wrong: {said}", hint=f"Write {FORM}.") from None
    for port in str(parts.get("port", "")).split(","):
        if port and not (port.isdigit() and 0 < int(port) < 1 << 16):
            raise ConfigError(f"the address {shown(url)} is wrong: {port!r} is no port", hint=f"Write {FORM}.")
    return parts


def shown(url: str) -> str:
    """The address without its password, and without its options."""
    bare = url.split("?")[0].split("#")[0]
    scheme, _, rest = bare.partition("://")
    user, at, place = rest.rpartition("@")
    host = parse_qs(url.partition("?")[2]).get("host", [""])[0]
    where = f"{scheme}://{user.split(':')[0]}{at}{place}"
    return f"{where}?host={host}" if host else where


def password_of(url: str) -> str:
    found = re.match(r"[^:]+://[^:@/]*:([^@/]*)@", url)
    named = parse_qs(urlsplit(url).query if "[" not in url else "").get("password", [""])[0]
    return unquote(found[1]) if found else named


def without(password: str, text: str) -> str:
    return text.replace(password, "***") if password else text
