"""A schema that one program makes anew in a database that others may use too, and that nobody else empties meanwhile."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import psycopg

from longwatch.db.postgres.link import Link, Lost, Request, ServerError
from longwatch.db.postgres.refusals import check, one_line, refused, shown, unavailable, unreachable
from longwatch.errors import ConfigError, StoreUnavailable

CONNECT_S = 10


class OwnSchema:
    """Held until it is closed: the tables stay. url: an address that leads into it."""

    def __init__(self, url: str, name: str, *, mark: str) -> None:
        """Drop the schema and make it again, if the comment on it is `mark`.

        Errors: ConfigError when somebody else made it or it is held; StoreUnavailable.
        """
        parts, self._place = check(url), shown(url)
        self.url = _inside(url, parts, name)
        self._link = self._connected(url)
        try:
            self._make(name, mark)
        except (ServerError, Lost) as error:
            self.close()
            raise self._told(error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._link.close()

    def _connected(self, url: str) -> Link:
        try:
            return Link(psycopg.Connection[Any].connect(url, autocommit=True, connect_timeout=CONNECT_S))
        except psycopg.OperationalError as error:
            raise unreachable(self._place, error, url) from error

    def _make(self, name: str, mark: str) -> None:
        (held,) = self._link.ask(
            Request(b"select pg_try_advisory_lock(hashtext($1), hashtext($2)) as ok", (mark, name))
        )
        if not held.rows[0].ok:
            raise ConfigError(
                f"the schema {name} of {self._place} is in use",
                hint="Wait for it, or name another database.",
            )
        (found,) = self._link.ask(Request(FOUND, (name,)))
        if found.rows and found.rows[0].mark != mark:
            raise ConfigError(
                f"{self._place} has a schema {name} that was not made by this, and it would be emptied",
                hint="Rename it (alter schema ... rename to ...), or name another database.",
            )
        quoted = '"' + name.replace('"', '""') + '"'
        for statement in (f"drop schema if exists {quoted} cascade", f"create schema {quoted}"):
            self._link.ask(Request(statement.encode()))
        said = mark.replace("'", "''")
        self._link.ask(Request(f"comment on schema {quoted} is '{said}'".encode()))

    def _told(self, error: ServerError | Lost) -> StoreUnavailable:
        found = ServerError(error.state, one_line(error))
        if found.state == "42501":
            hint = "As its owner: grant create on database NAME to the user."
            return unavailable(self._place, f"this user may not make a schema in it ({found})", hint=hint)
        return refused(self._place, found) or unavailable(self._place, str(found), hint="Name another database.")


FOUND = b"""
select coalesce(obj_description(oid, 'pg_namespace'), '') as mark from pg_namespace where nspname = $1
"""


def _inside(url: str, parts: Mapping[str, Any], name: str) -> str:
    """The last one counts, of several options with one name."""
    options = f"{parts.get('options', '')} -csearch_path={name}".strip()
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"
