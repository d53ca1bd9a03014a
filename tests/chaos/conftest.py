"""Servers that a test may kill."""

from collections.abc import Iterator

import pytest

from longwatch.testing import postgres, redis


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    started = postgres.Server.start()
    yield started
    started.stop()


@pytest.fixture
def engine() -> Iterator[redis.Server]:
    started = redis.Server.start()
    yield started
    started.stop()
