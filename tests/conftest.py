"""For every test: a runner that was started in the background ignores SIGINT, and so would everything it starts."""

import signal
from collections.abc import Generator
from pathlib import Path

import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what forks the process of the tests over and over: it is small then, and grows to half a gigabyte."""
    items.sort(key=lambda item: item.path.name != "test_crashes.py")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """Where a state is to be: a file, or a real PostgreSQL."""
    if request.param == "sqlite":
        yield str(tmp_path / "state.db")
        return
    from longwatch.testing.postgres import shared

    url = shared().new_database()
    yield url
    shared().drop(url)
