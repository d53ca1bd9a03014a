"""One sandbox for all tests of this folder, as new before each of them, and a fleet with limits and budgets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import CONFIG

import longwatch
from longwatch import Longwatch
from longwatch.sandbox import Sandbox, started


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    with started() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server: Sandbox) -> Sandbox:
    server.reset()
    return server


@pytest.fixture
def lw(tmp_path: Path) -> Iterator[Longwatch]:
    with longwatch.open(str(tmp_path / "state.db"), config=CONFIG, agent="main") as opened:
        yield opened
