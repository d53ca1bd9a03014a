"""One sandbox for all tests of this folder, as new before each of them."""

from collections.abc import Iterator

import httpx
import pytest

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
def http(server: Sandbox) -> Iterator[httpx.Client]:
    """A plain client with a key that every service takes."""
    headers = {"x-api-key": "key", "authorization": "Bearer key"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=20) as client:
        yield client
