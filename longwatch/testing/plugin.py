"""The pytest plugin: fixtures to test handlers with. Loaded with the package; it imports nothing before one is used.

    def test_an_invoice_is_charged_once(lw, sandbox, clock):
        lw.include(invoice)
        task = lw.submit(invoice.bind("acme"))
        lw.work(until_idle=True)
        assert lw.wait(task).result == {"charged": 1200}

lw: a fleet in `tmp_path` whose time is virtual. clock: that time. sandbox: stand-ins for Anthropic, OpenAI, Stripe and
GitHub on loopback. effects: what handlers do outside. The config of `lw` is what the fixture `lw_config` returns, or
`@pytest.mark.longwatch(config={...})`: a dict, or the path of a longwatch.toml.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from longwatch.sandbox import Sandbox
    from longwatch.testing.clock import Clock
    from longwatch.testing.effects import Effects
    from longwatch.testing.fleet import Bench, VirtualFleet


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "longwatch(config): the config of the fixture lw, a dict or a path")


@pytest.fixture
def longwatch_bench() -> "Iterator[Bench]":
    """What the fixtures of one test share."""
    from longwatch.testing.fleet import Bench

    yield (bench := Bench())
    bench.clock.end_beside()


@pytest.fixture
def clock(longwatch_bench: "Bench") -> "Clock":
    """The time of `lw`: `advance("31d")`, `now()`."""
    return longwatch_bench.clock


@pytest.fixture
def lw_config(request: pytest.FixtureRequest) -> str | Path | Mapping[str, Any] | None:
    """The config of `lw`. Override it, or use the marker."""
    marker = request.node.get_closest_marker("longwatch")
    return None if marker is None else marker.kwargs.get("config")


@pytest.fixture
def lw(
    longwatch_bench: "Bench", tmp_path: Path, lw_config: str | Path | Mapping[str, Any] | None
) -> "Iterator[VirtualFleet]":
    """A fleet in `tmp_path`, by a virtual clock; `lw.work(until_idle=True)` works in this thread."""
    from longwatch.testing.fleet import VirtualFleet

    with VirtualFleet.made(longwatch_bench, tmp_path, lw_config) as lw:
        yield lw


@pytest.fixture
def effects(longwatch_bench: "Bench", tmp_path_factory: pytest.TempPathFactory) -> "Effects":
    """What handlers do outside of the fleet: `add(what)` in a handler, `all()` and `count(what)` in the test."""
    from longwatch.testing.effects import Effects

    made = Effects(tmp_path_factory.mktemp("effects") / "effects.jsonl")
    longwatch_bench.outside.append(made)
    return made


@pytest.fixture(scope="session")
def longwatch_sandbox() -> "Iterator[Sandbox]":
    """One server for all tests."""
    from longwatch.sandbox import started
    from longwatch.testing.stand_ins import WITHOUT_LIMITS

    with started(WITHOUT_LIMITS) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(longwatch_sandbox: "Sandbox", longwatch_bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> "Sandbox":
    """Stand-ins for Anthropic, OpenAI, Stripe and GitHub, as new; the environment leads the SDKs to them.

    `base_urls`, `counts()`, `bill()`, `effects()`, `faults([...])`. It has no limits until `limits(...)` sets some.
    """
    from longwatch.testing.stand_ins import Around

    longwatch_sandbox.reset()
    for name, value in longwatch_sandbox.env().items():
        monkeypatch.setenv(name, value)
    longwatch_bench.outside.append(Around(longwatch_sandbox))
    return longwatch_sandbox
