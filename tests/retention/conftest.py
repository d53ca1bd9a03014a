"""Archives on every engine: a file, or a real PostgreSQL; segments in a folder."""

from collections.abc import Generator
from pathlib import Path

import pytest

import longwatch
from longwatch.runtime.archive import Archives


@pytest.fixture
def config(tmp_path: Path) -> longwatch.Config:
    return {
        "archive": {"to": tmp_path / "archive", "room": "1 B"},
        "fleet": {"money": "100 USD/month"},
        "service": {"api": {"price": "0.01 USD"}},
        "budget": {"growth": {"money": "50 USD/month"}, "main": {}},
    }


@pytest.fixture
def lw(place: str, config: longwatch.Config) -> Generator[longwatch.Longwatch]:
    with longwatch.open(place, config=config) as fleet:
        yield fleet


@pytest.fixture
def archives(lw: longwatch.Longwatch) -> Archives:
    found = lw.opened.parts.archives
    assert found is not None
    return found
