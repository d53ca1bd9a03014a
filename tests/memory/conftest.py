"""Memory on every engine: a file beside the state, or tables of its own on a real PostgreSQL."""

from collections.abc import Generator
from pathlib import Path

import pytest

import longwatch
from longwatch.testing.postgres import shared

ENGINES = ("sqlite", "postgres")


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """Where a state is to be."""
    if request.param == "sqlite":
        yield str(tmp_path / "state.db")
        return
    url = shared().new_database()
    yield url
    shared().drop(url)


@pytest.fixture
def lw(place: str) -> Generator[longwatch.Longwatch]:
    with longwatch.open(place) as fleet:
        yield fleet


@pytest.fixture
def memory(lw: longwatch.Longwatch) -> longwatch.Memory:
    return lw.memory("seo")
