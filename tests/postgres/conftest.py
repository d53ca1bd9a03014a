"""One real PostgreSQL for all tests of this folder, and a state of its own for each."""

from collections.abc import Generator

import pytest

from longwatch.testing.postgres import Server, shared


@pytest.fixture(scope="session")
def server() -> Server:
    return shared()


@pytest.fixture
def own_server() -> Generator[Server]:
    """For a test that ends it: nobody else is on it."""
    server = Server.start()
    yield server
    server.stop()


@pytest.fixture
def url(server: Server) -> Generator[str]:
    made = server.new_database()
    yield made
    server.drop(made)
