"""Wrong addresses and unfit servers: one clear error each, with what to do, within five seconds, and no password in it."""

import socket
import time
from collections.abc import Generator

import pytest

from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase, pool, refusals
from longwatch.errors import ConfigError, LongwatchError, StoreUnavailable
from longwatch.runtime.world import Machine
from longwatch.testing.postgres import Server

SECRET = "hunter22secret"


@pytest.fixture
def guarded(server: Server) -> Generator[Server]:
    """As `server`, where the users clerk and guest need a password."""
    rules = server.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all clerk scram-sha-256\n" + before)
    server.execute(f"create role clerk login password '{SECRET}'", "select pg_reload_conf()")
    yield server
    rules.write_text(before)
    server.execute("drop owned by clerk", "drop role clerk", "select pg_reload_conf()")


def refusal(url: str) -> LongwatchError:
    begun = time.monotonic()
    with pytest.raises(LongwatchError) as told:
        opened(url).close()
    assert time.monotonic() - begun < 5
    assert told.value.hint
    assert "\n" not in told.value.message
    assert SECRET not in str(told.value)
    assert SECRET not in repr(told.value.__cause__)
    return told.value


def opened(url: str) -> PostgresDatabase:
    database = PostgresDatabase(url, Machine())
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def with_user(server: Server, user: str, database: str = "postgres") -> str:
    return f"postgresql://{user}@/{database}?host={server.folder}"


def test_a_wrong_password(guarded: Server) -> None:
    error = refusal(with_user(guarded, f"clerk:{SECRET}x"))
    assert "the user or the password is wrong" in error.message
    assert "PGPASSWORD" in error.hint


def test_no_password_where_one_is_asked_for(guarded: Server) -> None:
    assert "the user or the password is wrong" in refusal(with_user(guarded, "clerk")).message


def test_a_user_that_does_not_exist(server: Server) -> None:
    assert "does not let this user in" in refusal(with_user(server, "nobody_here")).message


def test_a_database_that_does_not_exist(server: Server) -> None:
    error = refusal(server.url("shop_that_is_not_there"))
    assert "there is no such database" in error.message
    assert "createdb" in error.hint


def test_a_user_without_the_right_to_make_tables(guarded: Server) -> None:
    url = guarded.new_database(empty=True)
    guarded.execute("revoke create on schema public from public", database=url.split("/")[3].split("?")[0])  # as of 15
    error = refusal(url.replace("postgres@", f"clerk:{SECRET}@"))
    assert "has not the rights" in error.message
    assert "grant" in error.hint
    guarded.drop(url)


def test_a_user_with_the_right_to_make_tables(guarded: Server) -> None:
    url = guarded.new_database(empty=True)
    guarded.execute("grant all on schema public to clerk", database=url.split("/")[3].split("?")[0])
    opened(url.replace("postgres@", f"clerk:{SECRET}@")).close()
    guarded.drop(url)


def test_nobody_listens(tmp_path_factory: pytest.TempPathFactory) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = refusal(f"postgresql://u:{SECRET}@127.0.0.1:{unused.getsockname()[1]}/shop")
    assert "cannot be reached" in error.message
    assert "workers wait" in error.hint
    assert "cannot be reached" in refusal(f"postgresql://u@/shop?host={tmp_path_factory.mktemp('none')}").message


def test_somebody_listens_who_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = refusal(f"postgresql://u:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/shop")
    assert "cannot be reached" in error.message


def test_a_host_that_does_not_exist() -> None:
    assert "cannot be reached" in refusal(f"postgresql://u:{SECRET}@no-such-host.invalid/shop").message


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@localhost:54x2/shop",
        f"postgresql://u:{SECRET}@localhost:99999/shop",
        f"postgresql://u:{SECRET}@localhost/shop?hosst=x",
        f"postgresql://u:{SECRET}@localhost/shop?connect_timeout",
        f"postgresql://u:{SECRET}@[::1/shop",
        f"postgresql://u:{SECRET}%zz@localhost/shop",
        f"postgresql:///shop?password={SECRET}&sslmode=perhaps",
    ],
)
def test_typos_in_the_address(url: str) -> None:
    assert isinstance(refusal(url), ConfigError | StoreUnavailable)


def test_a_scheme_that_is_none() -> None:
    error = refusal(f"postgresq://u:{SECRET}@localhost/shop")
    assert isinstance(error, ConfigError)
    assert "postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in error.hint


def test_a_server_that_is_too_old(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule, moved above the server at hand."""
    monkeypatch.setattr(pool, "OLDEST", 990_000)
    error = refusal(server.url())
    assert "14 is the oldest that will do" in error.message
    assert refusals.OLDEST == 140_000


def test_a_database_that_may_only_be_read(server: Server) -> None:
    url = server.new_database()
    name = url.split("/")[3].split("?")[0]
    server.execute(f"alter database {name} set default_transaction_read_only = on")
    assert "read-only" in refusal(url).message
    server.drop(url)


def test_a_search_path_that_names_nothing(server: Server) -> None:
    assert "search_path" in refusal(f"{server.url()}&options=-csearch_path%3Dno_such_schema").message


def test_a_state_that_is_newer_than_this_longwatch(server: Server) -> None:
    url = server.new_database()
    server.execute("insert into longwatch_schema (number) values (9999)", database=url.split("/")[3].split("?")[0])
    error = refusal(url)
    assert "its schema is number 9999" in error.message
    assert "Upgrade Longwatch" in error.hint
    server.drop(url)


def test_two_fleets_may_share_a_database_in_schemas_of_their_own(server: Server) -> None:
    url = server.new_database(empty=True)
    server.execute("create schema one", "create schema two", database=url.split("/")[3].split("?")[0])
    one, two = (opened(f"{url}&options=-csearch_path%3D{name}") for name in ("one", "two"))
    with one.transaction() as held, two.transaction() as beside:
        assert held.now_ms
        assert beside.now_ms
    one.close()
    two.close()
    server.drop(url)


def test_addresses_are_shown_without_passwords() -> None:
    assert refusals.shown(f"postgresql://u:{SECRET}@h:5432/shop?password={SECRET}") == "postgresql://u@h:5432/shop"
    assert refusals.shown("postgresql:///shop?host=/run/pg") == "postgresql:///shop?host=/run/pg"
    assert refusals.shown(f"postgresql://u:a@{SECRET}@h/shop") == "postgresql://u@h/shop"
