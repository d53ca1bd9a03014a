"""A fleet put back from a dump, with the server's own tools: the fleet notices, and nothing of before the restore goes on."""

import subprocess
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import longwatch
from longwatch import Run
from longwatch.runtime.worker import Worker
from longwatch.store.fleet import EPOCH_BITS
from longwatch.testing import redis
from longwatch.testing.postgres import Server


def tool(server: Server, name: str, url: str, *arguments: str) -> None:
    command = [str(server.programs / name), "--dbname", url, *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def dump(server: Server, url: str, file: Path, *more: str) -> Path:
    tool(server, "pg_dump", url, "--format=custom", "--file", str(file), *more)
    return file


def put_back(server: Server, url: str, file: Path) -> None:
    tool(server, "pg_restore", url, "--clean", "--if-exists", "--single-transaction", str(file))


@pytest.fixture(params=["the whole database", "a schema of it"])
def whole(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "the whole database")


@pytest.fixture
def opened(tmp_path: Path) -> Generator["Fleets"]:
    made = Fleets(tmp_path)
    yield made
    made.stop()


class Fleets:
    """The same fleet, opened again and again. mailed: how often its one effect took place."""

    def __init__(self, root: Path) -> None:
        self.root, self.mailed, self.handles = root, 0, list[longwatch.Longwatch]()

    def start(self, url: str, *, admission: str = "") -> longwatch.Longwatch:
        fleet = {"root": str(self.root), "name": "shop", "admission": admission}
        lw = longwatch.open(url, config={"fleet": fleet, "service": {"api": {"rate": "100/s"}}})
        self.handles.append(lw)

        @lw.task("mail")
        def mail(run: Run) -> None:
            run.once("send", self.send)

        return lw

    def send(self) -> None:
        self.mailed += 1

    def stop(self) -> None:
        while self.handles:
            self.handles.pop().close()


def fence(lw: longwatch.Longwatch) -> int:
    with lw.lease("name:deploy") as lease:
        return lease.fence


def work(lw: longwatch.Longwatch) -> None:
    parts = lw.opened.parts
    Worker(parts, lw.opened.registry, owner=parts.world.new_id("worker")).work(until_idle=True)


def overtakings(lw: longwatch.Longwatch) -> int:
    return len(lw.opened.parts.journal.latest(limit=10, kind="fleet.overtaken"))


def test_a_restore_into_the_same_database_is_noticed_and_overtakes_every_fence(
    server: Server, url: str, tmp_path: Path, opened: Fleets, whole: bool
) -> None:
    if not whole:
        server.execute("create schema shop", database=urlsplit(url).path[1:])
        url += "&options=-csearch_path%3Dshop"
    lw = opened.start(url)
    file = dump(server, url, tmp_path / "monday.dump", *([] if whole else ["--schema", "shop"]))
    later = fence(lw)
    opened.stop()
    put_back(server, url, file)
    lw = opened.start(url)
    assert fence(lw) > later
    assert overtakings(lw) == 1
    opened.stop()
    assert overtakings(opened.start(url)) == 1, "and only once"


def test_a_dump_that_is_put_back_again_and_again_never_gives_a_fence_twice(
    server: Server, url: str, tmp_path: Path, opened: Fleets
) -> None:
    fences = [fence(opened.start(url))]
    opened.stop()
    file = dump(server, url, tmp_path / "old.dump")
    for number in range(3):
        put_back(server, url, file)
        lw = opened.start(url)
        fences += [fence(lw), fence(lw)]
        opened.stop()
        if number == 1:
            dump(server, url, file.with_name("new.dump"))
    put_back(server, url, file.with_name("new.dump"))
    fences.append(fence(opened.start(url)))
    assert fences == sorted(set(fences))
    assert fences[1] >> EPOCH_BITS > fences[0] >> EPOCH_BITS


@pytest.mark.parametrize("restores", [1, 2], ids=["once", "twice on one day"])
def test_what_may_have_been_done_since_the_dump_is_not_done_again(
    server: Server, url: str, tmp_path: Path, opened: Fleets, restores: int
) -> None:
    lw = opened.start(url)
    for number in range(restores):
        file = dump(server, url, tmp_path / f"{number}.dump")
        opened.stop()
        put_back(server, url, file)
        lw = opened.start(url)
    task = lw.submit("mail", {}, key="hello")
    file = dump(server, url, tmp_path / "before.dump")
    work(lw)
    assert lw.wait(task.id).state == "done"
    opened.stop()
    put_back(server, url, file)
    lw = opened.start(url)
    assert lw.get(task.id).state == "ready"
    work(lw)
    assert lw.wait(task.id).state == "unknown"
    assert opened.mailed == 1
    fresh = lw.submit("mail", {}, key="another")
    work(lw)
    assert (lw.wait(fresh.id).state, opened.mailed) == ("done", 2)


def test_a_new_database_may_take_the_place_of_the_old_one(
    server: Server, url: str, tmp_path: Path, opened: Fleets
) -> None:
    lw = opened.start(url)
    file = dump(server, url, tmp_path / "monday.dump")
    later = fence(lw)
    opened.stop()
    elsewhere = server.new_database(empty=True)
    tool(server, "pg_restore", elsewhere, str(file))
    lw = opened.start(elsewhere)
    assert fence(lw) > later
    assert overtakings(lw) == 1
    opened.stop()
    server.drop(elsewhere)


def test_a_server_that_is_started_again_is_no_restore(own_server: Server, opened: Fleets) -> None:
    url = own_server.new_database()
    first = fence(opened.start(url))
    opened.stop()
    own_server.end()
    own_server.launch()
    lw = opened.start(url)
    assert fence(lw) >> EPOCH_BITS == first >> EPOCH_BITS
    assert overtakings(lw) == 0


def test_redis_is_filled_anew_after_every_restore(server: Server, url: str, tmp_path: Path, opened: Fleets) -> None:
    cache = redis.shared().url
    for number in range(3):
        lw = opened.start(url, admission=cache)
        forgotten = lw.opened.parts.journal.latest(limit=10, kind="engine.forgot")
        assert len(forgotten) == number
        with lw.call("api", wait="20s") as call:
            call.settle()
        lw.opened.parts.calls.limiter.close()
        file = dump(server, url, tmp_path / f"{number}.dump")
        opened.stop()
        put_back(server, url, file)
