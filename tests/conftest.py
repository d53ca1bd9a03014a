"""For every test: a runner that was started in the background ignores SIGINT, and so would everything it starts."""

import signal
from collections.abc import Generator
from pathlib import Path

import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)


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
