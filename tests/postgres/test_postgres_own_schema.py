"""A schema of one's own in somebody else's database: made anew, held, and never anybody else's."""

from collections.abc import Generator

import psycopg
import pytest

import longwatch
from longwatch.db.postgres.own_schema import OwnSchema
from longwatch.errors import ConfigError, StoreUnavailable
from longwatch.testing.postgres import Server

MARK = "Made by this test; it's emptied."


@pytest.fixture
def url(server: Server) -> Generator[str]:
    made = server.new_database(empty=True)
    yield made
    server.drop(made)


def tables(url: str, schema: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = %s", (schema,)).fetchall()
    return {row[0] for row in rows}


def test_a_state_is_made_in_it_and_the_next_one_begins_empty(url: str) -> None:
    for _ in range(2):
        own = OwnSchema(url, "shop", mark=MARK)
        assert tables(url, "shop") == set()
        with longwatch.open(own.url, config={}) as lw:
            lw.task("note")(lambda run: None)
            lw.submit("note", {}, key="one")
        own.close()
        assert {"fleet", "task"} <= tables(url, "shop")
    assert tables(url, "public") == set()


def test_what_somebody_else_has_is_left_alone(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table public.thesis (page text)")
        connection.execute("create schema shop")
        connection.execute("create table shop.thesis (page text)")
    with pytest.raises(ConfigError, match="was not made by this"):
        OwnSchema(url, "shop", mark=MARK)
    OwnSchema(url, "other", mark=MARK).close()
    assert tables(url, "shop") == tables(url, "public") == {"thesis"}


def test_it_is_held_by_one_at_a_time(url: str) -> None:
    first = OwnSchema(url, "shop", mark=MARK)
    with pytest.raises(ConfigError, match="in use"):
        OwnSchema(url, "shop", mark=MARK)
    first.close()
    OwnSchema(url, "shop", mark=MARK).close()


def test_options_of_the_address_are_kept(url: str) -> None:
    own = OwnSchema(url + "&options=-cstatement_timeout%3D1234", "shop", mark=MARK)
    with psycopg.connect(own.url) as connection:
        said = connection.execute("select current_setting('statement_timeout'), current_schema()").fetchone()
    own.close()
    assert said == ("1234ms", "shop")


def test_a_user_without_the_right_is_told_which_it_needs(server: Server, url: str) -> None:
    server.execute("drop role if exists guest", "create role guest login")
    with pytest.raises(StoreUnavailable) as refused:
        OwnSchema(url.replace("postgres@", "guest@"), "shop", mark=MARK)
    assert "grant create on database" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("postgresql://nobody@/none?host=/nowhere", "cannot be reached"), ("postgresql://@/x?port=many", "is no port")],
)
def test_an_address_that_leads_nowhere_is_told_as_one(wrong: str, said: str) -> None:
    with pytest.raises((StoreUnavailable, ConfigError), match=said):
        OwnSchema(wrong, "shop", mark=MARK)
