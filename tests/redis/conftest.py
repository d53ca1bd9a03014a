"""One real Redis for all tests of this folder, on a socket of its own, with nothing kept."""

from collections.abc import Iterator

import pytest

from longwatch.testing.redis import Server, shared


@pytest.fixture
def server() -> Server:
    """The one that all share: nobody stops it."""
    return shared()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that a test may kill."""
    started = Server.start()
    yield started
    started.stop()
