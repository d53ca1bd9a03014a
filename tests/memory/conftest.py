"""Memory on every engine: a file beside the state, or tables of its own on a real PostgreSQL."""

from collections.abc import Generator

import pytest

import longwatch


@pytest.fixture
def lw(place: str) -> Generator[longwatch.Longwatch]:
    with longwatch.open(place) as fleet:
        yield fleet


@pytest.fixture
def memory(lw: longwatch.Longwatch) -> longwatch.Memory:
    return lw.memory("seo")
