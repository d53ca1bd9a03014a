"""`lw.aio` takes what `lw` takes, and does what it does."""

import asyncio
import inspect
from pathlib import Path

import pytest

import longwatch
from longwatch import Longwatch
from longwatch.surface.awaitable import Aio

NAMES = [name for name, each in vars(Aio).items() if inspect.iscoroutinefunction(each) and not name.startswith("_")]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "submit"])  # which hands on whatever it is given
def test_every_method_takes_the_same(name: str) -> None:
    plain, awaited = (inspect.signature(getattr(each, name)).parameters for each in (Longwatch, Aio))
    shapes = [[(each.name, each.kind, each.default) for each in listed.values()] for listed in (plain, awaited)]
    assert shapes[0] == shapes[1]


def test_a_batch_sets_its_needs_aside(tmp_path: Path) -> None:
    config = {"fleet": {"currency": "GBP"}, "service": {"api": {"quota": "100/month"}}}

    async def talk(lw: Longwatch) -> None:
        await lw.aio.submit_batch("june", [("post", {"n": 1})], needs={"api": {"requests": 90}})
        with pytest.raises(longwatch.LimitRefused):
            await lw.aio.submit_batch("july", [("post", {"n": 2})], needs={"api": {"requests": 90}})
        later = await lw.aio.submit_batch("july", [("post", {"n": 2})], needs={"api": {"requests": 90}}, schedule=True)
        assert later.counts == {"scheduled": 1}

    with longwatch.open(str(tmp_path / "state.db"), config=config, agent="main") as lw:

        @lw.task()
        def post(run: longwatch.Run, n: int) -> int:
            return n

        asyncio.run(talk(lw))
