"""A fleet as a program opens it, by each of the engines that may decide: the state's own, and Redis beside it."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import longwatch
from longwatch import Longwatch
from longwatch.testing import postgres, redis

ENGINES = ("sqlite", "postgres", "redis")


@contextlib.contextmanager
def place_of(engine: str, folder: Path) -> Generator[tuple[str, str]]:
    """(state, admission) of a new fleet."""
    if engine == "postgres":
        server = postgres.shared()
        url = server.new_database()
        try:
            yield url, ""
        finally:
            server.drop(url)
    else:
        yield str(folder / "state.db"), redis.shared().url if engine == "redis" else ""


def opened(place: tuple[str, str], config: Any, **given: Any) -> Longwatch:
    state, admission = place
    return longwatch.open(state, admission=admission, config=config, **given)
